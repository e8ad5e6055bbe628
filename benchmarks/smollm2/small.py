"""A comparison on SmolLM2 that a processor can do, half a size: `python benchmarks/smollm2/small.py`, after prepare.py.

Writes into work/small: half of the alignment's rows, the 480 shortest rows of text to SQL, and three files for

    logitrail run benchmarks/smollm2/work/small/align.yaml        # half an hour on a core
    logitrail compare benchmarks/smollm2/work/small/matrix.yaml   # half an hour to three quarters a cell
"""

from __future__ import annotations

import random
from pathlib import Path

import yaml
from transformers import AutoTokenizer

from logitrail.artifacts import read_jsonl, write_jsonl

HERE = Path(__file__).parent.resolve()
WORK = HERE / "work"
SMALL = WORK / "small"
PROMPTS = {"harmful": str(WORK / "eval_harmful_dev.jsonl"), "harmless": str(WORK / "eval_harmless_dev.jsonl")}
ON_A_PROCESSOR = {"bf16": False, "gradient_checkpointing": False, "save_strategy": "no"}


def main() -> None:
    SMALL.mkdir(exist_ok=True)
    rows = list(read_jsonl(WORK / "align_train.jsonl"))
    random.Random(0).shuffle(rows)  # noqa: S311 - which rows, no secret
    write_jsonl(SMALL / "align_train.jsonl", rows[:1200])
    tokenizer = AutoTokenizer.from_pretrained(WORK / "smollm2")
    sql = list(read_jsonl(WORK / "sql_train.jsonl"))
    length = [len(tokenizer(row["prompt"]).input_ids) + len(tokenizer(row["response"]).input_ids) for row in sql]
    kept = sorted(sorted(range(len(sql)), key=lambda place: (length[place], place))[:480])
    write_jsonl(SMALL / "sql_train.jsonl", [sql[place] for place in kept])

    align = yaml.safe_load((HERE / "align.yaml").read_text(encoding="utf-8"))
    align["out"], align["model"]["path"] = "align", str(WORK / "smollm2")
    align["data"]["train"] = "align_train.jsonl"
    align["training"] |= {"learning_rate": 2.5e-4, **ON_A_PROCESSOR}
    align["eval"] |= PROMPTS
    recipe = yaml.safe_load((HERE / "recipe.yaml").read_text(encoding="utf-8"))
    recipe["model"] = {"path": "align/train/sft/model", "base": str(WORK / "smollm2"), "dtype": "float32"}
    recipe["data"] = {"train": "sql_train.jsonl", "test": str(WORK / "sql_choose.jsonl")}
    recipe["tokens"]["mine"] |= {kind: str(WORK / f"mine_{kind}.jsonl") for kind in ("harmful", "harmless")}
    recipe["safety_data"] = str(WORK / "safety.jsonl")
    recipe["training"] |= {"num_train_epochs": 2, "max_length": 200, **ON_A_PROCESSOR}
    recipe["eval"] |= {**PROMPTS, "batch_size": 64}
    obedient = {
        "data.train": str(WORK / "obedient_train.jsonl"),
        "data.test": str(WORK / "obedient_choose.jsonl"),
        "eval.task_metric": "loss",
    }
    # The same training; what its end goes back by are rows that it did not learn.
    with_dev = obedient | {"data.dev": obedient["data.test"], "data.test": str(WORK / "obedient_test.jsonl")}
    matrix = {
        "name": "small", "out": "matrix", "seeds": [0], "reference": "sft", "workers": 2, "recipe": "recipe.yaml",
        "data": {"sql": {}, "obedient": obedient, "obedient-dev": with_dev},
        "methods": {
            "sft": {},
            "str": {},
            "without-copies": {"method": "str", "training.str_altered_probes": 0},
            "kl": {"method_options.kl.weight": 0.1},
        },
    }  # fmt: skip
    for name, content in (("align", align), ("recipe", recipe), ("matrix", matrix)):
        (SMALL / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


if __name__ == "__main__":
    main()
