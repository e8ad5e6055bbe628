"""A section of our own in a model's README.md, the model card: put in, replaced and found again; the rest stays as it is.

PEFT and TRL write that file too. Only what stands between our two marks is ours, and of the metadata the `model-index`
results that carry our name. One thing of theirs goes: a folder of this machine as `base_model`, which the Hub refuses and
which tells everyone where it lies; PEFT loads the adapter by its `adapter_config.json`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from logitrail.artifacts import write_bytes
from logitrail.errors import ArtifactError

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

README: Final = "README.md"
BEGIN: Final = "<!-- logitrail: begin -->"
END: Final = "<!-- logitrail: end -->"
TAG: Final = "logitrail"
_SECTION: Final = re.compile(rf"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
_HEADING: Final = re.compile(r" {0,3}#{1,6}[ \t]")
_FENCE: Final = re.compile(r" {0,3}(```|~~~)")
_OURS: Final = {"measured_by": "logitrail"}


@dataclass(frozen=True)
class Measured:
    """One rate for the card's `model-index`.

    Attributes:
        suite: what was asked, as an identifier and in words.
        metric: what was counted, as an identifier and in words.
        value: the rate, in [0, 1], with its 95% interval and the number of prompts.
        revision: hash of the file with the prompts.
    """

    suite: tuple[str, str]
    metric: tuple[str, str]
    value: float
    low: float | None
    high: float | None
    n: int | None
    revision: str | None


def has_section(readme: Path) -> bool:
    """Whether the card holds our section: then what it says is no property of the model."""
    try:
        return BEGIN in readme.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False


def put_section(
    folder: Path, section: str, *, name: str | None = None, results: Sequence[Measured] = (), tags: Sequence[str] = ()
) -> Path:
    """Write `section` into the README.md of a model's folder, in the place of an earlier one or behind the first heading.

    Behind the first heading, since what PEFT and TRL write is pages of an empty template, and nobody reads on behind them.

    Args:
        section: Markdown.
        name: the model's, for `model-index`; one that the card has already is kept.
        results: replace those of an earlier call; others' stay.
        tags: added to the card's.

    Returns:
        The card.

    Raises:
        ArtifactError: there is a README.md whose metadata cannot be read.
        StorageError: it cannot be written; an earlier one is left whole.
    """
    from huggingface_hub import ModelCard, ModelCardData

    path = folder / README
    try:
        card = ModelCard.load(path) if path.is_file() else ModelCard(f"---\n{ModelCardData(tags=[])}\n---\n")
    except Exception as error:  # of the disk, of the encoding, of the card's form, and YAML's own of several kinds
        raise _unreadable(path, error) from error
    card.text = _with_section(card.text, f"{BEGIN}\n{section.strip()}\n{END}")
    data: Any = card.data
    here = [name for name in _as_list(data.base_model) if not _on_the_hub(name)]
    data.base_model = [name for name in _as_list(data.base_model) if name not in here] or None
    if data.base_model is not None and len(data.base_model) == 1:
        (data.base_model,) = data.base_model
    kept = [tag for tag in data.tags or [] if not any(tag.endswith(f":{name}") for name in here)]
    data.tags = list(dict.fromkeys([*kept, TAG, *tags]))
    others = [result for result in data.eval_results or [] if not _is_ours(result)]
    data.eval_results = [*others, *(_as_result(one) for one in results)] or None
    if data.eval_results:
        data.model_name = data.model_name or name or folder.name
    write_bytes(path, str(card).encode())
    return path


def _with_section(text: str, section: str) -> str:
    """`text` with our section; all else stays to the letter."""
    earlier = _SECTION.search(text)
    if earlier is not None:
        return text[: earlier.start()] + section + text[earlier.end() :]
    lines = text.splitlines(keepends=True)
    place = _first_heading(lines)
    if place is None:
        rest = text.lstrip("\n")
        return f"{section}\n\n{rest}" if rest else f"{section}\n"
    rest = "".join(lines[place + 1 :])
    return f"{''.join(lines[: place + 1]).rstrip()}\n\n{section}\n" + (
        rest if rest.startswith("\n") or not rest else f"\n{rest}"
    )


def _first_heading(lines: Sequence[str]) -> int | None:
    """Its number; what looks like one in a block of code is none."""
    fence = None
    for number, line in enumerate(lines):
        mark = _FENCE.match(line)
        if mark is not None:
            fence = mark[1] if fence is None else None if fence == mark[1] else fence
        elif fence is None and _HEADING.match(line):
            return number
    return None


def _as_list(value: Any) -> list[str]:
    return [] if value is None else [str(one) for one in value] if isinstance(value, list) else [str(value)]


def _on_the_hub(name: str) -> bool:
    """Whether `name` can be a model's there: it has the form, and is no folder here."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).exists()


def _unreadable(path: Path, error: Exception) -> ArtifactError:
    return ArtifactError(
        f"the metadata of {path} cannot be read ({' '.join(str(error).split())[:160]}); mend or remove that file"
    )


def _is_ours(result: EvalResult) -> bool:
    return bool(result.metric_args) and _OURS.items() <= dict(result.metric_args).items()


def _as_result(one: Measured) -> EvalResult:
    from huggingface_hub import EvalResult

    interval = {} if one.low is None else {"confidence": 0.95, "low": one.low, "high": one.high}
    return EvalResult(
        task_type="text-generation",
        task_name="Text generation",
        dataset_type=one.suite[0],
        dataset_name=one.suite[1],
        dataset_revision=one.revision,
        metric_type=one.metric[0],
        metric_name=one.metric[1],
        metric_value=one.value,
        metric_args={**_OURS, **interval, **({} if one.n is None else {"n": one.n})},
    )
