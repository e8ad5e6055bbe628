"""`safety_tokens.json`: written whole, sealed, and read with errors a person can act on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from logitrail.artifacts import read_json
from logitrail.errors import ArtifactError
from logitrail.seals import SEAL, fits, write_sealed

FORMAT_VERSION = 1
"""Raised when a reader of the old form would misread the new one."""

KIND = "logitrail.safety_tokens"

_AGAIN = "make it again with `logitrail tokens` (or SafetyTokens.mine / .from_templates and .save)"

Score = Annotated[float, Field(allow_inf_nan=False)]
Identity = Annotated[int, Field(ge=0, strict=True)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ScoresFile(_Strict):
    """The scores of one token; those that were not measured are null."""

    salience: Score | None
    frequency: Score | None
    specificity: Score | None
    position: Score | None
    gain: Score | None
    gap: Score | None


class TokenFile(_Strict):
    """One safety token."""

    id: Identity
    text: str
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    sources: list[str]
    scores: ScoresFile


class ComplianceFile(_Strict):
    """One compliance opener's first token."""

    id: Identity
    text: str


class TokenizerFile(_Strict):
    """Which tokenizer the ids belong to."""

    fingerprint: str
    vocabulary_size: Annotated[int, Field(gt=0, strict=True)]


class EditFile(_Strict):
    """One time that a person changed the file and sealed it again."""

    at: str
    file: str
    before: str | None
    library_version: str


class TokensFile(_Strict):
    """The whole file, less its seal."""

    kind: Literal["logitrail.safety_tokens"]
    format_version: int
    library_version: str
    tokenizer: TokenizerFile
    templates_hash: str | None
    made: dict[str, Any]
    notes: list[str]
    tokens: Annotated[list[TokenFile], Field(min_length=1)]
    compliance: list[ComplianceFile]
    edited: list[EditFile] = []
    content_hash: str


def write(path: Path, content: dict[str, Any]) -> None:
    """Write `content` with its seal: the hash of everything else in the file."""
    write_sealed(path, content)


def read(path: Path) -> TokensFile:
    """Read and check the file.

    Raises:
        ArtifactError: it is missing, not JSON, of a newer format, lacks a key, has a value that cannot be,
            or was changed since it was written. The message names the place.
    """
    value = _read_json(path)
    parsed = parse(path, value)
    if not fits(value):
        raise ArtifactError(
            f"{path} was changed since it was written (its {SEAL} does not fit its content); {_AGAIN}; "
            "to choose ids or weights by hand use SafetyTokens.from_ids, or, if a person changed it on purpose, run "
            f"`logitrail seal {path}`"
        )
    return parsed


def _read_json(path: Path) -> Any:
    """As `read_json`, whose advice is for files of a run: a person may have named this one, and meant another."""
    wanted = f"name the safety_tokens.json that `logitrail tokens` wrote, or {_AGAIN}"
    try:
        return read_json(path)
    except ArtifactError as error:
        cause = error.__cause__
        if not path.exists():
            raise ArtifactError(f"{path} does not exist; {wanted}") from None
        if isinstance(cause, OSError):
            raise
        raise ArtifactError(f"{path} is no safety_tokens.json: it is not valid JSON ({cause}); {wanted}") from cause


def parse(path: Path, value: Any) -> TokensFile:
    """The content of the file at `path`, checked in all but its seal.

    Raises:
        ArtifactError: as `read`.
    """
    if not isinstance(value, dict):
        raise ArtifactError(
            f"{path} holds a JSON {type(value).__name__}, not an object; it holds no safety tokens: {_AGAIN}"
        )
    version = value.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise ArtifactError(
            f"{path} has format_version {version} and this logitrail reads up to {FORMAT_VERSION}; "
            f"update logitrail, or {_AGAIN}"
        )
    if version != FORMAT_VERSION or isinstance(version, bool | float):
        given = "lacks format_version" if "format_version" not in value else f"has format_version {version!r}"
        raise ArtifactError(
            f"{path} {given}, where {FORMAT_VERSION} is needed; it is damaged or another file: {_AGAIN}"
        )
    try:
        parsed = TokensFile.model_validate(value)
    except ValidationError as error:
        raise ArtifactError(f"{path} cannot be used: {_first(error)}; {_AGAIN}") from None
    for name, ids in (
        ("tokens", [t.id for t in parsed.tokens]),
        ("compliance", [c.id for c in parsed.compliance]),
    ):
        _check_ids(path, name, ids, parsed.tokenizer.vocabulary_size)
    both = sorted({t.id for t in parsed.tokens} & {c.id for c in parsed.compliance})
    if both:
        raise ArtifactError(f"{path}: the ids {both} stand in both tokens and compliance; {_AGAIN}")
    return parsed


def _check_ids(path: Path, name: str, ids: list[int], size: int) -> None:
    large = [token for token in ids if token >= size]
    if large:
        raise ArtifactError(f"{path}: {name} holds id {large[0]}, but the vocabulary has ids 0 to {size - 1}; {_AGAIN}")
    if len(set(ids)) != len(ids):
        twice = next(token for token in ids if ids.count(token) > 1)
        raise ArtifactError(f"{path}: {name} holds id {twice} more than once; {_AGAIN}")


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    if first["type"] == "missing":
        return f"the key {place} is missing"
    if first["type"] == "extra_forbidden":
        return f"the key {place} is unknown"
    given = repr(first["input"])
    return f"{place} is {given[:60]}, but {first['msg'][0].lower()}{first['msg'][1:]}"
