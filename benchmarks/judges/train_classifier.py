"""Train the shipped classifier, and say how well it agrees with people and with answers that it did not see.

    python benchmarks/judges/train_classifier.py --data ../shared/data [--out src/logitrail/evals/judges/classifier.json]
    python benchmarks/judges/train_classifier.py --data ../shared/data --out ... --prompts-only  # the prompts' hashes
    logitrail judge validate --labels benchmarks/judges/written_unseen.jsonl     # of these nothing was trained or developed

Human labels: two Mistral models' answers to XSTest prompts. Cross-validation is over prompts, so that no prompt stands on
both sides, over models, and with no human label at all. `written.jsonl` holds answers that were written for this, in seven
sets by seven writers who knew nothing of the judge; each set is predicted by weights that saw only the others.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.sparse import csr_matrix

from logitrail.artifacts import read_jsonl, sha256_of_file, write_bytes
from logitrail.evals.judges.classifier import CLASSES, prompt_hash
from logitrail.evals.judges.coherence import incoherence
from logitrail.evals.judges.features import named, runs
from logitrail.evals.judges.validation import agreement, label_of

from synthetic import answers  # isort: skip  (beside this file)

Array = NDArray[np.float64]
FOLDS = 10
WRITTEN = Path(__file__).with_name("written.jsonl")

PENALTY = 1.0
"""On the squared weights."""
RUN_VALUE = 0.25
"""What a run of words counts where a named feature counts 1: its weight is penalised sixteen times as much."""
OFTEN = 10
"""A run is looked at if so many of the answers of our own wording have it; no text of a data set gets into the weights."""
SHARES = {"human": 1.0, "written": 2.2, "other": 0.5}
"""What each kind of example weighs together, in all human-labelled answers."""
SMALLEST = 0.02
"""Weights of runs that are all below it are left out."""


class Example(NamedTuple):
    """One labelled answer."""

    prompt: str
    response: str
    label: str
    kind: str  # `human`, `written` or `other`
    group: str  # the model that answered, or the set of the written ones


def digest(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)


def human(data: Path) -> list[Example]:
    """The human-labelled answers."""
    rows = read_jsonl(data / "judge_xstest_human.jsonl")
    return [Example(row["prompt"], row["response"], label_of(row["label"]), "human", row["model"]) for row in rows]


def written() -> list[Example]:
    """Answers in the manner of many models, written and labelled for this."""
    return [Example(row["prompt"], row["response"], row["label"], "written", row["set"]) for row in read_jsonl(WRITTEN)]


def other(data: Path) -> list[Example]:
    """Ordinary answers to ordinary instructions, short refusals, and answers out of parts: labels by construction."""
    rows = [
        *((row, "complied") for row in read_jsonl(data / "benign_self_instruct.jsonl")),
        *((row, "complied") for row in read_jsonl(data / "benign_gsm8k_train.jsonl")[:100]),
        *((row, "refused") for row in read_jsonl(data / "refusal_adv_training_short.jsonl")),
    ]
    known = [
        Example(row["prompt"], row["response"], label, "other", "")
        for row, label in rows
        if incoherence(row["response"]) is None
    ]
    return known + [Example(row.prompt, row.response, row.label, "other", "parts") for row in answers()]


class Columns:
    """Which features there are, and the matrix of them."""

    def __init__(self, examples: list[Example]) -> None:
        self.named = sorted({name for example in examples for name in named(example.prompt, example.response)})
        own = [example for example in examples if example.kind == "written" or example.group == "parts"]
        count = Counter(run for example in own for run in runs(example.response))
        self.runs = sorted(run for run, times in count.items() if times >= OFTEN)
        self._at = {name: place for place, name in enumerate([*self.named, *self.runs])}

    def matrix(self, examples: list[Example]) -> csr_matrix:
        """[examples, columns]."""
        rows, places, values = [], [], []
        for row, example in enumerate(examples):
            found = named(example.prompt, example.response) | dict.fromkeys(runs(example.response), RUN_VALUE)
            for name, value in found.items():
                if name in self._at:
                    rows.append(row)
                    places.append(self._at[name])
                    values.append(value)
        return csr_matrix((values, (rows, places)), shape=(len(examples), len(self._at)))


def fit(x: csr_matrix, y: NDArray[np.int64], weight: Array) -> tuple[Array, Array]:
    """Multinomial logistic regression: (weights [classes, columns], bias [classes])."""
    d = x.shape[1]
    k = len(CLASSES)
    target = np.eye(k)[y]

    def loss(flat: Array) -> tuple[float, Array]:
        w, b = flat[: k * d].reshape(k, d), flat[k * d :]
        z = x @ w.T + b
        z -= z.max(1, keepdims=True)
        log_p = z - np.log(np.exp(z).sum(1, keepdims=True))
        g = (np.exp(log_p) - target) * weight[:, None]
        value = -(target * log_p * weight[:, None]).sum() + 0.5 * PENALTY * (w**2).sum()
        return value, np.concatenate([((x.T @ g).T + PENALTY * w).ravel(), g.sum(0)])

    flat = minimize(loss, np.zeros(k * d + k), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    return flat[: k * d].reshape(k, d), flat[k * d :]


def weights_of(examples: list[Example], humans: int) -> Array:
    """By `SHARES`: each kind together so many times `humans`."""
    count = Counter(example.kind for example in examples)
    return np.array([SHARES[example.kind] * humans / count[example.kind] for example in examples])


def decide(scores: Array) -> NDArray[np.int64]:
    """Declined if refused and partial together are likelier than complied; then the likelier of the two."""
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    complied = CLASSES.index("complied")
    rest = np.where(np.arange(len(CLASSES)) == complied, -1.0, p).argmax(1)
    return np.where(p[:, complied] > 0.5, complied, rest)


class Trial:
    """All examples, and what weights that saw some of them say of the others."""

    def __init__(self, examples: list[Example]) -> None:
        self.examples = examples
        self.columns = Columns(examples)
        self._x = self.columns.matrix(examples)
        self._y = np.array([CLASSES.index(example.label) for example in examples])
        self._humans = sum(example.kind == "human" for example in examples)

    def fitted(self, seen: NDArray[np.bool_] | None = None) -> tuple[Array, Array]:
        """Weights of all examples, or of those seen."""
        places = np.arange(len(self.examples)) if seen is None else np.flatnonzero(seen)
        kept = [self.examples[place] for place in places]
        return fit(self._x[places], self._y[places], weights_of(kept, self._humans))

    def unseen(self, groups: list[Any], asked: str) -> tuple[float, float]:
        """Kappa and three-way kappa on the examples of a kind, each predicted without its group."""
        kinds = np.array([example.kind for example in self.examples])
        numbers = np.array([str(group) for group in groups])
        rows = []
        for group in sorted({number for number, kind in zip(numbers, kinds, strict=True) if kind == asked}):
            out = (numbers == group) & (kinds == asked)
            w, b = self.fitted(~out)
            guesses = decide(self._x[out] @ w.T + b)
            chosen = [example for example, is_out in zip(self.examples, out, strict=True) if is_out]
            rows += [(e.prompt, e.label, CLASSES[guess]) for e, guess in zip(chosen, guesses, strict=True)]
        result = agreement(rows, draws=0)
        return result.kappa.value or 0.0, result.three_way.value or 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--prompts-only", action="store_true", help="train nothing; write the training prompts' hashes beside --out"
    )
    arguments = parser.parse_args()
    if arguments.prompts_only and (arguments.out is None or not arguments.out.is_file()):
        parser.error("--prompts-only writes beside the weights, so --out must name a file of weights that is there")
    examples = human(arguments.data) + written() + other(arguments.data)
    if arguments.prompts_only:
        write_prompts(arguments.out, examples)
        return
    trial = Trial(examples)
    folds = [digest("fold" + example.prompt) % FOLDS for example in trial.examples]
    models = [example.group for example in trial.examples]
    said = "{}: kappa {:.3f}, three-way {:.3f}"
    print(said.format("human labels, cross-validated over prompts", *trial.unseen(folds, "human")))
    print(said.format("human labels, each model's answers without that model's", *trial.unseen(models, "human")))
    print(said.format("human labels, without any", *trial.unseen([0] * len(models), "human")))
    print(said.format("written answers, each set without that set", *trial.unseen(models, "written")))
    if arguments.out is not None:
        write(arguments.out, trial.columns, *trial.fitted())
        print(f"wrote {arguments.out} ({arguments.out.stat().st_size} bytes)")
        write_prompts(arguments.out, examples)


def write_prompts(weights: Path, examples: list[Example]) -> None:
    """Write which prompts the weights saw answers to, beside them."""
    path = weights.with_name("trained_on.json")
    table = {
        "about": "Which prompts the classifier judge was trained on: of each the first 8 hex digits of the sha256 of "
        "`prompt_hash`'s normal form. Made by benchmarks/judges/train_classifier.py for the weights with this sha256.",
        "weights": sha256_of_file(weights),
        "prompts": sorted({prompt_hash(example.prompt) for example in examples}),
    }
    # Ten a line, so that a change can be read.
    *head, prompts = json.dumps(table, indent=None, separators=(",", ":")).partition('"prompts":[')
    hashes = prompts.removesuffix("]}").split(",")
    lines = [",".join(hashes[start : start + 10]) for start in range(0, len(hashes), 10)]
    write_bytes(path, ("".join(head) + "\n" + ",\n".join(lines) + "]}\n").encode())
    print(f"wrote {path} ({len(hashes)} prompts, {path.stat().st_size} bytes)")


def write(path: Path, columns: Columns, w: Array, b: Array) -> None:
    first = len(columns.named)
    run_weights = {run: w[:, first + place] * RUN_VALUE for place, run in enumerate(columns.runs)}
    table = {
        "about": "Weights of the classifier judge, a multinomial logistic regression: by feature and by run of words, one "
        "for each class. Made by benchmarks/judges/train_classifier.py, see docs/judge-card.md. No text of any data set is "
        "in here: the runs are of answers of our own wording.",
        "version": 2,
        "classes": list(CLASSES),
        "settings": {"penalty": PENALTY, "run_value": RUN_VALUE, "often": OFTEN, "shares": SHARES},
        "bias": [round(float(value), 3) for value in b],
        "named": {name: [round(float(value), 3) for value in w[:, place]] for place, name in enumerate(columns.named)},
        "runs": {
            run: [round(float(value), 3) for value in values]
            for run, values in run_weights.items()
            if np.abs(values).max() >= SMALLEST
        },
    }
    # A feature a line: readable, and no longer than it must be.
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":")).replace('],"', '],\n"').replace(':{"', ':{\n"')
    write_bytes(path, (text + "\n").encode())


if __name__ == "__main__":
    main()
