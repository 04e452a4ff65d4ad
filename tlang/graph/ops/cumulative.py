"""Running products along an axis, and the linear recurrence that their gradients are."""

from __future__ import annotations

from typing import Any

from tlang.graph.node import Node, operation
from tlang.graph.ops.arrangements import along_axis
from tlang.graph.ops.rules import iota, normal_axis, size_of, sum_dtype
from tlang.types import Solver, Tensor


def _cumprod_rule(solver: Solver, inputs: tuple[Node, ...], *, axis: int, reverse: bool) -> Tensor:
    normal_axis(axis, inputs[0].rank)
    return Tensor(sum_dtype(inputs[0].dtype), inputs[0].type.shape)


def _cumprod(np: Any, x: Any, axis: int, reverse: bool) -> Any:
    if reverse:
        return np.flip(_cumprod(np, np.flip(x, axis), axis, False), axis)
    wide = np.float64 if x.dtype == np.float32 else None
    out = np.cumprod(x, axis=axis, dtype=wide)
    return out.astype(np.float32) if wide else out


def _cumprod_grad(g: Node, out: Node, x: Node, axis: int, reverse: bool) -> tuple[Node]:
    """The product is y_k = x_k y_(k-1) after y_(-1) = 1, a linear recurrence: right with zeros."""
    back = _behind(x, axis, reverse).apply("recur", g, axis=axis, reverse=not reverse)
    at = normal_axis(axis, x.rank)
    place = along_axis(iota(x, at), x.rank, at)
    edge = size_of(x, at) - 1 if reverse else 0
    before = out.apply("shift", axis=axis, by=-1 if reverse else 1)
    return (back * place.apply("eq", edge).apply("where", 1, before),)


def _behind(x: Node, axis: int, reverse: bool) -> Node:
    """The next element of a running product, in the direction in which it runs."""
    return x.apply("shift", axis=axis, by=1 if reverse else -1)


operation(
    "cumprod",
    "x, axis=-1, reverse=False",
    _cumprod_rule,
    _cumprod,
    grad=_cumprod_grad,
    doc="The running product along an axis, from the end with `reverse = True`; right with zeros.",
)


def _axis_rule(solver: Solver, inputs: tuple[Node, ...], *, axis: int, **_: Any) -> Tensor:
    normal_axis(axis, inputs[0].rank)
    return inputs[0].type.strong()


def _shift(np: Any, x: Any, axis: int, by: int) -> Any:
    out = np.zeros_like(x)
    source, target = np.moveaxis(x, axis, 0), np.moveaxis(out, axis, 0)
    if by > 0:
        target[1:] = source[:-1]
    else:
        target[:-1] = source[1:]
    return out


operation(
    "shift",
    "x",
    _axis_rule,
    _shift,
    grad=lambda g, out, x, axis, by: (g.apply("shift", axis=axis, by=-by),),
    doc="The elements moved one place along an axis, forwards (by 1) or back (by -1); a 0 comes in.",
    public=False,
)


def _recur(np: Any, x: Any, b: Any, axis: int, reverse: bool) -> Any:
    if reverse:
        return np.flip(_recur(np, np.flip(x, axis), np.flip(b, axis), axis, False), axis)
    out = np.array(b)
    rows, factors = np.moveaxis(out, axis, 0), np.moveaxis(x, axis, 0)
    for k in range(1, len(rows)):
        rows[k] += factors[k] * rows[k - 1]
    return out


def _recur_grad(g: Node, out: Node, x: Node, b: Node, axis: int, reverse: bool) -> tuple[Node, Node]:
    """The recurrence from the other end, with the factors moved by one place."""
    back = _behind(x, axis, reverse).apply("recur", g, axis=axis, reverse=not reverse)
    return back * out.apply("shift", axis=axis, by=-1 if reverse else 1), back


operation(
    "recur",
    "x, b",
    _axis_rule,
    _recur,
    grad=_recur_grad,
    doc="y with y[k] = x[k] * y[k - 1] + b[k] along an axis, or from its end.",
    public=False,
)
