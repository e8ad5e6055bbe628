"""What a chain of tasks may say: the recipe's sections once for all, and the tasks in their order."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from logitrail.config.judge_report import with_judge_errors
from logitrail.config.kinds import require_kind
from logitrail.config.reading import first_problem, read_yaml, require_mapping, with_absolute_paths
from logitrail.config.recipe import (
    DataSection,
    EvalSection,
    GateSection,
    LoraSection,
    ModelSection,
    Section,
    TokensSection,
    require_own_options,
)
from logitrail.errors import RecipeError

AnchorTo = Literal["original", "previous", "both"]
"""Whose logits a stage holds: the aligned model's, those of the model that the stage starts from, or the mean of both."""

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"


class ChainTask(DataSection):
    """One task of the chain: a recipe's `data` with a name."""

    name: str = Field(pattern=_NAME, description="Of its folder, and in the table.")


class Chain(Section):
    """Tasks learned one after another, each by the model that the one before left. Paths start at the file's folder."""

    name: str = Field("chain", pattern=_NAME, description="Shown in the report.")
    out: Path = Field(Path("runs/chain"), description="Folder of everything that the chain writes.")
    seed: int = Field(0, ge=0, lt=2**32, description="Of every stage's training.")
    model: ModelSection
    tasks: tuple[ChainTask, ...] = Field(min_length=2, description="The tasks in their order.")
    method: str = Field("str", description="How each stage trains.")
    method_options: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Options of single methods, by the method's word.",
        exclude_if=lambda given: not given,  # younger than the other keys: a chain without it is written as before
    )
    safety_data: Path | None = Field(
        None,
        description="JSONL with harmful prompts and safe answers, for `mix`, `lisa`, `safegrad` and `pact`.",
        exclude_if=lambda path: path is None,  # likewise
    )
    anchor_to: AnchorTo = Field("original", description="Whose logits a stage holds: original, previous or both.")
    tokens: TokensSection = Field(default_factory=TokensSection)
    lora: LoraSection | Literal[False] = Field(default_factory=LoraSection)
    training: dict[str, Any] = Field(default_factory=dict, description="Options of STRConfig by their own names.")
    probes: Path | None = Field(None, description="As in a recipe; default: tokens.mine.harmful.")
    harmless_probes: Path | None = Field(None, description="As in a recipe; default: tokens.mine.harmless.")
    eval: EvalSection
    gate: GateSection = Field(default_factory=GateSection)

    @field_validator("training")
    @classmethod
    def _not_ours(cls, value: dict[str, Any]) -> dict[str, Any]:
        return require_own_options(value)

    @model_validator(mode="after")
    def _possible(self) -> Chain:
        names = [task.name for task in self.tasks]
        if len(set(names)) != len(names):
            raise ValueError(f"a task's name stands twice in {names}; name each task once")
        for task in self.tasks:
            if task.test is None:
                raise ValueError(
                    f"the task {task.name} has no `test`; a chain measures every task again after each stage"
                )
        if len({task.system for task in self.tasks}) > 1:
            raise ValueError(
                "the tasks have different system messages, and safety is measured behind them: the stages could not be "
                "compared; give all tasks the same `system`"
            )
        if self.eval.task_metric not in ("exact", "numeric"):
            raise ValueError(
                f"a chain counts right answers, which eval.task_metric={self.eval.task_metric!r} does not; choose exact or "
                "numeric"
            )
        if self.gate.repeat_seeds:
            raise ValueError("a chain takes no gate.repeat_seeds; run it again with another `seed` and `out`")
        if self.model.adapter is not None:
            raise ValueError("a chain starts from whole weights, not from `model.adapter`; merge the adapter first")
        return self


def load_chain(path: Path, *, out: Path | None = None) -> Chain:
    """Read a chain.

    Args:
        out: the chain's folder in place of its own; relative to where the command is given.

    Raises:
        RecipeError: it is missing, not YAML, or says something it may not; the message names the key and what to do.
    """
    chain = parse_chain(read_yaml(path, "chain", "docs/chain.md shows one"), folder=path.parent, source=str(path))
    return chain if out is None else chain.model_copy(update={"out": out.absolute()})


def parse_chain(content: Any, *, folder: Path, source: str = "the chain") -> Chain:
    """Validate a chain's content; relative paths start at `folder`."""
    require_mapping(content, source, "see docs/chain.md for an example")
    require_kind(content, "chain", source)
    try:
        chain = Chain.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{source}: {first_problem(error, Chain)}") from None
    whole = with_judge_errors(with_absolute_paths(chain.model_dump(), folder))
    for task in whole["tasks"]:
        with_absolute_paths({"data": task}, folder)  # a task is a recipe's `data`
    return Chain.model_validate(whole)
