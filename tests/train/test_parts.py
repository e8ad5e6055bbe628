"""A method's part where a training meets it: the equation, with what the trainer hands over, against naive twins."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch
from peft import get_peft_model

from logitrail.methods import Companion, constrained, interpolate, kl, lisa, project, safegrad
from logitrail.methods.rows import trained_weights
from tests.tiny import tiny_llama
from tests.train.setting import Given, lora, move, plain, str_trainer


def naive_forwards(trainer, start, batch):
    """Log-probabilities [N, V] of the policy and of `start` at the labelled positions, their labels and places."""
    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    labels = batch["labels"][:, 1:]
    mask = labels != -100
    now = trainer.model(**inputs).logits[:, :-1][mask].log_softmax(-1)
    with torch.no_grad():
        then = start(**inputs).logits[:, :-1][mask].log_softmax(-1)
    places = torch.tensor([place for row in mask for place in range(1, int(row.sum()) + 1)])
    return now, then, labels[mask], places


def kl_loss(now, then, labels, places):
    divergence = (then.exp() * (then - now)).sum(-1).mean()
    return torch.nn.functional.nll_loss(now, labels) + 0.7 * divergence


def reverse_kl_loss(now, then, labels, places):
    divergence = (now.exp() * (now - then)).sum(-1).mean()
    return torch.nn.functional.nll_loss(now, labels) + 0.7 * divergence


def constrained_loss(now, then, labels, places):
    beta = torch.where(places == 1, 0.5, torch.where(places <= 5, 2.0, 0.1))
    ratio = (now - then).gather(-1, labels[:, None])[:, 0]
    return (2 / beta * torch.log(1 + torch.exp(-beta * ratio))).mean()


@pytest.mark.parametrize("with_lora", [False, True])
@pytest.mark.parametrize(
    ("term", "naive"),
    [
        (kl.KLTerm(kl.Options(weight=0.7, tile_rows=3)), kl_loss),
        (kl.KLTerm(kl.Options(weight=0.7, reverse=True)), reverse_kl_loss),
        (constrained.ConstrainedTerm(constrained.Options()), constrained_loss),
    ],
    ids=["kl", "reverse kl", "constrained"],
)
def test_a_term_is_its_equation_of_two_full_forwards(tokenizer, tokens, tmp_path, term, naive, with_lora):
    adapter = {"peft_config": lora(lora_dropout=0.0)} if with_lora else {}
    trainer = str_trainer(tokenizer, tokens, tmp_path, terms=[term], **plain(), **adapter)
    move(trainer)
    batch = next(iter(trainer.get_train_dataloader()))
    loss = trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=None)
    loss.backward()
    ours = {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.model.zero_grad()
    wanted = naive(*naive_forwards(trainer, tiny_llama(tokenizer), batch))
    wanted.backward()
    torch.testing.assert_close(loss.detach(), wanted.detach(), rtol=1e-4, atol=1e-5)
    assert ours
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, trainer.model.get_parameter(name).grad, rtol=1e-3, atol=1e-5)


class Watching(Companion):
    """What the weights and their gradients are at each step, where it stands among the companions."""

    def __init__(self) -> None:
        self.model = None
        self.weights: list[dict[str, torch.Tensor]] = []
        self.gradients: list[dict[str, torch.Tensor]] = []

    def begin(self, training):
        self.model = training.model

    def after_backward(self, step, steps):
        trained = trained_weights(self.model)
        self.weights.append({name: p.detach().clone() for name, p in trained.items()})
        self.gradients.append({name: p.grad.clone() for name, p in trained.items() if p.grad is not None})


def watched(tokenizer, tokens, folder, companion, steps):
    """A training beside the companion; what stood before and behind it at each step."""
    before, behind = Watching(), Watching()
    trainer = str_trainer(
        tokenizer, tokens, folder, companions=[before, companion, behind], peft_config=lora(lora_dropout=0.0),
        **plain(max_steps=steps, optim="sgd", learning_rate=0.5, max_grad_norm=0.0),
    )  # fmt: skip
    trainer.train()
    assert len(before.gradients) == steps
    return before, behind


def test_lisa_pulls_each_turn_to_where_it_began(tokenizer, tokens, tmp_path):
    """Turns of one safety and of two task steps: they begin at steps 0, 1, 3, 4, 6. The pull sets in at the third step."""
    companion = lisa.Proximal(lisa.Options(safety_steps=1, task_steps=2, rho=0.3, proximal_from=0.25))
    before, behind = watched(tokenizer, tokens, tmp_path, companion, 8)
    began = {0: 0, 1: 1, 2: 1, 3: 3, 4: 4, 5: 4, 6: 6, 7: 7}
    pulled = set()
    for step, begin in began.items():
        for name, gradient in behind.gradients[step].items():
            apart = before.weights[step][name] - before.weights[begin][name]
            pull = 0.3 * apart if step >= 2 else torch.zeros_like(apart)
            torch.testing.assert_close(gradient, before.gradients[step][name] + pull)
            if pull.abs().max() > 1e-5:
                pulled.add(step)
    assert pulled == {2, 5}  # a task turn's second step, where the anchor is not the weights as they are


def test_safegrad_projects_the_gradient_that_a_step_gets(tokenizer, tokens, tmp_path):
    """Two safety rows, both drawn at each step; their loss by one forward a row, the surgery on flat vectors."""
    companion = safegrad.SafeGradient(Given(tokenizer), safegrad.Options(rho=0.4, batch_rows=8))
    before, behind = watched(tokenizer, tokens, tmp_path, companion, 5)
    start, policy = tiny_llama(tokenizer), get_peft_model(tiny_llama(tokenizer), lora(lora_dropout=0.0))
    conflicts = 0
    # At step 0 the policy is the reference: its safety gradient is rounding, whatever computes it.
    for step in range(1, 5):
        policy.load_state_dict(before.weights[step], strict=False)
        total, count = torch.tensor(0.0), 0
        for row in companion._rows:
            ids, answer = torch.tensor([[*row.context, *row.answer]]), len(row.answer)
            now = policy(input_ids=ids).logits[0, -answer - 1 : -1].log_softmax(-1)
            then = start(input_ids=ids).logits[0, -answer - 1 : -1].log_softmax(-1).detach()
            total, count = total + (then.exp() * (then - now)).sum(), count + answer
        names = list(before.gradients[step])
        trained = dict(policy.named_parameters())
        a = torch.cat([g.flatten() for g in torch.autograd.grad(total / count, [trained[name] for name in names])])
        g = torch.cat([before.gradients[step][name].flatten() for name in names])
        if g @ a < 0:
            conflicts += 1
            g = g - (g @ a) / (a @ a) * a
        combined = torch.cat([behind.gradients[step][name].flatten() for name in names])
        torch.testing.assert_close(combined, g + 0.4 * a, rtol=1e-3, atol=1e-5)
    assert conflicts > 0


@pytest.mark.parametrize("with_lora", [False, True])
def test_interpolation_ends_between_start_and_training(tokenizer, with_lora):
    model = tiny_llama(tokenizer)
    model = get_peft_model(model, lora(lora_dropout=0.0)) if with_lora else model
    move(SimpleNamespace(model=model))
    trained = merged(model)
    interpolate.PART.finish(model, Given(tokenizer), interpolate.Options(coefficient=0.25))
    start = dict(tiny_llama(tokenizer).named_parameters())
    for name, weight in merged(model).items():
        torch.testing.assert_close(weight, 0.75 * start[name] + 0.25 * trained[name])
        assert with_lora or not torch.equal(weight, start[name])


@pytest.mark.parametrize("with_lora", [False, True])
def test_a_projection_ends_with_the_updates_that_turned_away_along_the_alignment(tokenizer, with_lora):
    """Safe LoRA with a threshold between the updates' cosines: some are projected, the others stay."""
    given = Given(tokenizer)
    start, base = (dict(model.named_parameters()) for model in (given.start_model(), given.base_model()))
    model = tiny_llama(tokenizer)
    model = get_peft_model(model, lora(lora_dropout=0.0)) if with_lora else model
    move(SimpleNamespace(model=model))
    trained = merged(model)
    held = [name for name in trained if start[name].ndim == 2 and "embed" not in name and "lm_head" not in name]
    moved = [name for name in held if not torch.equal(trained[name], start[name])]
    along, cosines = {}, {}
    for name in moved:
        delta, difference = trained[name] - start[name], start[name] - base[name]
        along[name] = difference @ difference.T / difference.norm() @ delta
        cosines[name] = float(torch.cosine_similarity(along[name].flatten(), delta.flatten(), dim=0))
    middle = sorted(cosines.values())
    threshold = (middle[len(middle) // 2 - 1] + middle[len(middle) // 2]) / 2
    project.PART.finish(model, given, project.Options(threshold=threshold))
    ended = merged(model)
    projected = {name for name in moved if cosines[name] <= threshold}
    assert 0 < len(projected) < len(moved)
    for name, weight in ended.items():
        wanted = start[name] + along[name] if name in projected else trained[name]
        torch.testing.assert_close(weight, wanted, rtol=1e-4, atol=1e-5)


def merged(model):
    """The weights by the plain model's names, an adapter folded in."""
    plain_model = copy.deepcopy(model)
    if hasattr(plain_model, "merge_and_unload"):
        plain_model = plain_model.merge_and_unload()
    return {name: weight.detach().clone() for name, weight in plain_model.named_parameters()}
