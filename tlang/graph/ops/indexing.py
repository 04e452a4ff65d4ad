"""Indexing: reading places, adding into them and storing them, with NumPy's rules.

The attribute `spec` has an entry for each subscript, `...` already written out as slices:

    ("int", k)                   a constant index
    ("input", j)                 the index that input j holds: a scalar, or an integer array
    ("slice", start, stop, step) bounds None, a size, or ("input", j); the step is an integer
    ("new",)                     a new axis of size 1
"""

from __future__ import annotations

from typing import Any

from tlang.errors import error
from tlang.graph.node import OPS, Node, operation
from tlang.graph.ops.rules import unbroadcast, unknown_dim, zeros_like
from tlang.types import ONE, Dim, Solver, Tensor

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
    bounds = [solver.resolve(b) if isinstance(b, Dim) else b for b in (start, stop)]
    if any(isinstance(b, tuple) for b in bounds):
        return unknown_dim()
    if step == -1 and bounds == [None, None]:
        return dim
    known = [b.const if isinstance(b, Dim) and b.is_const else b for b in bounds]
    if dim.is_const and not any(isinstance(b, Dim) for b in known):
        return Dim(len(range(*slice(*known, step).indices(dim.const))))
    if step != 1:
        return unknown_dim()
    first = bounds[0] if bounds[0] is not None else Dim(0)
    last = bounds[1] if bounds[1] is not None else dim
    first, last = (dim + b if b.is_const and b.const < 0 else b for b in (first, last))
    inside = _at_least(dim - last) and (_at_least(first) or (bounds[0] is not None and bounds[0].const < 0))
    # x[1:] is n - 1, which the run checks not to be negative; x[:10] of an n may be shorter
    return last - first if inside else unknown_dim()


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
)


def _place_rule(solver: Solver, inputs: tuple[Node, ...], *, spec: Spec) -> Tensor:
    """The type of x with values put into places: that of x; the values stretch into the place."""
    x, v = inputs[:2]
    place = index_shape(solver, solver.shape(x.type), spec, inputs)
    value = solver.shape(v.type)
    if len(value) > len(place):
        raise error("T153", found=v.type, place=Tensor(x.dtype, place))
    solver.broadcast([place, value])
    return x.type.strong()


def _stored(np: Any, x: Any, v: Any, rest: tuple[Any, ...], spec: Spec) -> tuple[Any, tuple[Any, ...]]:
    index = numpy_index(np, (x, v, *rest), spec)
    check_inside(np, x.shape, index)
    return np.array(x), index


def _add_at(np: Any, x: Any, v: Any, *rest: Any, spec: Spec) -> Any:
    out, index = _stored(np, x, v, rest, spec)
    np.add.at(out, index, v)
    return out


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
    return kept, unbroadcast(at, v), *[None] * len(rest)


operation(
    "add_at",
    "x, v, *subs",
    _place_rule,
    _add_at,
    grad=_add_at_grad,
    doc="x with v added at places; of repeated indices all are added.",
    public=False,
)
operation(
    "set_at",
    "x, v, *subs",
    _place_rule,
    _set_at,
    grad=_set_at_grad,
    doc="x with v stored at places; of repeated indices the last wins.",
    public=False,
)
