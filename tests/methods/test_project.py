"""Safe LoRA's projection against C built in full, by hand and at random, for full weights and LoRA factors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from torch.nn.functional import cosine_similarity
from transformers import GPT2Config, GPT2LMHeadModel

from logitrail.errors import RecipeError
from logitrail.methods.project import PART, Options, project, project_lora, subspace, threshold_of_lowest


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive(delta: torch.Tensor, aligned: torch.Tensor, base: torch.Tensor):
    v = aligned - base
    moved = (v @ v.T / v.norm()) @ delta
    return moved, float(cosine_similarity(moved.flatten(), delta.flatten(), dim=0))


def test_by_hand():
    # V = diag(2, 0): |V| = 2 and C = diag(2, 0). delta = (3, 4)^T: C delta = (6, 0)^T, cosine 18 / (6 * 5) = 0.6.
    along = subspace(torch.diag(torch.tensor([3.0, 1.0])), torch.eye(2))
    delta = torch.tensor([[3.0], [4.0]])
    result = project(delta, along, threshold=0.6001)
    assert result.update.flatten().tolist() == [6.0, 0.0]
    assert result.cosine == pytest.approx(0.6)
    assert result.projected
    kept = project(delta, along, threshold=0.5)
    assert kept.update is delta
    assert not kept.projected


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), out=st.integers(2, 6), inner=st.integers(2, 6), rank=st.integers(1, 3))
def test_full_weights_and_lora_factors_equal_the_naive_twin(seed, out, inner, rank):
    aligned, base = draw(seed, out, inner), draw(seed + 1, out, inner)
    b, a = draw(seed + 2, out, rank), draw(seed + 3, rank, inner)
    moved, cosine = naive(b @ a, aligned, base)
    along = subspace(aligned, base)
    full, lora = project(b @ a, along, 1.0), project_lora(b, a, along, 1.0)
    torch.testing.assert_close(full.update, moved)
    torch.testing.assert_close(lora.update @ a, moved)
    assert full.cosine == pytest.approx(cosine, abs=1e-9)
    assert lora.cosine == pytest.approx(cosine, abs=1e-9)
    assert 0.0 <= lora.cosine <= 1.0 + 1e-12
    assert full.projected
    assert lora.projected
    untouched = project_lora(b, a, along, -1.0)
    assert untouched.update is b
    assert not untouched.projected


@pytest.mark.parametrize("columns", [1, 2, 50])
def test_both_orders_of_products_agree(columns):
    along = subspace(draw(0, 5, 9), draw(1, 5, 9))
    matrix, v = draw(2, 5, columns), along.difference
    torch.testing.assert_close(along.apply(matrix), (v @ v.T / v.norm()) @ matrix)


def test_the_cosine_ignores_scales_and_the_type_is_kept():
    aligned, base = draw(3, 6, 4), draw(4, 6, 4)
    delta = draw(5, 6, 4)
    first = project(delta, subspace(aligned, base), 1.0)
    second = project(7 * delta, subspace(base + 3 * (aligned - base), base), 1.0)
    assert first.cosine == pytest.approx(second.cosine)
    half = project_lora(delta.bfloat16(), draw(6, 4, 4).bfloat16(), subspace(aligned.bfloat16(), base.bfloat16()), 1.0)
    assert half.update.dtype == torch.bfloat16


def test_what_is_undefined_is_left_alone():
    weight = draw(7, 4, 3)
    along = subspace(draw(8, 4, 3), weight)
    for result in (
        project(torch.zeros(4, 3), along, 1.0),
        project(draw(9, 4, 3), subspace(weight, weight), 1.0),
        project_lora(torch.zeros(4, 2), draw(9, 2, 3), along, 1.0),
        project_lora(draw(9, 4, 2), draw(9, 2, 3), subspace(weight, weight), 1.0),
    ):
        assert result.cosine is None
        assert not result.projected


def test_an_orthogonal_update_has_cosine_zero_and_goes():
    along = subspace(torch.diag(torch.tensor([3.0, 1.0])), torch.eye(2))
    result = project(torch.tensor([[0.0], [1.0]]), along, 0.5)
    assert result.cosine == 0.0
    assert not result.update.any()


def test_the_threshold_of_the_lowest():
    cosines = [0.9, None, 0.2, 0.5]
    threshold = threshold_of_lowest(cosines, 2)
    assert [cosine for cosine in cosines if cosine is not None and cosine <= threshold] == [0.2, 0.5]
    with pytest.raises(ValueError, match="4 matrices are to be projected, but 3 have a cosine"):
        threshold_of_lowest(cosines, 4)


def test_different_matrices_are_refused():
    with pytest.raises(ValueError, match="same matrix of two versions"):
        subspace(draw(0, 3, 2), draw(0, 2, 3))


class Gpts:
    """`Resources` of a GPT-2, whose matrices are `Conv1D`: [in, out]."""

    @staticmethod
    def of(seed):
        torch.manual_seed(seed)
        sizes = {"vocab_size": 60, "n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 32}
        return GPT2LMHeadModel(GPT2Config(**sizes, initializer_range=0.2))

    def tokenizer(self):
        raise AssertionError("not asked for")

    safety_rows = tokenizer

    def start_model(self):
        return self.of(0)

    def base_model(self):
        return self.of(3)

    def moved(self, with_lora):
        model = self.of(0)
        if with_lora:
            model = get_peft_model(model, LoraConfig(r=2, target_modules=["c_attn", "c_fc"], fan_in_fan_out=True))
        with torch.no_grad():
            for weight in model.parameters():
                if weight.requires_grad:
                    weight.add_(0.05 * torch.randn(weight.shape))
        return model


@pytest.mark.parametrize("with_lora", [False, True])
def test_a_matrix_that_lies_the_other_way_is_projected_as_well(with_lora):
    given = Gpts()
    start, base = (dict(model.named_parameters()) for model in (given.start_model(), given.base_model()))
    model = given.moved(with_lora)
    merged = given.moved(with_lora).merge_and_unload() if with_lora else given.moved(False)
    before = {name: weight.detach().clone() for name, weight in merged.named_parameters()}
    PART.finish(model, given, Options(threshold=1.0))
    after = dict((model.merge_and_unload() if with_lora else model).named_parameters())
    for name in ("transformer.h.0.attn.c_attn.weight", "transformer.h.0.mlp.c_fc.weight"):
        v = (start[name] - base[name]).T
        wanted = (v @ v.T / v.norm() @ (before[name] - start[name]).T).T
        torch.testing.assert_close(after[name] - start[name], wanted, rtol=1e-3, atol=1e-5)
        assert float((after[name] - before[name]).abs().max()) > 1e-3


def test_more_matrices_than_there_are():
    with pytest.raises(RecipeError, match=r"`method_options.project.matrices`: 1000 matrices are to be projected"):
        PART.finish(Gpts().moved(True), Gpts(), Options(matrices=1000))
