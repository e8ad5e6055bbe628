"""What all stages of a run share: the recipe, its folder, and the hashes that name its ingredients."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitrail.artifacts import sha256_of_file, sha256_of_json
from logitrail.card import README, has_section
from logitrail.config import ModelSection, Recipe
from logitrail.errors import DataError, ModelError
from logitrail.hub import commit_of, on_hub
from logitrail.stages.folder import versions
from logitrail.stages.progress import Progress, Silent

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from logitrail.models.loading import LoadedModel

_WEIGHT_FILES = (".safetensors", ".bin", ".gguf", ".pt")


@dataclass
class Context:
    """One run of one recipe."""

    recipe: Recipe
    progress: Progress = field(default_factory=Silent)
    _hashes: dict[Path, str] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        """The run's folder."""
        return self.recipe.out

    @cached_property
    def model_id(self) -> str:
        """Names the starting policy: contents of its small files, sizes and times of its weights, or its Hub revision.

        Hashing the weights themselves at each call would take longer than most stages; their full fingerprint stands in
        the summaries and in the reference cache, where it guards the numbers.
        """
        model = self.recipe.model
        return _identity(_settings(model), self._at(model.path, model.revision), self._at(model.adapter))

    @cached_property
    def reference_id(self) -> str | None:
        """Names the recipe's `reference` in the same way; None where the starting policy is held."""
        held = self.recipe.reference
        return (
            None
            if held is None
            else _identity(_settings(held), self._at(held.path, held.revision), self._at(held.adapter))
        )

    @cached_property
    def base_id(self) -> str:
        """Names the pretrained sibling in the same way."""
        return _identity(None, self._at(self.recipe.model.base))

    @cached_property
    def hub_models(self) -> list[dict[str, str | None]]:
        """Every model that the recipe takes from the Hub, and the commit at which all stages use it.

        A commit is None where it could not be found out; loading that model says why.
        """
        return [
            {"name": name, "revision": revision, "commit": commit}
            for (name, revision), commit in self._commits.items()
            if on_hub(name)
        ]

    @cached_property
    def _commits(self) -> dict[tuple[str, str | None], str | None]:
        """Of each name and revision in the recipe; None for a folder."""
        files: dict[tuple[str, str | None], str] = {}
        for section in (self.recipe.model, self.recipe.reference):
            if section is None:
                continue
            files.setdefault((section.path, section.revision), section.gguf_file or "config.json")
            for name, file in ((section.adapter, "adapter_config.json"), (section.base, "config.json")):
                if name is not None:
                    files.setdefault((name, None), file)
        return {(name, revision): commit_of(name, revision, file=file) for (name, revision), file in files.items()}

    def commit(self, name: str | None, revision: str | None = None) -> str | None:
        """What to load a model at: the commit that a Hub name in the recipe stands for, else what was given."""
        return (None if name is None else self._commits.get((name, revision))) or revision

    def _at(self, name: str | None, revision: str | None = None) -> str | None:
        """A Hub name with its commit; a folder as it is."""
        commit = None if name is None else self._commits.get((name, revision))
        return name if commit is None else f"{name}@{commit}"

    def load_section(self, section: ModelSection) -> LoadedModel:
        """The model that a recipe's section names, its adapter on top, and the tokenizer."""
        from logitrail.models.loading import load_model  # keys and hashes are wanted without torch too

        _require_code_by_name(section)
        return load_model(
            section.path,
            adapter=section.adapter,
            adapter_revision=self.commit(section.adapter),
            revision=self.commit(section.path, section.revision),
            gguf_file=section.gguf_file,
            dtype=section.dtype,
            trust_remote_code=section.trust_remote_code,
        )

    def load_start(self) -> LoadedModel:
        """The starting policy and its tokenizer."""
        from logitrail.models.chat import require_system_turn

        loaded = self.load_section(self.recipe.model)
        if self.recipe.data.system is not None:
            require_system_turn(loaded.tokenizer, self.recipe.data.system)
        return loaded

    def load_tokenizer(self) -> PreTrainedTokenizerBase:
        """The starting policy's tokenizer alone."""
        from logitrail.models.loading import load_tokenizer

        model = self.recipe.model
        _require_code_by_name(model)
        return load_tokenizer(
            model.path,
            revision=self.commit(model.path, model.revision),
            gguf_file=model.gguf_file,
            trust_remote_code=model.trust_remote_code,
        )

    def load_references(self, tokenizer: PreTrainedTokenizerBase) -> list[PreTrainedModel | None]:
        """The models whose logits are held; None is the starting policy.

        Raises:
            ModelError: the reference cannot be loaded, or has another tokenizer than the starting policy.
        """
        section = self.recipe.reference
        if section is None:
            return [None]
        from logitrail.models.fingerprints import tokenizer_fingerprint

        loaded = self.load_section(section)
        theirs, ours = tokenizer_fingerprint(loaded.tokenizer), tokenizer_fingerprint(tokenizer)
        if theirs != ours:
            raise ModelError(
                f"the reference {section.path} has another tokenizer ({theirs}) than the model ({ours}), so its logits "
                "are of other words; name the model that this one came from"
            )
        return [loaded.model, *([None] if section.with_start else [])]

    def training_rows(self) -> Dataset:
        """The recipe's training rows, as TRL takes them."""
        from logitrail.train.data import load_chat_rows

        data = self.recipe.data
        return load_chat_rows(
            data.train, prompt=data.prompt, response=data.response, system=data.system, limit=data.limit
        )

    def file_hash(self, path: Path | None) -> str | None:
        """Hash of a data file's bytes.

        Raises:
            DataError: it cannot be read.
        """
        if path is None:
            return None
        try:
            # Once a run: every stage then speaks of the same bytes, and a file edited meanwhile counts the next time.
            if path not in self._hashes:
                self._hashes[path] = sha256_of_file(path)[:16]
            return self._hashes[path]
        except FileNotFoundError:
            raise DataError(
                f"the data file {path} does not exist; check the path (relative paths start at the recipe's folder)"
            ) from None
        except OSError as error:
            raise DataError(
                f"cannot read {path}: {error.strerror or error}; check the path and its permissions"
            ) from error

    def key(self, stage: str, **ingredients: Any) -> str:
        """Hash of all that a stage's result depends on, versions of the libraries included."""
        return sha256_of_json({"stage": stage, "versions": versions(), **ingredients})[:32]

    @property
    def seeds(self) -> dict[str, int]:
        """Every seed there is."""
        return {"training": self.recipe.seed, "generation": self.recipe.seed}


def _require_code_by_name(section: ModelSection) -> None:
    """On what the recipe says: at the commit that a branch stands for today, nobody has read the code."""
    if section.trust_remote_code:
        from logitrail.models.loading import require_code_by_name

        require_code_by_name(section.path, revision=section.revision)


def _settings(model: ModelSection) -> dict[str, Any]:
    return model.model_dump(mode="json", exclude={"path", "adapter", "base"})


def _identity(settings: Any, *places: str | None) -> str:
    parts: list[Any] = [settings]
    for place in places:
        if place is None:
            continue
        folder = Path(place)
        if not folder.is_dir():
            parts.append(place)
            continue
        for file in sorted(folder.rglob("*")):
            if not file.is_file():
                continue
            name = str(file.relative_to(folder))
            if name == README and has_section(file):
                continue  # it says what was measured, and a new measurement makes no other model
            status = file.stat()
            heavy = file.suffix in _WEIGHT_FILES
            parts.append([name, status.st_size, status.st_mtime_ns] if heavy else [name, sha256_of_file(file)])
    return sha256_of_json(parts)[:16]
