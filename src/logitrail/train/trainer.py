"""`STRTrainer`: TRL's `SFTTrainer` with the safety tokens' logits held near the reference's.

The cross-entropy is TRL's own, untouched. The safety-token loss is added to it from the hidden state that the same
forward pass made: no second forward of the policy, no full logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from accelerate.utils import DistributedType
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback
from trl import SFTTrainer

from logitrail.artifacts import sha256_of_json, storage_errors, sync_tree
from logitrail.card import put_section
from logitrail.errors import AnchorReferenceError, ArtifactError, ModelError, RecipeError
from logitrail.losses import anchor_difference, anchor_distance, position_mask, position_penalty
from logitrail.methods import Companion, Term, Training
from logitrail.models.chat import Message, as_prompts
from logitrail.models.fingerprints import chat_template_fingerprint, tokenizer_fingerprint, weights_fingerprint
from logitrail.models.head import SafetyHead
from logitrail.models.hidden import backbone, capture_hidden, causal_lm
from logitrail.models.joining import Extra, joined_rows, worth_joining
from logitrail.reference import (
    AdapterOff,
    Cached,
    CacheIdentity,
    Frozen,
    ReferenceCache,
    ReferenceColumns,
    ReferenceProvider,
    why_not_adapter_off,
)
from logitrail.train import provider
from logitrail.train.altered import altered_prompts
from logitrail.train.budget import Budget, Gauge
from logitrail.train.cached_rows import (
    REFERENCE_KEY,
    ROW_COLUMN,
    ROWS_KEY,
    CachedCollator,
    is_padding_free,
    numbered,
    rows_hash,
)
from logitrail.train.card import last_logged, training_section
from logitrail.train.checkpoints import STATE_FILE, read_state, remove_older, write_state
from logitrail.train.config import FREE, Held, STRConfig, settle_altered_probes
from logitrail.train.control import START
from logitrail.train.numbers import require_finite_losses, require_finite_norm, require_finite_weights
from logitrail.train.probes import ProbeBatch, Probes, Share, watched
from logitrail.train.requirements import (
    require_adapters,
    require_arguments,
    require_companions,
    require_drift,
    require_held,
    require_labels,
    require_mean_reference,
    require_parallel,
    require_something_to_train,
)
from logitrail.train.row_cache import open_cache
from logitrail.train.task_loss import TaskLoss
from logitrail.train.terms import Terms

if TYPE_CHECKING:
    from logitrail.tokens import SafetyTokens

_COMPANIONS_FILE = "companions.safetensors"
_PLAIN_ROWS = {"input_ids", "attention_mask", "labels"}
"""What a batch of padded rows has; a packed one or one with images has more."""

_WHOLE_WEIGHTS = (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU)


class _Forward(NamedTuple):
    """A micro-batch and what TRL's forward pass over it left.

    Attributes:
        inputs: the batch, labels among it.
        hidden: [batch, length, D], the last hidden state, in the graph.
        outputs: of TRL's fused head: the labels' `log_probs` and `label_mask`, [batch, length - 1].
        items: the labels of the whole optimizer step, over its micro-batches and processes; None where TRL has no count.
    """

    inputs: dict[str, Any]
    hidden: Tensor
    outputs: Any
    items: Any


class SafetyTerms(NamedTuple):
    """Of one micro-batch: what is optimised and what is only logged, each already divided by the global count."""

    loss: Tensor
    distance: Tensor


class STRTrainer(SFTTrainer):
    """Fine-tune as `SFTTrainer` does while the safety tokens' anchors stay near the starting policy's.

        loss = CE + lambda * STR        (STR: `logitrail.losses.safety_token_loss`)

    CE, STR, lambda and what is measured on probe prompts are logged apart (`ce`, `str`, `str_weight`, `divergence`,
    `drift`, `str_distance`, the mean anchor distance at the anchored positions, and `pull_back`, what moving the weights
    back left of the update since the last log, 1 where nothing was moved, and at the end `way_back`, what the way back left
    of it); `ce` is what `loss` is in plain SFT. Evaluation loss is the cross-entropy alone.

    Args:
        model: as for `SFTTrainer`: a path or a model, with an adapter or without one.
        args: an `STRConfig`.
        train_dataset: as for `SFTTrainer`.
        safety_tokens: whose logits are anchored; they must belong to this model's tokenizer.
        probe_prompts: harmful prompts without answers. Drift is measured along the reference's own answers to the first 32
            or, where harmless ones stand beside them, to a quarter; the others are then anchored (`str_probe_weight`).
            Texts or lists of messages, in any sequence; or rows with a column `prompt`, as `datasets` reads them.
        harmless_probe_prompts: harmless look-alikes, anchored beside them so that the model does not turn prudish.
        terms: what else is added to the loss, or stands in the cross-entropy's place; see `logitrail.methods`.
        companions: what goes along with the steps, such as an average of the weights.
        references: the models whose anchors are held; None is the starting policy. Of several the mean of their logits,
            which for the square penalty is the mean of their penalties up to a constant (`mean_columns`).
        on_cache_rows: told how many more rows of the reference cache are done, and how many this process does in all.
        **sft: every other argument of `SFTTrainer`, `peft_config` among them.

    Raises:
        TokensError: the tokens were made with another tokenizer, or lack what the anchor needs.
        ModelError: the head cannot be served.
        AnchorReferenceError: the reference asked for cannot be had.
        DataError: no row has a label, or what is given as probe prompts is none.
        RecipeError: options that cannot go together; said before the model is loaded where that can be known.
        NumericalError: (in training) a loss is NaN or infinite; step and row are named.
    """

    args: STRConfig
    train_dataset: Any
    data_collator: Any
    _signature_columns: list[str] | None
    _total_train_tokens: int

    def __init__(
        self,
        model: Any,
        args: STRConfig,
        train_dataset: Any = None,
        *,
        safety_tokens: SafetyTokens,
        probe_prompts: Iterable[object] | None = (),
        harmless_probe_prompts: Iterable[object] | None = (),
        references: Sequence[nn.Module | None] = (None,),
        terms: Sequence[Term] = (),
        companions: Sequence[Companion] = (),
        on_cache_rows: Callable[[int, int], None] | None = None,
        **sft: Any,
    ) -> None:
        require_arguments(args, train_dataset, sft)
        harmful = as_prompts(() if probe_prompts is None else probe_prompts, "probe_prompts")
        harmless = as_prompts(
            () if harmless_probe_prompts is None else harmless_probe_prompts, "harmless_probe_prompts"
        )
        held = require_held(args, harmful=bool(harmful), harmless=bool(harmless))
        require_drift(args, harmful=bool(harmful))
        if len(references) > 1:
            require_mean_reference(args)
        columns = safety_tokens.for_anchor(held.anchor)
        super().__init__(model=model, args=args, train_dataset=train_dataset, **sft)
        self.run_key: str | None = None  # kept in checkpoints, so that one of another training is not gone on from
        require_parallel(self.accelerator, args, harmful=bool(harmful))
        require_companions(companions, args=args, processes=self.accelerator.num_processes)
        safety_tokens.check(self._tokenizer)
        require_something_to_train(self.model)
        require_adapters(self.model, probes=held.probes)
        require_labels(self.train_dataset, "the training data")

        self.anchor, self.positions, self._anchors_probes = held
        self.safety_tokens = safety_tokens
        self._form, self._ids, self._compliance, self._token_weights = columns
        self._head = SafetyHead(self.model, self._ids, sparse_gradient=True)
        self._head.verify(self.model)
        self._fixed_weight = START if args.str_weight == "auto" else float(args.str_weight)
        self._references = [self._held(reference) for reference in references]
        self._on_cache_rows = on_cache_rows
        self.cache: ReferenceCache | None = None
        self._provider = self._choose_reference(args.str_reference)
        self._live: AdapterOff | Frozen | None = None
        if any(term.needs_reference for term in terms) or any(one.needs_reference for one in companions):
            # Now: later the policy is no longer the starting one.
            self._live = provider.live(self._policy, [one for one, _ in self._references], self._provider)
        self._terms = Terms(terms, self._live, self._head.logits)
        self._companions = list(companions)
        self._begin_companions()
        self._probes = self._measured_probes(harmful, harmless, held) if harmful else None
        self._joinable = self._joinable_parameters() if held.probes else 0
        self._packs = self._joinable > 0 and self._keeps_probes_apart()
        self._gauge = None if self._probes is None else Gauge(self.model, self._probes, self.accelerator)
        self._budget: Budget | None = None
        if self._gauge is not None and args.str_weight == "auto":
            require_labels(self.eval_dataset, "the evaluation set (data.dev, eval_dataset)")
            replaced = bool(companions) or args.load_best_model_at_end
            self._budget = Budget(
                args, self._gauge, self.accelerator, self.model, lambda: TaskLoss(self), replaced=replaced
            )
        self._references = []  # measured: what a provider still needs, it holds itself
        self._micro_batch = 0
        self.add_callback(_AfterStep(self))
        self._sums: dict[str, Tensor] = {}
        self._steps_since_log = 0
        self._probed_since_log = 0
        self._global_positions: Tensor | None = None

    @property
    def term_names(self) -> tuple[str, ...]:
        """The words in the log of the terms that the method adds."""
        return self._terms.names

    # Reference -------------------------------------------------------------------------------------------------------

    @property
    def reference_name(self) -> str:
        """Which provider gives the task's rows: `cache`, `adapter-off`, `frozen`, or `off` where nothing is held there."""
        return "off" if self._provider is None else self._provider.name

    @property
    def held(self) -> dict[str, Any] | None:
        """What this training holds and where, as settled from the configuration; None where nothing is held."""
        rows = self._provider is not None and self.args.str_weight != 0
        probes = self._probes if self._anchors_probes else None
        if not rows and probes is None:
            return None
        moving = self._budget if self._budget is not None and self._budget.moves_back else None
        return {
            "anchor": self.anchor,
            "penalty": self.args.str_penalty,
            "lambda": self._fixed_weight if self._budget is None else "auto",
            "kl_budget": None if self._budget is None else self._budget.controller.budget,
            # Where nothing moves weights back, no drift is kept.
            "drift_budget": None if moving is None else moving.drift_budget,
            "loss_budget": None if moving is None else moving.loss_budget,
            "pull_back": moving is not None,
            "adam_beta2": None if self._budget is None else self._budget.beta2,
            "tokens": len(self.safety_tokens),
            "rows": self.positions if rows else FREE,
            "reference": self.reference_name if rows else None,
            "probes": None
            if probes is None
            else {
                **probes.counts,
                "tokens": self.args.str_probe_tokens,
                "answer_weight": probes.answer_weight,
                "a_step": self.args.str_probe_batch,
                "every": self.args.str_probe_every,
                "weight": "lambda" if self.args.str_probe_weight is None else self.args.str_probe_weight,
            },
        }

    @property
    def _has_adapter(self) -> bool:
        return bool(getattr(self.model, "peft_config", None))

    def _begin_companions(self) -> None:
        for companion in self._companions:
            companion.begin(
                Training(
                    self.model,
                    self._tokenizer,
                    self._head.logits,
                    None if self._live is None else self._live.states,
                    self.args.seed,
                    self.accelerator.autocast,
                )
            )

    def _measured_probes(
        self, harmful: list[str | list[Message]], harmless: list[str | list[Message]], held: Held
    ) -> Probes:
        """The probe prompts with the references' numbers, taken now; the harmless ones only where they are anchored."""
        apart = watched(len(harmful), anchored=self._anchors_probes)
        copies = settle_altered_probes(self.args.str_altered_probes, held, adapter=self._has_adapter)
        altered = altered_prompts(harmful[apart:] or harmful, self._tokenizer, copies=copies, seed=self.args.seed)
        with self.accelerator.autocast():
            return Probes(
                harmful,
                harmless if self._anchors_probes else (),
                self._tokenizer,
                self._references,
                self._head,
                anchor=self.anchor,
                compliance=self._compliance,
                seed=self.args.seed,
                watched=apart,
                tokens=self.args.str_probe_tokens,
                diverging=True,
                answer_weight=self.args.answer_weight(held),
                altered=altered,
            )

    def _keeps_probes_apart(self) -> bool:
        assert self._probes is not None
        with self.accelerator.autocast():
            return self._probes.keep_apart(self.model)

    def _held(self, reference: nn.Module | None) -> tuple[Any, SafetyHead]:
        if reference is None:
            return self.model, self._head
        reference.to(next(self.model.parameters()).device).requires_grad_(False)
        head = SafetyHead(reference, self._ids)
        head.verify(reference)
        return reference, head

    def _choose_reference(self, kind: str) -> ReferenceProvider | None:
        if kind == "off" or self.positions == FREE:
            return None
        models = [model for model, _ in self._references]
        found = provider.choose(
            kind, self._policy, models, self.train_dataset, with_logsumexp=self._form.needs_logsumexp
        )
        if isinstance(found, Cached):
            self._use_cache()
        return found

    @property
    def _policy(self) -> provider.Policy:
        return provider.Policy(self.model, self._head, self._ids)

    @property
    def cache_folder(self) -> Path:
        """Where this trainer's reference cache lies."""
        return Path(self.args.str_cache_dir or Path(self.args.output_dir) / "reference-cache")

    def _cache_identity(self) -> CacheIdentity:
        return CacheIdentity(
            reference="+".join(
                weights_fingerprint(model, with_adapter=why_not_adapter_off(model) is not None)
                for model, _ in self._references
            ),
            tokenizer=tokenizer_fingerprint(self._tokenizer),
            chat_template=chat_template_fingerprint(self._tokenizer),
            tokens=sha256_of_json(self._ids)[:16],
            rows=rows_hash(self.train_dataset),
            positions=self.positions,
            logsumexp=self._form.needs_logsumexp,
            dtype=self.args.str_cache_dtype,
            collation="padding-free" if is_padding_free(self.data_collator) else "padded",
            precision=str(self.accelerator.mixed_precision),
        )

    def _use_cache(self) -> None:
        self.cache = open_cache(
            self.cache_folder,
            self._cache_identity(),
            self.train_dataset,
            self.data_collator,
            self._references,
            self.model,
            self.accelerator,
            batch_size=max(8, self.args.per_device_train_batch_size),
            on_rows=self._on_cache_rows,
        )
        self.train_dataset = numbered(self.train_dataset)
        self.data_collator = CachedCollator(self.data_collator, self.cache)
        self._signature_columns = None

    def _columns(self) -> list[str] | None:
        """The columns that the collator is given; None for all."""
        if not self.args.remove_unused_columns:
            return None
        self._set_signature_columns_if_needed()
        return self._signature_columns

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        assert self._signature_columns is not None  # TRL has just set it
        if ROW_COLUMN not in self._signature_columns:
            self._signature_columns.append(ROW_COLUMN)

    # Loss ------------------------------------------------------------------------------------------------------------

    @property
    def str_weight(self) -> float:
        """Lambda as it stands."""
        return self._fixed_weight if self._budget is None else self._budget.controller.weight

    @property
    def str_probe_weight(self) -> float:
        """The weight of the loss on probe prompts as it stands; where it is not named, lambda's."""
        return self.str_weight if self.args.str_probe_weight is None else self.args.str_probe_weight

    @property
    def _is_probed(self) -> bool:
        """Whether this step has probe prompts: the first of so many, so that drift is not measured right behind them."""
        return bool(self.state.global_step % self.args.str_probe_every == 0)

    def get_batch_samples(self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device) -> Any:
        samples, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._steps_since_log += 1
        self._probed_since_log += self._is_probed
        self._micro_batch = 0
        self._global_positions = None
        if items is not None and self._provider is not None and self.positions != "labels":
            # The cross-entropy's count is over all labels; fewer positions need their own, taken the same way.
            count = sum(position_mask(batch["labels"], self.positions).sum() for batch in samples)
            count = torch.as_tensor(count, device=device)
            if self.args.average_tokens_across_devices and self.args.world_size > 1:
                count = self.accelerator.gather(count).sum()
            self._global_positions = count
        return samples, items

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        stored, rows = inputs.pop(REFERENCE_KEY, None), inputs.pop(ROWS_KEY, None)
        if not self.model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        probes = self._probe_batch()
        joined = None if probes is None else self._joined(inputs, probes)
        # The probes part from the task's rows before these are caught.
        with (
            joined_rows(self.model, joined) as extra,
            capture_hidden(self.model) as captured,
            _capture_output(model) as outputs,
        ):
            ce = super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
            hidden = captured.take()
        forward = _Forward(inputs, hidden, outputs[-1], num_items_in_batch)
        scaled = num_items_in_batch is not None
        # With lambda 0 and no terms the loss is TRL's own object: the same graph, hence the same weights to the bit.
        loss, parts = ce, {"ce": ce}
        if self._terms:
            loss = self._with_terms(loss, parts, forward)
        # With lambda 0 the distance alone, for the log, is not worth a pass of the reference; a cache has it for nothing.
        if self._provider is not None and (self.str_weight > 0 or self.cache is not None):
            loss = self._with_anchor(loss, parts, forward, stored)
        if probes is not None:
            parts["str_probe"] = self._probe_loss(probes, extra.take_if_any(), scaled=scaled)
            # As many times over as it is left out: summed over the steps, what each step's own would be.
            loss = loss + self.str_probe_weight * self.args.str_probe_every * parts["str_probe"]
        require_finite_losses(
            parts,
            labels=forward.inputs["labels"],
            hidden=forward.hidden,
            outputs=forward.outputs,
            items=forward.items,
            rows=rows,
            step=self.state.global_step + 1,
        )
        self._add_to_log(scaled=scaled, **parts)
        return (loss, outputs[-1]) if return_outputs else loss

    def _with_terms(self, loss: Tensor, parts: dict[str, Tensor], forward: _Forward) -> Tensor:
        """The loss with the method's terms; each goes into `parts` by its name."""
        with self.accelerator.autocast():
            totals = self._terms.totals(forward.inputs, forward.hidden, forward.outputs.log_probs)
        count = forward.outputs.label_mask.sum() if forward.items is None else forward.items
        kept = [self._without_cross_entropy(loss, count, forward) if self._terms.replace_cross_entropy else loss]
        for name, (weight, total) in totals.items():
            parts[name] = self._divided(total, count, forward)
            kept.append(weight * parts[name])
        return torch.stack(kept).sum()

    def _without_cross_entropy(self, loss: Tensor, count: Any, forward: _Forward) -> Tensor:
        """What a term that stands in the cross-entropy's place leaves of TRL's loss: the balance of a model's experts."""
        if not self.aux_loss_enabled:
            return loss.new_zeros(())
        return loss - self._divided(-forward.outputs.log_probs.sum(), count, forward)

    def _divided(self, total: Tensor, count: Any, forward: _Forward) -> Tensor:
        """A sum over positions, divided as TRL divides the cross-entropy.

        The count is of all ranks where TRL's is, and DDP averages the gradients over them.
        """
        ranks = 1
        if self.args.average_tokens_across_devices and forward.items is not None:
            ranks = self._ranks
        return total / torch.as_tensor(count, device=total.device).clamp(min=1) * ranks

    def _with_anchor(self, loss: Tensor, parts: dict[str, Tensor], forward: _Forward, stored: Tensor | None) -> Tensor:
        """The loss with lambda times the safety-token loss; that and the distance go into `parts`."""
        assert self._provider is not None
        weight = self.str_weight
        mask = position_mask(forward.inputs["labels"], self.positions)
        # accelerate's autocast sits on the wrapped model's forward, which a pass of the backbone alone goes around.
        with self.accelerator.autocast():
            reference = self._provider.columns(forward.inputs, mask, stored)
        with torch.set_grad_enabled(weight > 0):
            terms = self._safety_terms(forward, mask, reference)
        parts |= {"str": terms.loss, "str_distance": terms.distance}
        return loss + weight * terms.loss if weight > 0 else loss

    def _probe_batch(self) -> ProbeBatch | None:
        """The probe prompts of this micro-batch; None where it has none."""
        if not (self._anchors_probes and self.str_probe_weight > 0 and self._is_probed):
            return None
        assert self._probes is not None
        share = Share(self.state.global_step, self._micro_batch, self._accumulation_steps, self._rank, self._ranks)
        self._micro_batch += 1
        return self._probes.drawn(self.args.str_probe_batch, share, next(self.model.parameters()).device)

    @property
    def _ranks(self) -> int:
        """How many see batches of their own: the processes of one tensor-parallel group see the same."""
        return int(self.accelerator.num_processes // self.get_tp_size())

    @property
    def _rank(self) -> int:
        """Which of them this process is."""
        return int(self.accelerator.process_index // self.get_tp_size())

    def _joinable_parameters(self) -> int:
        """How many parameters the backbone has, where more rows may go through its pass; else 0.

        Not where weights or rows are cut over processes, shapes are compiled, experts are balanced over all that passes,
        noise depends on the rows' length, or somebody else's function runs the model.
        """
        whole = self.accelerator.distributed_type in _WHOLE_WEIGHTS and self.get_tp_size() == 1
        routed = getattr(causal_lm(self.model).config.get_text_config(), "output_router_logits", False)
        noise = self.args.neftune_noise_alpha is not None  # scaled by the length of the rows
        others = self.args.torch_compile or self.compute_loss_func is not None
        if not whole or routed or noise or others or self.aux_loss_enabled:
            return 0
        return sum(weight.numel() for weight in backbone(self.model).parameters())

    def _joined(self, inputs: dict[str, Any], probes: ProbeBatch) -> Extra | None:
        """How the probe prompts go through the task rows' pass; None where they had better have one of their own.

        Plain rows can be joined. Beside long ones the prompts are packed, where the model keeps them apart.
        """
        if self._joinable == 0 or not inputs.keys() <= _PLAIN_ROWS:
            return None
        ways = [Extra(probes.inputs, probes.lengths, packed=packed) for packed in (False, True)[: 1 + self._packs]]
        extra = min(ways, key=lambda way: way.padding(inputs["input_ids"]))
        return extra if worth_joining(inputs["input_ids"], extra, self._joinable) else None

    def _probe_loss(self, batch: ProbeBatch, hidden: Tensor | None, *, scaled: bool) -> Tensor:
        assert self._probes is not None
        with self.accelerator.autocast():
            loss = self._probes.loss(
                self.model, batch, hidden=hidden, penalty=self.args.str_penalty, weights=self._token_weights
            )
        # The shares of a step add up to its mean; what averages the gradients afterwards is made good here.
        return loss * self._ranks * (1 if scaled else self._accumulation_steps)

    def _safety_terms(self, forward: _Forward, mask: Tensor, reference: ReferenceColumns) -> SafetyTerms:
        if forward.hidden.shape[:2] != forward.inputs["labels"].shape:
            raise ModelError(
                f"the backbone gives {tuple(forward.hidden.shape[:2])} hidden states for "
                f"{tuple(forward.inputs['labels'].shape)} labels, so the anchored positions cannot be found; train without "
                "what lengthens or cuts the rows inside the model"
            )
        at = mask.nonzero(as_tuple=True)  # a mask as an index would make a GPU be waited for each time
        selected = forward.hidden[at]
        logsumexp = None
        if self._form.needs_logsumexp:
            # TRL's head gives l_y = z_y - logsumexp(z): one more column, and no pass over the vocabulary.
            label_logits = self._head.label_logits(selected, forward.inputs["labels"][:, 1:][at])
            logsumexp = label_logits - forward.outputs.log_probs[at].to(label_logits.dtype)
        columns = self._head.columns(selected)
        if reference.columns.shape != columns.shape:
            raise AnchorReferenceError(
                f"the reference has {tuple(reference.columns.shape)} numbers for this batch and the policy "
                f"{tuple(columns.shape)}: the collator changed the rows' labels after the cache was built; "
                "delete the cache, or use str_reference='adapter-off' or 'frozen'"
            )
        difference = anchor_difference(
            columns,
            reference.columns.to(columns.device),
            anchor=self.anchor,
            policy_logsumexp=logsumexp,
            reference_logsumexp=None if reference.logsumexp is None else reference.logsumexp.to(columns.device),
            compliance=self._compliance,
        )
        weights = None if self._token_weights is None else self._token_weights.to(columns.device)
        penalty = position_penalty(difference, penalty=self.args.str_penalty, weights=weights).sum()
        distance = anchor_distance(difference.detach()).sum()
        if forward.items is None:
            count: Any = mask.sum()
        else:
            count = forward.items if self._global_positions is None else self._global_positions
        return SafetyTerms(self._divided(penalty, count, forward), self._divided(distance, count, forward))

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        loss: Tensor = super().training_step(*args, **kwargs)
        if self._companions and self.accelerator.sync_gradients:
            for companion in self._companions:
                companion.after_backward(self.state.global_step, self.state.max_steps)
        return loss

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> Any:
        """The norm that the Trainer logs; one that is not finite would make every weight NaN in the step that follows."""
        norm = super()._get_grad_norm(model, grad_norm=grad_norm)
        # A scaler of fp16 gradients looks for itself: it leaves such a step out and lowers its scale.
        if norm is not None and self.accelerator.scaler is None:
            require_finite_norm(norm, step=self.state.global_step + 1)
        return norm

    # Log and state ---------------------------------------------------------------------------------------------------

    @property
    def _accumulation_steps(self) -> int:
        # The Trainer sets it at each step; before the first there is one micro-batch.
        return getattr(self, "current_gradient_accumulation_steps", 1)

    def _add_to_log(self, *, scaled: bool, **values: Tensor) -> None:
        share = 1.0 if scaled else 1.0 / self._accumulation_steps
        for name, value in values.items():
            part = value.detach().float() * share
            self._sums[name] = self._sums[name] + part if name in self._sums else part

    def _measured(self) -> dict[str, float]:
        """What is measured on probe prompts, for the log."""
        assert self._gauge is not None
        step = self.state.global_step
        return {"divergence": self._gauge.divergence(step), "drift": self._gauge.drift(step)}

    def _after_step(self) -> None:
        # Behind the optimizer's step: before it, the weights that FSDP gathers for this pass would be stale in the next.
        step = self.state.global_step
        if self._budget is not None:
            self._budget.after_step(step, self.state.max_steps, self.optimizer, self.lr_scheduler)
        for companion in self._companions:  # they meet the weights that the step leaves, moved back or not
            companion.after_step(step)

    def _finish(self) -> None:
        for companion in self._companions:
            companion.finish()
        if self._gauge is not None:
            self._gauge.forget()
        # Stopped early, or the weights are an average or an earlier checkpoint's by now.
        if self._budget is not None:
            self._budget.finish(self.state.global_step, self.state.max_steps)
            if self._budget.moved_since_log:
                self.log({**self._measured(), **self._budget.logged()})
        require_finite_weights(self.model, step=self.state.global_step)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._sums:
            for name, value in self._sums.items():
                steps = self._probed_since_log if name == "str_probe" else self._steps_since_log
                logs[name] = float(self.accelerator.gather(value.reshape(1)).mean()) / max(steps, 1)
            logs["str_weight"] = self.str_weight
            if self._gauge is not None:
                logs |= self._measured()
            if self._budget is not None:
                logs |= self._budget.logged()
            self._sums.clear()
            self._steps_since_log = self._probed_since_log = 0
        super().log(logs, start_time)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        super().save_model(output_dir, _internal_call)
        self._describe(Path(output_dir or self.args.output_dir))

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        super().create_model_card(*args, **kwargs)
        self._describe(Path(self.args.output_dir))

    def _describe(self, folder: Path) -> None:
        """Say in the card there how this model was held; PEFT and TRL have written theirs."""
        if not self.is_world_process_zero():
            return
        section = training_section(
            self.held,
            tokens_hash=self.safety_tokens.hash,
            adapter=self._has_adapter,
            logged=last_logged(self.state.log_history),
        )
        put_section(folder, section)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step >= self.state.max_steps:
            # Resumed behind the last step: the Trainer looks at the limit only when it has done one step more.
            self.control.should_training_stop = True
            return None
        return super()._run_epoch(*args, **kwargs)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        require_finite_weights(self.model, step=self.state.global_step)
        # The Trainer would remove older checkpoints before this one is whole, and choose them by the times of their files,
        # which a clock that is set back turns around.
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()  # each process writes its own random state
        if self.args.should_save:
            folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
            if self._companions:
                kept = {
                    f"{number}.{name}": value.detach().contiguous().cpu()
                    for number, companion in enumerate(self._companions)
                    for name, value in companion.state().items()
                }
                save_file(kept, folder / _COMPANIONS_FILE)
            state = {
                "run": self.run_key,
                "step": self.state.global_step,
                "str_weight": self.str_weight,
                "needed": self._budget is not None and self._budget.controller.needed,
                "pulled": 1.0 if self._budget is None else self._budget.pulled,
                "adam_beta2": None if self._budget is None else self._budget.beta2,
                "num_tokens": self._total_train_tokens,
            }
            with storage_errors(folder):
                sync_tree(folder)  # a power cut must not empty what the last file vouches for
            write_state(folder, state)
            remove_older(folder, limit=self.args.save_total_limit, best=self.state.best_model_checkpoint)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        # Before anything of it is used; one process looks for all.
        checked = read_state(Path(resume_from_checkpoint), run=self.run_key, files=self.args.should_save)
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if checked is None:
            if self._companions or self._budget is not None:
                raise ArtifactError(
                    f"{resume_from_checkpoint} has no {STATE_FILE}, so it was cut short while it was written, or is a "
                    "plain trainer's, and lambda and what goes along with the steps would begin anew; delete it: training "
                    "then goes on from the checkpoint before it, or from its start"
                )
            return
        state = checked
        # TRL counts from 0 again, so the log of a resumed training would differ from an unbroken one's.
        self._total_train_tokens = int(state.get("num_tokens", 0))
        if self._budget is not None:
            self._budget.resume(
                weight=float(state["str_weight"]),
                needed=bool(state.get("needed")),
                pulled=float(state.get("pulled", 1.0)),
                beta2=state.get("adam_beta2"),
            )
        if self._companions:
            self._load_companions(Path(resume_from_checkpoint) / _COMPANIONS_FILE)

    def _load_companions(self, path: Path) -> None:
        if not path.exists():
            raise ArtifactError(
                f"{path} is missing, so the checkpoint is of a training by another method; delete {path.parent}: training "
                "then goes on from the checkpoint before it, or from its start"
            )
        kept = load_file(path)
        for number, companion in enumerate(self._companions):
            start = f"{number}."
            state = {name.removeprefix(start): value for name, value in kept.items() if name.startswith(start)}
            try:
                companion.load(state)
            except ArtifactError as error:
                raise ArtifactError(f"{path} cannot be used: {error}") from error


class _AfterStep(TrainerCallback):
    """Lets the trainer act when the number of steps is known and when the optimizer has stepped."""

    def __init__(self, trainer: STRTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: Any, *, optimizer: Any, **kwargs: Any) -> None:
        if self._trainer._budget is not None:
            self._trainer._budget.begin(optimizer)
        if self._trainer._anchors_probes and args.str_probe_every > 1 and state.max_steps <= args.str_probe_every:
            raise RecipeError(
                f"str_probe_every is {args.str_probe_every} and the training has {state.max_steps} steps, so probe prompts "
                "would come in its first step alone, where they hold nothing; use a smaller number"
            )

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._trainer._after_step()
        budget = self._trainer._budget
        if budget is not None and budget.moves_back and state.global_step >= state.max_steps:
            control.should_log = True  # what the weights end with is in the log

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        self._trainer._finish()


@contextmanager
def _capture_output(model: Any) -> Iterator[list[Any]]:
    """The outputs of the forward pass that runs inside; TRL keeps them to itself."""
    outputs: list[Any] = []
    handle = model.register_forward_hook(lambda module, args, output: outputs.append(output))
    try:
        yield outputs
    finally:
        handle.remove()
