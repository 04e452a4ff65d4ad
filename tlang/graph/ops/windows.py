"""Convolutions and pooling: products, greatest elements and means of windows that move over the last axes.

`windows` shows all windows of a tensor, `unwindows` adds elements of windows back to where they came from:
each is the other's gradient. A convolution is a sum of products of windows, so its gradients are such sums.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tlang.errors import error
from tlang.graph.node import OPS, Node, operation
from tlang.graph.ops.einsum import product_of
from tlang.graph.ops.formula import formula
from tlang.graph.ops.rules import unknown_dim
from tlang.types import ONE, Dim, Mismatch, Solver, Tensor

Ints = int | tuple[int, ...]
Pads = tuple[tuple[int, int], ...]


# ---------------------------------------------------------------- windows


def _count(n: Dim, k: Dim, stride: int, pads: tuple[int, int], dilation: int) -> Dim:
    """How many windows of k elements there are: (n + pads - dilation (k - 1) - 1) // stride + 1."""
    room = n + Dim(sum(pads) - 1 + dilation) - k.scale(dilation)
    if room.is_const and room.const < -1:
        raise error("T175", size=k, axis=n)
    if any(c % stride for _, c in room.terms):
        return unknown_dim()
    return Dim(room.const // stride, tuple((s, c // stride) for s, c in room.terms)) + ONE


def _windows_rule(
    solver: Solver,
    inputs: tuple[Node, ...],
    *,
    size: tuple[Dim, ...],
    stride: tuple[int, ...],
    pads: Pads,
    dilation: tuple[int, ...],
    least: bool,
) -> Tensor:
    x = inputs[0]
    front, axes = x.shape[: x.rank - len(size)], x.shape[x.rank - len(size) :]
    sizes = tuple(map(solver.resolve, size))
    counts = map(_count, axes, sizes, stride, pads, dilation)
    return Tensor(x.dtype, (*front, *counts, *sizes))


def _sizes(size: Sequence[int | None], like: Any) -> tuple[int, ...]:
    """The sizes of a window: what only the run knows is that of the kernel."""
    return tuple(like.shape[i - len(size)] if k is None else k for i, k in enumerate(size))


def _actual_counts(
    shape: Sequence[int], size: Sequence[int], stride: Sequence[int], pads: Pads, dilation: Sequence[int]
) -> tuple[int, ...]:
    out = []
    for n, k, s, (low, high), d in zip(shape, size, stride, pads, dilation, strict=True):
        count = (n + low + high - d * (k - 1) - 1) // s + 1
        if count < 0:
            raise error("R125", size=k, axis=n)
        out.append(count)
    return tuple(out)


def _least(np: Any, dtype: Any) -> Any:
    if dtype.kind == "f":
        return -np.inf
    return np.iinfo(dtype).min if dtype.kind in "iu" else 0


def _windows(
    np: Any,
    x: Any,
    like: Any,
    size: Sequence[int | None],
    stride: Sequence[int],
    pads: Pads,
    dilation: Sequence[int],
    least: bool,
) -> Any:
    d = len(size)
    sizes, front = _sizes(size, like), x.ndim - d
    counts = _actual_counts(x.shape[front:], sizes, stride, pads, dilation)
    if any(map(any, pads)):
        fill = _least(np, x.dtype) if least else 0
        x = np.pad(x, [(0, 0)] * front + list(pads), constant_values=fill)
    steps = x.strides[front:]
    strides = (
        *x.strides[:front],
        *(a * b for a, b in zip(steps, stride, strict=True)),
        *(a * b for a, b in zip(steps, dilation, strict=True)),
    )
    shape = (*x.shape[:front], *counts, *sizes)
    return np.lib.stride_tricks.as_strided(x, shape, strides, writeable=False)


def _unwindows(
    np: Any,
    g: Any,
    x: Any,
    like: Any,
    size: Sequence[int | None],
    stride: Sequence[int],
    pads: Pads,
    dilation: Sequence[int],
) -> Any:
    d = len(size)
    front = x.ndim - d
    sizes, counts = _sizes(size, like), g.shape[front : front + d]
    lengths = [n + low + high for n, (low, high) in zip(x.shape[front:], pads, strict=True)]
    out = np.zeros((*x.shape[:front], *lengths), x.dtype)
    for at in np.ndindex(*sizes):
        place = tuple(
            slice(i * step, i * step + count * s, s)
            for i, step, count, s in zip(at, dilation, counts, stride, strict=True)
        )
        out[(..., *place)] += g[(..., *at)]
    inside = tuple(slice(low, low + n) for n, (low, _) in zip(x.shape[front:], pads, strict=True))
    return out[(..., *inside)]


def _windows_grad(g: Node, out: Node, x: Node, like: Node, least: bool, **how: Any) -> tuple[Node, None]:
    return g.graph.make(OPS["unwindows"], [g, x, like], g.span, **how), None


def _unwindows_grad(g: Node, out: Node, gx: Node, x: Node, like: Node, **how: Any) -> tuple[Node, None, None]:
    return g.graph.make(OPS["windows"], [g, like], g.span, **how, least=False), None, None


operation(
    "windows",
    "x, like",
    _windows_rule,
    _windows,
    grad=_windows_grad,
    shape_only=frozenset({1}),
    dynamic=True,
    doc="All windows over the last axes: their places, then their elements.",
    public=False,
)
operation(
    "unwindows",
    "g, x, like",
    lambda solver, inputs, **_: Tensor(inputs[0].dtype, inputs[1].shape),
    _unwindows,
    grad=_unwindows_grad,
    shape_only=frozenset({1, 2}),
    doc="Elements of windows added where they are in x.",
    public=False,
)


# ---------------------------------------------------------------- arguments


def _each_axis(value: Ints, count: int, name: str, least: int) -> tuple[int, ...]:
    """A number for each axis; one number is for all."""
    values = (value,) * count if isinstance(value, int) else value
    if len(values) != count or not all(isinstance(v, int) and v >= least for v in values):
        what = "an integer" if count == 1 else f"an integer, or {count} of them"
        raise error("F108", name=name, wanted=f"{what}, from {least}")
    return tuple(values)


def _pads(
    padding: Any, count: int, x: Node, size: Sequence[Dim], stride: Sequence[int], dilation: Sequence[int]
) -> Pads:
    """How many elements are added in front and behind along each axis."""
    if padding == "valid":
        return ((0, 0),) * count
    if padding == "same":
        axes = x.shape[x.rank - count :]
        return tuple(map(_same, axes, size, stride, dilation))
    if isinstance(padding, tuple) and all(isinstance(p, tuple) for p in padding):
        if len(padding) == count and all(len(p) == 2 and min(p) >= 0 for p in padding):
            return padding
        raise error("F108", name="padding", wanted=f"{count} pairs of integers, from 0")
    if isinstance(padding, str):
        raise error("F108", name="padding", wanted='integers, "valid" or "same"')
    return tuple((p, p) for p in _each_axis(padding, count, "padding", 0))


def _same(n: Dim, k: Dim, stride: int, dilation: int) -> tuple[int, int]:
    """So many that there are n / stride windows, rounded up: half of them in front, rounded down."""
    if not k.is_const or (stride != 1 and not n.is_const):
        raise error("T176", size=k if not k.is_const else n)
    reach = dilation * (k.const - 1) + 1
    total = reach - 1 if stride == 1 else max(0, (-(-n.const // stride) - 1) * stride + reach - n.const)
    return total // 2, total - total // 2


# ---------------------------------------------------------------- convolutions


def _conv(name: str, x: Node, w: Node, count: int, stride: Ints, padding: Any, dilation: Ints) -> Node:
    """The sum over channels and window of a window times the kernel, for each place and output channel."""
    if x.rank <= count or w.rank != count + 2:
        raise error("T141", op=name, found=f"{x.type}, {w.type}")
    if not x.graph.solver.unify(x.shape[-count - 1], w.shape[1]):
        raise Mismatch("T177", [(0, "channels of x", x.shape[-count - 1]), (1, "of the kernel", w.shape[1])])
    strides = _each_axis(stride, count, "stride", 1)
    steps = _each_axis(dilation, count, "dilation", 1)
    size = w.shape[2:]
    pads = _pads(padding, count, x, size, strides, steps)
    how: dict[str, Any] = {"size": size, "stride": strides, "pads": pads, "dilation": steps, "least": False}
    seen = x.graph.make(OPS["windows"], [x, w], x.span, **how)
    batch, places, inside = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: x.rank - count - 1], "xy"[:count], "uv"[:count]
    return product_of([seen, w], [f"{batch}c{places}{inside}", f"oc{inside}"], f"{batch}o{places}")


_LAYOUT = (
    "Not flipped, as in neural networks. `padding` is a number of zeros on both sides, pairs of numbers, "
    '"valid" (none) or "same" (so many that with stride 1 the size stays).'
)


@formula(
    "conv1d",
    "x, w, stride=1, padding=0, dilation=1",
    "Convolution of x[..., channels, n] with kernels w[outputs, channels, k]: [..., outputs, places]. "
    + _LAYOUT,
)
def conv1d(x: Node, w: Node, stride: Ints, padding: Any, dilation: Ints) -> Node:
    """Along the last axis."""
    return _conv("conv1d", x, w, 1, stride, padding, dilation)


@formula(
    "conv2d",
    "x, w, stride=1, padding=0, dilation=1",
    "Convolution of x[..., channels, rows, columns] with kernels w[outputs, channels, k, l]: "
    "[..., outputs, places, places]. Stride, padding and dilation are for both axes, or pairs; see `conv1d`.",
)
def conv2d(x: Node, w: Node, stride: Ints, padding: Any, dilation: Ints) -> Node:
    """Along the last two axes."""
    return _conv("conv2d", x, w, 2, stride, padding, dilation)


# ---------------------------------------------------------------- pooling


def _pool(name: str, reduce: str, x: Node, count: int, size: Ints, stride: Ints | None, padding: Any) -> Node:
    """One number for each window; windows lie side by side unless there is a stride."""
    if x.rank < count:
        raise error("T141", op=name, found=x.type)
    if reduce == "max" and x.dtype.kind == "c":
        raise error("T125", found=x.type)
    sizes = _each_axis(size, count, "size", 1)
    strides = sizes if stride is None else _each_axis(stride, count, "stride", 1)
    ones = (1,) * count
    dims = tuple(map(Dim, sizes))
    pads = _pads(padding, count, x, dims, strides, ones)
    how: dict[str, Any] = {"size": dims, "stride": strides, "pads": pads, "dilation": ones}
    seen = x.graph.make(OPS["windows"], [x, x], x.span, **how, least=reduce == "max")
    return seen.apply(reduce, axis=tuple(range(-count, 0)), keepdims=False)


@formula(
    "max_pool1d",
    "x, size, stride=None, padding=0",
    "The greatest of each window of x[..., n]; the stride is `size` unless given. Tied elements get the full "
    "gradient each; padding is never the greatest.",
)
def max_pool1d(x: Node, size: Ints, stride: Ints | None, padding: Any) -> Node:
    """Along the last axis."""
    return _pool("max_pool1d", "max", x, 1, size, stride, padding)


@formula(
    "max_pool2d",
    "x, size, stride=None, padding=0",
    "The greatest of each window of x[..., rows, columns]; sizes are for both, or pairs. See `max_pool1d`.",
)
def max_pool2d(x: Node, size: Ints, stride: Ints | None, padding: Any) -> Node:
    """Along the last two axes."""
    return _pool("max_pool2d", "max", x, 2, size, stride, padding)


@formula(
    "avg_pool1d",
    "x, size, stride=None, padding=0",
    "The mean of each window of x[..., n], padding counted as zeros; the stride is `size` unless given.",
)
def avg_pool1d(x: Node, size: Ints, stride: Ints | None, padding: Any) -> Node:
    """Along the last axis."""
    return _pool("avg_pool1d", "mean", x, 1, size, stride, padding)


@formula(
    "avg_pool2d",
    "x, size, stride=None, padding=0",
    "The mean of each window of x[..., rows, columns]; sizes are for both axes, or pairs; see `avg_pool1d`.",
)
def avg_pool2d(x: Node, size: Ints, stride: Ints | None, padding: Any) -> Node:
    """Along the last two axes."""
    return _pool("avg_pool2d", "mean", x, 2, size, stride, padding)
