"""Indexing: reading places, adding into them and storing them, with NumPy's rules.

The attribute `spec` has an entry for each subscript, `...` already written out as slices:

    ("int", k)                   a constant index
    ("input", j)                 the index that input j holds: a scalar, or an integer array
    ("slice", start, stop, step) bounds None, a size, or ("input", j); the step is an integer
    ("new",)                     a new axis of size 1
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any

from tlang.errors import error
from tlang.graph.node import OPS, Node, operation
from tlang.graph.ops.places import lower_index, lower_update
from tlang.graph.ops.rules import unbroadcast, unknown_dim, zeros_like
from tlang.types import BOOL, ONE, Dim, Mismatch, Solver, Tensor, describe_axis

Spec = tuple[tuple[Any, ...], ...]


def index_shape(
    solver: Solver, shape: tuple[Dim, ...], spec: Spec, inputs: tuple[Node, ...]
) -> tuple[Dim, ...]:
    """The shape of `x[spec]`; `inputs` are those that the spec's numbers mean."""
    used = sum(entry[0] != "new" for entry in spec)
    if used > len(shape):
        raise error("T150", count=used, rank=len(shape))
    arrays = [inputs[e[1]] for e in spec if e[0] == "input" and inputs[e[1]].rank]
    out: list[Dim] = []
    advanced: list[int] = []  # positions in `spec` of advanced indices: ints count beside arrays
    insert_at = 0
    axis = 0
    for position, entry in enumerate(spec):
        if entry[0] == "new":
            out.append(ONE)
            continue
        dim = shape[axis]
        axis += 1
        if entry[0] == "slice":
            out.append(slice_length(solver, dim, entry))
            continue
        if entry[0] == "int":
            check_bounds(dim, entry[1], axis - 1)
        elif not inputs[entry[1]].dtype.is_integer:
            raise error("T151", found=inputs[entry[1]].type)
        if arrays:
            if not advanced:
                insert_at = len(out)
            advanced.append(position)
    out.extend(shape[axis:])
    if arrays:
        together = advanced[-1] - advanced[0] == len(advanced) - 1
        at = insert_at if together else 0
        out[at:at] = solver.broadcast([solver.shape(a.type) for a in arrays])
    return tuple(out)


def check_bounds(dim: Dim, index: int, axis: int) -> None:
    """A constant index outside a constant size is an error before the run."""
    if dim.is_const and not -dim.const <= index < dim.const:
        raise error("T152", index=index, size=dim.const, axis=axis)


def _at_least(d: Dim) -> bool:
    """Whether a size is certainly not negative."""
    return d.const >= 0 and all(k >= 0 for _, k in d.terms)


def slice_length(solver: Solver, dim: Dim, entry: tuple[Any, ...]) -> Dim:
    """The length of a slice: exact where it is linear, else an unknown that the run settles."""
    _, start, stop, step = entry
    if isinstance(start, tuple) or isinstance(stop, tuple):
        return unknown_dim()
    if step == -1 and start is None and stop is None:
        return dim
    first = None if start is None else solver.resolve(start)
    last = None if stop is None else solver.resolve(stop)
    if all(d is None or d.is_const for d in (dim, first, last)):
        bounds = slice(None if first is None else first.const, None if last is None else last.const, step)
        return Dim(len(range(*bounds.indices(dim.const))))
    if step != 1:
        return unknown_dim()
    from_end = first is not None and first.is_const and first.const < 0
    first, last = _from_start(first or Dim(0), dim), _from_start(last or dim, dim)
    # x[1:] is n - 1 and x[-3:] is 3, and the run fails for an n that is too short; x[:10] may be shorter
    inside = _at_least(dim - last) and (_at_least(first) or from_end)
    return last - first if inside else unknown_dim()


def _from_start(bound: Dim, dim: Dim) -> Dim:
    """A bound counted from the start: a negative constant counts from the end."""
    return dim + bound if bound.is_const and bound.const < 0 else bound


def index_rule(solver: Solver, inputs: tuple[Node, ...], *, spec: Spec) -> Tensor:
    """The type of `x[spec]`."""
    x = inputs[0]
    return Tensor(x.dtype, index_shape(solver, solver.shape(x.type), spec, inputs))


def numpy_index(np: Any, arrays: tuple[Any, ...], spec: Spec) -> tuple[Any, ...]:
    """The spec as NumPy takes it."""

    def bound(b: Any) -> Any:
        return int(arrays[b[1]]) if isinstance(b, tuple) else b

    out: list[Any] = []
    for entry in spec:
        if entry[0] == "int":
            out.append(entry[1])
        elif entry[0] == "input":
            out.append(arrays[entry[1]])
        elif entry[0] == "slice":
            out.append(slice(bound(entry[1]), bound(entry[2]), bound(entry[3])))
        else:
            out.append(None)
    return tuple(out)


def check_inside(np: Any, shape: tuple[int, ...], index: tuple[Any, ...]) -> None:
    """Raises for the first index that is out of range, with the index, the size and the axis."""
    axis = 0
    for entry in index:
        if entry is None:
            continue
        if not isinstance(entry, slice):
            size = shape[axis]
            bad = (np.asarray(entry) < -size) | (np.asarray(entry) >= size)
            if np.any(bad):
                raise error("R115", index=int(np.asarray(entry)[bad].flat[0]), size=size, axis=axis)
        axis += 1


def _index(np: Any, x: Any, *rest: Any, spec: Spec) -> Any:
    index = numpy_index(np, (x, *rest), spec)
    try:
        return x[index]
    except IndexError:
        check_inside(np, x.shape, index)
        raise


def _index_grad(g: Node, out: Node, x: Node, *rest: Node, spec: Spec) -> tuple[Node | None, ...]:
    placed = g.graph.make(OPS["add_at"], [zeros_like(x), g, *rest], g.span, spec=_shift(spec, 1))
    return placed, *[None] * len(rest)


def _shift(spec: Spec, by: int) -> Spec:
    """The spec with the numbers of its inputs moved."""

    def moved(part: Any) -> Any:
        return ("input", part[1] + by) if isinstance(part, tuple) and part[0] == "input" else part

    return tuple(moved(e) if e[0] == "input" else tuple(map(moved, e)) for e in spec)


operation(
    "index",
    "x, *subs",
    index_rule,
    _index,
    grad=_index_grad,
    doc="`x[i, 1:, None, ...]` with NumPy's rules: integers, slices, integer arrays.",
    view=True,
    public=False,
    dynamic=True,
    lower=lower_index,
)


def _place_rule(solver: Solver, inputs: tuple[Node, ...], *, spec: Spec) -> Tensor:
    """The type of x with values put into places: that of x; the values stretch into the place."""
    x, v = inputs[:2]
    place = index_shape(solver, solver.shape(x.type), spec, inputs)
    value = solver.shape(v.type)
    if len(value) > len(place):
        raise error("T153", found=v.type, place=Tensor(x.dtype, place))
    for axis, (got, want) in enumerate(zip(value[::-1], place[::-1], strict=False), 1):
        if got != ONE and not solver.unify(want, got):
            where = describe_axis(-axis)
            raise Mismatch("T101", [(0, f"{where} of the place", want), (1, where, got)])
    return x.type.strong()


def _stored(np: Any, x: Any, v: Any, rest: tuple[Any, ...], spec: Spec) -> tuple[Any, tuple[Any, ...]]:
    index = numpy_index(np, (x, v, *rest), spec)
    check_inside(np, x.shape, index)
    return np.array(x), _in_order(np, index)


def _in_order(np: Any, index: tuple[Any, ...]) -> tuple[Any, ...]:
    """The index with its arrays laid out anew: NumPy goes through them in the order of memory."""
    arrays = [i for i in index if getattr(i, "ndim", 0)]
    shape = np.broadcast_shapes(*(i.shape for i in arrays))
    return tuple(
        np.ascontiguousarray(np.broadcast_to(i, shape)) if getattr(i, "ndim", 0) else i for i in index
    )


def _add_at(np: Any, x: Any, v: Any, *rest: Any, spec: Spec) -> Any:
    out, index = _stored(np, x, v, rest, spec)
    if _may_repeat(index):
        np.add.at(out, index, v)
    else:
        out[index] += v
    return out


def _may_repeat(index: Iterable[Any]) -> bool:
    """Whether an index may name a place twice: only arrays do."""
    return any(getattr(entry, "ndim", 0) for entry in index)


def _set_at(np: Any, x: Any, v: Any, *rest: Any, spec: Spec) -> Any:
    out, index = _stored(np, x, v, rest, spec)
    out[index] = v
    return out


def _add_at_grad(g: Node, out: Node, x: Node, v: Node, *rest: Node, spec: Spec) -> tuple[Node | None, ...]:
    at = g.graph.make(OPS["index"], [g, *rest], g.span, spec=_shift(spec, -1))
    return g, unbroadcast(at, v), *[None] * len(rest)


def _set_at_grad(g: Node, out: Node, x: Node, v: Node, *rest: Node, spec: Spec) -> tuple[Node | None, ...]:
    at = g.graph.make(OPS["index"], [g, *rest], g.span, spec=_shift(spec, -1))
    zero = g.graph.const(0.0, Tensor(g.dtype), g.span)
    kept = g.graph.make(OPS["set_at"], [g, zero, *rest], g.span, spec=spec)
    if any(x.rank for x in rest):
        stored = g.graph.make(OPS["is_last"], [x, *rest], g.span, spec=_shift(spec, -1))
        at = stored.apply("where", at, 0)
    return kept, unbroadcast(at, v), *[None] * len(rest)


def _is_last(np: Any, x: Any, *rest: Any, spec: Spec) -> Any:
    index = numpy_index(np, (x, *rest), spec)
    check_inside(np, x.shape, index)
    index = _in_order(np, index)
    writers = np.zeros(x.shape, np.int64)
    order = np.arange(writers[index].size).reshape(writers[index].shape)
    writers[index] = order
    return writers[index] == order


operation(
    "add_at",
    "x, v, *subs",
    _place_rule,
    _add_at,
    grad=_add_at_grad,
    doc="x with v added at x[i]; i is an index, a tuple of them, or a mask. Equal ones add up.",
    lower=partial(lower_update, add=True),
)
operation(
    "is_last",
    "x, *subs",
    lambda solver, inputs, spec: index_rule(solver, inputs, spec=spec).with_dtype(BOOL),
    _is_last,
    grad=None,
    doc="Where the value stays that is stored last, of those that an index stores in one place.",
    shape_only=frozenset({0}),
    cut="an index",
    public=False,
    dynamic=True,
)
operation(
    "set_at",
    "x, v, *subs",
    _place_rule,
    _set_at,
    grad=_set_at_grad,
    doc="x with v stored at x[i]; i is an index, a tuple of them, or a mask. Of equal ones the last stays.",
    lower=partial(lower_update, add=False),
)
