"""The discrete Fourier transform along an axis, of complex and of real numbers.

The transform of complex numbers is a symmetric matrix, so it is its own gradient. An input of another length
than the one asked for is cut, or padded with zeros, first.
"""

from __future__ import annotations

from typing import Any

from tlang.errors import error
from tlang.graph.node import OPS, Node, operation
from tlang.graph.ops.formula import Size, formula
from tlang.graph.ops.rules import float_dtype, iota, normal_axis, size_of, unknown_dim
from tlang.types import DTYPES, I64, ONE, Dim, DType, Solver, Tensor


def _complex(dtype: DType) -> DType:
    """The complex dtype of the same precision."""
    return dtype if dtype.kind == "c" else DTYPES[f"c{2 * float_dtype(dtype).bits}"]


def _real(dtype: DType) -> DType:
    """The dtype of the parts."""
    return DTYPES[f"f{dtype.bits // 2}"] if dtype.kind == "c" else float_dtype(dtype)


def _resized(x: Node, axis: int, size: Dim) -> tuple[Dim, ...]:
    """The shape of x with another size of an axis."""
    return (*x.shape[:axis], size, *x.shape[axis + 1 :])


def _half(n: Dim) -> Dim:
    """The length of the transform of n real numbers, n // 2 + 1; a fresh unknown where it is not linear."""
    if any(k % 2 for _, k in n.terms):
        return unknown_dim()
    return Dim(n.const // 2 + 1, tuple((s, k // 2) for s, k in n.terms))


def _some(what: str, n: int) -> None:
    if n < 1:
        raise error("R112", what=what)


# ---------------------------------------------------------------- lengths


def _fit(np: Any, x: Any, n: Any, axis: int, size: Any) -> Any:
    have, want = x.shape[axis], int(n)
    if want < 0:
        raise error("R113", size=want)
    if want <= have:
        return x[(slice(None),) * axis + (slice(0, want),)]
    pads = [(0, 0)] * x.ndim
    pads[axis] = (0, want - have)
    return np.pad(x, pads)


def _fit_grad(g: Node, out: Node, x: Node, n: Node, axis: int, size: Dim) -> tuple[Node, None]:
    return fit(g, axis, x.shape[axis], size_of(x, axis)), None


operation(
    "fit",
    "x, n, axis=0, size=0",
    lambda solver, inputs, axis, size: Tensor(inputs[0].dtype, _resized(inputs[0], axis, size)),
    _fit,
    grad=_fit_grad,
    dynamic=True,
    doc="The first n elements along an axis, zeros where there are none.",
    public=False,
)


def fit(x: Node, axis: int, size: Dim, n: Node) -> Node:
    """A tensor cut, or padded with zeros at the end, to a length along an axis."""
    return x if x.shape[axis] == size else x.apply("fit", n, axis=axis, size=size)


# ---------------------------------------------------------------- transforms


def _fft(np: Any, x: Any, axis: int, inverse: bool) -> Any:
    _some("ifft" if inverse else "fft", x.shape[axis])
    out = (np.fft.ifft if inverse else np.fft.fft)(x, axis=axis)
    return out.astype(x.dtype, copy=False)


operation(
    "fft_of",
    "x, axis=0, inverse=False",
    lambda solver, inputs, axis, inverse: inputs[0].type.strong(),
    _fft,
    grad=lambda g, out, x, axis, inverse: (g.apply("fft_of", axis=axis, inverse=inverse),),
    doc="The transform of complex numbers.",
    public=False,
)


def _rfft_rule(solver: Solver, inputs: tuple[Node, ...], *, axis: int) -> Tensor:
    (x,) = inputs
    return Tensor(_complex(x.dtype), _resized(x, axis, _half(x.shape[axis])))


def _rfft(np: Any, x: Any, axis: int) -> Any:
    _some("rfft", x.shape[axis])
    return np.fft.rfft(x, axis=axis).astype(np.result_type(x.dtype, np.complex64), copy=False)


def _rfft_grad(g: Node, out: Node, x: Node, axis: int) -> tuple[Node]:
    """The real part of the transform of g, whose other half is zeros."""
    whole = fit(g, axis, x.shape[axis], size_of(x, axis))
    return (whole.apply("fft_of", axis=axis, inverse=False).apply("real"),)


operation(
    "rfft_of",
    "x, axis=0",
    _rfft_rule,
    _rfft,
    grad=_rfft_grad,
    dynamic=True,
    doc="The first half of the transform of real numbers.",
    public=False,
)


def _irfft(np: Any, x: Any, n: Any, axis: int, size: Any) -> Any:
    _some("irfft", int(n))
    out = np.fft.irfft(x, n=int(n), axis=axis)
    return out.astype(np.float32 if x.dtype == np.complex64 else np.float64, copy=False)


def _irfft_grad(g: Node, out: Node, x: Node, n: Node, axis: int, size: Dim) -> tuple[Node, None]:
    """Each number of the half counts twice, for itself and for its mirror image, unless it is its own."""
    spectrum = g.apply("rfft_of", axis=axis).apply("conj")
    place = iota(spectrum, axis)
    own = place.apply("eq", 0).apply("or", (place * 2).apply("eq", n))
    weight = own.apply("where", 1.0, 2.0).cast(g.dtype) / n.cast(g.dtype)
    behind = x.rank - axis - 1
    weight = weight.apply("expand_dims", axis=tuple(range(1, behind + 1))) if behind else weight
    return fit(spectrum * weight, axis, x.shape[axis], size_of(x, axis)), None


operation(
    "irfft_of",
    "x, n, axis=0, size=0",
    lambda solver, inputs, axis, size: Tensor(_real(inputs[0].dtype), _resized(inputs[0], axis, size)),
    _irfft,
    grad=_irfft_grad,
    dynamic=True,
    doc="n real numbers from the first half of their transform.",
    public=False,
)


# ---------------------------------------------------------------- formulas


def _complex_fft(x: Node, n: Size | None, axis: int, inverse: bool) -> Node:
    axis = normal_axis(axis, x.rank)
    x = x.cast(_complex(x.dtype))
    if n is not None:
        x = fit(x, axis, n.dim, n.node)
    return x.apply("fft_of", axis=axis, inverse=inverse)


@formula(
    "fft",
    "x, n=None, axis=-1",
    "The discrete Fourier transform along an axis, complex; of the first n elements, or with zeros added.",
)
def fft(x: Node, n: Size | None, axis: int) -> Node:
    """Of complex numbers."""
    return _complex_fft(x, n, axis, False)


@formula("ifft", "x, n=None, axis=-1", "The inverse of `fft`.")
def ifft(x: Node, n: Size | None, axis: int) -> Node:
    """Of complex numbers."""
    return _complex_fft(x, n, axis, True)


@formula(
    "rfft",
    "x, n=None, axis=-1",
    "The first n // 2 + 1 numbers of `fft` of real numbers; the others are their mirror images.",
)
def rfft(x: Node, n: Size | None, axis: int) -> Node:
    """Of real numbers."""
    if x.dtype.kind == "c":
        raise error("T141", op="rfft", found=x.type)
    axis = normal_axis(axis, x.rank)
    x = x.cast(float_dtype(x.dtype))
    if n is not None:
        x = fit(x, axis, n.dim, n.node)
    return x.apply("rfft_of", axis=axis)


@formula(
    "irfft",
    "x, n=None, axis=-1",
    "The n real numbers of which x is `rfft`; n is 2 * (size - 1) unless given.",
)
def irfft(x: Node, n: Size | None, axis: int) -> Node:
    """Of half a spectrum, cut or padded to what n needs."""
    axis = normal_axis(axis, x.rank)
    x = x.cast(_complex(x.dtype))
    if n is None:
        n = Size((x.shape[axis] - ONE).scale(2), (size_of(x, axis) - 1) * 2)
    x = fit(x, axis, _half(n.dim), n.node.apply("floordiv", 2) + x.graph.const(1, Tensor(I64), x.span))
    return x.graph.make(OPS["irfft_of"], [x, n.node], x.span, axis=axis, size=n.dim)
