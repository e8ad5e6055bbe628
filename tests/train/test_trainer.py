"""`STRTrainer` as a member of equivalence classes: weight 0 = SFT, cache = frozen = adapter-off, 1 x 8 = 8 x 1."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model
from trl import SFTConfig, SFTTrainer

from logitrail import STRConfig, STRTrainer
from logitrail.errors import AnchorReferenceError, DataError, NumericalError, RecipeError, TokensError
from logitrail.losses import ANCHORS
from logitrail.train.probes import Share, watched
from tests.tiny import chat_rows, tiny_llama, tiny_tokenizer
from tests.train.setting import HARMLESS, PROBES, common, largest_difference, lora, move, str_trainer, weights


@pytest.mark.parametrize("with_lora", [True, False])
@pytest.mark.parametrize("reference", ["cache", "frozen"])
def test_weight_zero_is_sft_to_the_bit(tokenizer, tokens, tmp_path, with_lora, reference):
    """Dropout on, 20 steps: no random number is drawn, no operation added."""
    plain = SFTTrainer(
        model=tiny_llama(tokenizer),
        args=SFTConfig(**common(tmp_path / "sft", max_steps=20)),
        train_dataset=Dataset.from_list(chat_rows()),
        processing_class=tokenizer,
        peft_config=lora() if with_lora else None,
    )
    plain.train()
    ours = str_trainer(
        tokenizer, tokens, tmp_path / "str", max_steps=20, str_weight=0.0, str_reference=reference,
        peft_config=lora() if with_lora else None,
    )  # fmt: skip
    ours.train()
    assert largest_difference(weights(plain), weights(ours)) == 0.0
    losses = [entry["loss"] for entry in plain.state.log_history if "loss" in entry]
    assert losses == [entry["loss"] for entry in ours.state.log_history if "loss" in entry]
    # and what is logged as CE is SFT's loss
    logged = [entry["ce"] for entry in ours.state.log_history if "loss" in entry]
    assert logged == pytest.approx(losses, abs=1e-6)


@pytest.mark.parametrize("anchor", ANCHORS)
@pytest.mark.parametrize("positions", ["labels", "first:2"])
def test_the_providers_agree(tokenizer, tokens, tmp_path, anchor, positions):
    results = {}
    for reference in ("cache", "frozen", "adapter-off"):
        trainer = str_trainer(
            tokenizer, tokens, tmp_path / reference, str_weight=0.5, str_anchor=anchor, str_positions=positions,
            str_reference=reference, peft_config=lora(),
        )  # fmt: skip
        assert trainer.reference_name == reference
        trainer.train()
        results[reference] = weights(trainer)
    assert largest_difference(results["cache"], results["frozen"]) < 1e-5
    assert largest_difference(results["frozen"], results["adapter-off"]) < 1e-6
    without = str_trainer(tokenizer, tokens, tmp_path / "zero", str_weight=0.0, peft_config=lora())
    without.train()
    assert largest_difference(results["cache"], weights(without)) > 1e-3


@pytest.mark.parametrize("anchor", ANCHORS)
def test_loss_and_gradient_equal_the_naive_two_forwards(tokenizer, tokens, tmp_path, anchor):
    """What anyone would write: two full forwards, full logits, a loop-free slice."""
    start = tiny_llama(tokenizer)
    trainer = str_trainer(
        tokenizer, tokens, tmp_path, model=tiny_llama(tokenizer), str_weight=0.7, str_anchor=anchor,
        str_reference="frozen", probes=(),
    )  # fmt: skip
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    trainer.model.train()
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=None)
    loss.backward()
    ours = {name: p.grad.clone() for name, p in trainer.model.named_parameters()}
    trainer.model.zero_grad()

    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    logits = trainer.model(**inputs).logits[:, :-1]
    with torch.no_grad():
        logits0 = start(**inputs).logits[:, :-1]
    labels = batch["labels"][:, 1:]
    mask = labels != -100
    ce = torch.nn.functional.cross_entropy(logits[mask], labels[mask])
    ids, comply = list(tokens.ids), list(tokens.compliance_ids)

    def a(z):
        if anchor == "logit":
            return z[:, ids]
        if anchor == "logprob":
            return z.log_softmax(-1)[:, ids]
        if anchor == "centered":
            return z[:, ids] - z[:, ids].mean(-1, keepdim=True)
        if anchor == "common":
            return z[:, ids].mean(-1, keepdim=True)
        return (z[:, ids].logsumexp(-1) - z[:, comply].logsumexp(-1)).unsqueeze(-1)

    naive = ce + 0.7 * (a(logits[mask]) - a(logits0[mask])).square().mean()
    naive.backward()
    torch.testing.assert_close(loss.detach(), naive.detach(), rtol=1e-5, atol=1e-6)
    for name, parameter in trainer.model.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {"packing": True, "packing_strategy": "bfd"},
        {"packing": True, "packing_strategy": "wrapped"},
        {"padding_free": True, "max_length": None},
    ],
)
def test_packed_and_padding_free_rows_use_the_cache_as_the_frozen_copy(tokenizer, tokens, tmp_path, options):
    results = []
    for reference in ("cache", "frozen"):
        trainer = str_trainer(
            tokenizer, tokens, tmp_path / reference, str_weight=0.5, str_reference=reference,
            peft_config=lora(), **{"max_length": 64, **options},
        )  # fmt: skip
        trainer.train()
        results.append(weights(trainer))
    assert largest_difference(*results) < 1e-5


def test_gradient_checkpointing_changes_nothing(tokenizer, tokens, tmp_path):
    results = []
    for checkpointing in (False, True):
        trainer = str_trainer(
            tokenizer, tokens, tmp_path / str(checkpointing), str_weight=0.5, gradient_checkpointing=checkpointing,
            peft_config=lora(lora_dropout=0.0),
        )  # fmt: skip
        trainer.train()
        results.append(weights(trainer))
    assert largest_difference(*results) < 1e-6


def test_no_full_logits_and_one_forward(tokenizer, tokens, tmp_path, monkeypatch):
    """In a cached step the policy's backbone runs once and nothing of the vocabulary's width comes out of the head."""
    trainer = str_trainer(tokenizer, tokens, tmp_path, str_weight=0.5, max_steps=2, peft_config=lora(), probes=())
    inner = trainer.model.get_base_model()
    runs, heads = [], []
    inner.base_model.register_forward_hook(lambda *_: runs.append(1))
    inner.get_output_embeddings().register_forward_hook(lambda *_: heads.append(1))
    trainer.train()
    assert len(runs) == 2
    assert heads == []


def test_auto_lambda_moves_towards_the_budget(tokenizer, tokens, tmp_path):
    options = {
        "str_weight": "auto",
        "str_anchor": "logprob",
        "str_drift_every": 1,
        "max_steps": 20,
        "learning_rate": 1e-2,
        "harmless": HARMLESS,
    }
    tight = str_trainer(tokenizer, tokens, tmp_path / "tight", str_kl_budget=1e-4, str_pull_back=False, **options)
    tight.train()
    loose = str_trainer(tokenizer, tokens, tmp_path / "loose", str_kl_budget=100.0, str_pull_back=False, **options)
    loose.train()
    assert tight.str_weight > 0.1 > loose.str_weight
    assert tight.str_probe_weight == tight.str_weight  # where none is named, the probes have lambda too
    tight_end, loose_end = (
        [entry["divergence"] for entry in trainer.state.log_history if "divergence" in entry][-1]
        for trainer in (tight, loose)
    )
    assert tight_end < loose_end


@pytest.mark.parametrize("anchor", ANCHORS)
def test_anchored_probes_hold_the_drift(tokenizer, tokens, tmp_path, anchor):
    last = {}
    for weight in (0.0, 5.0):
        trainer = str_trainer(
            tokenizer, tokens, tmp_path / str(weight), harmless=HARMLESS, max_steps=20, logging_steps=1,
            str_weight=0.0, str_anchor=anchor, str_probe_weight=weight,
        )  # fmt: skip
        trainer.train()
        log = [entry for entry in trainer.state.log_history if "drift" in entry]
        last[weight] = log[-1]["drift"]
        if weight:
            # at the first step the policy still is the reference
            assert log[0]["str_probe"] == pytest.approx(0.0, abs=1e-9)
            assert log[-1]["str_probe"] > 0
    assert last[5.0] < 0.5 * last[0.0]


@pytest.mark.parametrize("every", [1, 2, 3])
def test_probe_prompts_count_as_often_as_they_are_left_out(tokenizer, tokens, tmp_path, every):
    """loss = CE + weight * every * probe loss in each `every`-th step and CE in the others."""
    trainer = str_trainer(
        tokenizer, tokens, tmp_path, harmless=HARMLESS, str_anchor="logprob", str_positions="none", str_weight=0.0,
        str_probe_weight=0.5, str_probe_every=every, logging_steps=1,
    )  # fmt: skip
    move(trainer)
    batches = iter(trainer.get_train_dataloader())
    for step in range(6):
        trainer.state.global_step = step
        ((batch,), _) = trainer.get_batch_samples(batches, 1, trainer.args.device)
        ce = float(SFTTrainer.compute_loss(trainer, trainer.model, dict(batch)).detach())
        drawn = trainer._probes.drawn(trainer.args.str_probe_batch, Share(step=step), trainer.args.device)
        probe = float(trainer._probes.loss(trainer.model, drawn).detach())
        assert probe > 1e-3
        counted = 0.5 * every * probe if step % every == 0 else 0.0
        assert float(trainer.compute_loss(trainer.model, dict(batch)).detach()) == pytest.approx(ce + counted, rel=1e-5)


def test_the_logged_probe_loss_is_the_mean_over_the_steps_that_have_it(tokenizer, tokens, tmp_path):
    logs = []
    for often in (1, 4):
        trainer = str_trainer(
            tokenizer, tokens, tmp_path / str(often), harmless=HARMLESS, str_probe_weight=1.0, str_weight=0.0,
            max_steps=4, logging_steps=often, str_probe_every=2,
        )  # fmt: skip
        trainer.train()
        logs.append({e["step"]: e["str_probe"] for e in trainer.state.log_history if "str_probe" in e})
    assert logs == [{1: logs[0][1], 3: logs[0][3]}, {4: pytest.approx((logs[0][1] + logs[0][3]) / 2)}]


@pytest.mark.parametrize(
    ("tokens_held", "weight", "counted"), [(1, None, 0), (4, None, 1.0), (4, 0.25, 0.25), (4, 0, 0)]
)
@pytest.mark.parametrize("references", [1, 2])
def test_the_probe_loss_equals_its_naive_twin(tokenizer, tokens, tmp_path, tokens_held, weight, counted, references):
    """The held tokens' part at both prompts, and that of the answer's own tokens at the harmful one alone."""
    from logitrail.models.chat import generation_ids

    other = tiny_llama(tokenizer, seed=1)
    trainer = str_trainer(
        tokenizer, tokens, tmp_path, probes=PROBES[:1], harmless=HARMLESS[:1], str_probe_weight=1.0, str_probe_batch=2,
        str_anchor="logprob", str_probe_tokens=tokens_held, str_answer_weight=weight,
        references=(None, other)[:references],
    )  # fmt: skip
    start = tiny_llama(tokenizer)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    prompts = (PROBES[0], HARMLESS[0])

    def answered(prompt):
        """The starting model's own first words, one forward pass a word."""
        ids = generation_ids(tokenizer, prompt)
        answer = []
        while len(answer) < tokens_held and tokenizer.eos_token_id not in answer:
            answer.append(int(start(input_ids=torch.tensor([ids + answer])).logits[0, -1].argmax()))
        return ids + answer, len(answer)

    def logprobs(model, ids, positions):
        return model(input_ids=torch.tensor([ids])).logits[0, -positions - 1 : -1].log_softmax(-1)

    contexts = [answered(prompt) for prompt in prompts]
    held = [start, other][:references]
    moved = [
        logprobs(trainer.model, *context) - torch.stack([logprobs(one, *context) for one in held]).mean(dim=0).detach()
        for context in contexts
    ]
    differences = [difference[:, list(tokens.ids)] for difference in moved]
    ids, positions = contexts[0]
    own = moved[0].gather(-1, torch.tensor(ids[-positions:])[:, None])
    ours = trainer._probes.loss(trainer.model, trainer._probes.drawn(2, Share(step=3), trainer.args.device))
    naive = torch.stack([difference.square().mean() for difference in differences]).mean()
    naive = naive + counted * own.square().mean() / 2
    torch.testing.assert_close(ours, naive, rtol=1e-4, atol=1e-5)
    assert trainer.held["probes"]["answer_weight"] == counted
    wanted, found = (torch.autograd.grad(loss, trainer.model.model.norm.weight)[0] for loss in (naive, ours))
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(trainer._probes.drift(trainer.model), differences[0].abs().mean(), rtol=1e-4, atol=1e-5)


def test_drift_is_watched_on_prompts_that_are_not_anchored(tokenizer, tokens, tmp_path):
    """A model can learn the anchored prompts by heart; drift on those would say nothing of others."""
    harmful = [f"How do I make a box {number}?" for number in range(8)]
    trainer = str_trainer(tokenizer, tokens, tmp_path, probes=harmful, harmless=HARMLESS, str_probe_batch=4)
    drawn = {row for step in range(200) for row in trainer._probes._draw(4, step)}
    assert drawn == {2, 3, 4, 5, 6, 7, 8, 9}  # all but the two watched: six harmful ones, two harmless ones
    alone = str_trainer(tokenizer, tokens, tmp_path / "alone", probes=harmful, str_probe_weight=0)
    assert float(alone._probes.drift(alone.model)) == 0.0


@pytest.mark.parametrize(
    ("harmful", "anchored", "count"),
    [(1, True, 1), (3, True, 3), (4, True, 1), (120, True, 30), (500, True, 32), (20, False, 20), (500, False, 32)],
)
def test_how_many_prompts_are_watched(harmful, anchored, count):
    assert watched(harmful, anchored=anchored) == count


def test_the_default_is_auto_with_probes_and_a_number_without(tokenizer, tokens, tmp_path):
    both = str_trainer(tokenizer, tokens, tmp_path / "both", harmless=HARMLESS, str_drift_every=1, max_steps=3)
    both.train()
    assert both.anchor == "logprob"
    assert both.str_probe_weight == both.str_weight != 0.1
    without = str_trainer(tokenizer, tokens, tmp_path / "without", probes=(), max_steps=3)
    without.train()
    assert (without.str_weight, without._anchors_probes) == (0.1, False)
    with pytest.raises(RecipeError, match="pass probe_prompts"):
        str_trainer(tokenizer, tokens, tmp_path / "budget", probes=(), str_drift_budget=0.3)


def test_anchored_probes_need_both_kinds(tokenizer, tokens, tmp_path):
    with pytest.raises(RecipeError, match="the harmless ones are missing"):
        str_trainer(tokenizer, tokens, tmp_path, str_probe_weight=1.0)
    with pytest.raises(RecipeError, match="the harmful ones are missing"):
        str_trainer(tokenizer, tokens, tmp_path, probes=(), harmless=HARMLESS, str_probe_weight=1.0)


def test_evaluation_loss_is_cross_entropy_alone(tokenizer, tokens, tmp_path):
    rows = Dataset.from_list(chat_rows(6))
    ours = str_trainer(tokenizer, tokens, tmp_path / "a", str_weight=5.0)
    plain = SFTTrainer(
        model=tiny_llama(tokenizer),
        args=SFTConfig(**common(tmp_path / "b")),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    assert ours.evaluate(rows)["eval_loss"] == pytest.approx(plain.evaluate(rows)["eval_loss"], abs=1e-6)


def test_resumed_training_ends_with_the_same_bytes(tokenizer, tokens, tmp_path):
    def make(folder):
        return str_trainer(
            tokenizer, tokens, folder, max_steps=8, save_strategy="steps", save_steps=4, str_weight=0.5,
            peft_config=lora(), str_cache_dir=str(tmp_path / "cache"), logging_steps=4, harmless=HARMLESS,
            str_positions="labels", str_probe_weight=0.5,
        )  # fmt: skip

    whole = make(tmp_path / "whole")
    whole.train()
    cut = make(tmp_path / "cut")
    cut.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-4"))
    assert largest_difference(weights(whole), weights(cut)) == 0.0
    logged = lambda trainer: [(e["step"], e["ce"], e["str"]) for e in trainer.state.log_history if "ce" in e]  # noqa: E731
    assert logged(whole) == logged(cut)


# What cannot work is said --------------------------------------------------------------------------------------------


def test_adapter_that_changes_base_weights_is_refused(tokenizer, tokens, tmp_path):
    with pytest.raises(AnchorReferenceError, match="trains biases"):
        str_trainer(tokenizer, tokens, tmp_path / "a", str_reference="adapter-off", peft_config=lora(bias="all"))
    with pytest.raises(AnchorReferenceError, match="modules_to_save"):
        str_trainer(
            tokenizer,
            tokens,
            tmp_path / "b",
            str_reference="adapter-off",
            peft_config=lora(modules_to_save=["lm_head"]),
        )
    with pytest.raises(AnchorReferenceError, match="no adapter"):
        str_trainer(tokenizer, tokens, tmp_path / "c", str_reference="adapter-off")


def test_a_trained_adapter_is_part_of_the_reference(tokenizer, tokens, tmp_path):
    model = get_peft_model(tiny_llama(tokenizer), lora(init_lora_weights=False))
    with pytest.raises(AnchorReferenceError, match="already trained"):
        str_trainer(tokenizer, tokens, tmp_path / "a", model=model, str_reference="adapter-off")
    trainer = str_trainer(tokenizer, tokens, tmp_path / "b", model=model, str_weight=0.5, max_steps=1, logging_steps=1)
    assert trainer.reference_name == "cache"
    trainer.model.eval()
    trainer.model.train()
    for module in trainer.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    trainer.train()
    # at the first step the policy still is the reference
    assert trainer.state.log_history[0]["str"] == pytest.approx(0.0, abs=1e-9)


def test_all_masked_data_is_an_error(tokenizer, tokens, tmp_path):
    rows = [{"input_ids": [5, 6, 7], "labels": [-100, -100, -100]}] * 4
    with pytest.raises(DataError, match="every label is masked"):
        str_trainer(tokenizer, tokens, tmp_path, rows=rows, max_length=None)


def test_no_row_is_an_error(tokenizer, tokens, tmp_path):
    with pytest.raises(DataError, match="the training data has no row"):
        STRTrainer(
            tiny_llama(tokenizer),
            STRConfig(output_dir=str(tmp_path), use_cpu=True, report_to=[]),
            train_dataset=Dataset.from_dict({"prompt": [], "completion": []}),
            processing_class=tokenizer,
            safety_tokens=tokens,
        )


def test_a_masked_batch_is_an_error(tokenizer, tokens, tmp_path):
    rows = [{"input_ids": [5, 6, 7], "labels": [-100, -100, -100]}] * 8 + [
        {"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}
    ]
    trainer = str_trainer(
        tokenizer, tokens, tmp_path, rows=rows, max_length=None, per_device_train_batch_size=1, max_steps=9, probes=()
    )
    with pytest.raises(DataError, match="every label of the batch at step"):
        trainer.train()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"harmless": HARMLESS, "str_anchor": "logit"}, "the anchor is 'logit', with str_probe_tokens 8; leave it out"),
        ({"harmless": HARMLESS, "str_probe_tokens": 1}, "with str_probe_tokens 1"),
        ({"str_anchor": "logprob"}, "with no probe prompt anchored; leave it out"),
        ({"harmless": HARMLESS, "str_answer_weight": -1}, "at least 0"),
        ({"harmless": HARMLESS, "str_answer_weight": "much"}, "give a number"),
    ],
)
def test_an_answer_weight_that_would_hold_nothing_is_refused(tokenizer, tokens, tmp_path, options, named):
    with pytest.raises(RecipeError, match=named):
        str_trainer(tokenizer, tokens, tmp_path, **{"str_answer_weight": 0.5, **options})


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"str_altered_probes": 1}, "str_altered_probes is 1, and no probe prompt is anchored here"),
        ({"harmless": HARMLESS, "str_altered_probes": -1}, "whole number of at least 0"),
        ({"harmless": HARMLESS, "str_altered_probes": 1.5}, "1.5; it must be a whole number"),
        ({"harmless": HARMLESS, "str_altered_probes": True}, "True; it must be a whole number"),
        ({"harmless": HARMLESS, "str_altered_probes": "two"}, "'two'; it must be a whole number"),
    ],
)
def test_altered_prompts_of_nothing_are_refused(tokenizer, tokens, tmp_path, options, named):
    with pytest.raises(RecipeError, match=named):
        str_trainer(tokenizer, tokens, tmp_path, **options)


def test_probe_prompts_that_would_hold_nothing_are_refused(tokenizer, tokens, tmp_path):
    late = str_trainer(tokenizer, tokens, tmp_path / "late", harmless=HARMLESS, str_probe_every=6, max_steps=6)
    with pytest.raises(RecipeError, match="str_probe_every is 6 and the training has 6 steps"):
        late.train()
    adapter = lora(alora_invocation_tokens=[5, 6], task_type="CAUSAL_LM")
    with pytest.raises(RecipeError, match="activated LoRA"):
        str_trainer(tokenizer, tokens, tmp_path / "alora", harmless=HARMLESS, peft_config=adapter)


@pytest.mark.parametrize("kind", [PromptTuningConfig, PrefixTuningConfig])
def test_virtual_tokens_are_refused(tokenizer, tokens, tmp_path, kind):
    """Hidden states and labels would stand three places apart, and nothing would say so."""
    adapter = kind(task_type="CAUSAL_LM", num_virtual_tokens=3)
    with pytest.raises(RecipeError, match=f"{kind.__name__}.*virtual tokens"):
        str_trainer(tokenizer, tokens, tmp_path, peft_config=adapter, str_reference="frozen")


@pytest.mark.parametrize(
    ("options", "anchor", "positions"),
    [
        ({"probes": ()}, "logit", "labels"),
        ({}, "logit", "labels"),  # harmful ones alone are watched, not held
        ({"harmless": HARMLESS}, "logprob", "none"),
        ({"harmless": HARMLESS, "str_probe_weight": 0}, "logit", "labels"),
        ({"harmless": HARMLESS, "str_anchor": "centered"}, "centered", "none"),
        ({"harmless": HARMLESS, "str_positions": "labels"}, "logprob", "labels"),
        ({"harmless": HARMLESS, "str_positions": "first:2", "str_anchor": "logit"}, "logit", "first:2"),
    ],
)
def test_the_defaults_are_others_beside_anchored_probes(tokenizer, tokens, tmp_path, options, anchor, positions):
    trainer = str_trainer(tokenizer, tokens, tmp_path, **options)
    assert (trainer.anchor, trainer.positions) == (anchor, positions)
    if positions == "none":
        assert trainer.cache is None
        assert trainer.reference_name == "off"
        assert not trainer.cache_folder.exists()
    else:
        identity = trainer.cache.identity
        assert (identity.logsumexp, identity.positions) == (anchor == "logprob", positions)
    assert trainer.args.str_anchor in (None, anchor)


def test_without_positions_the_task_is_free_and_the_probes_are_held(tokenizer, tokens, tmp_path):
    """The first step's loss is the cross-entropy's: at the start the probes cost nothing. Then lambda times theirs."""
    trainer = str_trainer(tokenizer, tokens, tmp_path, harmless=HARMLESS, str_weight=0.5, max_steps=3, logging_steps=1)
    trainer.train()
    steps = [entry for entry in trainer.state.log_history if "ce" in entry]
    assert all("str" not in entry for entry in steps)
    assert steps[0]["str_probe"] == pytest.approx(0.0, abs=1e-9)
    assert steps[-1]["str_probe"] > 1e-9
    for entry in steps:
        assert entry["loss"] == pytest.approx(entry["ce"] + 0.5 * entry["str_probe"], rel=1e-5)


def test_what_is_held_can_be_read_off_the_trainer(tokenizer, tokens, tmp_path):
    """It goes into the summary, the report and the card: the configuration alone does not say it."""
    free = str_trainer(tokenizer, tokens, tmp_path / "a", harmless=HARMLESS).held
    assert (free["anchor"], free["rows"], free["reference"], free["tokens"]) == ("logprob", "none", None, len(tokens))
    assert free["probes"] | {"a_step": 8, "weight": "lambda"} == free["probes"]
    plain = str_trainer(tokenizer, tokens, tmp_path / "b", probes=(), str_weight=0.3).held
    assert (plain["anchor"], plain["rows"], plain["reference"], plain["lambda"]) == ("logit", "labels", "cache", 0.3)
    assert plain["probes"] is None
    assert str_trainer(tokenizer, tokens, tmp_path / "c", str_weight=0).held is None


@pytest.mark.parametrize("options", [{"probes": ()}, {}, {"harmless": HARMLESS, "str_probe_weight": 0}])
def test_a_training_that_would_hold_nothing_is_refused(tokenizer, tokens, tmp_path, options):
    with pytest.raises(RecipeError, match="nothing would be held"):
        str_trainer(tokenizer, tokens, tmp_path, str_positions="none", **options)
    str_trainer(tokenizer, tokens, tmp_path, str_positions="none", str_weight=0, **options)  # plain SFT, as asked for


def test_tokens_of_another_tokenizer_are_refused(tokens, tmp_path):
    other = tiny_tokenizer(vocabulary=330)
    with pytest.raises(TokensError, match=tokens.tokenizer_fingerprint):
        str_trainer(other, tokens, tmp_path)


def test_rows_of_ids_alone_learn_every_token(tokenizer, tokens, tmp_path):
    """Tokenised by somebody else, without labels: TRL learns them whole, and so is what is held."""
    rows = [
        {"input_ids": ids, **({"labels": ids} if labelled else {})}
        for labelled in (False, True)
        for ids in (tokenizer(f"turn the light on {number}")["input_ids"] for number in range(8))
    ]
    results = []
    for place, half in (("ids", rows[:8]), ("labels", rows[8:])):
        trainer = str_trainer(
            tokenizer, tokens, tmp_path / place, rows=half, probes=(), str_weight=0.5, peft_config=lora(),
            dataset_kwargs={"skip_prepare_dataset": True},
        )  # fmt: skip
        trainer.train()
        assert trainer.state.log_history[-2]["str"] > 0
        results.append(weights(trainer))
    assert largest_difference(*results) == 0.0
    with pytest.raises(DataError, match="no row"):  # a first token is predicted by nothing
        str_trainer(
            tokenizer, tokens, tmp_path, rows=[{"input_ids": [5]}], dataset_kwargs={"skip_prepare_dataset": True}
        )


def test_a_loss_that_is_not_finite_stops_the_run_by_step(tokenizer, tokens, tmp_path):
    trainer = str_trainer(tokenizer, tokens, tmp_path, learning_rate=1e30, max_grad_norm=0.0, probes=(), max_steps=5)
    with pytest.raises(NumericalError, match="at step"):
        trainer.train()


def test_a_stale_cache_is_named(tokenizer, tokens, tmp_path):
    folder = {"str_cache_dir": str(tmp_path / "cache")}
    str_trainer(tokenizer, tokens, tmp_path / "a", **folder)
    with pytest.raises(AnchorReferenceError, match="rows"):
        str_trainer(tokenizer, tokens, tmp_path / "b", rows=chat_rows(9), **folder)
    with pytest.raises(AnchorReferenceError, match="positions"):
        str_trainer(tokenizer, tokens, tmp_path / "b", str_positions="start", **folder)
    with pytest.raises(AnchorReferenceError, match="reference"):
        str_trainer(tokenizer, tokens, tmp_path / "b", model=tiny_llama(tokenizer, seed=1), **folder)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"str_anchor": "logits"}, "choose one of logit"),
        ({"str_positions": "first"}, "first:N"),
        ({"str_penalty": "cube"}, "choose one of square"),
        ({"str_reference": "none"}, "choose one of auto"),
        ({"str_weight": -1}, "at least 0"),
        ({"str_weight": "often"}, "'auto'"),
        ({"str_weight": "auto", "str_drift_budget": 0.0}, "above 0"),
        (
            {"str_weight": "auto", "str_kl_budget": float("inf")},
            "str_kl_budget is inf; it must be a finite number above 0",
        ),
        ({"str_drift_every": 0}, "at least 1"),
        ({"str_drift_every": True}, "whole number"),
        ({"str_drift_every": 2.5}, "whole number"),
        ({"str_probe_weight": -1.0}, "at least 0"),
        ({"str_probe_weight": "auto"}, "give a number"),
        ({"str_probe_batch": 3}, "even number"),
        ({"str_probe_every": 2.5}, "whole number"),
        ({"str_cache_dtype": "int8"}, "choose one of float32"),
        ({"label_smoothing_factor": 0.1}, "label_smoothing_factor"),
    ],
)
def test_options_that_cannot_work_are_said(tmp_path, options, words):
    with pytest.raises(RecipeError, match=words):
        STRConfig(**common(tmp_path, **options))
