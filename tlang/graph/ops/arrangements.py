"""Rearranging and making tensors, by formulas in `reshape`, `transpose`, indexing and the like."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from tlang.errors import error
from tlang.graph.node import OPS, Node, operation
from tlang.graph.ops.formula import Size, formula
from tlang.graph.ops.rules import (
    broadcast,
    iota,
    like,
    normal_axes,
    normal_axis,
    size_of,
    unbroadcast,
    zero_of,
)
from tlang.types import F64, I64, Dim, DType, Solver, Tensor, can_cast_safely, promote

Axes = int | tuple[int, ...] | None
Widths = tuple[tuple[int, int], ...]
_ALL = ("slice", None, None, 1)


def integer(x: Node, value: int) -> Node:
    """An i64 constant in the graph of a node."""
    return x.graph.const(value, Tensor(I64), x.span)


def reshaped(x: Node, shape: Sequence[Dim]) -> Node:
    """The elements of x in a shape that they are known to fill."""
    return x.graph.make(OPS["reshape"], [x], x.span, shape=tuple(shape), runtime=())


def along(x: Node, index: Node, axis: int) -> Node:
    """`x[..., index, ...]` with the index at an axis that counts from 0."""
    spec = (*[_ALL] * axis, ("input", 1))
    return x.graph.make(OPS["index"], [x, index], x.span, spec=spec)


def sliced(x: Node, axis: int, start: Dim | None, stop: Dim | None, step: int = 1) -> Node:
    """`x[..., start:stop:step, ...]` at an axis that counts from 0."""
    spec = (*[_ALL] * axis, ("slice", start, stop, step))
    return x.graph.make(OPS["index"], [x], x.span, spec=spec)


def places(size: Size) -> Node:
    """The integers 0, 1, ... before a size."""
    zero, one = (integer(size.node, k) for k in (0, 1))
    return size.node.graph.make(OPS["arange"], [zero, size.node, one], size.node.span, size=size.dim)


def along_axis(v: Node, rank: int, axis: int) -> Node:
    """A vector as a tensor of a rank whose other axes have size 1."""
    others = tuple(k for k in range(rank) if k != axis)
    return v.apply("expand_dims", axis=others) if others else v


# ---------------------------------------------------------------- the same elements


@formula("ravel", "x", "The elements of x in C order, as a vector.")
def ravel(x: Node) -> Node:
    """A reshape to one axis; its size is computed where it is linear."""
    return reshaped(x, [Dim(-1)])


@formula("swapaxes", "x, axis1, axis2", "x with two axes exchanged.")
def swapaxes(x: Node, axis1: int, axis2: int) -> Node:
    """A transpose."""
    order = list(range(x.rank))
    a, b = normal_axis(axis1, x.rank), normal_axis(axis2, x.rank)
    order[a], order[b] = b, a
    return x.apply("transpose", axes=tuple(order))


@formula(
    "moveaxis", "x, source, destination", "x with axes moved to other places; the rest keep their order."
)
def moveaxis(x: Node, source: int | tuple[int, ...], destination: int | tuple[int, ...]) -> Node:
    """A transpose, as NumPy defines it."""
    pairs = [(a,) if isinstance(a, int) else a for a in (source, destination)]
    gone, there = ([normal_axis(k, x.rank) for k in axes] for axes in pairs)
    if len(gone) != len(there) or len(set(gone)) != len(gone) or len(set(there)) != len(there):
        raise error("T138", axes=f"{source} to {destination}", rank=x.rank)
    order = [k for k in range(x.rank) if k not in gone]
    for place, axis in sorted(zip(there, gone, strict=True)):
        order.insert(place, axis)
    return x.apply("transpose", axes=tuple(order))


@formula("flip", "x, axis=None", "The elements in reverse order along axes.")
def flip(x: Node, axis: Axes) -> Node:
    """Slices with step -1."""
    axes = normal_axes(axis, x.rank)
    spec = tuple(("slice", None, None, -1) if k in axes else _ALL for k in range(x.rank))
    return x.graph.make(OPS["index"], [x], x.span, spec=spec) if axes else x


@formula(
    "roll",
    "x, shift, axis=None",
    "The elements moved along an axis; what leaves at the end comes in at the start.",
)
def roll(x: Node, shift: Node, axis: Axes) -> Node:
    """Indices modulo the size. Without an axis the flattened elements move; one shift for each axis."""
    if axis is None:
        return roll(ravel(x), shift, 0).apply("reshape_like", x) if x.rank else x
    axes = (axis,) if isinstance(axis, int) else axis
    if not shift.dtype.is_integer or shift.rank > 1:
        raise error("T157", found=shift.type)
    if shift.rank and (not shift.shape[0].is_const or shift.shape[0].const != len(axes)):
        raise error("T141", op="roll", found=f"{shift.type} for {len(axes)} axes")
    for k, a in enumerate(axes):
        a = normal_axis(a, x.rank)
        by = shift.apply("index", spec=(("int", k),)) if shift.rank else shift
        size = size_of(x, a).apply("maximum", 1)
        x = along(x, (iota(x, a) - by.cast(I64)).apply("mod", size), a)
    return x


# ---------------------------------------------------------------- repeated elements


@formula(
    "tile", "x, reps", "x repeated along each axis; `reps` is an integer or a tuple, aligned at the right."
)
def tile(x: Node, reps: Any) -> Node:
    """A new axis before each one, stretched, and both made one."""
    counts = (reps,) if isinstance(reps, int) else tuple(reps)
    if not all(isinstance(k, int) for k in counts):
        raise error("F108", name="reps", wanted="an integer or a tuple of integers")
    if any(k < 0 for k in counts):
        raise error("T159", size=min(counts))
    rank = max(x.rank, len(counts))
    counts = (1,) * (rank - len(counts)) + counts
    if rank > x.rank:
        x = x.apply("expand_dims", axis=tuple(range(rank - x.rank)))
    sizes = x.shape
    return _repeated(x, counts, before=True) if any(k != 1 for k in counts) else reshaped(x, sizes)


def _repeated(x: Node, counts: Sequence[int], before: bool) -> Node:
    """Each axis a number of times: in a row (`before`), or element by element."""
    axes = [k for k, count in enumerate(counts) if count != 1]
    wide: list[Dim] = []
    new: list[int] = []
    for k, (d, count) in enumerate(zip(x.shape, counts, strict=True)):
        pair = [d] if k not in axes else [Dim(count), d] if before else [d, Dim(count)]
        if k in axes:
            new.append(len(wide) + (0 if before else 1))
        wide += pair
    spread = x.apply("expand_dims", axis=tuple(new))
    spread = x.graph.make(OPS["broadcast_to"], [spread], x.span, shape=tuple(wide), runtime=())
    return reshaped(spread, [d.scale(count) for d, count in zip(x.shape, counts, strict=True)])


@formula(
    "repeat",
    "x, repeats, axis=None",
    "Each element a number of times; `repeats` is one number, or one for each.",
)
def repeat(x: Node, repeats: Node, axis: int | None) -> Node:
    """Each element `repeats` times along an axis, or of the flattened tensor.

    With a number for each, element i of the result comes from the first place at which the running sum of
    the numbers exceeds i.
    """
    if axis is None:
        x, axis = ravel(x), 0
    axis = normal_axis(axis, x.rank)
    if not repeats.dtype.is_integer or repeats.rank > 1:
        raise error("T157", found=repeats.type)
    if repeats.rank == 0:
        count = constant_integer(repeats)
        if count is not None and count < 0:
            raise error("T159", size=count)
        if count is not None:
            return _repeated(x, [count if k == axis else 1 for k in range(x.rank)], before=False)
        repeats = like(repeats, iota(x, axis))
    elif not x.graph.solver.unify(repeats.shape[0], x.shape[axis]):
        raise error("T141", op="repeat", found=f"{repeats.type} along {x.shape[axis]} elements")
    repeats = within(repeats.cast(I64), "a number of repeats", 0, math.inf)
    ends = repeats.apply("cumsum", axis=0, reverse=False)
    zero, one = integer(x, 0), integer(x, 1)
    total = repeats.apply("sum", axis=None, keepdims=False)
    order = x.graph.make(OPS["arange"], [zero, total, one], x.span, size=None)
    return along(x, ends.apply("searchsorted", order, side="right"), axis)


def constant_integer(x: Node) -> int | None:
    """The value of an integer constant, also behind a name; None for any other node."""
    while x.op.name in ("named", "cast") and x.dtype.is_integer:
        x = x.inputs[0]
    known = x.op.name == "const" and not x.rank and isinstance(x.value, int)
    return int(x.value) if known else None


# ---------------------------------------------------------------- pieces and borders


@formula(
    "split",
    "x, sections, axis=0",
    "A record of pieces: so many equal ones, or cut before each of a list of places.",
)
def split(x: Node, sections: Node, axis: int) -> dict[str, Node]:
    """Slices. Pieces of a size that is not linear are rows of a reshape, which checks that they are equal."""
    axis = normal_axis(axis, x.rank)
    size = x.shape[axis]
    if sections.op.name == "const" and sections.rank == 1 and sections.dtype is I64:
        return _cut(x, axis, list(sections.value))
    count = constant_integer(sections)
    if count is None or count < 1:
        raise error(
            "F108", name="sections", wanted="a positive integer, or a list of integers, known before the run"
        )
    if all(k % count == 0 for k in (size.const, *(c for _, c in size.terms))):
        step = Dim(size.const // count, tuple((s, c // count) for s, c in size.terms))
        bounds = [step.scale(k) for k in range(count + 1)]
        parts = [sliced(x, axis, a, b) for a, b in pairwise(bounds)]
    elif size.is_const:
        raise error("T141", op="split", found=f"{x.type} in {count} equal pieces")
    else:
        shape = (*x.shape[:axis], Dim(count), Dim(-1), *x.shape[axis + 1 :])
        whole = reshaped(x, shape)
        parts = [whole.apply("index", spec=(*[_ALL] * axis, ("int", k))) for k in range(count)]
    return {f"out{k}": p for k, p in enumerate(parts)}


def _cut(x: Node, axis: int, cuts: list[int]) -> dict[str, Node]:
    bounds: list[Dim | None] = [None, *map(Dim, cuts), None]
    parts = [sliced(x, axis, a, b) for a, b in pairwise(bounds)]
    return {f"out{k}": p for k, p in enumerate(parts)}


def _widths(pad_width: Any, rank: int) -> list[tuple[int, int]]:
    """The elements before and after, for each axis: NumPy's `pad_width`."""
    wrong = error(
        "F108", name="pad_width", wanted="an integer, a pair, or a pair for each axis, not negative"
    )
    if isinstance(pad_width, int):
        pad_width = (pad_width, pad_width)
    if len(pad_width) == 2 and all(isinstance(k, int) for k in pad_width):
        pad_width = (pad_width,) * rank
    if len(pad_width) == 1 and rank != 1:
        pad_width = tuple(pad_width) * rank
    if len(pad_width) != rank:
        raise wrong
    out = []
    for pair in pad_width:
        pair = (pair, pair) if isinstance(pair, int) else pair
        pair = tuple(pair) * 2 if len(pair) == 1 else tuple(pair)
        if len(pair) != 2 or not all(isinstance(k, int) and k >= 0 for k in pair):
            raise wrong
        out.append(pair)
    return out


@formula(
    "pad",
    'x, pad_width, mode="constant", constant_values=0',
    "x with a border: of a value, or of its own elements by the mode edge, reflect, symmetric or wrap.",
)
def pad(x: Node, pad_width: Any, mode: str, constant_values: Any) -> Node:
    """Indices that fall back into the range, unless the border is of a value."""
    widths = _widths(pad_width, x.rank)
    if mode == "constant":
        given = isinstance(constant_values, Node)
        fill = _scalar("pad", constant_values, x.dtype) if given else zero_of(x)
        return x.graph.make(OPS["bordered"], [x, fill], x.span, widths=tuple(widths))
    for axis, (before, after) in enumerate(widths):
        if before or after:
            size = Size(x.shape[axis] + Dim(before + after), size_of(x, axis) + (before + after))
            x = along(x, _inside(places(size) - before, size_of(x, axis), mode), axis)
    return x


def _inside(k: Node, n: Node, mode: str) -> Node:
    """Places outside of 0 .. n - 1 brought into it; with no elements there is nothing to bring in."""
    last = n - 1
    if mode == "edge":
        return k.apply("maximum", 0).apply("minimum", last)
    if mode == "wrap":
        return k.apply("mod", n.apply("maximum", 1))
    period = (2 * last if mode == "reflect" else 2 * n).apply("maximum", 1)
    k = k.apply("mod", period)
    return k.apply("minimum", period - k - (0 if mode == "reflect" else 1))


def _bordered_rule(solver: Solver, inputs: tuple[Node, ...], *, widths: Widths) -> Tensor:
    x, _ = inputs
    shape = (d + Dim(a + b) for d, (a, b) in zip(solver.shape(x.type), widths, strict=True))
    return Tensor(x.dtype, tuple(shape))


def _bordered_grad(g: Node, out: Node, x: Node, value: Node, widths: Widths) -> tuple[Node, Node]:
    """The part that x came into; the rest, summed."""
    inside = g
    for axis, (before, after) in enumerate(widths):
        if before or after:
            inside = sliced(inside, axis, Dim(before), Dim(before) + x.shape[axis])
    total, part = (y.apply("sum", axis=None, keepdims=False) for y in (g, inside))
    return inside, total - part


operation(
    "bordered",
    "x, value",
    _bordered_rule,
    lambda np, x, value, widths: np.pad(x, widths, constant_values=value) if widths else x,
    grad=_bordered_grad,
    doc="x with a border of a value.",
    public=False,
)


def _within(np: Any, x: Any, what: str, low: float, high: float) -> Any:
    wrong = ~((x >= low) & (x <= high))
    if np.any(wrong):
        wanted = f"from {low:g} to {high:g}" if math.isfinite(high) else f"{low:g} or more"
        raise error("R119", what=what, wanted=wanted, found=np.asarray(x)[wrong].flat[0])
    return x


operation(
    "within",
    "x",
    lambda solver, inputs, **attrs: inputs[0].type.strong(),
    _within,
    grad=lambda g, out, x, **attrs: (g,),
    doc="x, all of whose elements must be from `low` to `high`.",
    public=False,
)


def within(x: Node, what: str, low: float, high: float) -> Node:
    """The node, which is an error at the run if an element is outside."""
    return x.apply("within", what=what, low=low, high=high)


# ---------------------------------------------------------------- new tensors


def _compared(name: str, n: Size, m: Size, k: int, dtype: DType) -> Node:
    """1 where the row, moved by k, compares with the column, else 0."""
    row = places(n).apply("expand_dims", axis=1) + k
    return row.apply(name, places(m)).cast(dtype)


@formula(
    "eye", "n, m=None, k=0, dtype=None", "Ones on a diagonal, the main one unless k says otherwise; f64."
)
def eye(n: Size, m: Size | None, k: int, dtype: DType | None) -> Node:
    """The places of rows and columns compared."""
    return _compared("eq", n, m or n, k, dtype or F64)


@formula("tri", "n, m=None, k=0, dtype=None", "Ones on diagonal k and below it, zeros elsewhere; f64.")
def tri(n: Size, m: Size | None, k: int, dtype: DType | None) -> Node:
    """The places of rows and columns compared."""
    return _compared("ge", n, m or n, k, dtype or F64)


@formula("full_like", "x, value, dtype=None", "A tensor of the shape and dtype of x filled with a scalar.")
def full_like(x: Node, value: Node, dtype: DType | None) -> Node:
    """A scalar stretched."""
    return like(_scalar("full_like", value, dtype or x.dtype), x)


def _scalar(op: str, value: Node, dtype: DType) -> Node:
    """A scalar in a dtype that holds it; a literal adapts, but a float becomes no integer."""
    adapts = value.type.weak and dtype.kind in ("iufc" if value.dtype.is_integer else "fc")
    if value.rank or not (adapts or can_cast_safely(value.dtype, dtype)):
        raise error("T141", op=op, found=f"{value.type} as the value of {dtype}")
    return value.cast(dtype)


@formula(
    "linspace", "start, stop, num=50, endpoint=True", "`num` numbers at equal distances from start to stop."
)
def linspace(start: Node, stop: Node, num: Size, endpoint: bool) -> Node:
    """Start plus multiples of the step, as NumPy computes it: the last one is `stop` itself."""
    for x in (start, stop):
        if x.rank:
            raise error("T141", op="linspace", found=x.type)
    dtype = promote([start.type, stop.type])
    dtype = dtype if dtype.is_inexact else F64
    start, stop = start.cast(dtype), stop.cast(dtype)
    order = places(num)
    parts = (num.node - 1 if endpoint else num.node).apply("maximum", 1)
    if endpoint:
        is_last = order.apply("eq", parts)
    order, parts = order.cast(dtype), parts.cast(dtype)
    values = start + order * ((stop - start) / parts)
    return is_last.apply("where", stop, values) if endpoint else values


@formula(
    "meshgrid",
    '*xs, indexing="xy"',
    "A record of the coordinates of a grid: each vector stretched along the axes of the others.",
)
def meshgrid(xs: Sequence[Node], indexing: str) -> dict[str, Node]:
    """Each vector at its own axis, stretched to all; with "xy" the first two axes are exchanged."""
    for x in xs:
        if x.rank != 1:
            raise error("T141", op="meshgrid", found=x.type)
    axes = list(range(len(xs)))
    if indexing == "xy" and len(xs) > 1:
        axes[:2] = 1, 0
    placed = [along_axis(x, len(xs), a) for x, a in zip(xs, axes, strict=True)]
    out = {}
    for k, x in enumerate(placed):
        for other in placed[:k] + placed[k + 1 :]:
            x = x.graph.make(OPS["stretched"], [x, other], x.span)
        out[f"out{k}"] = x
    return out


operation(
    "stretched",
    "x, y",
    lambda solver, inputs: Tensor(inputs[0].dtype, broadcast(solver, inputs)),
    lambda np, x, y: np.broadcast_to(x, np.broadcast_shapes(x.shape, y.shape)),
    grad=lambda g, out, x, y: (unbroadcast(g, x), None),
    doc="x stretched to the shape that it has together with y.",
    public=False,
    shape_only=frozenset({1}),
    scalar="{0}",
)
