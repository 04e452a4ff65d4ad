"""Leaves of the graph: constants, tensors, state, sizes, and the marks that carry a name."""

from __future__ import annotations

from typing import Any

from tlang.errors import error
from tlang.graph.node import Node, operation
from tlang.graph.ops.rules import given_type, normal_axis
from tlang.types import BOOL, I64, DType, Solver, Tensor, can_cast_safely

# ---------------------------------------------------------------- values from outside

operation("const", "", given_type, None, grad=None, doc="A constant.", public=False)
operation("tensor", "", given_type, None, grad=None, doc="A parameter or a free tensor.", public=False)
operation("shared", "", given_type, None, grad=None, doc="A shared value at call entry.", public=False)
operation("value", "", given_type, None, grad=None, doc="A value made by `set`.", public=False)
operation("hole", "", given_type, None, grad=None, doc="Stands for a node while `grad` looks.", public=False)


# ---------------------------------------------------------------- names


def _same(solver: Solver, inputs: tuple[Node, ...], **_: Any) -> Tensor:
    return inputs[0].type


operation(
    "named",
    "x",
    _same,
    lambda np, x, name: x,
    grad=lambda g, out, x, name: (g,),
    doc="A named equation: its formula, distinct from equal ones until givens and gradients are done.",
    view=True,
    public=False,
)
operation(
    "stop_gradient",
    "x",
    _same,
    lambda np, x: x,
    grad=None,
    doc="`stop_gradient(x)` is x, through which no gradient flows.",
    view=True,
    cut="stop_gradient",
)


def _clip_grad(g: Node, out: Node, x: Node, lower_bound: float, upper_bound: float) -> tuple[Node]:
    return (g.apply("clip", lower_bound, upper_bound),)


operation(
    "grad_clip",
    "x, lower_bound, upper_bound",
    _same,
    lambda np, x, lower_bound, upper_bound: x,
    grad=_clip_grad,
    doc="x, whose gradient is limited to lower_bound .. upper_bound, element by element.",
    scalar="{0}",
)


# ---------------------------------------------------------------- sizes


def _dim(solver: Solver, inputs: tuple[Node, ...], *, dim: Any) -> Tensor:
    return Tensor(I64)


operation(
    "dim",
    "",
    _dim,
    lambda np, dim: np.int64(dim),
    grad=None,
    doc="The size that a dimension name has in this call, as i64.",
    public=False,
    cut="a size",
    extent=lambda node: node.graph.solver.resolve(node.attr("dim")),
)


def _size(solver: Solver, inputs: tuple[Node, ...], *, axis: int) -> Tensor:
    normal_axis(axis, inputs[0].rank)
    return Tensor(I64)


operation(
    "size",
    "x, axis=0",
    _size,
    lambda np, x, axis: np.int64(x.shape[axis]),
    grad=None,
    doc="`size(x, axis)` is the length of an axis, as i64.",
    shape_only=frozenset({0}),
    cut="a size",
    extent=lambda node: node.inputs[0].shape[normal_axis(node.attr("axis"), node.inputs[0].rank)],
)


# ---------------------------------------------------------------- casts


def _cast(solver: Solver, inputs: tuple[Node, ...], *, dtype: DType, weak: bool = False) -> Tensor:
    (x,) = inputs
    if x.dtype.kind == "c" and dtype.kind != "c":
        raise error("T123", found=x.type, target=dtype)
    if x.op.name == "const" and isinstance(x.value, int) and dtype.is_integer:
        low, high = dtype.integer_range()
        if x.type.weak and not low <= x.value <= high:
            raise error("T124", value=x.value, dtype=dtype)
    return Tensor(dtype, x.type.shape, weak)


def _cast_numpy(np: Any, x: Any, dtype: DType, weak: bool = False) -> Any:
    return np.asarray(x).astype(dtype.numpy_name, copy=False)[()]


def _cast_grad(g: Node, out: Node, x: Node, dtype: DType, weak: bool = False) -> tuple[Node | None]:
    return ((g.apply("real") if g.dtype.kind == "c" and x.dtype.kind == "f" else g).cast(x.dtype),)


operation(
    "cast",
    "x",
    _cast,
    _cast_numpy,
    grad=_cast_grad,
    doc="The same values in another dtype: `f32(x)`, `i64(x)` (towards zero), `bool(x)`.",
    cut="a cast to integers",
    public=False,
    scalar=lambda node: "{0} != {zero}" if node.dtype is BOOL else "{0}",
)


def is_lossless(node: Node) -> bool:
    """Whether a cast keeps every value, or is between real floats: functions of it may pass through."""
    source, target = node.inputs[0].dtype, node.dtype
    return can_cast_safely(source, target) or (source.kind == "f" and target.kind == "f")
