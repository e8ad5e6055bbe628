"""A method: one word in a recipe, or several joined by `+`, and all that they do to a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError
from torch import nn

from logitrail.config.reading import first_problem
from logitrail.config.recipe import Recipe, Section
from logitrail.errors import RecipeError
from logitrail.methods.seam import Arranged, Batches, Companion, Resources, Term

_OF_ANCHORS = (
    "str_kl_budget",
    "str_drift_budget",
    "str_loss_budget",
    "str_pull_back",
    "str_adam_beta2",
    "str_answer_weight",
    "str_altered_probes",
)
"""Training options that a trainer refuses where nothing is held."""


class NoOptions(Section):
    """Of a method that has none of its own."""


Aligned = Literal["none", "start", "start only"]
"""What a part takes as the aligned model beside the recipe's `reference`, which a chain may set to the original: no model,
the one that a training starts from whatever the reference is, or that one, so that another reference is refused."""


@dataclass(frozen=True)
class Part:
    """One word. What a part does not do is None.

    Attributes:
        name: the word.
        summary: one line for people.
        source: where it comes from.
        options: its options.
        needs: what it takes beside the model and the task: `probe_prompts`, `safety_data`, `base_model`.
        anchors: whether the recipe's options of Safety Token Regularization apply; without it they are off.
        training: the recipe's training options as this part wants them.
        rows: the rows to train on, of the task's.
        ordered: whether those stand in the order of the steps, so that no part behind it may change them.
        term: its term of the loss.
        companion: what goes along with the steps.
        finish: changes the trained model before it is kept.
        system: the text that is put before every prompt when the trained model is asked.
        aligned: what it compares with. None is `none` for a part that cannot see a model, and `start only` for one with a
            term, a companion or a finish: those can ask for the starting policy, and no `reference` reaches them.
        subtracts_base: whether it takes start - `model.base`, matrix by matrix, as the direction of alignment: a chain that
            holds the original moves the base along with its start.
        watches_cache: whether it anchors nothing and yet logs its distance from a reference cache that the run keeps.
        linear_update: whether its `finish` takes the weights' update for the adapter's B A.
        small: options with which a few steps show all that it does.
    """

    name: str
    summary: str
    source: str
    options: type[Section] = NoOptions
    needs: tuple[str, ...] = ()
    anchors: bool = False
    training: Callable[[dict[str, Any]], dict[str, Any]] | None = None
    rows: Callable[[Any, Resources, Any, Batches], Arranged] | None = None
    ordered: bool = False
    term: Callable[[Resources, Any], Term] | None = None
    companion: Callable[[Resources, Any], Companion] | None = None
    finish: Callable[[nn.Module, Resources, Any], None] | None = None
    system: Callable[[Any], str] | None = None
    aligned: Aligned | None = None
    subtracts_base: bool = False
    watches_cache: bool = False
    linear_update: bool = False
    small: Mapping[str, Any] = field(default_factory=dict)

    @property
    def compares_with(self) -> Aligned:
        """`aligned`, settled."""
        if self.aligned is not None:
            return self.aligned
        sees_models = any(hook is not None for hook in (self.term, self.companion, self.finish))
        return "start only" if sees_models else "none"


def safety_file(recipe: Recipe, method: str) -> Path:
    """Where the safety rows of a method that needs them lie; else a `RecipeError`."""
    if recipe.safety_data is None:
        raise RecipeError(
            f"the method {method} needs harmful prompts with safe answers, and the recipe names none; set "
            "`safety_data` to a JSONL with the columns `prompt` and `response`"
        )
    return recipe.safety_data


def base_name(recipe: Recipe, method: str) -> str:
    """The pretrained sibling for a method that needs it; else a `RecipeError`."""
    if recipe.model.base is None:
        raise RecipeError(
            f"the method {method} compares with the model before its alignment, and the recipe names none; set "
            "`model.base` to the pretrained sibling"
        )
    return recipe.model.base


@dataclass(frozen=True)
class Method:
    """Parts, in the order in which the recipe joins them.

    Raises:
        RecipeError: a part changes the rows behind one that has fixed their order.
    """

    name: str
    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        for place, part in enumerate(self.parts):
            behind = next((other for other in self.parts[place + 1 :] if other.rows is not None), None)
            if part.ordered and behind is not None:
                last = "+".join([*(other.name for other in self.parts if other is not part), part.name])
                raise RecipeError(
                    f"the part {part.name!r} of {self.name!r} fixes the order of the rows, which {behind.name!r} behind it "
                    f"undoes; write {last!r}"
                )

    @property
    def summary(self) -> str:
        """One line for people."""
        return "; ".join(part.summary for part in self.parts)

    @property
    def anchors(self) -> bool:
        """Whether any part holds the safety tokens."""
        return any(part.anchors for part in self.parts)

    @property
    def changes_rows(self) -> bool:
        """Whether it trains on other rows than the task's."""
        return any(part.rows is not None for part in self.parts)

    @property
    def ordered(self) -> bool:
        """Whether its rows stand in the order of the steps."""
        return any(part.ordered for part in self.parts)

    @property
    def subtracts_base(self) -> bool:
        """Whether a part takes start - `model.base` as the direction of alignment."""
        return any(part.subtracts_base for part in self.parts)

    @property
    def watches_cache(self) -> bool:
        """Whether it is a yardstick that logs its distance from the run's reference cache: no part does more."""
        return all(part.watches_cache for part in self.parts)

    def comparing_with(self, aligned: Aligned) -> list[str]:
        """The words of the parts that take this as the aligned model."""
        return [part.name for part in self.parts if part.compares_with == aligned]

    @property
    def needs(self) -> tuple[str, ...]:
        """What it takes beside the model and the task."""
        return tuple(sorted({need for part in self.parts for need in part.needs}))

    def require(self, recipe: Recipe) -> None:
        """Check what can be known before anything is loaded, so that it costs no training.

        Raises:
            RecipeError: the recipe names none of what the method needs, or gives it options that cannot work.
        """
        self.options(recipe.method_options)
        if recipe.model.adapter is not None:
            raise RecipeError(
                f"training starts from whole weights, not from `model.adapter` ({recipe.model.adapter}), which would be "
                "frozen; merge the adapter into the model first (PEFT's `merge_and_unload`), and name the merged model"
            )
        of_updates = [part.name for part in self.parts if part.linear_update]
        if of_updates and recipe.lora is not False and recipe.lora.use_dora:
            raise RecipeError(
                f"the method {of_updates[0]} takes what an adapter does for B A, and `lora.use_dora` has magnitudes beside "
                "that; leave `use_dora` out, or choose another method"
            )
        if "safety_data" in self.needs:
            safety_file(recipe, self.name)
        if "base_model" in self.needs:
            base_name(recipe, self.name)

    def system(self, given: Mapping[str, Any]) -> str | None:
        """Text before every prompt when the trained model is asked; `given` is a recipe's `method_options`."""
        options = self.options(given)
        return "\n\n".join(part.system(options[part.name]) for part in self.parts if part.system is not None) or None

    def training(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The recipe's training options as this method uses them; with no part that anchors, lambda is 0 and what only
        anchors have use for is left out."""
        changes = [part.training for part in self.parts if part.training is not None]
        start = dict(options)
        if not self.anchors:
            start = {name: value for name, value in start.items() if name not in _OF_ANCHORS}
            start |= {"str_weight": 0.0, "str_probe_weight": 0.0}
        return reduce(lambda held, change: change(held), changes, start)

    def options(self, given: Mapping[str, Any]) -> dict[str, Section]:
        """Each part's options, out of a recipe's `method_options`.

        Raises:
            RecipeError: an option does not exist, or its value cannot work.
        """
        result = {}
        for part in self.parts:
            try:
                result[part.name] = part.options.model_validate(given.get(part.name) or {})
            except ValidationError as error:
                within = ("method_options", part.name)
                raise RecipeError(first_problem(error, part.options, within=within)) from None
        return result

    def arranged(self, rows: Any, resources: Resources, options: Mapping[str, Section], batches: Batches) -> Arranged:
        """The rows to train on, and options that they need."""
        result = Arranged(rows)
        for part in self.parts:
            if part.rows is not None:
                made = part.rows(result.rows, resources, options[part.name], batches)
                result = Arranged(made.rows, {**result.training, **made.training})
        return result

    def terms(self, resources: Resources, options: Mapping[str, Section]) -> list[Term]:
        """The terms of the loss beside the cross-entropy and the anchor."""
        return [part.term(resources, options[part.name]) for part in self.parts if part.term is not None]

    def companions(self, resources: Resources, options: Mapping[str, Section]) -> list[Companion]:
        """What goes along with the steps."""
        return [part.companion(resources, options[part.name]) for part in self.parts if part.companion is not None]

    def finish(self, model: nn.Module, resources: Resources, options: Mapping[str, Section]) -> None:
        """Change the trained model before it is kept."""
        for part in self.parts:
            if part.finish is not None:
                part.finish(model, resources, options[part.name])
