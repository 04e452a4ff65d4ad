"""Parts of complex numbers, which real numbers have too; gradients are those of `tlang.graph.grad`."""

from __future__ import annotations

from typing import Any

from tlang.errors import error
from tlang.graph.node import Node, operation
from tlang.graph.ops.rules import broadcast, elementwise, float_dtype, unbroadcast, zeros_like
from tlang.types import DTYPES, DType, Solver, Tensor


def half(dtype: DType) -> DType:
    """The dtype of the parts of a complex dtype; any other dtype is its own."""
    return DTYPES[f"f{dtype.bits // 2}"] if dtype.kind == "c" else dtype


def _part(solver: Solver, inputs: tuple[Node, ...]) -> Tensor:
    return inputs[0].type.with_dtype(half(inputs[0].dtype))


def _angle_rule(solver: Solver, inputs: tuple[Node, ...]) -> Tensor:
    return inputs[0].type.with_dtype(half(float_dtype(inputs[0].dtype)))


def _pair_rule(solver: Solver, inputs: tuple[Node, ...]) -> Tensor:
    if inputs[0].dtype.kind == "c":
        raise error("T125", found=inputs[0].type)
    return Tensor(DTYPES[f"c{2 * inputs[0].dtype.bits}"], broadcast(solver, inputs))


def _angle(np: Any, x: Any) -> Any:
    return np.asarray(np.angle(x), np.real(x).dtype)[()]


def _complex(np: Any, x: Any, y: Any) -> Any:
    out = np.empty(np.broadcast_shapes(x.shape, y.shape), np.result_type(x, np.complex64))
    out.real, out.imag = x, y
    return out[()]


def _conj_grad(g: Node, out: Node, x: Node) -> tuple[Node]:
    return (g.apply("conj") if x.dtype.kind == "c" else g,)


def _imag_grad(g: Node, out: Node, x: Node) -> tuple[Node]:
    """-i g."""
    if x.dtype.kind != "c":
        return (zeros_like(x),)
    return (g.graph.const(0.0, Tensor(g.dtype), g.span).apply("complex", -g),)


def _angle_grad(g: Node, out: Node, x: Node) -> tuple[Node]:
    """-i g conj(x) / |x|^2."""
    if x.dtype.kind != "c":
        return (zeros_like(x),)
    a, b = x.apply("real"), x.apply("imag")
    part = g / (a * a + b * b)
    return ((-part * b).apply("complex", -part * a),)


def _complex_grad(g: Node, out: Node, x: Node, y: Node) -> tuple[Node, Node]:
    return unbroadcast(g.apply("real"), x), unbroadcast(-g.apply("imag"), y)


operation(
    "real",
    "x",
    _part,
    lambda np, x: np.array(np.real(x))[()],
    grad=lambda g, out, x: (g.cast(x.dtype),),
    doc="The real part; of a real number the number itself.",
    scalar="{0}",
)
operation(
    "imag",
    "x",
    _part,
    lambda np, x: np.array(np.imag(x))[()],
    grad=_imag_grad,
    doc="The imaginary part; of a real number 0.",
    scalar="{zero}",
)
operation(
    "conj",
    "x",
    elementwise,
    lambda np, x: np.array(np.conj(x))[()] if x.dtype.kind != "b" else x,
    grad=_conj_grad,
    doc="The complex conjugate; of a real number the number itself.",
    scalar="{0}",
)
operation(
    "angle",
    "x",
    _angle_rule,
    _angle,
    convert="float",
    grad=_angle_grad,
    doc="The angle of a complex number from the positive real axis (radians); of a real number 0 or pi.",
    scalar="{atan2}({zero}, {0})",
)
operation(
    "complex",
    "x, y",
    _pair_rule,
    _complex,
    convert="float",
    grad=_complex_grad,
    doc="x + i y, of the real and the imaginary part.",
)
