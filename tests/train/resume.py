"""Kills a training again and again and lets it resume; run by `test_resume.py`.

    python -m tests.train.resume FOLDER KILLS

Every training is a fork of this process, which has imported everything and started no thread: an attempt costs a second.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from logitrail.stages.train import last_whole_checkpoint
from logitrail.tokens import SafetyTokens
from tests.tiny import tiny_tokenizer
from tests.train.setting import HARMLESS, lora, str_trainer, uneven_rows

# Three epochs of seven steps, the last batch of each smaller; dropout draws a random number at every step.
OPTIONS: dict[str, Any] = {
    "max_steps": 20, "per_device_train_batch_size": 1, "gradient_accumulation_steps": 2, "save_strategy": "steps",
    "save_steps": 1, "save_total_limit": 2, "logging_steps": 1, "str_anchor": "logprob", "harmless": HARMLESS,
    "str_positions": "labels", "str_probe_weight": 0.5, "str_probe_batch": 4, "learning_rate": 1e-3,
}  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "lora": {"str_weight": "auto", "str_drift_budget": 0.05, "str_drift_every": 2, "str_reference": "adapter-off"},
    "full": {"str_weight": 0.5, "str_reference": "cache"},
}


class Started(TrainerCallback):
    def __init__(self, pipe: int) -> None:
        self._pipe = pipe

    def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
        os.write(self._pipe, b"x")


def train(kind: str, folder: Path, pipe: int) -> None:
    torch.set_num_threads(1)
    tokenizer = tiny_tokenizer()
    trainer = str_trainer(
        tokenizer, SafetyTokens.from_templates(tokenizer, top_k=8), folder / "checkpoints", rows=uneven_rows(13),
        peft_config=lora() if kind == "lora" else None, str_cache_dir=str(folder.parent / f"{kind}-cache"),
        **OPTIONS, **KINDS[kind],
    )  # fmt: skip
    trainer.add_callback(Started(pipe))
    checkpoint = last_whole_checkpoint(folder / "checkpoints")
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    trainer.save_model(str(folder / "model"))
    log = [entry for entry in trainer.state.log_history if "ce" in entry]
    (folder / "log.json").write_text(json.dumps(log))


def attempt(kind: str, folder: Path, kill_after: float | None) -> tuple[bool, float]:
    """Train in a fork; whether it was killed, and the seconds that it trained."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            train(kind, folder, writing)
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    os.read(reading, 1)
    os.close(reading)
    begin = time.monotonic()
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status)
    if not killed and os.WEXITSTATUS(status) != 0:
        raise SystemExit(f"a training of {kind} failed")
    return killed, time.monotonic() - begin


def main() -> None:
    root, kills = Path(sys.argv[1]), int(sys.argv[2])
    moments = random.Random(time.time_ns())
    report: dict[str, Any] = {}
    for kind in KINDS:
        whole = root / f"{kind}-whole"
        whole.mkdir()
        _, seconds = attempt(kind, whole, None)
        done, round_ = 0, 0
        report[kind] = []
        while done < kills:
            folder = root / f"{kind}-killed-{round_}"
            folder.mkdir()
            round_ += 1
            killed, at = True, []
            while killed:
                # A round that has had its share is let through to its end; a kill that comes too late is no kill.
                after = moments.uniform(0, 0.7 * seconds) if done < kills and len(at) < 4 else None
                killed, _ = attempt(kind, folder, after)
                if killed:
                    done += 1
                    checkpoint = last_whole_checkpoint(folder / "checkpoints")
                    at.append(checkpoint.name if checkpoint else "none")
            report[kind].append({"folder": folder.name, "kills_behind": at})
    (root / "report.json").write_text(json.dumps(report))


if __name__ == "__main__":
    main()
