"""A head sharded by FSDP2 over two processes (gloo): the same columns, and gradients averaged over the ranks."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from logitrail.models import SafetyHead
from logitrail.models.hidden import capture_hidden
from tests.gpu import WITHOUT_GPU

IDS = [3, 0, 41, 50]


def _model(kind):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=51,  # the last shard is shorter
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=kind == "tied",
    )
    model = LlamaForCausalLM(config).eval()
    if kind in ("lora", "dora"):
        settings = LoraConfig(
            target_modules=["q_proj", "lm_head"], r=4, init_lora_weights=False, use_dora=kind == "dora"
        )
        model = get_peft_model(model, settings)
    return model.requires_grad_()


def _results(model, rank):
    """What each rank computes from its own rows, the gradients after the backward pass."""
    head = SafetyHead(model, IDS)
    ids = torch.randint(0, 51, (2, 5 + rank), generator=torch.Generator().manual_seed(rank))
    with capture_hidden(model) as captured:
        logits = model(input_ids=ids).logits
        hidden = captured.take()
    flat = hidden.flatten(0, 1)
    columns = head.columns(hidden)
    labels = head.label_logits(flat, ids.flatten())
    sums = head.logsumexp_with_gradient(flat)
    loss = columns.square().mean() + labels.sum() + sums.square().sum() + logits.square().mean()
    loss.backward()
    return {"columns": columns, "labels": labels, "sums": sums, "without": head.logsumexp(flat)}


def _rank(rank, kind, place):
    from torch.distributed.fsdp import fully_shard

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place}/meet", rank=rank, world_size=2)
    plain = _model(kind)
    expected = _results(plain, rank)
    sharded = _model(kind)
    inner = sharded.get_base_model() if hasattr(sharded, "get_base_model") else sharded
    for layer in inner.model.layers:
        fully_shard(layer, mesh=dist.device_mesh.init_device_mesh("cpu", (2,)))
    fully_shard(sharded, reshard_after_forward=True)
    assert inner.get_input_embeddings().weight.shape[0] == 51
    found = _results(sharded, rank)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-5, msg=lambda text, name=name: name + text)
    compared = 0
    for (name, mine), own in zip(sharded.named_parameters(), plain.parameters(), strict=True):
        if own.grad is None:
            assert mine.grad is None, name
            continue
        dist.all_reduce(own.grad)
        whole = mine.grad.full_tensor()
        torch.testing.assert_close(
            whole, own.grad / 2, rtol=1e-4, atol=1e-5, msg=lambda text, name=name: name + ": " + text
        )
        compared += 1
    assert compared > 10
    dist.barrier()
    dist.destroy_process_group()


@WITHOUT_GPU
@pytest.mark.parametrize("kind", ["untied", "tied", "lora", "dora"])
def test_a_sharded_head_gives_what_the_whole_one_gives(kind):
    with tempfile.TemporaryDirectory() as place:
        mp.start_processes(_rank, args=(kind, str(Path(place))), nprocs=2, start_method="fork")
