"""Parts of complex numbers, which real numbers have too; there gradients pass."""

from __future__ import annotations

from typing import Any

from tlang.errors import error
from tlang.graph.node import Node, operation
from tlang.graph.ops.rules import broadcast, elementwise, float_dtype, zeros_like
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


def _flat(g: Node, out: Node, x: Node) -> tuple[Node]:
    return (zeros_like(x),)


operation(
    "real",
    "x",
    _part,
    lambda np, x: np.array(np.real(x))[()],
    grad=lambda g, out, x: (g,),
    doc="The real part; of a real number the number itself.",
    scalar="{0}",
)
operation(
    "imag",
    "x",
    _part,
    lambda np, x: np.array(np.imag(x))[()],
    grad=_flat,
    doc="The imaginary part; of a real number 0.",
    scalar="{zero}",
)
operation(
    "conj",
    "x",
    elementwise,
    lambda np, x: np.array(np.conj(x))[()] if x.dtype.kind != "b" else x,
    grad=lambda g, out, x: (g,),
    doc="The complex conjugate; of a real number the number itself.",
    scalar="{0}",
)
operation(
    "angle",
    "x",
    _angle_rule,
    _angle,
    convert="float",
    grad=_flat,
    doc="The angle of a complex number from the positive real axis (radians); of a real number 0 or pi.",
    scalar="{atan2}({zero}, {0})",
)
operation(
    "complex",
    "x, y",
    _pair_rule,
    _complex,
    convert="float",
    grad=None,
    cut="a complex number",
    doc="x + i y, of the real and the imaginary part.",
)
