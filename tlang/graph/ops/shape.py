"""Operations that make tensors of a shape, or rearrange one."""

from __future__ import annotations

from typing import Any

from tlang.errors import error
from tlang.graph.node import OPS, Node, operation
from tlang.graph.ops.rules import like, normal_axes, normal_axis, product, unbroadcast, unknown_dim
from tlang.types import F64, ONE, Dim, DType, Mismatch, Solver, Tensor, promote

Shape = tuple[Any, ...]
Axes = int | tuple[int, ...] | None

# ---------------------------------------------------------------- making
# `shape` holds sizes that are known before the run; for those in `runtime` (positions), the scalar
# inputs after the tensors give the size, and the shape an unknown that stands for it.


def fill_sizes(shape: Shape, runtime: tuple[int, ...], sizes: tuple[Any, ...]) -> tuple[int, ...]:
    """The actual shape of a call: run-time sizes put in; a negative one is an error."""
    out = list(shape)
    for at, size in zip(runtime, sizes, strict=True):
        out[at] = int(size)
    for size in out:
        if size is not None and size < 0:
            raise error("R113", size=size)
    return tuple(out)


def _filled(dtype_of: Any) -> Any:
    def rule(
        solver: Solver, inputs: tuple[Node, ...], *, shape: Shape, dtype: DType | None = None, **_: Any
    ) -> Tensor:
        return Tensor(dtype or dtype_of(inputs), not_negative(shape))

    return rule


def not_negative(shape: Shape) -> Shape:
    """The shape, whose constant sizes must not be negative."""
    for size in shape:
        if size.is_const and size.const < 0:
            raise error("T159", size=size)
    return shape


def _full_rule(solver: Solver, inputs: tuple[Node, ...], *, shape: Shape, runtime: tuple[int, ...]) -> Tensor:
    if inputs[0].rank:
        raise error("T141", op="full", found=inputs[0].type)
    return Tensor(inputs[0].dtype, not_negative(shape))


def _filled_scalar(text: str) -> Any:
    """The one value of a tensor whose sizes are known before the run."""
    return lambda node: None if node.attr("runtime") else text


for _name, _value in (("zeros", 0), ("ones", 1)):
    operation(
        _name,
        "shape, dtype=None",
        _filled(lambda inputs: F64),
        lambda np, *sizes, shape, runtime, dtype, _v=_value: np.full(
            fill_sizes(shape, runtime, sizes), _v, dtype.numpy_name if dtype else "float64"
        ),
        grad=None,
        doc=f"A tensor of {_name} of a shape; f64 unless `dtype` says otherwise.",
        cut="a size",
        dynamic=True,
        scalar=_filled_scalar(str(_value)),
    )
operation(
    "full",
    "value, shape",
    _full_rule,
    lambda np, value, *sizes, shape, runtime: np.full(fill_sizes(shape, runtime, sizes), value, value.dtype),
    grad=lambda g, out, value, *sizes, shape, runtime: (
        g.apply("sum", axis=None, keepdims=False),
        *[None] * len(sizes),
    ),
    doc="A tensor of a shape filled with a scalar.",
    dynamic=True,
    scalar=_filled_scalar("{0}"),
)


def _like_rule(solver: Solver, inputs: tuple[Node, ...]) -> Tensor:
    return inputs[0].type.strong()


for _name, _value in (("zeros_like", 0), ("ones_like", 1)):
    operation(
        _name,
        "x",
        _like_rule,
        lambda np, x, _v=_value: np.full(x.shape, _v, x.dtype),
        grad=None,
        doc=f"A tensor of {_name.split('_')[0]} with the shape and dtype of x.",
        shape_only=frozenset({0}),
        cut="a shape",
        scalar=str(_value),
    )


def _arange_rule(solver: Solver, inputs: tuple[Node, ...], *, size: Dim | None) -> Tensor:
    dtype = promote([x.type for x in inputs])
    return Tensor(dtype, (size if size is not None else unknown_dim(),))


def _arange(np: Any, start: Any, stop: Any, step: Any, size: Any) -> Any:
    if step == 0:
        raise error("R114")
    return np.arange(start, stop, step, dtype=np.result_type(start, stop, step))


operation(
    "arange",
    "start, stop, step",
    _arange_rule,
    _arange,
    convert="arith",
    grad=None,
    doc="`arange(n)`, `arange(a, b)`, `arange(a, b, step)`: a, a + step, ... before b.",
    cut="a range",
    dynamic=True,
    scalar=lambda node: "{0} + {index} * {2}" if node.dtype.is_integer else None,
)


def _one_hot_rule(
    solver: Solver, inputs: tuple[Node, ...], *, shape: Shape, runtime: tuple[int, ...]
) -> Tensor:
    if not inputs[0].dtype.is_integer or len(shape) != 1:
        raise error("T134", found=inputs[0].type)
    return Tensor(F64, (*solver.shape(inputs[0].type), *not_negative(shape)))


def _one_hot(np: Any, x: Any, *sizes: Any, shape: Shape, runtime: tuple[int, ...]) -> Any:
    (n,) = fill_sizes(shape, runtime, sizes)
    if x.size and not (x.min() >= 0 and x.max() < n):
        raise error("R115", index=int(x.min() if x.min() < 0 else x.max()), size=n, axis=-1)
    return (x[..., None] == np.arange(n)).astype(np.float64)


operation(
    "one_hot",
    "x, shape",
    _one_hot_rule,
    _one_hot,
    grad=None,
    doc="`one_hot(i, n)`: f64 with a last axis of n, 1 at the index and 0 elsewhere.",
    cut="an index",
    dynamic=True,
)


# ---------------------------------------------------------------- repeating


def _broadcast_to_rule(
    solver: Solver, inputs: tuple[Node, ...], *, shape: Shape, runtime: tuple[int, ...]
) -> Tensor:
    x = inputs[0]
    if len(shape) < x.rank:
        raise error("T135", found=x.type, rank=len(shape))
    stretched = solver.broadcast([not_negative(shape), solver.shape(x.type)])
    for want, got in zip(shape, stretched, strict=True):
        if solver.resolve(want) == ONE and solver.resolve(got) != ONE:
            raise Mismatch("T101", [(0, "the size", got), (1, "the wanted size", want)])
    return Tensor(x.dtype, stretched)


def _broadcast_to(np: Any, x: Any, *sizes: Any, shape: Shape, runtime: tuple[int, ...]) -> Any:
    wanted = fill_sizes(shape, runtime, sizes)
    for have, want in zip(reversed(x.shape), reversed(wanted), strict=False):
        if have not in (1, want):
            raise error("R132", found=have, wanted=want)
    return np.broadcast_to(x, wanted)


operation(
    "broadcast_to",
    "x, shape",
    _broadcast_to_rule,
    _broadcast_to,
    grad=lambda g, out, x, *sizes, shape, runtime: (unbroadcast(g, x), *[None] * len(sizes)),
    doc="x stretched to a shape: where x has a 1, or lacks an axis in front.",
    view=True,
    dynamic=True,
)
operation(
    "broadcast_like",
    "x, y",
    lambda solver, inputs: Tensor(
        inputs[0].dtype, solver.broadcast([solver.shape(inputs[1].type), solver.shape(inputs[0].type)])
    ),
    lambda np, x, y: np.broadcast_to(x, y.shape),
    grad=lambda g, out, x, y: (unbroadcast(g, x), None),
    doc="x stretched to the shape of y.",
    view=True,
    shape_only=frozenset({1}),
    public=False,
    scalar="{0}",
)


# ---------------------------------------------------------------- rearranging


def _reshape_rule(
    solver: Solver, inputs: tuple[Node, ...], *, shape: Shape, runtime: tuple[int, ...]
) -> Tensor:
    """The new shape; a `-1` is solved where the quotient is linear, sizes must multiply to the same."""
    x = inputs[0]
    shape = tuple(map(solver.resolve, shape))
    have_const, have = product(solver.shape(x.type))
    wanted = [d for d in shape if d != Dim(-1)]
    want_const, want = product(wanted)
    for factor in list(want):
        if factor in have:
            have.remove(factor)
            want.remove(factor)
    if len(wanted) == len(shape):
        if have_const != want_const and not have and not want:
            raise error("T136", found=x.type, shape=_text(shape))
        return Tensor(x.dtype, shape)
    if len(shape) - len(wanted) > 1:
        raise error("T137")
    rest = unknown_dim()
    if not want and want_const and have_const % want_const == 0 and len(have) <= 1:
        rest = have[0].scale(have_const // want_const) if have else Dim(have_const // want_const)
    elif not have and not want and want_const:
        raise error("T136", found=x.type, shape=_text(shape))
    return Tensor(x.dtype, tuple(rest if d == Dim(-1) else d for d in shape))


def _text(shape: Shape) -> str:
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def _reshape(np: Any, x: Any, *sizes: Any, shape: Shape, runtime: tuple[int, ...]) -> Any:
    shape = tuple(-1 if d is None or d == -1 else d for d in shape)
    shape = tuple(int(sizes[runtime.index(i)]) if i in runtime else d for i, d in enumerate(shape))
    try:
        return np.reshape(x, shape)
    except ValueError:
        raise error("R116", found=x.shape, shape=_text(shape)) from None


operation(
    "reshape",
    "x, shape",
    _reshape_rule,
    _reshape,
    grad=lambda g, out, x, *sizes, shape, runtime: (g.apply("reshape_like", x), *[None] * len(sizes)),
    doc="The same elements, in C order, in another shape; one size may be -1.",
    view=True,
    dynamic=True,
)
operation(
    "reshape_like",
    "x, y",
    lambda solver, inputs: Tensor(inputs[0].dtype, solver.shape(inputs[1].type)),
    lambda np, x, y: np.reshape(x, y.shape),
    grad=lambda g, out, x, y: (g.apply("reshape_like", x), None),
    doc="The elements of x in the shape of y.",
    view=True,
    shape_only=frozenset({1}),
    public=False,
)


def transpose_axes(rank: int, axes: Axes) -> tuple[int, ...]:
    """The order of a transpose, counted from 0; reversed for None."""
    if axes is None:
        return tuple(reversed(range(rank)))
    axes = (axes,) if isinstance(axes, int) else axes
    if sorted(normal_axis(a, rank) for a in axes) != list(range(rank)):
        raise error("T138", axes=axes, rank=rank)
    return tuple(a % rank for a in axes)


def _transpose_rule(solver: Solver, inputs: tuple[Node, ...], *, axes: Axes) -> Tensor:
    x = inputs[0]
    shape = solver.shape(x.type)
    return Tensor(x.dtype, tuple(shape[a] for a in transpose_axes(x.rank, axes)))


def _transpose_grad(g: Node, out: Node, x: Node, axes: Axes) -> tuple[Node]:
    order = transpose_axes(x.rank, axes)
    return (g.apply("transpose", axes=tuple(order.index(i) for i in range(x.rank))),)


operation(
    "transpose",
    "x, axes=None",
    _transpose_rule,
    lambda np, x, axes: np.transpose(x, axes),
    grad=_transpose_grad,
    doc="The axes in another order, reversed unless `axes` is given; `x.T` is the same.",
    view=True,
)


def _expand_rule(solver: Solver, inputs: tuple[Node, ...], *, axis: int | tuple[int, ...]) -> Tensor:
    x = inputs[0]
    if axis is None:
        raise error("T133", axis=axis)
    count = 1 if isinstance(axis, int) else len(axis)
    axes = normal_axes(axis, x.rank + count)
    shape = list(solver.shape(x.type))
    for a in axes:
        shape.insert(a, ONE)
    return Tensor(x.dtype, tuple(shape))


def _squeezed_axes(x: Node, axis: int | tuple[int, ...] | None) -> tuple[int, ...]:
    if axis is None:
        return tuple(i for i, d in enumerate(x.shape) if d == ONE)
    axes = normal_axes(axis, x.rank)
    for a in axes:
        if x.shape[a] != ONE:
            raise error("T139", axis=a, size=x.shape[a])
    return axes


def _squeeze_rule(solver: Solver, inputs: tuple[Node, ...], *, axis: int | tuple[int, ...] | None) -> Tensor:
    axes = _squeezed_axes(inputs[0], axis)
    return Tensor(inputs[0].dtype, tuple(d for i, d in enumerate(inputs[0].shape) if i not in axes))


operation(
    "expand_dims",
    "x, axis=0",
    _expand_rule,
    lambda np, x, axis: np.expand_dims(x, axis),
    grad=lambda g, out, x, axis: (g.apply("squeeze", axis=axis),),
    doc="A new axis of size 1, which stretches, at a position of the result.",
    view=True,
)
operation(
    "squeeze",
    "x, axis=None",
    _squeeze_rule,
    lambda np, x, axis: np.squeeze(x, axis),
    grad=lambda g, out, x, axis: (
        g.apply("expand_dims", axis=_squeezed_axes(x, axis)) if g.rank < x.rank else g,
    ),
    doc="The axes of size 1 removed; a named size is never 1.",
    view=True,
)


def moved_axes(view: Node, labels: list[Any]) -> list[Any] | None:
    """Where the axes of a view's input are in its result: each label at its new place, None for a new axis.

    An axis of which only a part is seen gets the label ("part", label). None if axes are mixed.
    """
    x, name = view.inputs[0], view.op.name
    if name == "transpose":
        return [labels[a] for a in transpose_axes(x.rank, view.attr("axes"))]
    if name == "expand_dims":
        axis = view.attr("axis")
        out = list(labels)
        for a in normal_axes(axis, view.rank):
            out.insert(a, None)
        return out
    if name == "squeeze":
        gone = _squeezed_axes(x, view.attr("axis"))
        return [k for i, k in enumerate(labels) if i not in gone]
    if name in ("broadcast_to", "broadcast_like"):
        kept = [k if d != ONE else None for k, d in zip(labels, x.shape, strict=True)]
        return [*[None] * (view.rank - x.rank), *kept]
    if name in ("reshape", "reshape_like"):
        long = [(k, d) for k, d in zip(labels, x.shape, strict=True) if d != ONE]
        if [d for _, d in long] != [d for d in view.shape if d != ONE]:
            return None
        rest = iter(long)
        return [None if d == ONE else next(rest)[0] for d in view.shape]
    if name == "index":
        return _indexed_axes(view, labels)
    return list(labels) if view.rank == x.rank else None


def _indexed_axes(view: Node, labels: list[Any]) -> list[Any] | None:
    out: list[Any] = []
    axes = iter(labels)
    for entry in view.attr("spec"):
        if entry[0] == "new":
            out.append(None)
            continue
        label = next(axes)
        if entry[0] == "slice":
            out.append(label if label is None or entry[1:] == (None, None, 1) else ("part", label))
        elif entry[0] == "input" and view.inputs[entry[1]].rank:
            return None
    return [*out, *axes]


# ---------------------------------------------------------------- joining


def _concatenate_rule(solver: Solver, inputs: tuple[Node, ...], *, axis: int) -> Tensor:
    rank = inputs[0].rank
    if any(x.rank != rank for x in inputs) or rank == 0:
        raise error("T140", found=", ".join(str(x.type) for x in inputs))
    axis = normal_axis(axis, rank)
    shape = list(inputs[0].shape)
    for k, x in enumerate(inputs[1:], 1):
        for i, (a, b) in enumerate(zip(inputs[0].shape, x.shape, strict=True)):
            if i != axis and not solver.unify(a, b):
                raise Mismatch("T103", [(0, f"axis {i}", a), (k, f"axis {i}", b)])
        shape[axis] = shape[axis] + x.shape[axis]
    return Tensor(inputs[0].dtype, tuple(shape))


def _concatenate_grad(g: Node, out: Node, *xs: Node, axis: int) -> tuple[Node, ...]:
    return tuple(g.graph.make(OPS["part"], [g, *xs], g.span, axis=axis, which=i) for i in range(len(xs)))


operation(
    "concatenate",
    "*xs, axis=0",
    _concatenate_rule,
    lambda np, *xs, axis: np.concatenate(xs, axis=axis),
    convert="arith",
    grad=_concatenate_grad,
    doc="`concatenate([x, y], axis = 0)`: tensors one after the other along an axis, f64[n + m] of n and m.",
)


def _part(np: Any, g: Any, *xs: Any, axis: int, which: int) -> Any:
    start = sum(x.shape[axis] for x in xs[:which])
    place = [slice(None)] * g.ndim
    place[axis] = slice(start, start + xs[which].shape[axis])
    return g[tuple(place)]


def _part_grad(g: Node, out: Node, whole: Node, *xs: Node, axis: int, which: int) -> tuple[Node | None, ...]:
    parts = [g if i == which else like(_zero(g), x) for i, x in enumerate(xs)]
    return g.graph.make(OPS["concatenate"], parts, g.span, axis=axis), *[None] * len(xs)


def _zero(g: Node) -> Node:
    return g.graph.const(0.0, Tensor(g.dtype), g.span)


operation(
    "part",
    "g, *xs, axis=0, which=0",
    lambda solver, inputs, axis, which: Tensor(inputs[0].dtype, solver.shape(inputs[1 + which].type)),
    _part,
    grad=_part_grad,
    doc="The part of a concatenation that came from one of its inputs.",
    public=False,
)


def _stack_rule(solver: Solver, inputs: tuple[Node, ...], *, axis: int) -> Tensor:
    first = inputs[0]
    for k, x in enumerate(inputs[1:], 1):
        if x.rank != first.rank:
            raise error("T140", found=f"{first.type}, {x.type}")
        for i, (a, b) in enumerate(zip(first.shape, x.shape, strict=True)):
            if not solver.unify(a, b):
                raise Mismatch("T103", [(0, f"axis {i}", a), (k, f"axis {i}", b)])
    shape = list(first.shape)
    shape.insert(normal_axis(axis, first.rank + 1), Dim(len(inputs)))
    return Tensor(first.dtype, tuple(shape))


def _stack_grad(g: Node, out: Node, *xs: Node, axis: int) -> tuple[Node, ...]:
    before = normal_axis(axis, g.rank)
    full = (("slice", None, None, 1),) * before
    return tuple(g.apply("index", spec=(*full, ("int", i))) for i in range(len(xs)))


operation(
    "stack",
    "*xs, axis=0",
    _stack_rule,
    lambda np, *xs, axis: np.stack(xs, axis=axis),
    convert="arith",
    grad=_stack_grad,
    doc="`stack([x, y], axis = 0)`: tensors of one shape along a new axis; `[x, y]` is the same.",
)
