"""Trains the cases of `CASES`; run by `test_processes.py` in several processes, imported by it for the one-process twin.

torchrun --standalone --nproc-per-node 2 -m tests.train.processes FOLDER [fsdp:]CASE...
"""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedType
from safetensors.torch import save_file
from torch.distributed.tensor import DTensor

from logitrail import STRTrainer
from logitrail.tokens import SafetyTokens
from tests.tiny import tiny_tokenizer
from tests.train.setting import HARMLESS, lora, str_trainer, uneven_rows, weights

CASES: dict[str, dict[str, Any]] = {
    "labels": {"peft_config": True, "str_reference": "cache"},
    "first": {"peft_config": True, "str_reference": "adapter-off", "str_positions": "first:2", "str_anchor": "logprob"},
    "full": {"str_reference": "frozen", "str_anchor": "centered"},
    # SGD: rows of the embedding that only the probes reach have a gradient of rounding noise at first, which Adam enlarges.
    "probes": {
        "str_reference": "cache", "str_anchor": "logprob", "harmless": HARMLESS, "str_probe_weight": 2.0,
        "str_positions": "labels", "str_probe_batch": 6, "optim": "sgd", "learning_rate": 0.05,
    },
    # more probe prompts than the first micro-batch takes: a later one has them for one of two processes alone
    "many": {
        "str_reference": "cache", "str_anchor": "logprob", "harmless": HARMLESS, "str_probe_weight": 2.0,
        "str_positions": "labels", "str_probe_batch": 18, "optim": "sgd", "learning_rate": 0.05,
    },
    "auto": {
        "str_reference": "cache", "str_anchor": "logprob", "str_weight": "auto", "str_kl_budget": 0.01,
        "str_drift_every": 1, "str_pull_back": False,
    },
    # past their budget at every step
    "pulled": {
        "peft_config": True, "str_anchor": "logprob", "str_weight": "auto", "str_drift_budget": 0.002, "str_drift_every": 1,
        "learning_rate": 1e-2,
    },
    "pulled-whole": {
        "str_anchor": "logprob", "str_weight": "auto", "str_drift_budget": 0.01, "str_drift_every": 1,
    },
    # at the end alone, and as far as the task's loss lets
    "pulled-by-the-loss": {
        "peft_config": True, "str_anchor": "logprob", "str_weight": "auto", "str_kl_budget": 1e-6, "str_drift_every": 1,
        "str_drift_budget": 100.0, "str_loss_budget": 0.3, "learning_rate": 1e-2,
    },
}  # fmt: skip
OPEN = {"pulled-open": CASES["pulled"], "pulled-by-the-loss-open": CASES["pulled-by-the-loss"]}
"""The same, and under FSDP the layers stay gathered behind a pass."""
FSDP = {"fsdp": True, "fsdp_config": {"version": 2, "transformer_layer_cls_to_wrap": ["LlamaDecoderLayer"]}}


def train(case: str, folder: Path, batch: int, accumulation: int) -> STRTrainer:
    """Five steps of eight rows, cut as asked."""
    kind, _, name = case.rpartition(":")
    options = {"max_steps": 5, "str_weight": 0.5, "learning_rate": 1e-3, "logging_steps": 1, **(CASES | OPEN)[name]}
    if options.pop("peft_config", False):
        options["peft_config"] = lora(lora_dropout=0.0)
    if kind == "fsdp":
        options.update(FSDP)
        if name in OPEN:
            options["fsdp_config"] = {**FSDP["fsdp_config"], "reshard_after_forward": False}
    tokenizer = tiny_tokenizer()
    trainer = str_trainer(
        tokenizer, SafetyTokens.from_templates(tokenizer, top_k=8), folder / case, rows=uneven_rows(),
        per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation, **options,
    )  # fmt: skip
    trainer.train()
    return trainer


def logged(trainer: STRTrainer) -> dict[str, list[float]]:
    names = ("loss", "ce", "str", "str_distance", "str_probe", "str_weight", "drift", "pull_back")
    rows = [row for row in trainer.state.log_history if "ce" in row]
    return {name: [row[name] for row in rows] for name in names if name in rows[0]}


def whole_weights(trainer: STRTrainer) -> dict[str, torch.Tensor]:
    return {
        name: value.full_tensor() if isinstance(value, DTensor) else value.contiguous()
        for name, value in weights(trainer).items()
    }


def shard_on_a_processor() -> None:
    """Lets accelerate take FSDP on a CPU: it knows the kinds of device by a list, and trains with DDP outside of it."""
    plain = AcceleratorState.__init__

    def with_fsdp(self: Any, *args: Any, fsdp_plugin: Any = None, **more: Any) -> None:
        plain(self, *args, fsdp_plugin=fsdp_plugin, **more)
        if fsdp_plugin is not None:
            self.fsdp_plugin = fsdp_plugin
        if getattr(self, "fsdp_plugin", None) is not None:
            self.distributed_type = DistributedType.FSDP

    AcceleratorState.__init__ = with_fsdp  # type: ignore[method-assign]


def main() -> None:
    folder, cases = Path(sys.argv[1]), sys.argv[2:]
    torch.set_num_threads(1)
    shard_on_a_processor()
    for case in cases:
        rows = 2 if case.endswith("many") else 4
        trainer = train(case, folder, batch=rows, accumulation=4 // rows)
        result = whole_weights(trainer)
        mine = {
            "log": logged(trainer),
            "lambda": trainer.str_weight,
            "sum": float(sum(value.double().sum() for value in result.values())),
            "sharded": any(isinstance(value, DTensor) for value in trainer.model.parameters()),
        }
        everyone: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(everyone, mine)
        if dist.get_rank() == 0:
            save_file(result, str(folder / f"{case}.safetensors"))
            (folder / f"{case}.json").write_text(json.dumps(everyone))
        dist.barrier()
        del trainer
    gc.collect()  # a model of DDP that outlives its process group hangs when it is freed
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
