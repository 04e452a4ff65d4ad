"""Operations that are formulas in others: a call of one is replaced by its formula.

`swapaxes(x, 0, 1)` is a transpose and `ptp(x)` a difference. Types, gradients, kernels and stable forms are
those of what the formula is written in, so a row here is a name, a signature, the formula and a line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from tlang.graph.node import OPS, Node
from tlang.types import Dim

#: What a formula gives: a tensor, or a record of several.
Result: TypeAlias = "Node | Mapping[str, Node]"


@dataclass(frozen=True, slots=True)
class Size:
    """A size as an argument: as a dimension (a fresh unknown, if only the run knows it) and as i64."""

    dim: Dim
    node: Node


@dataclass(frozen=True, slots=True, eq=False)
class Formula:
    """A row: the name, the signature as in :class:`tlang.graph.node.Op`, the formula, a line for users.

    `define` takes the parameters by name: tensors, attributes, and sizes. One with the default None may be
    left out; `*xs` are all arguments without names, as a list of tensors.
    """

    name: str
    signature: str
    define: Callable[..., Result]
    doc: str


#: The table of formulas, by name. The files of this folder fill it.
FORMULAS: dict[str, Formula] = {}
#: The parameters that are sizes.
SIZES = frozenset({"n", "m", "num", "length", "minlength"})


def formula(name: str, signature: str, doc: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Adds a row whose formula is the function under it."""

    def add(define: Callable[..., Any]) -> Callable[..., Any]:
        assert name not in FORMULAS, name
        assert name not in OPS, name
        FORMULAS[name] = Formula(name, signature, define, doc)
        return define

    return add
