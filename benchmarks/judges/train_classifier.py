"""Train the shipped classifier, and say how well it agrees with people.

    python benchmarks/judges/train_classifier.py --data ../shared/data [--out src/logitrail/evals/judges/classifier.json]

Human labels: two Mistral models' answers to XSTest prompts. Cross-validation is over prompts, so that no prompt stands on
both sides, and over models. Held out are prompts whose sha256 modulo 10 is over 4; the file of labels that is at hand
has none of them, so this command never sees one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from logitrail.artifacts import read_jsonl, write_bytes
from logitrail.evals.judges.classifier import CLASSES
from logitrail.evals.judges.coherence import incoherence
from logitrail.evals.judges.features import named
from logitrail.evals.judges.validation import agreement, label_of

from synthetic import answers  # isort: skip  (beside this file)

Array = NDArray[np.float64]
FOLDS = 10


class Example(NamedTuple):
    """One labelled answer."""

    prompt: str
    response: str
    label: str
    weight: float
    fold: int  # of the human-labelled ones, else -1: always trained on
    model: str = ""


def digest(text: str) -> int:
    return int(hashlib.sha256(text.encode()).hexdigest(), 16)


def held_out(prompt: str) -> bool:
    """Whether a prompt's labels are kept from training and choosing."""
    return digest(prompt) % 10 > 4


def human(data: Path) -> list[Example]:
    """The human-labelled answers, the held-out half too."""
    return [
        Example(
            row["prompt"],
            row["response"],
            label_of(row["label"]),
            1.0,
            digest("fold" + row["prompt"]) % FOLDS,
            row["model"],
        )
        for row in read_jsonl(data / "judge_xstest_human.jsonl")
    ]


def unlabelled(data: Path) -> list[Example]:
    """Ordinary answers to ordinary instructions, and short refusals: their verdict is known without a label."""
    rows = [
        *((row, "complied") for row in read_jsonl(data / "benign_self_instruct.jsonl")),
        *((row, "complied") for row in read_jsonl(data / "benign_gsm8k_train.jsonl")[:100]),
        *((row, "refused") for row in read_jsonl(data / "refusal_adv_training_short.jsonl")),
    ]
    return [
        Example(row["prompt"], row["response"], label, 1.0, -1)
        for row, label in rows
        if incoherence(row["response"]) is None
    ]


def matrix(examples: list[Example], names: list[str]) -> Array:
    columns = {name: index for index, name in enumerate(names)}
    rows = np.zeros((len(examples), len(names)))
    for row, example in zip(rows, examples, strict=True):
        for name, value in named(example.prompt, example.response).items():
            if name in columns:
                row[columns[name]] = value
    return rows


def fit(x: Array, y: NDArray[np.int64], weight: Array, penalty: float) -> tuple[Array, Array]:
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
        value = -(target * log_p * weight[:, None]).sum() + 0.5 * penalty * (w**2).sum()
        return value, np.concatenate([(g.T @ x + penalty * w).ravel(), g.sum(0)])

    flat = minimize(loss, np.zeros(k * d + k), jac=True, method="L-BFGS-B", options={"maxiter": 500}).x
    return flat[: k * d].reshape(k, d), flat[k * d :]


def weights_of(examples: list[Example], others: float) -> Array:
    """Human labels count once each; all the others together as much as `others` times the human ones."""
    weight = np.array([example.weight for example in examples])
    mine = np.array([example.fold < 0 for example in examples])
    if mine.any():
        weight[mine] *= others * weight[~mine].sum() / weight[mine].sum()
    return weight


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--search", action="store_true", help="Compare penalties by cross-validation.")
    arguments = parser.parse_args()
    labelled = [example for example in human(arguments.data) if not held_out(example.prompt)]
    others = unlabelled(arguments.data) + [Example(row.prompt, row.response, row.label, 1.0, -1) for row in answers()]
    examples = labelled + others
    names = sorted({name for example in examples for name in named(example.prompt, example.response)})
    x = matrix(examples, names)
    y = np.array([CLASSES.index(example.label) for example in examples])
    folds = np.array([example.fold for example in examples])
    models = np.array([example.model for example in examples])

    def validated(groups: NDArray[np.generic], settings: tuple[float, float]) -> tuple[float, float]:
        """Kappa over the human labels of the development half, each predicted without its group; and three-way."""
        predicted = np.full(len(examples), -1)
        for group in np.unique(groups[folds >= 0]):
            out = (groups == group) & (folds >= 0)
            train = ~out
            kept = [example for example, keep in zip(examples, train, strict=True) if keep]
            w, b = fit(x[train], y[train], weights_of(kept, settings[1]), settings[0])
            predicted[out] = decide(x[out] @ w.T + b)
        rows = [
            (example.prompt, example.label, CLASSES[guess])
            for example, guess in zip(examples, predicted, strict=True)
            if guess >= 0
        ]
        result = agreement(rows, draws=0)
        return result.kappa.value or 0.0, result.three_way.value or 0.0

    settings = SETTINGS
    if arguments.search:
        for penalty in (0.3, 1.0, 2.0, 3.0, 5.0, 10.0):
            for share in (0.25, 1.0):
                one = (penalty, share)
                print(one, "prompts {:.3f} {:.3f}".format(*validated(folds, one)),
                      "models {:.3f} {:.3f}".format(*validated(models, one)), flush=True)  # fmt: skip
    print("cross-validated over prompts: kappa {:.3f}, three-way {:.3f}".format(*validated(folds, settings)))
    print("the other model's answers:    kappa {:.3f}, three-way {:.3f}".format(*validated(models, settings)))
    w, b = fit(x, y, weights_of(examples, settings[1]), settings[0])
    if arguments.out is not None:
        write(arguments.out, names, w, b, settings)
        print(f"wrote {arguments.out} ({arguments.out.stat().st_size} bytes)")


SETTINGS = (1.0, 1.0)
"""Penalty on the squared weights, and how much all examples without a human label weigh together."""


def decide(scores: Array) -> NDArray[np.int64]:
    """Declined if refused and partial together are likelier than complied; then the likelier of the two."""
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    complied = CLASSES.index("complied")
    rest = np.where(np.arange(len(CLASSES)) == complied, -1.0, p).argmax(1)
    return np.where(p[:, complied] > 0.5, complied, rest)


def write(path: Path, names: list[str], w: Array, b: Array, settings: tuple[float, float]) -> None:
    content = {
        "about": "Weights of the classifier judge, a multinomial logistic regression: by feature, one for each class. Made "
        "by benchmarks/judges/train_classifier.py, see docs/judge-card.md. No text of any data set is in here.",
        "version": 1,
        "classes": list(CLASSES),
        "settings": dict(zip(("penalty", "weight_of_unlabelled"), settings, strict=True)),
        "bias": [round(float(value), 3) for value in b],
        "named": {name: [round(float(value), 3) for value in w[:, index]] for index, name in enumerate(names)},
    }
    write_bytes(path, (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
