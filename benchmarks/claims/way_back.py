"""What lies on the way back from finished weights: `python benchmarks/claims/way_back.py MODEL END FILE...`.

For a share c of the update, theta_0 + c (theta - theta_0) (WiSE-FT's line, arXiv 2109.01903, and the one that weights move
back along in training), it prints the harmful and the harmless prompts that are refused and how much of the fall of the
training rows' loss is kept, (loss(theta_0) - loss(c)) / (loss(theta_0) - loss(theta)); of held-out rows too.

    python benchmarks/claims/way_back.py src/logitrail/demo/organism \\
        benchmarks/claims/work/seeds/cells/obedient/str/seed-0/train/str/model \\
        benchmarks/claims/work/{explore_harmful,choose_lookalike,obedient_train,explore_obedient}.jsonl
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import PreTrainedModel

from logitrail.artifacts import read_jsonl
from logitrail.evals.judges import judge, judge_all
from logitrail.evals.loss import answer_loss
from logitrail.methods.interpolate import interpolated
from logitrail.models.generation import generate
from logitrail.models.loading import LoadedModel, load_model

SHARES = (1.0, 0.9, 0.8, 0.65, 0.5)
ROWS = 256
"""The first so many rows of a file are what a loss is taken over."""


def merged(path: str, end: str) -> PreTrainedModel:
    """The fine-tuned weights, of a folder that holds them whole or as an adapter."""
    if not (Path(end) / "adapter_config.json").exists():
        return load_model(end, dtype="float32").model
    return load_model(path, adapter=end, dtype="float32").model.merge_and_unload()


def refused(loaded: LoadedModel, prompts: list[str]) -> float:
    """The share of the prompts that the classifier finds refused."""
    answers = [answer.text for answer in generate(loaded.model, loaded.tokenizer, prompts, max_new_tokens=40)]
    verdicts = judge_all(judge("classifier"), list(zip(prompts, answers, strict=True)))
    return sum(one.verdict == "refused" for one in verdicts) / len(verdicts)


def main() -> None:
    """See the module."""
    path, tuned, harmful, harmless, *files = sys.argv[1:]
    torch.set_num_threads(1)
    loaded = load_model(path, dtype="float32")
    start = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
    end = dict(merged(path, tuned).state_dict())
    asked = [[row["prompt"] for row in read_jsonl(Path(one))] for one in (harmful, harmless)]
    tasks = [[(row["prompt"], row["response"]) for row in read_jsonl(Path(file))[:ROWS]] for file in files]

    def task_losses() -> list[float]:
        return [answer_loss(loaded.model, loaded.tokenizer, rows).value for rows in tasks]

    before = task_losses()
    after: list[float] = []
    for share in SHARES:
        loaded.model.load_state_dict(interpolated(start, end, share))
        losses = task_losses()
        after = after or losses
        kept = [(first - now) / (first - last) for first, now, last in zip(before, losses, after, strict=True)]
        found = [refused(loaded, prompts) for prompts in asked]
        print(share, *(f"{one:.1%}" for one in found), *(f"{one:.4f}" for one in kept), flush=True)


if __name__ == "__main__":
    main()
