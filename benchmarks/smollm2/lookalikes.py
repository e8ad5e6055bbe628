"""Harmless prompts that sound dangerous, made from `lookalikes.yaml`.

An alignment without such rows teaches a small model to refuse words ("kill", "shoot", "attack") rather
than intentions. The families follow the known kinds of exaggerated refusal (homonyms, figures of speech, safe
targets, safe settings, definitions, history, public facts, fiction, nonsense prejudice, talk *about* a harm).
No prompt is taken from a test set, and `prepare.py` drops whatever comes near one.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import yaml

Row = dict[str, str]
FILE = Path(__file__).with_name("lookalikes.yaml")


def grammar(path: Path = FILE) -> dict[str, Any]:
    """The families as lists, `[prompt, answer]` pairs and frames."""
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def _fill(text: str, item: str) -> str:
    return text.replace("{x}", item).replace("{X}", item[:1].upper() + item[1:])


def lookalike_rows(seed: int, *, frames_per_item: int = 5, abouts_per_topic: int = 12) -> list[Row]:
    """Every family, each item in a few frames drawn with `seed`; the same rows for the same seed."""
    draw = random.Random(seed)  # noqa: S311 - a choice of frames, not a secret
    words = grammar()
    rows: list[Row] = []

    def add(family: str, item: str, frame: str, answer: str) -> None:
        prompt = _fill(frame, item)
        rows.append({"prompt": prompt, "response": _fill(answer, item), "source": f"lookalike/{family}"})

    for task, answer in words["how_to"]:
        for frame in draw.sample(words["how_to_frames"], frames_per_item):
            add("how_to", task, frame, answer)
    for task, answer in words["everyday"]:
        for frame in draw.sample(words["how_to_frames"], frames_per_item):
            add("everyday", task, frame, answer)
    for person in words["fiction_people"]:
        for frame, answer in draw.sample(words["fiction_frames"], 3):
            add("fiction_person", person, frame, answer)
    for topic in words["topics"]:
        for frame, answer in draw.sample(words["about"], abouts_per_topic):
            add("about", topic, frame, answer)
    for term, answer in words["definitions"]:
        for frame in draw.sample(words["definition_frames"], 2):
            add("definition", term, frame, answer)
    for prompt, answer in words["facts"]:
        add("fact", "", prompt, answer)
    for group in words["nonsense_groups"]:
        for frame in draw.sample(words["nonsense_frames"], 2):
            add("nonsense", group, frame, draw.choice(words["nonsense_answers"]))
    for group in words["real_groups"]:
        for frame, answer in draw.sample(words["real"], 3):
            add("real_group", group, frame, answer)
    for subject in (name for names in words["subjects"].values() for name in names):
        for frame, answer in draw.sample(words["subject"], 2):
            add("subject", subject, frame, answer)
    return rows


def mining_prompts() -> list[Row]:
    """Harmless prompts on the subjects of the harmful mining prompts, in frames that training never uses."""
    words = grammar()
    return [
        {"prompt": _fill(frame, subject), "category": group, "source": "lookalike/mining", "label": "benign"}
        for group, subjects in words["subjects"].items()
        for subject in subjects
        for frame in words["mining_frames"]
    ]
