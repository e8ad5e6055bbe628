"""What evaluating costs beside plain batched generation: tokens a second of one over those of the other.

    python benchmarks/evaluation/throughput.py [--model PATH] [--out results.json]

Both answer the same prompts greedily, in turns, so that what else the machine does hits both. Plain is what a user writes:
a padded batch, `model.generate`, decode. Ours is `logitrail.evals.evaluate`: batches planned, answers judged and kept on
disk as they come. Where the two decode the same, tokens are the same, and the ratio is that of the seconds: the median over
the rounds, with its 95% bootstrap interval.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from logitrail.artifacts import write_json
from logitrail.demo import DATA, ORGANISM
from logitrail.evals import Row, evaluate, judge, read_answers
from logitrail.models.chat import generation_text
from logitrail.models.loading import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(ORGANISM), help="Folder or Hub name (default: the embedded model).")
    parser.add_argument("--prompts", type=int, default=200)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--judge", default="classifier")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    loaded = load_model(given.model)
    model, tokenizer = loaded.model, loaded.tokenizer
    lines = (DATA / "harmful_test.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [Row(f"r{number}", json.loads(line)["prompt"]) for number, line in enumerate(lines[: given.prompts])]
    if len(rows) < given.prompts:
        raise SystemExit(f"there are only {len(rows)} prompts")
    # Every answer shall have its full length, in both arms: 200 x 64 tokens is what is timed.
    model.generation_config.eos_token_id = None
    tokenizer.eos_token = None
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    device = next(model.parameters()).device

    def plain() -> tuple[float, list[str]]:
        start = time.perf_counter()
        texts = []
        for first in range(0, len(rows), given.batch_size):
            batch = [generation_text(tokenizer, row.prompt) for row in rows[first : first + given.batch_size]]
            encoded = tokenizer(batch, return_tensors="pt", padding=True, padding_side="left", add_special_tokens=False)
            ids, attention = encoded["input_ids"].to(device), encoded["attention_mask"].to(device)
            with torch.inference_mode():
                output = model.generate(
                    input_ids=ids,
                    attention_mask=attention,
                    max_new_tokens=given.tokens,
                    do_sample=False,
                    pad_token_id=pad,
                    eos_token_id=-1,
                )
            texts += tokenizer.batch_decode(output[:, ids.shape[1] :], skip_special_tokens=True)
        return time.perf_counter() - start, texts

    def ours(folder: Path) -> tuple[float, list[str]]:
        start = time.perf_counter()
        evaluate(
            model,
            tokenizer,
            {"refusal": rows},
            judge=judge(given.judge),
            answers_path=folder / "answers.jsonl",
            max_new_tokens=given.tokens,
            batch_size=given.batch_size,
        )
        seconds = time.perf_counter() - start
        return seconds, [answer.response for answer in read_answers(folder / "answers.jsonl")]

    from logitrail.models import generation

    generation.end_ids = lambda model, tokenizer: [-1]  # as above: nothing ends an answer but its length
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    same = 0
    with tempfile.TemporaryDirectory() as folder:
        plain()  # warm
        for number in range(given.rounds):
            order = [("plain", plain), ("ours", lambda: ours(Path(folder) / str(number)))]  # noqa: B023 (used at once)
            texts = {}
            for name, run in order if number % 2 else reversed(order):
                took, texts[name] = run()
                seconds[name].append(took)
            same = sum(one == other for one, other in zip(texts["plain"], texts["ours"], strict=True))
    tokens = len(rows) * given.tokens
    ratios = np.divide(seconds["plain"], seconds["ours"])
    drawn = np.random.default_rng(0).choice(ratios, (10_000, len(ratios)))
    result = {
        "model": given.model if Path(given.model) != ORGANISM else "embedded",
        "prompts": len(rows),
        "tokens": given.tokens,
        "batch_size": given.batch_size,
        "judge": given.judge,
        "tokens_per_second": {name: tokens / statistics.median(took) for name, took in seconds.items()},
        "rounds": given.rounds,
        "ratio": float(np.median(ratios)),
        "ratio_interval": np.quantile(np.median(drawn, axis=1), (0.025, 0.975)).tolist(),
        "ratio_min": float(ratios.min()),
        "ratio_max": float(ratios.max()),
        "same_texts": same,
    }
    print(json.dumps(result, indent=2))
    if given.out is not None:
        write_json(given.out, result)


if __name__ == "__main__":
    main()
