"""Reductions, and the functions that run along an axis: softmax and its kin."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import prod
from typing import Any

from tlang.errors import error
from tlang.graph.node import OPS, Node, Reduction, operation
from tlang.graph.ops.rules import (
    count_of,
    expand,
    float_dtype,
    iota,
    like,
    normal_axes,
    normal_axis,
    reduced,
    sum_dtype,
)
from tlang.types import BOOL, DTYPES, I64, DType, Solver, Tensor

Axis = int | tuple[int, ...] | None


def _rule(dtype: Callable[[DType], DType]) -> Callable[..., Tensor]:
    def rule(solver: Solver, inputs: tuple[Node, ...], *, axis: Axis, keepdims: bool, **_: Any) -> Tensor:
        (x,) = inputs
        return Tensor(dtype(x.dtype), reduced(solver.shape(x.type), axis, keepdims))

    return rule


def _same(dtype: DType) -> DType:
    return dtype


def _along_dropped(out: Node, x: Node, axis: Axis, keepdims: bool) -> Node | None:
    """The reduction without the axes, which are put back as 1: so equal reductions are one."""
    if not keepdims:
        return None
    less = x.graph.make(out.op, [x], out.span, axis=axis, keepdims=False)
    return less.apply("expand_dims", axis=normal_axes(axis, x.rank)) if x.rank else less


def _accumulate(np: Any, x: Any, f: str, **how: Any) -> Any:
    """A reduction of f32 that accumulates in f64 and gives f32."""
    if x.dtype == np.float32:
        return getattr(np, f)(x, dtype=np.float64, **how).astype(np.float32)
    return getattr(np, f)(x, **how)


def _average(np: Any, x: Any, f: str, axis: Axis, ddof: int = 0, **how: Any) -> Any:
    """A mean or a spread; of too few elements it is NaN, about which NumPy would warn."""
    how |= {"ddof": ddof} if f != "mean" else {}
    if prod(x.shape[a] for a in normal_axes(axis, x.ndim)) > ddof:
        return _accumulate(np, x, f, axis=axis, **how)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _accumulate(np, x, f, axis=axis, **how)


def _sum(np: Any, x: Any, axis: Axis, keepdims: bool) -> Any:
    return _accumulate(np, x, "sum", axis=axis, keepdims=keepdims)


def _sum_grad(g: Node, out: Node, x: Node, axis: Axis, keepdims: bool) -> tuple[Node]:
    return (like(expand(g, x, axis, keepdims), x),)


operation(
    "sum",
    "x, axis=None, keepdims=False",
    _rule(sum_dtype),
    _sum,
    grad=_sum_grad,
    doc="The sum over axes; integers accumulate in i64, f32 in f64.",
    reduce=Reduction("0", "{0} + {1}", wide=True, adds=True),
    lower=_along_dropped,
)
operation(
    "contract",
    "x, axis=None, keepdims=False",
    _rule(_same),
    lambda np, x, axis, keepdims: np.sum(x, axis=axis, keepdims=keepdims, dtype=x.dtype),
    grad=_sum_grad,
    doc="The sum over axes, accumulated in the dtype of x: what a product of matrices does.",
    public=False,
    reduce=Reduction("0", "{0} + {1}", adds=True),
    lower=_along_dropped,
)


def _mean(np: Any, x: Any, axis: Axis, keepdims: bool) -> Any:
    return _average(np, x, "mean", axis, keepdims=keepdims)


def _mean_grad(g: Node, out: Node, x: Node, axis: Axis, keepdims: bool) -> tuple[Node]:
    return (like(expand(g / count_of(x, axis, g.dtype), x, axis, keepdims), x),)


def _lower_mean(out: Node, x: Node, axis: Axis, keepdims: bool) -> Node | None:
    if x.dtype.kind == "c":
        return None
    x = x.cast(out.dtype)
    return x.apply("sum", axis=axis, keepdims=keepdims) / count_of(x, axis, out.dtype)


operation(
    "mean",
    "x, axis=None, keepdims=False",
    _rule(float_dtype),
    _mean,
    grad=_mean_grad,
    lower=_lower_mean,
    doc="The arithmetic mean over axes; of integers it is f64.",
)


def _spread_dtype(dtype: DType) -> DType:
    """The dtype of a squared distance: real for complex numbers too."""
    return DTYPES[f"f{dtype.bits // 2}"] if dtype.kind == "c" else float_dtype(dtype)


def _var_grad(g: Node, out: Node, x: Node, axis: Axis, keepdims: bool, ddof: int) -> tuple[Node]:
    centred = x - x.apply("mean", axis=axis, keepdims=True)
    count = count_of(x, axis, g.dtype) - ddof
    centred = centred.apply("conj") if x.dtype.kind == "c" else centred
    return (expand(2 * g / count, x, axis, keepdims) * centred,)


def _std_grad(g: Node, out: Node, x: Node, axis: Axis, keepdims: bool, ddof: int) -> tuple[Node]:
    return _var_grad(g / (2 * out), out, x, axis, keepdims, ddof)


def _lower_var(out: Node, x: Node, axis: Axis, keepdims: bool, ddof: int) -> Node | None:
    if x.dtype.kind == "c":
        return None
    centred = x - x.apply("mean", axis=axis, keepdims=True)
    count = count_of(x, axis, out.dtype)
    count = (count - float(ddof)).apply("maximum", 0.0) if ddof else count
    return (centred * centred).apply("sum", axis=axis, keepdims=keepdims) / count


def _lower_std(out: Node, x: Node, axis: Axis, keepdims: bool, ddof: int) -> Node | None:
    var = _lower_var(out, x, axis, keepdims, ddof)
    return None if var is None else var.apply("sqrt")


for _name, _grad, _doc in (
    ("var", _var_grad, "The variance over axes: the mean squared distance from the mean (less `ddof` in n)."),
    ("std", _std_grad, "The standard deviation over axes: the root of the variance."),
):
    operation(
        _name,
        "x, axis=None, keepdims=False, ddof=0",
        _rule(_spread_dtype),
        lambda np, x, axis, keepdims, ddof, _f=_name: _average(np, x, _f, axis, ddof, keepdims=keepdims),
        convert="float",
        grad=_grad,
        lower=_lower_var if _name == "var" else _lower_std,
        doc=_doc,
    )


def _prod_grad(g: Node, out: Node, x: Node, axis: Axis, keepdims: bool) -> tuple[Node]:
    return (expand(g, x, axis, keepdims) * x.apply("prod_of_others", axis=axis),)


def _prod_of_others(np: Any, x: Any, *along: Any, axis: Axis) -> Any:
    """For each element the product of the other ones along the axes, right with zeros.

    With directions: that product's derivative along each of them, from numbers x + e1 d1 + e2 d2 + ...
    whose ei are squared 0. Such a number is a list, indexed by the set (as bits) of the ei it goes with.
    """
    axes = normal_axes(axis, x.ndim)
    last = range(x.ndim - len(axes), x.ndim)
    moved = [np.moveaxis(a, axes, last) for a in (x, *along)]
    kept = moved[0].shape[: x.ndim - len(axes)]
    count = math.prod(moved[0].shape[x.ndim - len(axes) :])
    flat = [a.reshape(*kept, count) for a in moved]
    every = range(2 ** len(along))

    def running(order: Any) -> Any:
        """The products of all elements before each one, in an order."""
        out = [np.zeros_like(flat[0]) for _ in every]
        so_far = [np.full(kept, 0 if bits else 1, x.dtype) for bits in every]
        for k in order:
            for bits in every:
                out[bits][..., k] = so_far[bits]
            so_far = [
                so_far[bits] * flat[0][..., k]
                + sum(so_far[bits ^ 1 << i] * d[..., k] for i, d in enumerate(flat[1:]) if bits >> i & 1)
                for bits in every
            ]
        return out

    if along:
        before, after = running(range(count)), running(reversed(range(count)))
        result = sum(before[bits] * after[every[-1] ^ bits] for bits in every)
    else:
        ones = np.ones_like(flat[0][..., :1])
        ahead = np.cumprod(np.concatenate([ones, flat[0][..., :-1]], axis=-1), axis=-1)
        behind = np.cumprod(np.concatenate([ones, flat[0][..., :0:-1]], axis=-1), axis=-1)[..., ::-1]
        result = ahead * behind if count else flat[0]
    return np.moveaxis(result.reshape(moved[0].shape), last, axes)


def _prod_of_others_grad(g: Node, out: Node, *inputs: Node, axis: Axis) -> tuple[Node, ...]:
    """The derivatives of a product are symmetric: a cotangent is one more direction."""
    x, *along = inputs

    def derivative(directions: Sequence[Node]) -> Node:
        return g.graph.make(OPS["prod_of_others"], [x, *directions], g.span, axis=axis)

    others = (along[:i] + along[i + 1 :] for i in range(len(along)))
    return derivative([*along, g]), *(derivative([*rest, g]) for rest in others)


operation(
    "prod",
    "x, axis=None, keepdims=False",
    _rule(sum_dtype),
    lambda np, x, axis, keepdims: _accumulate(np, x, "prod", axis=axis, keepdims=keepdims),
    grad=_prod_grad,
    reduce=Reduction("1", "{0} * {1}", wide=True),
    lower=_along_dropped,
    doc="The product over axes; its gradient is right with zeros.",
)
operation(
    "prod_of_others",
    "x, *along, axis=None",
    lambda solver, inputs, axis: inputs[0].type.strong(),
    _prod_of_others,
    grad=_prod_of_others_grad,
    doc="For each element the product of the other ones, or its derivative along directions.",
    public=False,
)


def _extreme_grad(g: Node, out: Node, x: Node, axis: Axis, keepdims: bool) -> tuple[Node]:
    hit = x.apply("eq", expand(out, x, axis, keepdims))
    return (hit.apply("where", expand(g, x, axis, keepdims), 0),)


def _not_empty(np: Any, x: Any, axis: Axis, what: str) -> None:
    if x.size == 0 and any(x.shape[a] == 0 for a in normal_axes(axis, x.ndim)):
        raise error("R112", what=what)


def _extreme(name: str) -> Callable[..., Any]:
    def meaning(np: Any, x: Any, axis: Axis, keepdims: bool) -> Any:
        _not_empty(np, x, axis, name)
        return getattr(np, name)(x, axis=axis, keepdims=keepdims)

    return meaning


_EXTREMES = {
    "max": Reduction("least", "{greater}({0}, {1})", some=True),
    "min": Reduction("greatest", "{lesser}({0}, {1})", some=True),
}
for _name, _doc in (("max", "greatest"), ("min", "least")):
    operation(
        _name,
        "x, axis=None, keepdims=False",
        _rule(_same),
        _extreme(_name),
        grad=_extreme_grad,
        doc=f"The {_doc} element over axes, NaN if there is one; tied elements get the full gradient each.",
        reduce=_EXTREMES[_name],
        lower=_along_dropped,
    )
operation(
    "peak",
    "x, axis=None, keepdims=False",
    _rule(_same),
    lambda np, x, axis, keepdims: np.max(x, axis=axis, keepdims=keepdims, initial=-np.inf),
    grad=None,
    doc="The greatest element over axes, minus infinity of none.",
    cut="a greatest element, which only shifts",
    public=False,
    reduce=replace(_EXTREMES["max"], some=False),
    lower=_along_dropped,
)


def _logical(name: str) -> Callable[..., Tensor]:
    def rule(solver: Solver, inputs: tuple[Node, ...], *, axis: Axis, keepdims: bool) -> Tensor:
        if inputs[0].dtype is not BOOL:
            raise error("T120", op=name, found=inputs[0].type)
        return Tensor(BOOL, reduced(solver.shape(inputs[0].type), axis, keepdims))

    return rule


for _name, _doc in (("any", "Whether any element is True."), ("all", "Whether all elements are True.")):
    operation(
        _name,
        "x, axis=None, keepdims=False",
        _logical(_name),
        lambda np, x, axis, keepdims, _f=_name: getattr(np, _f)(x, axis=axis, keepdims=keepdims),
        grad=None,
        doc=_doc,
        cut="a logical operation",
        reduce=Reduction("0", "{0} | {1}") if _name == "any" else Reduction("1", "{0} & {1}"),
        lower=_along_dropped,
    )


def _arg_rule(solver: Solver, inputs: tuple[Node, ...], *, axis: int | None, keepdims: bool) -> Tensor:
    if isinstance(axis, tuple):
        raise error("T133", axis=axis)
    return Tensor(I64, reduced(solver.shape(inputs[0].type), axis, keepdims))


def _arg(name: str) -> Callable[..., Any]:
    def meaning(np: Any, x: Any, axis: int | None, keepdims: bool) -> Any:
        _not_empty(np, x, axis, name)
        return getattr(np, name)(x, axis=axis, keepdims=keepdims)

    return meaning


def _lower_arg(out: Node, x: Node, axis: int | None, keepdims: bool) -> Node | None:
    """The least index of those where the element is the extreme one, or NaN."""
    if x.dtype.kind == "c" or x.rank == 0 or (axis is None and x.rank > 1):
        return None
    along = normal_axis(axis or 0, x.rank)
    name = "max" if out.op.name == "argmax" else "min"
    hit = x.apply("eq", x.apply(name, axis=along, keepdims=True))
    if x.dtype.is_inexact:
        hit = hit.apply("or", x.apply("isnan"))
    index = iota(x, along)
    if along < x.rank - 1:
        index = index.apply("expand_dims", axis=tuple(range(1, x.rank - along)))
    least = hit.apply("where", index, 2**63 - 1).apply("min", axis=along, keepdims=keepdims)
    return least


for _name, _doc in (("argmax", "greatest"), ("argmin", "least")):
    operation(
        _name,
        "x, axis=None, keepdims=False",
        _arg_rule,
        _arg(_name),
        grad=None,
        doc=f"The index of the first {_doc} element along an axis, or of the flattened tensor.",
        cut="an index",
        lower=_lower_arg,
    )


# ---------------------------------------------------------------- along an axis


def _along(solver: Solver, inputs: tuple[Node, ...], *, axis: Axis, **_: Any) -> Tensor:
    normal_axes(axis, inputs[0].rank)
    return inputs[0].type.strong()


def _shifted(np: Any, x: Any, axis: Axis) -> Any:
    """X less its greatest finite element along the axes (0 where that is infinite), and that element."""
    top = np.max(x, axis=axis, keepdims=True, initial=-np.inf)
    top = np.where(np.isfinite(top), top, 0).astype(x.dtype)
    return x - top, top


def _softmax(np: Any, x: Any, axis: Axis) -> Any:
    e = np.exp(_shifted(np, x, axis)[0])
    return e / np.sum(e, axis=axis, keepdims=True)


def _log_softmax(np: Any, x: Any, axis: Axis) -> Any:
    z = _shifted(np, x, axis)[0]
    return z - np.log(np.sum(np.exp(z), axis=axis, keepdims=True))


def _logsumexp(np: Any, x: Any, axis: Axis, keepdims: bool) -> Any:
    z, top = _shifted(np, x, axis)
    out = np.log(np.sum(np.exp(z), axis=axis, keepdims=True)) + top
    return out if keepdims else np.squeeze(out, axis=normal_axes(axis, x.ndim))


def _softmax_grad(g: Node, out: Node, x: Node, axis: Axis) -> tuple[Node]:
    return (out * (g - (g * out).apply("sum", axis=axis, keepdims=True)),)


def _log_softmax_grad(g: Node, out: Node, x: Node, axis: Axis) -> tuple[Node]:
    return (g - x.apply("softmax", axis=axis) * g.apply("sum", axis=axis, keepdims=True),)


def _logsumexp_grad(g: Node, out: Node, x: Node, axis: Axis, keepdims: bool) -> tuple[Node]:
    return (expand(g, x, axis, keepdims) * x.apply("softmax", axis=axis),)


def _lower_shifted(x: Node, axis: Axis) -> tuple[Node, Node]:
    top = x.apply("peak", axis=axis, keepdims=True)
    top = top.apply("isfinite").apply("where", top, x.graph.const(0.0, Tensor(x.dtype), x.span))
    return x - top, top


def _lower_softmax(out: Node, x: Node, axis: Axis) -> Node | None:
    if x.dtype.kind == "c":
        return None
    e = _lower_shifted(x, axis)[0].apply("exp")
    return e / e.apply("contract", axis=axis, keepdims=True)


def _lower_log_softmax(out: Node, x: Node, axis: Axis) -> Node | None:
    if x.dtype.kind == "c":
        return None
    z, _ = _lower_shifted(x, axis)
    return z - z.apply("exp").apply("contract", axis=axis, keepdims=True).apply("log")


def _lower_logsumexp(out: Node, x: Node, axis: Axis, keepdims: bool) -> Node | None:
    if x.dtype.kind == "c":
        return None
    if keepdims:
        return _along_dropped(out, x, axis, keepdims)
    z, top = _lower_shifted(x, axis)
    total = z.apply("exp").apply("contract", axis=axis, keepdims=False).apply("log")
    return total + (top.apply("squeeze", axis=normal_axes(axis, x.rank)) if x.rank else top)


operation(
    "softmax",
    "x, axis=-1",
    _along,
    _softmax,
    convert="float",
    grad=_softmax_grad,
    lower=_lower_softmax,
    doc="exp(x) / sum(exp(x)) along axes, shifted by the greatest element so that nothing overflows.",
)
operation(
    "log_softmax",
    "x, axis=-1",
    _along,
    _log_softmax,
    convert="float",
    grad=_log_softmax_grad,
    lower=_lower_log_softmax,
    doc="log(softmax(x)) along axes, finite where softmax underflows.",
)
operation(
    "logsumexp",
    "x, axis=None, keepdims=False",
    _rule(float_dtype),
    _logsumexp,
    convert="float",
    grad=_logsumexp_grad,
    lower=_lower_logsumexp,
    doc="log(sum(exp(x))) over axes, without overflow.",
)


def _cumsum_rule(solver: Solver, inputs: tuple[Node, ...], *, axis: int, reverse: bool = False) -> Tensor:
    normal_axis(axis, inputs[0].rank)
    return Tensor(sum_dtype(inputs[0].dtype), inputs[0].type.shape)


def _cumsum(np: Any, x: Any, axis: int, reverse: bool = False) -> Any:
    if reverse:
        return np.flip(_cumsum(np, np.flip(x, axis), axis), axis)
    return _accumulate(np, x, "cumsum", axis=axis)


operation(
    "cumsum",
    "x, axis=-1, reverse=False",
    _cumsum_rule,
    _cumsum,
    grad=lambda g, out, x, axis, reverse: (g.apply("cumsum", axis=axis, reverse=not reverse),),
    doc="The running sum along an axis, from the end with `reverse = True`.",
)


# ---------------------------------------------------------------- comparison of tensors


def _allclose_rule(solver: Solver, inputs: tuple[Node, ...], **_: Any) -> Tensor:
    solver.broadcast([solver.shape(x.type) for x in inputs])
    return Tensor(BOOL)


operation(
    "allclose",
    "x, y, rtol=1e-05, atol=1e-08, equal_nan=False",
    _allclose_rule,
    lambda np, x, y, rtol, atol, equal_nan: np.bool_(
        np.allclose(x, y, rtol=rtol, atol=atol, equal_nan=equal_nan)
    ),
    convert="arith",
    grad=None,
    lower=lambda out, x, y, **how: x.apply("isclose", y, **how).apply("all", axis=None, keepdims=False),
    doc="Whether |x - y| <= atol + rtol * |y| for all elements.",
    cut="a comparison",
)
