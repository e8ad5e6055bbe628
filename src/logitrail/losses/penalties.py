"""rho: what a difference of anchors costs. Each is elementwise, 0 at 0, and once differentiable."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from logitrail.types import Penalty

HUBER_WIDTH = 1.0


def square(difference: Tensor) -> Tensor:
    """rho(x) = x^2."""
    return difference.square()


def floor(difference: Tensor) -> Tensor:
    """rho(x) = relu(-x)^2: only a fall below the reference is punished."""
    return (-difference).clamp(min=0).square()


def huber(difference: Tensor) -> Tensor:
    """rho(x) = x^2 for |x| <= d, else 2 d |x| - d^2, with d = `HUBER_WIDTH`: `square` near 0, bounded slope beyond."""
    size = difference.abs()
    return size.clamp(max=HUBER_WIDTH) * (2 * size - size.clamp(max=HUBER_WIDTH))


PENALTIES: dict[Penalty, Callable[[Tensor], Tensor]] = {"square": square, "floor": floor, "huber": huber}


def penalty(name: str) -> Callable[[Tensor], Tensor]:
    """The penalty of that name, or a ValueError that lists the names."""
    try:
        return PENALTIES[name]  # type: ignore[index]
    except KeyError:
        raise ValueError(f"unknown penalty {name!r}; choose one of {', '.join(PENALTIES)}") from None
