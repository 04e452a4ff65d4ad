"""Recurrences: the node with its body in the graph, the closed node, and the parts of what they give."""

from __future__ import annotations

from typing import Any

from tlang.graph.node import Node, operation
from tlang.graph.ops.rules import given_type
from tlang.graph.recurrence import Body, Open
from tlang.types import F64, Dim, Mismatch, Solver, Tensor

operation(
    "bound",
    "",
    lambda solver, inputs, *, kind, name, serial: kind,
    None,
    grad=None,
    doc="Stands for a value of the current step in the body of a recurrence.",
    public=False,
)


def _open_rule(solver: Solver, inputs: tuple[Node, ...], **attrs: Any) -> Tensor:
    """A node of several results has no type of its own; its parts have."""
    carried, sequences = attrs["carried"], attrs["sequences"]
    at = attrs["steps"]
    init, at = inputs[at : at + carried], at + carried
    given, at = inputs[at : at + sequences], at + sequences
    state, at = inputs[at : at + carried], at + carried
    elements, at = inputs[at : at + sequences], at + sequences
    new = inputs[at : at + carried]
    length = given[0].type.shape[0] if attrs["condition"] and given else attrs["length"]
    for x, b in zip(given, elements, strict=True):
        _same(solver, "T101", x, (length, *b.type.shape), x.type.shape)
    for a, b in (*zip(init, state, strict=True), *zip(new, state, strict=True)):
        _same(solver, "T101", a, b.type.shape, a.type.shape)
    return Tensor(F64)


def _same(solver: Solver, code: str, x: Node, wanted: tuple[Dim, ...], found: tuple[Dim, ...]) -> None:
    for axis, (a, b) in enumerate(zip(wanted, found, strict=True)):
        if not solver.unify(a, b):
            raise Mismatch(code, [(-1, f"dimension {axis}", a), (-1, f"dimension {axis}", b)])


def _not_here(*_: Any, **__: Any) -> Any:
    raise AssertionError("`tlang.graph.grad` knows how a recurrence is differentiated")


operation(
    "open_scan",
    "",
    _open_rule,
    None,
    grad=_not_here,
    doc="A recurrence, the body of which is part of the graph.",
    public=False,
)


def _part_rule(solver: Solver, inputs: tuple[Node, ...], *, what: str, index: int) -> Tensor:
    scan = Open.of(inputs[0])
    if what == "last":
        return scan.init[index].type.strong().with_shape(scan.init[index].shape)
    row = scan.outputs[index] if what == "output" else scan.state[index]
    return row.type.strong().with_shape((scan.length, *row.shape))


operation(
    "result",
    "",
    _part_rule,
    None,
    grad=_not_here,
    doc="One of the results of a recurrence.",
    public=False,
)


def _scan_rule(solver: Solver, inputs: tuple[Node, ...], *, body: Body, **attrs: Any) -> Tensor:
    return Tensor(F64)


operation(
    "scan",
    "",
    _scan_rule,
    None,
    grad=None,
    doc="A recurrence whose body is a graph of its own; the interpreter runs it step by step.",
    cut="a closed recurrence",
    public=False,
)
operation(
    "item",
    "",
    given_type,
    lambda np, results, at, kind: results[at],
    grad=None,
    doc="One of the results of a closed recurrence.",
    cut="a closed recurrence",
    dynamic=True,
    public=False,
)
