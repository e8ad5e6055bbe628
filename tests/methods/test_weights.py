"""Weights after or beside training: interpolation, a scaled adapter, the moving average."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from logitrail.errors import ArtifactError, ModelError
from logitrail.methods import Training, ema, lisa
from logitrail.methods.interpolate import interpolated, scaled_adapter
from logitrail.reference import lora_factor


def weights(seed: int, dtype=torch.float64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(2, 3, generator=generator, dtype=torch.float64).to(dtype) for name in ("w", "v")}


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), coefficient=st.floats(0, 1))
def test_interpolation_equals_the_naive_twin(seed, coefficient):
    start, end = weights(seed), weights(seed + 1)
    expected = {name: (1 - coefficient) * start[name] + coefficient * end[name] for name in start}
    torch.testing.assert_close(interpolated(start, end, coefficient), expected)


def test_the_ends_are_exact_and_indices_are_taken_from_the_end():
    start = {**weights(0, torch.bfloat16), "ids": torch.tensor([1, 2])}
    end = {**weights(1, torch.bfloat16), "ids": torch.tensor([3, 4])}
    for coefficient, expected in ((0.0, start), (1.0, end)):
        result = interpolated(start, end, coefficient)
        assert torch.equal(result["w"], expected["w"])
        assert result["w"] is not expected["w"]
        assert torch.equal(result["ids"], end["ids"])
    assert interpolated(start, end, 0.5)["w"].dtype == torch.bfloat16


def test_what_cannot_be_interpolated_is_said():
    start = weights(0)
    with pytest.raises(ValueError, match="between 0"):
        interpolated(start, start, 1.2)
    with pytest.raises(ValueError, match="'v' is in one of them only"):
        interpolated(start, {"w": start["w"]}, 0.5)
    with pytest.raises(ValueError, match="has shape"):
        interpolated(start, {**start, "v": torch.zeros(2)}, 0.5)


@pytest.mark.parametrize("coefficient", [0.0, 0.3, 1.0])
def test_a_scaled_adapter_equals_interpolated_merged_weights(coefficient):
    generator = torch.Generator().manual_seed(2)
    base, b, a = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((4, 3), (4, 2), (2, 3)))
    adapter = {"q.lora_A.weight": a, "q.lora_B.weight": b}
    scale = 2.0
    merged = interpolated({"q": base}, {"q": base + scale * b @ a}, coefficient)["q"]
    scaled = scaled_adapter(adapter, coefficient)
    torch.testing.assert_close(base + scale * scaled["q.lora_B.weight"] @ scaled["q.lora_A.weight"], merged)


def test_a_scaled_peft_adapter_gives_the_interpolated_model():
    """The same on a real adapter of PEFT, embeddings included: names and scale are PEFT's own."""
    from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
    from torch import nn

    class Small(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(7, 4)
            self.q = nn.Linear(4, 5)

        def forward(self, ids):
            return self.q(self.embed(ids))

    torch.manual_seed(0)
    bare = Small()
    start = {name: value.clone() for name, value in bare.state_dict().items()}
    config = LoraConfig(r=2, lora_alpha=6, target_modules=["embed", "q"], init_lora_weights=False)
    model = get_peft_model(bare, config)
    adapter = {name: weight.clone() for name, weight in get_peft_model_state_dict(model).items()}
    ids = torch.arange(7)
    set_peft_model_state_dict(model, scaled_adapter(adapter, 0.4))
    answer = model(ids)
    set_peft_model_state_dict(model, adapter)
    end = model.merge_and_unload().state_dict()
    between = Small()
    between.load_state_dict(interpolated(start, end, 0.4))
    torch.testing.assert_close(answer, between(ids), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["q.lora_magnitude_vector.weight", "lm_head.weight"])
def test_an_adapter_that_is_not_linear_is_refused(name):
    with pytest.raises(ModelError, match="merge the adapter"):
        scaled_adapter({"q.lora_B.weight": torch.ones(2, 1), name: torch.ones(2)}, 0.5)


def test_an_adapter_is_not_scaled_past_its_ends():
    with pytest.raises(ValueError, match="between 0"):
        scaled_adapter({"q.lora_B.weight": torch.ones(2, 1)}, 1.2)


@pytest.mark.parametrize(
    ("name", "factor"),
    [
        ("base_model.model.q.lora_A.default.weight", "down"),
        ("base_model.model.q.lora_B.default.bias", "up"),
        ("embed.lora_embedding_A.default", "down"),
        ("embed.lora_embedding_B.default", "up"),
        ("q.lora_magnitude_vector.default.weight", None),
        ("lora_Bitter.weight", None),
    ],
)
def test_the_factors_of_lora_by_name(name, factor):
    assert lora_factor(name) == factor


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 1000), decay=st.floats(0, 0.999), steps=st.integers(0, 6))
def test_the_average_equals_its_closed_form(seed, decay, steps):
    path = [weights(seed + step) for step in range(steps + 1)]
    average = ema.started(path[0])
    for point in path[1:]:
        ema.update(average, point, decay)
    for name in average:
        expected = decay**steps * path[0][name]
        for step in range(1, steps + 1):
            expected = expected + (1 - decay) * decay ** (steps - step) * path[step][name]
        torch.testing.assert_close(average[name], expected)


def test_the_average_by_hand():
    average = ema.started({"w": torch.tensor([0.0])})
    for _ in range(2):
        ema.update(average, {"w": torch.tensor([1.0])}, 0.5)
    assert float(average["w"]) == 0.75


def test_the_average_is_a_copy_in_float32_that_keeps_small_steps():
    live = {"w": torch.ones(1, dtype=torch.bfloat16)}
    average = ema.started(live)
    assert average["w"].dtype == torch.float32
    live["w"] += 0.25
    assert float(average["w"]) == 1.0
    for _ in range(10):
        ema.update(average, live, 0.999)
    assert float(average["w"]) == pytest.approx(1 + 0.25 * (1 - 0.999**10), rel=1e-5)


def test_another_set_of_weights_is_refused():
    with pytest.raises(ValueError, match="'v' is in one of them only"):
        ema.update(ema.started(weights(0)), {"w": weights(0)["w"]}, 0.9)


COMPANIONS = [ema.Averaging(ema.Options()), lisa.Proximal(lisa.Options())]


@pytest.mark.parametrize("companion", COMPANIONS, ids=lambda one: type(one).__name__)
def test_a_checkpoint_of_other_weights_is_refused(companion):
    companion.begin(Training(torch.nn.Linear(2, 3), None, None, None, 0))
    state = {name: value + 1 for name, value in companion.state().items()}
    companion.load(state)
    assert all(torch.equal(value, state[name]) for name, value in companion.state().items())
    for wrong, name in (({"weight": state["weight"]}, "bias"), (state | {"bias": torch.zeros(1)}, "bias")):
        with pytest.raises(ArtifactError, match=rf"other weights .*'{name}' differs.* delete it"):
            companion.load(wrong)
