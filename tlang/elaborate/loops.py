"""What is known of a loop while its body is elaborated."""

from __future__ import annotations

from dataclasses import dataclass

from tlang.elaborate.plans import Target
from tlang.errors import error
from tlang.types import Tensor


@dataclass
class LoopState:
    """What is known of the loop being elaborated.

    `sets` are the values that its body sets, `assigned` those set so far, `carried` the types of
    those read before they are set: the next iteration reads what this one stored.
    """

    sets: set[str]
    variables: frozenset[str]

    def __post_init__(self) -> None:
        self.assigned: set[str] = set()
        self.carried: dict[str, Tensor] = {}


def same_in_loop(before: Tensor, after: Tensor, t: Target) -> None:
    """A value that the next iteration reads keeps its type."""
    sizes = zip(before.shape, after.shape, strict=False)
    if (
        before.dtype != after.dtype
        or before.rank != after.rank
        or any(a.is_const and b.is_const and a != b for a, b in sizes)
    ):
        raise error("F183", t.span, name=t.name, before=before, after=after)
