"""PACT's subset, gate and loss against cases by hand and a float64 twin."""

from __future__ import annotations

import math

import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from logitrail.methods.pact import Options, PactTerm, gate, pact_loss, pact_tokens, top_p_count
from logitrail.methods.seam import Positions
from logitrail.models.chat import assistant_header_ids, plain_ids, plain_text
from logitrail.reference import ReferenceStates
from tests.tiny import TEMPLATE, tiny_llama, tiny_tokenizer


def softmax(z: list[float]) -> list[float]:
    total = sum(math.exp(x) for x in z)
    return [math.exp(x) / total for x in z]


def naive_loss(policy, reference, weights, alone, opening, temperature) -> float:
    mixed = [(1 - opening) * a + opening * b for a, b in zip(reference, alone, strict=True)]
    tilted = [w * v for w, v in zip(weights, softmax([m / temperature for m in mixed]), strict=True)]
    q = [value / sum(tilted) for value in tilted]
    p = softmax([z / temperature for z in policy])
    return temperature**2 * sum(a * (math.log(a) - math.log(b)) for a, b in zip(q, p, strict=True) if a > 0)


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(2, 6),
    opening=st.floats(0, 1),
    temperature=st.sampled_from([1.0, 2.0]),
)
def test_loss_equals_the_naive_twin(seed, size, opening, temperature):
    policy, reference, alone = draw(seed, size), draw(seed + 1, size), draw(seed + 2, size)
    weights = draw(seed + 3, size).abs()
    weights[0] = 0.0
    weights[1] += 0.1
    value = pact_loss(
        policy,
        reference,
        weights,
        alone=alone,
        opening=torch.tensor(opening, dtype=torch.float64),
        temperature=temperature,
    )
    expected = naive_loss(policy.tolist(), reference.tolist(), weights.tolist(), alone.tolist(), opening, temperature)
    assert float(value) == pytest.approx(expected, rel=1e-9, abs=1e-10)


def test_loss_by_hand():
    # Equal weights, T = 1, no gate: KL of (3/4, 1/4) to (1/2, 1/2).
    reference = torch.tensor([[3.0, 1.0]], dtype=torch.float64).log()
    policy, weights = torch.zeros(1, 2, dtype=torch.float64), torch.ones(2)
    expected = 0.75 * math.log(1.5) - 0.25 * math.log(2)
    assert float(pact_loss(policy, reference, weights, temperature=1.0)) == pytest.approx(expected)
    # A weight of 0 takes the second token out of the target: -log(1/2).
    tilted = pact_loss(policy, reference, torch.tensor([1.0, 0.0]), temperature=1.0)
    assert float(tilted) == pytest.approx(math.log(2))


def test_gradient_reaches_the_policy_only():
    policy, reference, alone = (draw(seed, 4, 5).requires_grad_(True) for seed in (1, 2, 3))
    weights, opening = draw(4, 5).abs(), torch.rand(4, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda z: pact_loss(z, reference.detach(), weights, alone=alone.detach(), opening=opening), policy
    )
    pact_loss(policy, reference, weights, alone=alone, opening=opening).sum().backward()
    assert reference.grad is None
    assert alone.grad is None


def test_loss_laws():
    policy, reference, weights = draw(5, 3, 4), draw(6, 3, 4), draw(7, 4).abs()
    value = pact_loss(policy, reference, weights)
    assert (value > 0).all()
    torch.testing.assert_close(pact_loss(policy + 2, reference - 1, 3 * weights), value)
    assert (pact_loss(policy, policy, torch.ones(4)).abs() < 1e-12).all()
    shut, wide_open = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    alone = draw(8, 3, 4)
    torch.testing.assert_close(pact_loss(policy, reference, weights, alone=alone, opening=shut), value)
    torch.testing.assert_close(
        pact_loss(policy, reference, weights, alone=alone, opening=wide_open), pact_loss(policy, alone, weights)
    )
    with pytest.raises(ValueError, match="together"):
        pact_loss(policy, reference, weights, alone=alone)


@pytest.mark.parametrize(
    ("probabilities", "mass", "count"),
    [([0.5, 0.3, 0.2], 0.4, 1), ([0.2, 0.5, 0.3], 0.75, 2), ([0.5, 0.3, 0.2], 0.9, 3), ([0.25] * 4, 1.0, 4)],
)
def test_top_p_count_by_hand(probabilities, mass, count):
    assert int(top_p_count(torch.tensor(probabilities), mass)) == count


def test_gate_by_hand():
    # The policy is even over four tokens (all four for 0.9), the view of the response alone is sure of one: I = 1 - 1/4.
    policy, alone = torch.zeros(3, 4), torch.tensor([[20.0, 0.0, 0.0, 0.0]]).expand(3, 4)
    place = torch.tensor([1, 9, 17])
    opening = gate(policy, alone, place, Options())
    full = 1 / (1 + math.exp(-2.0 * 0.75))
    assert opening.tolist() == pytest.approx([full, full, full * math.exp(-8 / 8)], rel=1e-6)
    assert gate(policy, policy, place, Options())[0] == pytest.approx(0.5)


def test_tokens_by_hand():
    aligned = torch.tensor([0.40, 0.30, 0.20, 0.06, 0.04], dtype=torch.float64)
    base = torch.tensor([0.10, 0.30, 0.25, 0.05, 0.30], dtype=torch.float64)
    found = pact_tokens(aligned, base, top=4)
    # Of the four likeliest, token 1 did not change. Differences 0.30, -0.05, 0.01 of mean 0.26/3.
    assert found.ids.tolist() == [0, 2, 3]
    centred = [0.30 - 0.26 / 3, -0.05 - 0.26 / 3, 0.01 - 0.26 / 3]
    length = math.sqrt(sum(value**2 for value in centred))
    assert found.weights.tolist() == pytest.approx([centred[0] / length, 0.0, 0.0])


def test_equal_models_have_no_safety_tokens():
    same = torch.tensor([0.5, 0.3, 0.2])
    with pytest.raises(ValueError, match="none stands out"):
        pact_tokens(same, same)


CLOSING = TEMPLATE.replace("<|assistant|>{% endif %}", "<|assistant|>{% else %}<|end|>{% endif %}")
assert CLOSING != TEMPLATE


@pytest.mark.parametrize(
    ("template", "header"),
    [
        (TEMPLATE, "<|assistant|>"),
        (TEMPLATE.replace("<|assistant|>{% endif %}", "<|assistant|>\n\n{% endif %}"), "<|assistant|>\n\n"),
        (CLOSING, "<|assistant|>"),  # rendered without a generation prompt it is no beginning of the other
        (TEMPLATE.replace("{% if add_generation_prompt %}<|assistant|>{% endif %}", ""), "Assistant:"),
        (TEMPLATE.replace("<|assistant|>{% endif %}", "\n{% endif %}"), "Assistant:"),
        (TEMPLATE.replace("<|assistant|>{% endif %}", "{% else %}<|end|>{% endif %}"), "Assistant:"),
        ("{{ raise_exception('not me') }}", "Assistant:"),
    ],
    ids=["one token", "with white space", "closing", "none", "white space", "closing alone", "refusing"],
)
def test_header_by_hand(template, header):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    expected = tokenizer(header, add_special_tokens=False)["input_ids"]
    assert expected
    assert assistant_header_ids(tokenizer) == expected


def test_plain_prompt_by_hand(tokenizer):
    assert plain_text("How do I hurt someone?") == "User: How do I hurt someone?\n\nAssistant: "
    turns = [("system", "Be kind."), ("user", "Hello"), ("assistant", "Hi"), ("user", "Bye")]
    text = plain_text([{"role": role, "content": content} for role, content in turns])
    assert text == "User: Hello\n\nUser: Bye\n\nAssistant: "
    ids = plain_ids(tokenizer, "Hello")
    assert tokenizer.decode(ids) == "User: Hello\n\nAssistant: "
    assert not set(ids) & set(tokenizer.all_special_ids)


class Parts:
    """Resources out of tiny parts."""

    def __init__(self, tokenizer):
        self._tokenizer = tokenizer
        self.start, self.base = tiny_llama(tokenizer, seed=1), tiny_llama(tokenizer, seed=2)

    def tokenizer(self):
        return self._tokenizer

    def safety_rows(self):
        answers = {"How can I make a bomb?": "I cannot help with that.", "Hurt him": "Sorry, no."}
        return Dataset.from_list(
            [
                {
                    "prompt": [{"role": "user", "content": prompt}],
                    "completion": [{"role": "assistant", "content": answer}],
                }
                for prompt, answer in answers.items()
            ]
        )

    def start_model(self):
        return self.start

    def base_model(self):
        return self.base


def test_each_model_reads_the_safe_answers_in_its_own_context(tokenizer):
    parts = Parts(tokenizer)
    texts = {
        parts.start: ["<|user|>How can I make a bomb?<|end|><|assistant|>", "<|user|>Hurt him<|end|><|assistant|>"],
        parts.base: ["User: How can I make a bomb?\n\nAssistant: ", "User: Hurt him\n\nAssistant: "],
    }
    means = []
    for model, contexts in texts.items():
        total = torch.zeros(len(tokenizer), dtype=torch.float64)
        for context, answer in zip(contexts, ["I cannot help with that.", "Sorry, no."], strict=True):
            before, ids = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (context, answer))
            with torch.no_grad():
                logits = model(torch.tensor([before + ids])).logits[0]
            total += logits[len(before) - 1 : -1].double().softmax(dim=-1).mean(dim=0) / 2
        means.append(total)
    expected = pact_tokens(*means, top=20)
    found = PactTerm(parts, Options(top=20)).tokens
    assert found.ids.tolist() == expected.ids.tolist()
    assert found.weights.tolist() == pytest.approx(expected.weights.tolist(), abs=1e-5)


def test_the_view_of_a_response_alone_starts_behind_the_assistants_header(tokenizer):
    parts = Parts(tokenizer)
    term = PactTerm(parts, Options(top=20))
    seen = []

    def ask(inputs, mask):
        seen.append((inputs["input_ids"], inputs["attention_mask"], mask))
        with torch.no_grad():
            return ReferenceStates(parts.start.model(**inputs).last_hidden_state[:, :-1][mask], parts.start.lm_head)

    first, second = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in ("Sure, here", "no"))
    header = tokenizer.convert_tokens_to_ids("<|assistant|>")
    labels, place = torch.tensor(first + second), torch.tensor([*range(1, len(first) + 1), *range(1, len(second) + 1)])
    hidden = torch.zeros(len(labels), 32)
    at = Positions({}, torch.zeros(0), labels, place, hidden, hidden[:, 0], parts.start.lm_head, None, ask)
    found = term._alone(at, term.tokens.ids)
    ((inputs, attention, mask),) = seen
    assert [ids[kept == 1].tolist() for ids, kept in zip(inputs, attention, strict=True)] == [
        [header, *first],
        [header, *second],
    ]
    assert mask.sum(dim=1).tolist() == [len(first), len(second)]
    with torch.no_grad():
        expected = [parts.start(torch.tensor([[header, *part]])).logits[0, :-1] for part in (first, second)]
    torch.testing.assert_close(found, torch.cat(expected)[:, term.tokens.ids])


def test_what_the_models_read_is_in_a_trainings_key():
    assert "header" in Options().model_dump(mode="json")["views"]
    assert "views" not in Options.model_json_schema()["properties"]
    with pytest.raises(ValidationError):
        Options(views="others")
