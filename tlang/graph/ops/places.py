"""Reading and storing at computed places: what indexing by arrays is for kernels.

:func:`lower_index` and :func:`lower_update` write `x[i, 1:]`, `add_at` and `set_at` in these operations. In
them every axis of x has its own tensor of places, or its places are those along an axis of the result.
An index into which rows are written one by one, as in `logp[arange(n), y]`, becomes a comparison of
y with the place along the row, which fuses with what computes the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tlang.graph.node import OPS, Node, operation
from tlang.graph.ops.rules import elementwise, iota, size_of, zero_of
from tlang.types import BOOL, I64, U64, Dim, Solver, Tensor

Spec = tuple[tuple[Any, ...], ...]
_FULL = ("slice", None, None, 1)


def _at_place(np: Any, i: Any, n: Any) -> Any:
    return np.where(i < 0, i + n, i)


operation(
    "place",
    "i, n",
    lambda solver, inputs: elementwise(solver, inputs[:1]).with_dtype(I64),
    _at_place,
    grad=None,
    cut="an index",
    doc="An index of an axis of size n counted from 0; outside -n .. n - 1 it is an error.",
    public=False,
    scalar="{place}({0}, {1})",
    fails="({0} < -{1}) | ({0} >= {1})",
)


Along = tuple[tuple[str, int], ...]


def _gather_rule(solver: Solver, inputs: tuple[Node, ...], *, along: Along, shape: tuple[Dim, ...]) -> Tensor:
    """The dtype of x in the given shape."""
    return Tensor(inputs[0].dtype, shape)


def _all_places(np: Any, places: Sequence[Any], along: Along, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """An array of places for each axis."""
    grid = np.indices(shape, sparse=True)
    return tuple(places[k] if kind == "input" else grid[k] for kind, k in along)


operation(
    "gather",
    "x, *places, along=0, shape=0",
    _gather_rule,
    lambda np, x, *places, along, shape: x[_all_places(np, places, along, shape)],
    grad=None,
    cut="a place",
    doc="The elements of x at places: for each axis an input, or the place along an axis of the result.",
    public=False,
    tables=frozenset({0}),
    scalar="{element}",
)


def _scatter(
    np: Any,
    x: Any,
    v: Any,
    seen: Any,
    *places: Any,
    spec: Spec,
    along: Along,
    shape: tuple[int, ...],
    add: bool,
) -> Any:
    out = np.array(x)
    part = out[tuple(slice(*e[1:]) for e in spec)]
    where = _all_places(np, places, along, shape)
    # whole arrays, since NumPy goes through them in the order of memory
    where = tuple(np.ascontiguousarray(np.broadcast_to(w, shape)) for w in where)
    if add:
        np.add.at(part, where, v)
    else:
        part[where] = v
    return out


operation(
    "scatter",
    "x, v, seen, *places, spec=0, along=0, shape=0, add=False",
    lambda solver, inputs, **attrs: inputs[0].type.strong(),
    _scatter,
    grad=None,
    cut="a place",
    doc="x with v stored, or added, at places of `seen`, its slices `spec`, in the order of v.",
    public=False,
    tables=frozenset({0}),
    shape_only=frozenset({2}),
)


def lower_index(out: Node, x: Node, *rest: Node, spec: Spec) -> Node | None:
    """`x[spec]` with arrays or scalars in it; views stay what they are."""
    inputs = (x, *rest)
    hit = _one_a_row(x, inputs, spec)
    if hit is not None and x.dtype is not BOOL and _is_computed(x):
        return hit.apply("where", x, zero_of(x)).apply("contract", axis=1, keepdims=False)
    found = _places(x, inputs, spec)
    if found is None or x.dtype.kind == "c":
        return None
    seen, places, along, shape = found
    result = x.graph.make(OPS["gather"], [seen, *places], out.span, along=along, shape=shape)
    return _with_new_axes(result, out, spec, inputs)


def lower_update(out: Node, x: Node, v: Node, *rest: Node, spec: Spec, add: bool) -> Node | None:
    """X with values stored at, or added to, `spec`."""
    inputs = (x, v, *rest)
    if x.dtype.kind == "c" or v.dtype.kind == "c":
        return None
    v = v.cast(x.dtype)
    hit = _one_a_row(x, inputs, spec)
    if hit is not None:
        v = v.apply("expand_dims", axis=1) if v.rank else v
        if not add:
            return hit.apply("where", v, x)
        change = hit.apply("where", v, zero_of(x))
        return change if _is_zero(x) else x + change
    found = _places(x, inputs, spec, views=True)
    if found is None or any(e[0] == "new" for e in spec):
        return None
    seen, places, along, shape = found
    slices = _slices(x, spec)
    if _is_zero(x) and x.rank:
        zeros = x.graph.make(OPS["broadcast_like"], [zero_of(x), x], x.span)
        x, seen = zeros, zeros if seen is x else seen
    inputs = (x, v, seen, *places)
    how: dict[str, Any] = {"spec": slices, "along": along, "shape": shape, "add": add}
    return x.graph.make(OPS["scatter"], inputs, out.span, **how)


def _slices(x: Node, spec: Spec) -> Spec:
    """The slices of a spec, all of an axis where there is none."""
    entries = [e for e in spec if e[0] != "new"]
    return tuple(e if e[0] == "slice" else _FULL for e in entries) + (_FULL,) * (x.rank - len(entries))


def _is_zero(x: Node) -> bool:
    """Whether a tensor is all zeros, however written."""
    while x.op.name == "broadcast_like":
        x = x.inputs[0]
    return x.op.name in ("zeros", "zeros_like") or (x.op.name == "const" and not x.rank and x.value == 0)


def _is_computed(x: Node) -> bool:
    """Whether x is computed element by element, so that a pass over it costs little."""
    while x.op.view and x.op.name != "index":
        x = x.inputs[0]
    return x.op.scalar is not None or x.op.lower is not None


def _one_a_row(x: Node, inputs: Sequence[Node], spec: Spec) -> Node | None:
    """For `x[arange(n), y]` of a matrix of n rows: where its elements are in the matrix."""
    if x.rank != 2 or len(spec) != 2 or any(e[0] != "input" for e in spec):
        return None
    rows, y = (inputs[e[1]] for e in spec)
    if rows.rank != 1 or y.rank != 1 or rows.op.name != "arange" or x.dtype.kind == "c":
        return None
    start, _, step = rows.inputs
    if any(k.op.name != "const" for k in (start, step)) or (start.value, step.value) != (0, 1):
        return None
    if y.dtype is U64 or rows.shape[0] != x.shape[0] or y.shape[0] != x.shape[0]:
        return None
    return _place(x, y, 1).apply("expand_dims", axis=1).apply("eq", iota(x, 1))


def _place(x: Node, index: Node, axis: int) -> Node:
    """An index of an axis, checked and counted from 0."""
    return x.graph.make(OPS["place"], [index.cast(I64), size_of(x, axis)], index.span)


def _places(
    x: Node, inputs: Sequence[Node], spec: Spec, views: bool = False
) -> tuple[Node, list[Node], Along, tuple[Dim, ...]] | None:
    """The view of x that the slices see; computed places; for each axis where its places are; the shape.

    None for views alone, unless they are asked for, and where only the run knows what a slice sees.
    """
    if any(isinstance(part, tuple) for e in spec if e[0] == "slice" for part in e[1:]):
        return None
    given = [e for e in spec if e[0] == "input"]
    if not (given or views) or any(inputs[e[1]].dtype is U64 for e in given):
        return None
    arrays = [inputs[e[1]] for e in given if inputs[e[1]].rank]
    entries = [e for e in spec if e[0] != "new"]
    entries += [_FULL] * (x.rank - len(entries))
    slices = _slices(x, spec)
    seen = x
    if any(e != _FULL for e in slices):
        seen = x.graph.make(OPS["index"], [x], x.span, spec=slices)
    block, common = 0, [*x.graph.solver.broadcast([a.shape for a in arrays])] if arrays else []
    if arrays and _is_together(spec):
        block = [e[0] == "slice" for e in entries].index(False)
    shape = [d for e, d in zip(entries, seen.shape, strict=True) if e[0] == "slice"]
    shape[block:block] = common
    places: list[Node] = []
    along: list[tuple[str, int]] = []
    axis = 0  # of the result
    for k, e in enumerate(entries):
        if e[0] == "slice":
            if axis == block:
                axis += len(common)
            along.append(("axis", axis))
            axis += 1
            continue
        index = inputs[e[1]] if e[0] == "input" else x.graph.const(e[1], Tensor(I64), x.span)
        p, after = _place(x, index, k), len(shape) - block - len(common)
        if after and p.rank:
            p = p.apply("expand_dims", axis=tuple(range(p.rank, p.rank + after)))
        along.append(("input", len(places)))
        places.append(p)
    return seen, places, tuple(along), tuple(shape)


def _is_together(spec: Spec) -> bool:
    """Whether the indices that are not slices are neighbours."""
    at = [k for k, e in enumerate(spec) if e[0] in ("int", "input")]
    return at[-1] - at[0] == len(at) - 1


def _with_new_axes(result: Node, out: Node, spec: Spec, inputs: Sequence[Node]) -> Node:
    """The result with the axes of size 1 that `None` asks for."""
    if not any(e[0] == "new" for e in spec):
        return result
    arrays = [inputs[e[1]].rank for e in spec if e[0] == "input" and inputs[e[1]].rank]
    advanced = [k for k, e in enumerate(spec) if e[0] in ("int", "input")]
    together = _is_together(spec)
    deep = max(arrays, default=0)
    axes, at = [], 0 if together or not arrays else deep
    for k, e in enumerate(spec):
        if e[0] == "new":
            axes.append(at)
            at += 1
        elif e[0] == "slice":
            at += 1
        elif arrays and together and k == advanced[0]:
            at += deep
    return result.apply("expand_dims", axis=tuple(axes))
