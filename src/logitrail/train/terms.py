"""The terms that a method adds to the loss, from the hidden state that the step's one forward pass made."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor

from logitrail.errors import RecipeError
from logitrail.losses import response_place
from logitrail.losses.positions import IGNORED
from logitrail.methods import Positions, Term
from logitrail.reference import AdapterOff, Frozen

if TYPE_CHECKING:
    from logitrail.reference import ReferenceStates


class Terms:
    """Sums every term over a micro-batch's labelled positions.

    Args:
        terms: at most one of them in the cross-entropy's place.
        reference: gives the starting policy's states; None where no term needs them.
        head: the policy's, hidden states to logits.

    Raises:
        RecipeError: two terms want the cross-entropy's place.
    """

    def __init__(
        self,
        terms: Sequence[Term],
        reference: AdapterOff | Frozen | None,
        head: Callable[[Tensor], Tensor],
    ) -> None:
        instead = [term.name for term in terms if term.replaces_cross_entropy]
        if len(instead) > 1:
            raise RecipeError(f"{' and '.join(instead)} each replace the cross-entropy; join one of them at most")
        self.names = tuple(term.name for term in terms)
        self._terms = terms
        self._reference = reference
        self._head = head
        self.replace_cross_entropy = bool(instead)

    def __bool__(self) -> bool:
        return bool(self._terms)

    def totals(self, inputs: dict[str, Any], hidden: Tensor, log_probs: Tensor) -> dict[str, tuple[float, Tensor]]:
        """Each term's weight and its sum over the batch's labelled positions, by its name.

        Args:
            inputs: the batch, labels among it.
            hidden: [batch, length, D], in the graph.
            log_probs: [batch, length - 1], the label's log-probability at each position, in the graph.
        """
        labels = inputs["labels"]
        mask = labels[:, 1:] != IGNORED
        states: ReferenceStates | None = None
        if any(term.needs_reference for term in self._terms):
            assert self._reference is not None  # the trainer made one
            states = self._reference.states(inputs, mask)
        at = Positions(
            inputs=inputs,
            mask=mask,
            labels=labels[:, 1:][mask],
            place=response_place(labels)[mask],
            hidden=hidden[:, :-1][mask],
            log_probs=log_probs[mask],
            head=self._head,
            reference=states,
            ask_reference=None if self._reference is None else self._reference.states,
        )
        return {term.name: (term.weight, term.total(at)) for term in self._terms}
