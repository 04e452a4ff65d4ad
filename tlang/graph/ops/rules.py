"""Type rules and gradient helpers that the rows of several families share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tlang.errors import error
from tlang.graph.node import Node
from tlang.types import BOOL, F64, I64, ONE, Dim, DType, Mismatch, Solver, Tensor, fresh_symbol


def broadcast(solver: Solver, inputs: Sequence[Node]) -> tuple[Dim, ...]:
    """The shape that all inputs stretch to."""
    first = inputs[0].type.shape
    if len(inputs) == 1 or all(x.type.shape is first for x in inputs):
        return first
    return solver.broadcast([solver.shape(x.type) for x in inputs])


def elementwise(solver: Solver, inputs: tuple[Node, ...]) -> Tensor:
    """The inputs' common dtype, all shapes stretched to one."""
    weak = all(x.type.weak for x in inputs)
    return Tensor(inputs[0].dtype, broadcast(solver, inputs), weak)


def predicate(solver: Solver, inputs: tuple[Node, ...]) -> Tensor:
    """Bool, all shapes stretched to one."""
    return Tensor(BOOL, broadcast(solver, inputs))


def numeric(solver: Solver, inputs: tuple[Node, ...]) -> Tensor:
    """As `elementwise`, but bool has no such operation (as in NumPy)."""
    if inputs[0].dtype is BOOL:
        raise error("T122", found=inputs[0].type)
    return elementwise(solver, inputs)


def given_type(solver: Solver, inputs: tuple[Node, ...], *, kind: Tensor, **attrs: Any) -> Tensor:
    """The type that the attribute `kind` says: leaves and constants."""
    return kind


def normal_axis(axis: int | tuple[int, ...] | None, rank: int) -> int:
    """An axis counted from 0; outside the rank it is an error."""
    if not isinstance(axis, int):
        raise error("T133", axis=axis)
    if not -rank <= axis < rank:
        raise error("T131", axis=axis, rank=rank)
    return axis % rank


def normal_axes(axis: int | tuple[int, ...] | None, rank: int) -> tuple[int, ...]:
    """The axes of a reduction, counted from 0, ascending; None is all."""
    if axis is None:
        return tuple(range(rank))
    axes = tuple(sorted(normal_axis(a, rank) for a in ((axis,) if isinstance(axis, int) else axis)))
    if len(set(axes)) != len(axes):
        raise error("T132", axes=axis)
    return axes


def reduced(shape: Sequence[Dim], axis: int | tuple[int, ...] | None, keepdims: bool) -> tuple[Dim, ...]:
    """The shape after a reduction: the axes go, or become a written 1 that stretches."""
    axes = normal_axes(axis, len(shape))
    if keepdims:
        return tuple(ONE if i in axes else d for i, d in enumerate(shape))
    return tuple(d for i, d in enumerate(shape) if i not in axes)


def float_dtype(dtype: DType) -> DType:
    """The dtype of a float function's result: integers and bools give f64."""
    return dtype if dtype.is_inexact else F64


def sum_dtype(dtype: DType) -> DType:
    """The dtype of a sum: bools and integers accumulate in i64 (u64 where unsigned)."""
    if dtype.kind == "u":
        from tlang.types import U64

        return U64
    return dtype if dtype.is_inexact else I64


def unknown_dim() -> Dim:
    """A size that only the run knows."""
    return Dim.of(fresh_symbol())


def product(shape: Sequence[Dim]) -> tuple[int, list[Dim]]:
    """The product of sizes as an integer and the sorted symbolic factors."""
    const, factors = 1, []
    for d in shape:
        if d.is_const:
            const *= d.const
            continue
        common = _content(d)
        const *= common
        factors.append(Dim(d.const // common, tuple((s, k // common) for s, k in d.terms)))
    return const, sorted(factors, key=lambda d: (d.const, d.terms))


def _content(d: Dim) -> int:
    from math import gcd

    return gcd(d.const, *(k for _, k in d.terms))


# ---------------------------------------------------------------- gradients


def zero_of(x: Node) -> Node:
    """A scalar zero of a node's dtype; of bool it is False."""
    zero = 0.0 if x.dtype.is_inexact else False if x.dtype is BOOL else 0
    return x.graph.const(zero, Tensor(x.dtype), x.span)


def of_real(node: Node, i: int) -> bool:
    """Gradients flow to real inputs: the function has none of complex numbers."""
    return node.inputs[i].dtype.kind == "f"


def zeros_like(x: Node) -> Node:
    """Zeros of a node's shape and dtype."""
    return like(zero_of(x), x)


def like(value: Node, x: Node) -> Node:
    """A value broadcast to the shape of `x`, of which only the shape is used."""
    if x.rank == 0:
        return value
    return value.graph.make(_op("broadcast_like"), [value, x], x.span)


def unbroadcast(g: Node, x: Node) -> Node:
    """A cotangent of a stretched input summed back to the input's own shape and dtype."""
    extra = g.rank - x.rank
    if extra:
        g = g.apply("sum", axis=tuple(range(extra)), keepdims=False)
    stretched = tuple(
        i for i, (have, want) in enumerate(zip(g.shape, x.shape, strict=True)) if want == ONE and have != ONE
    )
    if stretched:
        g = g.apply("sum", axis=stretched, keepdims=True)
    return g.cast(x.dtype)


def expand(g: Node, x: Node, axis: int | tuple[int, ...] | None, keepdims: bool) -> Node:
    """A cotangent of a reduction of `x` with the reduced axes put back as 1."""
    if keepdims or g.rank in (0, x.rank):
        return g
    return g.apply("expand_dims", axis=normal_axes(axis, x.rank))


def count_of(x: Node, axis: int | tuple[int, ...] | None, dtype: DType) -> Node:
    """The number of elements that a reduction runs over, as a scalar of `dtype`."""
    total: Node | None = None
    const = 1
    for i in normal_axes(axis, x.rank):
        if x.shape[i].is_const:
            const *= x.shape[i].const
        else:
            size = x.graph.make(_op("size"), [x], x.span, axis=i)
            total = size if total is None else total * size
    factor = x.graph.const(float(const), Tensor(dtype), x.span)
    if total is None:
        return factor
    return total.cast(dtype) if const == 1 else total.cast(dtype) * factor


def size_of(x: Node, axis: int) -> Node:
    """The size of an axis as an i64 scalar."""
    if x.shape[axis].is_const:
        return x.graph.const(x.shape[axis].const, Tensor(I64), x.span)
    return x.graph.make(_op("size"), [x], x.span, axis=axis)


def iota(x: Node, axis: int) -> Node:
    """The indices 0, 1, ... of an axis, i64 of rank 1."""
    zero, one = (x.graph.const(k, Tensor(I64), x.span) for k in (0, 1))
    return x.graph.make(_op("arange"), [zero, size_of(x, axis), one], x.span, size=x.shape[axis])


def reshaped(x: Node, sizes: Sequence[tuple[Dim, Node]]) -> Node:
    """The elements of x in another shape; each size as a dimension, and as an i64 scalar for the run."""
    runtime = tuple(i for i, (d, _) in enumerate(sizes) if any(not s.rigid for s in d.symbols()))
    inputs = [x, *(sizes[i][1] for i in runtime)]
    shape = tuple(d for d, _ in sizes)
    return x.graph.make(_op("reshape"), inputs, x.span, shape=shape, runtime=runtime)


def _op(name: str) -> Any:
    from tlang.graph.node import OPS

    return OPS[name]


def mismatch(code: str, a: Node, axis_a: int, b: Node, axis_b: int, words: tuple[str, str]) -> Mismatch:
    """The fault that two sizes of the first two operands differ."""
    return Mismatch(code, [(0, words[0], a.shape[axis_a]), (1, words[1], b.shape[axis_b])])
