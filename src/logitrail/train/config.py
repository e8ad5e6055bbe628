"""`STRConfig`: every option of TRL's `SFTConfig` by its own name, and those of Safety Token Regularization beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any, Literal, NamedTuple, get_args

from trl import SFTConfig

from logitrail.errors import RecipeError
from logitrail.losses import anchor_form, first_count
from logitrail.losses.penalties import penalty
from logitrail.reference.cache import DTYPES
from logitrail.types import ReferenceKind

DRIFT_BUDGET = 0.7
"""The drift past which `auto` moves weights back where no budget is named, in the anchor's unit; see
docs/decisions/0017-what-lambda-answers-to.md."""

LOSS_BUDGET = 1e-3
"""The share of what the task's loss fell by that the way back at the end may cost where none is named; see
docs/decisions/0018-the-way-back.md."""

ANSWER_WEIGHT = 1.0
"""The weight of the answers' own tokens where none is named; see docs/decisions/0020-the-answers-own-tokens.md."""

ALTERED_PROBES = 1
"""Altered copies of each harmful probe prompt where an adapter is trained and none are named; see
docs/decisions/0021-altered-prompts.md."""

KL_BUDGET = 0.2
"""Where `str_weight` is `auto` and no budget of the divergence is named, in nats; see
docs/decisions/0017-what-lambda-answers-to.md."""

FREE = "none"
"""`str_positions` that leave the task's rows free: the anchors are held at probe prompts alone."""

NOTHING_HELD = (
    f"str_positions={FREE!r} leaves the task's rows free, and no probe prompts are anchored, so nothing would be held; "
    "pass harmful and harmless probe prompts, or choose other positions"
)

ANCHOR_WITH_PROBES, ANCHOR_ALONE = "logprob", "logit"
POSITIONS_WITH_PROBES, POSITIONS_ALONE = FREE, "labels"
"""Where no anchor and no positions are named: where probe prompts of both kinds are anchored, and where none are."""


class Held(NamedTuple):
    """What a training holds, and where.

    Attributes:
        anchor: by its name.
        positions: of the task's rows.
        probes: whether probe prompts are anchored.
    """

    anchor: str
    positions: str
    probes: bool


def settle(
    *, anchor: str | None, positions: str | None, probe_weight: float | str | None, harmful: bool, harmless: bool
) -> Held:
    """What is held where an `STRConfig`, or a recipe that becomes one, names so much and there are such probe prompts.

    Args:
        anchor: `str_anchor`; None leaves it to the rule.
        positions: `str_positions`, the same.
        probe_weight: `str_probe_weight`, as YAML may give it.
        harmful: whether there are harmful probe prompts.
        harmless: whether there are harmless ones.

    Raises:
        RecipeError: the weight is no number.
    """
    weight = _number("str_probe_weight", probe_weight)
    probes = harmful and harmless and (weight is None or weight > 0)
    return Held(
        anchor or (ANCHOR_WITH_PROBES if probes else ANCHOR_ALONE),
        positions or (POSITIONS_WITH_PROBES if probes else POSITIONS_ALONE),
        probes,
    )


def settle_answer_weight(weight: float | str | None, held: Held, tokens: int) -> float:
    """kappa, where a configuration or a recipe names so much, such is held, and so many tokens of an answer are.

    Raises:
        RecipeError: the weight is no number.
    """
    # At a first token alone nobody has asked what the answer is. A recipe's anchor and tokens may be nonsense as yet.
    if not held.probes or held.anchor != "logprob" or tokens == 1:
        return 0.0
    named = _number("str_answer_weight", weight)
    return ANSWER_WEIGHT if named is None else named


def settle_altered_probes(copies: int | None, held: Held, *, adapter: bool) -> int:
    """How many altered copies a training makes that names so many, holds that, and trains an adapter or whole weights."""
    if copies is not None:
        return copies
    return ALTERED_PROBES if held.probes and adapter else 0


@dataclass
class STRConfig(SFTConfig):
    """Configuration of `STRTrainer`.

    Args:
        str_weight: lambda, the weight of the safety-token loss beside the cross-entropy; 0 is plain SFT to the bit. `auto`
            starts at 0.1 and moves it by dual ascent, between 0.01 and 1, towards a divergence on harmful probe prompts
            within `str_kl_budget`; without probe prompts there is nothing to go by, and it stays at 0.1.
        str_anchor: `logprob`, `logit` (the paper's), `centered`, `margin` or `common`; see `logitrail.losses`. None is
            `logprob` where probe prompts of both kinds are anchored, and `logit` on the task's rows alone, where `logprob`
            can make a model refuse what is harmless (docs/decisions/0012-the-default.md).
        str_positions: of the task's rows: `labels` (every labelled position), `start` (the first of each response),
            `first:N` or `none`. None is `none` where probe prompts of both kinds are anchored: the task's own answers are
            what has to change, and to hold them too costs the task (docs/decisions/0012-the-default.md); it is `labels`,
            the paper's, where there are no probe prompts.
        str_penalty: `square`, `floor` (only a fall below the reference costs) or `huber`.
        str_reference: `cache`, `adapter-off`, `frozen`, or `auto`: the cache where the data set is fixed, else the adapter
            switched off, else a frozen copy. `off` where nothing is anchored (`str_weight` and `str_probe_weight` 0). It is
            of the task's rows: with `str_positions` `none` there is nothing to ask it.
        str_kl_budget: the Kullback-Leibler divergence of the policy from the reference, summed over the first four tokens
            of the reference's own answers to harmful probe prompts (over as many as are held, where `str_probe_tokens` are
            fewer: then a smaller budget is meant), that lambda aims at, in nats; None is 0.2.
        str_drift_budget: the mean anchor distance on probe prompts past which `auto` moves the weights back, in nats
            (`logprob`, `margin`) or logits (`logit`, `centered`, `common`); None is 0.7. Five sevenths of
            it while the divergence is past its own budget and lambda above 0.1.
        str_drift_every: steps between two measurements of both for `auto`; None is ten, and in a training of fewer than
            250 steps so few that there are 25 measurements at the least (docs/decisions/0022-short-trainings.md).
        str_pull_back: whether a drift past what the budget allows (twice the budget at the first step, the budget from half
            of the training on) moves the weights back towards the start, so that `auto` keeps that budget whatever lambda
            can do (`logitrail.train.pull_back`). None is yes where that can be done: not under DeepSpeed, nor for whole
            weights under FSDP. Weights that are no fresh LoRA adapter are copied for it once, into the host's memory.
        str_loss_budget: the share of what the task's loss fell by that `auto` may give up at the end, where lambda stood
            above 0.1 behind the first half and weights can be moved back, for weights as near to the start as that lets
            (`logitrail.train.way_back`); None is 0.001, 0 moves nothing. The loss is of `eval_dataset` where there is one,
            which lets more than the training's own rows do. It costs eight passes of 128 rows at the most, and one more
            copy of whole weights.
        str_adam_beta2: Adam's beta_2 once `auto` lambda has come down to its lowest; None is what remembers 0.08 of the
            training's steps, ten at the least (`logitrail.train.moments`). `adam_beta2` where that is less. Of torch's Adam
            and AdamW; others, such as those of bitsandbytes and DeepSpeed, are left alone.
        str_probe_weight: weight of the same loss along the reference's own answers to probe prompts, harmful ones (with
            `str_answer_weight`) and harmless look-alikes in equal share; it needs both kinds. None is lambda, where both
            kinds are given; 0 leaves it out. It costs `str_probe_batch` short rows more every `str_probe_every` steps, in
            the task rows' pass of the backbone where padding them is cheap, else in one of their own.
        str_probe_tokens: how many tokens of those answers, which the reference gives before training starts. A refusal held
            at its first token alone leaves room behind it: a model that learns to begin compliance with the same word
            refuses nothing. With 1 nothing is generated.
        str_answer_weight: kappa, the weight of the reference's own next token beside the mean over the safety tokens, at
            harmful probe prompts: the same cost of how far its log-probability has moved. None is 1 with `logprob`;
            other anchors have no log-probability, and with one token no answer is known: 0
            (docs/decisions/0020-the-answers-own-tokens.md).
        str_altered_probes: how many altered copies of each anchored harmful probe prompt are anchored with it, a quarter of
            their tokens replaced by random words. They take their turn with the others, so a step costs as much. None is 1
            where an adapter is trained, which else loses refusals of what no probe prompt asks for while every budget is
            kept, and 0 where whole weights are, whose task pays a point or two for it after one epoch or at a large rate
            (docs/decisions/0021-altered-prompts.md).
        str_probe_batch: probe prompts a step that has some, over all its processes and as few of its micro-batches as hold
            eight each.
        str_probe_every: probe prompts come in every so many-th step, from the first on; their loss counts so many times.
        str_cache_dir: where the cache is kept; by default `reference-cache` in `output_dir`.
        str_cache_dtype: `float32`, `float16` or `bfloat16`.
    """

    str_weight: float | str = field(default="auto", metadata={"help": "Weight of the safety-token loss, or 'auto'."})
    str_anchor: str | None = field(
        default=None,
        metadata={
            "help": "logit, logprob, centered, margin or common; None: logprob with anchored probes, else logit."
        },
    )
    str_positions: str | None = field(
        default=None,
        metadata={"help": "labels, start, first:N or none; None: none with anchored probes, else labels."},
    )
    str_penalty: str = field(default="square", metadata={"help": "square, floor or huber."})
    str_reference: str = field(default="auto", metadata={"help": "auto, cache, adapter-off or frozen."})
    str_kl_budget: float | None = field(default=None, metadata={"help": "Divergence of refusals that 'auto' allows."})
    str_drift_budget: float | None = field(default=None, metadata={"help": "Drift that 'auto' allows."})
    str_loss_budget: float | None = field(
        default=None, metadata={"help": "Share of what the task's loss fell by that 'auto' gives up at the end."}
    )
    str_drift_every: int | None = field(
        default=None, metadata={"help": "Steps between two measurements on probe prompts."}
    )
    str_pull_back: bool | None = field(
        default=None,
        metadata={"help": "Whether 'auto' moves the weights back past its budget; None: where it can."},
    )
    str_adam_beta2: float | None = field(
        default=None, metadata={"help": "Adam's beta_2 once 'auto' lambda is at its lowest."}
    )
    str_probe_weight: float | None = field(
        default=None,
        metadata={"help": "Weight of the loss on probe prompts; None is lambda where both kinds are given."},
    )
    str_probe_tokens: int = field(default=8, metadata={"help": "Tokens of the answers to probe prompts that are held."})
    str_answer_weight: float | None = field(
        default=None, metadata={"help": "Weight of the refusals' own next tokens at harmful probe prompts."}
    )
    str_altered_probes: int | None = field(
        default=None, metadata={"help": "Altered copies of each harmful probe prompt that are anchored with it."}
    )
    str_probe_batch: int = field(default=8, metadata={"help": "Probe prompts a step that has some."})
    str_probe_every: int = field(default=1, metadata={"help": "Probe prompts come in every so many-th step."})
    str_cache_dir: str | None = field(default=None, metadata={"help": "Folder of the reference cache."})
    str_cache_dtype: str = field(default="float32", metadata={"help": "float32, float16 or bfloat16."})

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_ranges()
        for name in ("str_anchor", "str_positions", "str_penalty", "str_reference", "str_cache_dtype"):
            self._require_word(name)
        try:
            if self.str_anchor is not None:
                anchor_form(self.str_anchor)
            if self.str_positions is not None and self.str_positions != FREE:
                _require_positions(self.str_positions)
            penalty(self.str_penalty)
            self.str_weight = _weight(self.str_weight)
        except ValueError as error:
            raise RecipeError(str(error)) from None
        if self.str_reference not in get_args(ReferenceKind):
            raise RecipeError(
                f"unknown str_reference {self.str_reference!r}; choose one of {', '.join(get_args(ReferenceKind))}"
            )
        if self.str_cache_dtype not in DTYPES:
            raise RecipeError(f"unknown str_cache_dtype {self.str_cache_dtype!r}; choose one of {', '.join(DTYPES)}")
        drift_every: Any = self.str_drift_every
        if drift_every is not None and (
            isinstance(drift_every, bool) or not isinstance(drift_every, Integral) or drift_every < 1
        ):
            raise RecipeError(f"str_drift_every is {drift_every!r}; it must be a whole number of at least 1")
        if self.str_pull_back is not None and not isinstance(self.str_pull_back, bool):
            raise RecipeError(f"str_pull_back is {self.str_pull_back!r}; give true or false, or leave it out")
        probes = self.str_probe_weight = _number("str_probe_weight", self.str_probe_weight)
        if probes is not None and not (math.isfinite(probes) and probes >= 0):
            raise RecipeError(f"str_probe_weight is {probes}; give a finite number of at least 0")
        answers = self.str_answer_weight = _number("str_answer_weight", self.str_answer_weight)
        if answers is not None and not (math.isfinite(answers) and answers >= 0):
            raise RecipeError(f"str_answer_weight is {answers}; give a finite number of at least 0")
        for name in ("str_probe_tokens", "str_probe_every"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < 1:
                raise RecipeError(f"{name} is {value!r}; it must be a whole number of at least 1")
        altered: Any = self.str_altered_probes
        if altered is not None and (isinstance(altered, bool) or not isinstance(altered, Integral) or altered < 0):
            raise RecipeError(f"str_altered_probes is {altered!r}; it must be a whole number of at least 0")
        if self.str_probe_batch < 2 or self.str_probe_batch % 2:
            raise RecipeError(
                f"str_probe_batch is {self.str_probe_batch}; half of it is harmful and half harmless, so give an even "
                "number of at least 2"
            )
        if self.str_reference == "off" and (self.str_weight != 0 or (probes or 0) > 0):
            raise RecipeError(
                f"str_reference='off' leaves nothing to anchor to, and str_weight is {self.str_weight}; set both "
                "str_weight and str_probe_weight to 0, or choose another reference"
            )
        for name in ("str_drift_budget", "str_kl_budget"):
            budget = _number(name, getattr(self, name))
            if budget is not None and not (math.isfinite(budget) and budget > 0):
                raise RecipeError(f"{name} is {budget}; it must be a finite number above 0")
            setattr(self, name, budget)
        share = self.str_loss_budget = _number("str_loss_budget", self.str_loss_budget)
        if share is not None and not 0 <= share < 1:
            raise RecipeError(
                f"str_loss_budget is {share}; it is a share of the loss's fall: give a number from 0 to below 1"
            )
        beta2 = self.str_adam_beta2 = _number("str_adam_beta2", self.str_adam_beta2)
        if beta2 is not None and not 0 <= beta2 < 1:
            raise RecipeError(
                f"str_adam_beta2 is {beta2}; give a number from 0 to below 1, such as 0.999, or leave it out"
            )
        if self.label_smoothing_factor > 0:
            raise RecipeError(
                f"label_smoothing_factor is {self.label_smoothing_factor}, which makes TRL run a second forward pass with "
                "full logits; the safety-token loss works beside plain cross-entropy: set it to 0"
            )

    def answer_weight(self, held: Held) -> float:
        """kappa, of a training that holds that."""
        return settle_answer_weight(self.str_answer_weight, held, self.str_probe_tokens)

    def held(self, *, harmful: bool, harmless: bool) -> Held:
        """What a training with this configuration holds where there are such probe prompts; see `settle`."""
        return settle(
            anchor=self.str_anchor,
            positions=self.str_positions,
            probe_weight=self.str_probe_weight,
            harmful=harmful,
            harmless=harmless,
        )

    def _require_ranges(self) -> None:
        """transformers takes these as they come and fails at the first step, or trains nothing without a word."""
        for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"):
            value = getattr(self, name)
            if not isinstance(value, Integral) or value < 1:
                raise RecipeError(f"{name} is {value!r}; it must be a whole number of at least 1")
        if not isinstance(self.max_steps, Integral):
            raise RecipeError(
                f"max_steps is {self.max_steps!r}; it must be a whole number, or -1 for as many as num_train_epochs makes"
            )
        rate = self.learning_rate
        if not _finite(rate) or rate < 0:
            raise RecipeError(f"learning_rate is {rate!r}; it must be a finite number of at least 0, such as 2e-4")
        epochs = self.num_train_epochs
        if self.max_steps <= 0 and not (_finite(epochs) and epochs > 0):
            raise RecipeError(
                f"num_train_epochs is {epochs!r}, and max_steps is not set, so nothing would be trained; give a finite "
                "number above 0, or set max_steps"
            )

    def _require_word(self, name: str) -> None:
        value = getattr(self, name)
        if value is not None and not isinstance(value, str):
            words = str(type(self).__dataclass_fields__[name].metadata["help"]).partition(";")[0].rstrip(".")
            raise RecipeError(f"{name} is {value!r}, a {type(value).__name__}; give one of these as text: {words}")


def _finite(value: Any) -> bool:
    return isinstance(value, Real) and math.isfinite(value)


def _require_positions(positions: str) -> None:
    try:
        first_count(positions)
    except ValueError as error:  # the losses know nothing of rows that are left free
        raise ValueError(f"{error}; or `{FREE}`, which holds nothing on the task's rows") from None


def _number(name: str, value: float | str | None) -> float | None:
    """YAML reads `1e-1` as text."""
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError):
        raise RecipeError(f"{name} is {value!r}; give a number, or leave it out") from None


def _weight(value: float | str) -> float | Literal["auto"]:
    if value == "auto":
        return "auto"
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise ValueError(f"str_weight is {value!r}; give a number of at least 0, or 'auto'") from None
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"str_weight is {value!r}; give a finite number of at least 0, or 'auto'")
    return number
