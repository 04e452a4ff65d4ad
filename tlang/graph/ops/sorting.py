"""Order: sorting, the places of sorted elements, searching, and what is read off a sorted tensor."""

from __future__ import annotations

import math
from typing import Any

from tlang.errors import error
from tlang.graph.node import OPS, Node, operation
from tlang.graph.ops.arrangements import along, along_axis, places, ravel, within
from tlang.graph.ops.formula import Size, formula
from tlang.graph.ops.rules import iota, normal_axes, normal_axis, size_of, unknown_dim
from tlang.types import F64, I64, Dim, Solver, Tensor

Axes = int | tuple[int, ...] | None


def _sort_rule(solver: Solver, inputs: tuple[Node, ...], *, axis: int, **_: Any) -> Tensor:
    if inputs[0].dtype.kind == "c":
        raise error("T125", found=inputs[0].type)
    normal_axis(axis, inputs[0].rank)
    return inputs[0].type.strong()


def _sort_grad(g: Node, out: Node, x: Node, axis: int) -> tuple[Node]:
    """Each cotangent back to the place that its element came from: the inverse of the order."""
    order = x.apply("argsort", axis=axis, descending=False)
    back = order.apply("argsort", axis=axis, descending=False)
    return (take_along_axis(g, back, axis),)


operation(
    "sort",
    "x, axis=-1",
    _sort_rule,
    lambda np, x, axis: np.sort(x, axis=axis),
    grad=_sort_grad,
    doc="The elements in ascending order along an axis, NaN last.",
)


def _argsort(np: Any, x: Any, axis: int, descending: bool) -> Any:
    if not descending:
        return np.argsort(x, axis=axis, kind="stable")
    back = np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
    return np.int64(x.shape[axis] - 1) - back


operation(
    "argsort",
    "x, axis=-1, descending=False",
    lambda solver, inputs, **attrs: _sort_rule(solver, inputs, **attrs).with_dtype(I64),
    _argsort,
    grad=None,
    cut="an index",
    doc="The indices that sort x along an axis; equal elements keep their order. NaN counts as the greatest.",
)


def _search_rule(solver: Solver, inputs: tuple[Node, ...], *, side: str) -> Tensor:
    a, v = inputs
    if a.rank != 1:
        raise error("T141", op="searchsorted", found=a.type)
    if a.dtype.kind == "c":
        raise error("T125", found=a.type)
    return v.type.with_dtype(I64)


operation(
    "searchsorted",
    'a, v, side="left"',
    _search_rule,
    lambda np, a, v, side: np.asarray(np.searchsorted(a, v, side=side), np.int64)[()],
    convert="arith",
    grad=None,
    cut="an index",
    doc='Where v goes in the ascending vector a: before equal elements, or behind them by `side = "right"`.',
)


# ---------------------------------------------------------------- elements by their indices


def _integers(name: str, index: Node) -> Node:
    if not index.dtype.is_integer:
        raise error("T151", found=index.type)
    return index.cast(I64) if index.type.weak else index


@formula("take", "x, indices, axis=None", "`x[..., indices, ...]` at an axis, or of the flattened tensor.")
def take(x: Node, indices: Node, axis: int | None) -> Node:
    """Indexing by an array, or by a number."""
    if axis is None:
        x, axis = ravel(x), 0
    return along(x, _integers("take", indices), normal_axis(axis, x.rank))


@formula(
    "take_along_axis",
    "x, indices, axis=-1",
    "For each row along an axis the elements at that row's own indices, as `argsort` gives them.",
)
def take_along_axis(x: Node, indices: Node, axis: int | None) -> Node:
    """Indexing by arrays: the given one at the axis, the places of each element at the others."""
    if axis is None:
        x, axis = ravel(x), 0
    axis = normal_axis(axis, x.rank)
    if indices.rank != x.rank:
        raise error("T141", op="take_along_axis", found=f"{indices.type} as indices of {x.type}")
    subs = [
        _integers("take_along_axis", indices) if k == axis else along_axis(iota(x, k), x.rank, k)
        for k in range(x.rank)
    ]
    spec = tuple(("input", 1 + k) for k in range(x.rank))
    return x.graph.make(OPS["index"], [x, *subs], x.span, spec=spec)


@formula(
    "topk",
    "x, k, axis=-1",
    "A record of the k greatest elements along an axis, in descending order, and their `indices`.",
)
def topk(x: Node, k: int, axis: int) -> dict[str, Node]:
    """The first of a descending order; more than there are is an index out of range."""
    axis = normal_axis(axis, x.rank)
    if k < 0:
        raise error("T159", size=k)
    order = x.apply("argsort", axis=axis, descending=True)
    count = Size(Dim(k), x.graph.const(k, Tensor(I64), x.span))
    indices = along(order, places(count), axis)
    return {"values": take_along_axis(x, indices, axis), "indices": indices}


@formula(
    "bincount",
    "x, weights=None, minlength=0, length=None",
    "How often each integer from 0 stands in x, or its sum of weights; `length` fixes the result's size.",
)
def bincount(x: Node, weights: Node | None, minlength: Size, length: Size | None) -> Node:
    """Ones, or weights, added at the places that x says."""
    if x.rank != 1 or not (x.dtype.is_integer or x.dtype.kind == "b"):
        raise error("T141", op="bincount", found=x.type)
    x = within(x.cast(I64), "an element of `bincount`", 0, math.inf)
    if length is None:
        x_and_least = x.graph.make(OPS["concatenate"], [x + 1, _alone(minlength.node)], x.span, axis=0)
        size = x_and_least.apply("max", axis=None, keepdims=False)
        zeros = _zeros_of(x, size, None)
    else:
        zeros = _zeros_of(x, length.node, length.dim)
    one = x.graph.const(1, Tensor(I64), x.span)
    if weights is not None:
        if weights.rank != 1:
            raise error("T141", op="bincount", found=f"{weights.type} as weights")
        one = weights.cast(weights.dtype if weights.dtype.is_inexact else F64)
        zeros = zeros.cast(one.dtype)
    return x.graph.make(OPS["add_at"], [zeros, one, x], x.span, spec=(("input", 2),))


def _alone(x: Node) -> Node:
    """A scalar as a vector of one element."""
    return x.apply("expand_dims", axis=0)


def _zeros_of(x: Node, size: Node, dim: Dim | None) -> Node:
    """So many zeros, i64."""
    zero = x.graph.const(0, Tensor(I64), x.span)
    if dim is not None and all(s.rigid for s in dim.symbols()):
        return x.graph.make(OPS["full"], [zero], x.span, shape=(dim,), runtime=())
    shape = (dim if dim is not None else unknown_dim(),)
    return x.graph.make(OPS["full"], [zero, size], x.span, shape=shape, runtime=(0,))


# ---------------------------------------------------------------- quantiles


def _sorted_along(x: Node, axis: Axes, what: str) -> tuple[Node, int, tuple[int, ...]]:
    """The elements sorted along one last axis in the place of several, NaN for all if there is one."""
    if x.dtype.kind == "c":
        raise error("T125", found=x.type)
    x = x.cast(x.dtype if x.dtype.kind == "f" else F64)
    axes = normal_axes(axis, x.rank)
    kept = tuple(k for k in range(x.rank) if k not in axes)
    moved = x.apply("transpose", axes=(*kept, *axes)) if x.rank > 1 else x
    shape = (*(x.shape[k] for k in kept), Dim(-1))
    flat = x.graph.make(OPS["reshape"], [moved], x.span, shape=shape, runtime=()) if len(axes) != 1 else moved
    some = flat.apply("some", what=what)
    return some.apply("sort", axis=-1), len(kept), axes


def _some(np: Any, x: Any, what: str) -> Any:
    if x.shape[-1] == 0:
        raise error("R112", what=what)
    return x


operation(
    "some",
    "x",
    lambda solver, inputs, what: inputs[0].type.strong(),
    _some,
    grad=lambda g, out, x, what: (g,),
    doc="x, whose last axis must have elements.",
    public=False,
)


def _nan_if_any(value: Node, ordered: Node, axis: int) -> Node:
    """NaN where the greatest of the sorted elements is NaN."""
    last = along(ordered, size_of(ordered, axis) - 1, axis)
    extra = value.rank - last.rank
    bad = last.apply("isnan")
    if extra:
        bad = bad.apply("expand_dims", axis=tuple(range(extra)))
    return bad.apply("where", float("nan"), value)


def _with_kept(value: Node, axes: tuple[int, ...], keepdims: bool, front: int = 0) -> Node:
    """The reduced axes put back as 1, behind `front` axes that are new."""
    if not keepdims or not axes:
        return value
    return value.apply("expand_dims", axis=tuple(front + a for a in axes))


@formula(
    "median",
    "x, axis=None, keepdims=False",
    "The middle element in ascending order over axes, or the mean of two.",
)
def median(x: Node, axis: Axes, keepdims: bool) -> Node:
    """The two middle places, which are one for an odd number."""
    ordered, at, axes = _sorted_along(x, axis, "median")
    n = size_of(ordered, at)
    low, high = (along(ordered, k.apply("floordiv", 2), at) for k in (n - 1, n))
    middle = low.apply("eq", high).apply("where", low, (low + high) / 2)
    return _with_kept(_nan_if_any(middle, ordered, at), axes, keepdims)


@formula(
    "quantile",
    'x, q, axis=None, keepdims=False, method="linear"',
    "The value below which the part q of the elements is, over axes; of a vector q one after the other.",
)
def quantile(x: Node, q: Node, axis: Axes, keepdims: bool, method: str) -> Node:
    """The elements at place q (n - 1) of the sorted ones, between two of them by the method (as NumPy's)."""
    if q.rank > 1 or q.dtype.kind == "c":
        raise error("T141", op="quantile", found=f"{q.type} as q")
    ordered, at, axes = _sorted_along(x, axis, "quantile")
    kind = ordered.dtype
    q = within(q.cast(q.dtype if q.dtype.kind == "f" else F64), "`q`", 0, 1)
    place = q * (size_of(ordered, at) - 1).cast(q.dtype)
    if method == "nearest":
        place = place.apply("rint")
    under, over = place.apply("floor"), place.apply("ceil")
    low, high = (along(ordered, k.cast(I64), at) for k in (under, over))
    if q.rank and at:
        low, high = (v.apply("transpose", axes=(at, *range(at))) for v in (low, high))
    part = (place - under).cast(kind)
    if method == "midpoint":
        part = part.apply("gt", 0).apply("where", 0.5, part * 0)
    if q.rank and at:
        part = part.apply("expand_dims", axis=tuple(range(1, at + 1)))
    if method in ("lower", "higher"):
        value = low if method == "lower" else high
    else:
        flat = low.apply("eq", high)  # also of equal infinities
        gap = flat.apply("where", 0, high - low)
        value = part.apply("lt", 0.5).apply("where", low + gap * part, high - gap * (1 - part))
    return _with_kept(_nan_if_any(value, ordered, at), axes, keepdims, front=q.rank)
