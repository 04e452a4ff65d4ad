"""`[a[i] * b[j] for i, j]` and `sum(a[i] * b[i] for i)`: formulas of elements, and what indices run over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tlang.elaborate.scope import LocalDef, Scope
from tlang.elaborate.values import short
from tlang.errors import Label, error
from tlang.graph.node import Node, toposort
from tlang.graph.recurrence import bound
from tlang.graph.vectorise import unified, vectorise
from tlang.syntax import ast
from tlang.types import I64, Tensor

if TYPE_CHECKING:
    from tlang.elaborate.expressions import Elaborator, Task


def comprehension(el: Elaborator, e: ast.Comprehension, scope: Scope) -> Task:
    """The tensor of the values of a formula for all values of its indices, an axis for each."""
    inner = Scope(
        scope.unit,
        "inline" if scope.is_command() else scope.kind,
        scope,
        scope.owner,
        scope.call,
        scope if scope.is_command() else scope.caller,
    )
    variables = []
    for name in e.names:
        if name.id in inner.names:
            raise error("N108", name.span, name=name.id)
        leaf = bound(el.graph, Tensor(I64), name.id, name.span)
        inner.names[name.id] = LocalDef(name.id, name.span, leaf)
        variables.append(leaf)
    value = yield el.node(e.value, inner)
    value = value.cast(value.dtype) if value.type.weak else value
    sizes = [_range(el, value, v, n) for v, n in zip(variables, e.names, strict=True)]
    _no_draws(value, variables, e)
    return vectorise(value, variables, sizes)


def _range(el: Elaborator, value: Node, variable: Node, name: ast.Name) -> tuple[Node, int]:
    """The axis that a variable runs along: of what it indexes alone; several have one size."""
    found: tuple[Node, int, Node] | None = None
    for node in toposort([value]):
        if node.op.name != "index" or variable not in node.inputs[1:]:
            continue
        x, axis = node.inputs[0], 0
        for entry in node.attr("spec"):
            if entry[0] == "input" and node.inputs[entry[1]] is variable:
                if found is None:
                    found = x, axis, node
                elif not unified(found[0], found[1], x, axis):
                    uses = [(found[2], found[0].shape[found[1]]), (node, x.shape[axis])]
                    notes = [f"{size} in `{short(n.span.text)}`" for n, size in uses if n.span is not None]
                    labels = [Label(n.span, f"here {size}") for n, size in uses if n.span is not None]
                    raise error("F221", name.span, name=name.id, notes=notes, labels=labels)
            axis += entry[0] != "new"
    if found is None:
        raise error("F220", name.span, name=name.id)
    return found[0], found[1]


def _no_draws(value: Node, variables: Sequence[Node], e: ast.Comprehension) -> None:
    inside = set(variables)
    for node in toposort([value]):
        if any(x in inside for x in node.inputs):
            inside.add(node)
            if node.op.name == "draw":
                raise error("F207", e.span, name=node.attr("variable"))
