"""Gradients of first and second order against JAX's, where JAX is installed (the extra `oracles`)."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest
from op_cases import CASES, Case, has_gradient, leaves, run

from tlang.graph.grad import grad
from tlang.graph.node import Graph, Node
from tlang.graph.ops.indexing import numpy_index
from tlang.types import Dim

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("jax") is None, reason="JAX is not installed: the extra `oracles` has it"),
]


class Lazy:
    """A module that is imported when it is used: JAX starts threads, which other tests do without."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __getattr__(self, attr: str) -> Any:
        import_module("jax").config.update("jax_enable_x64", True)
        return getattr(import_module(self.name), attr)


jax, jnp, nn, special = map(Lazy, ("jax", "jax.numpy", "jax.nn", "jax.scipy.special"))


def plain(f: Callable[..., Any]) -> Callable[..., Any]:
    """A function of arrays that takes the attributes of a row by the same names."""
    return lambda *xs, **attrs: f(*xs, **attrs)


def shape_of(attrs: dict[str, Any]) -> tuple[int, ...]:
    return tuple(d.const for d in attrs["shape"])


def numbers(value: Any) -> Any:
    """An attribute with integers in the place of sizes."""
    if isinstance(value, Dim):
        return value.const
    return tuple(map(numbers, value)) if isinstance(value, tuple) else value


def at(method: str) -> Callable[..., Any]:
    def update(x: Any, v: Any, *rest: Any, spec: Any) -> Any:
        return getattr(x.at[numpy_index(np, (x, v, *rest), numbers(spec))], method)(v)

    return update


def running(f: Callable[..., Any]) -> Callable[..., Any]:
    def along(x: Any, axis: int, reverse: bool = False) -> Any:
        return jnp.flip(f(jnp.flip(x, axis), axis=axis), axis) if reverse else f(x, axis=axis)

    return along


def recurrence(x: Any, b: Any, axis: int, reverse: bool) -> Any:
    x, b = jnp.moveaxis(x, axis, 0), jnp.moveaxis(b, axis, 0)

    def step(y: Any, row: Any) -> Any:
        y = row[0] * y + row[1]
        return y, y

    _, out = jax.lax.scan(step, jnp.zeros_like(b[0]), (x, b), reverse=reverse)
    return jnp.moveaxis(out, 0, axis)


def triangular(a: Any, b: Any, lower: bool, trans: bool) -> Any:
    part = jnp.tril(a) if lower else jnp.triu(a)
    return solve(jnp.swapaxes(part, -1, -2) if trans else part, b)


def solve(a: Any, b: Any) -> Any:
    return jnp.linalg.solve(a, b[..., None])[..., 0] if b.ndim == 1 else jnp.linalg.solve(a, b)


def quantile(x: Any, q: Any, axis: Any = None, keepdims: bool = False, method: str = "linear") -> Any:
    q = jnp.asarray(q)
    return jnp.quantile(x, q, axis=axis, keepdims=keepdims, method=method)


def topk(x: Any, k: int, axis: int, item: str) -> Any:
    return jnp.flip(jnp.sort(x, axis), axis).take(jnp.arange(k), axis=axis)


#: Functions of JAX with the name of their row, and its attributes.
JNP = """
abs sign square floor ceil rint trunc exp expm1 log log1p log2 log10 sqrt sin cos tan tanh maximum
minimum arcsin arccos arctan sinh cosh arcsinh arccosh arctanh exp2 cbrt deg2rad rad2deg reciprocal
arctan2 hypot logaddexp tril triu diag sum mean var std prod max min expand_dims squeeze transpose
matmul outer dot sort ravel flip tile take ptp median where real imag conj i0
"""
NN = "sigmoid softplus relu selu silu softmax log_softmax"
SCIPY = "erf erfc erfinv digamma beta betaln logsumexp gamma i1"


@cache
def rules() -> dict[str, Callable[..., Any]]:
    """What JAX says of each row, by name."""
    return {
        **{n: plain(getattr(jnp, n)) for n in JNP.split()},
        **{n: plain(getattr(nn, n)) for n in NN.split()},
        **{n: plain(getattr(special, n)) for n in SCIPY.split()},
        "add": jnp.add,
        "sub": jnp.subtract,
        "mul": jnp.multiply,
        "div": jnp.divide,
        "mod": jnp.remainder,
        "pow": jnp.power,
        "neg": jnp.negative,
        "clip": jnp.clip,
        "lgamma": special.gammaln,
        "polygamma": lambda x, order: special.polygamma(order, x),
        "bessel_i": lambda x, order: (special.i0, special.i1)[order](x) if order < 2 else None,
        "softsign": nn.soft_sign,
        "leaky_relu": lambda x, slope: nn.leaky_relu(x, slope),
        "elu": lambda x, alpha: nn.elu(x, alpha),
        "gelu": lambda x: nn.gelu(x, approximate=False),
        "hard_sigmoid": lambda x: jnp.clip(0.2 * x + 0.5, 0, 1),
        "angle": lambda x: 0 * x,
        "cholesky": lambda x: jnp.linalg.cholesky((x + jnp.swapaxes(x, -1, -2)) / 2),
        "solve": solve,
        "solve_triangular": triangular,
        "inv": jnp.linalg.inv,
        "det": jnp.linalg.det,
        "logdet": lambda x: jnp.linalg.slogdet(x)[1],
        "trace": lambda x: jnp.trace(x, axis1=-2, axis2=-1),
        "contract": plain(jnp.sum),
        "cumsum": running(jnp.cumsum),
        "cumprod": running(jnp.cumprod),
        "recur": recurrence,
        "full": lambda v, *_, shape, runtime: jnp.full(
            shape_of({"shape": shape}) if not runtime else (3,), v
        ),
        "broadcast_to": lambda x, *_, shape, runtime: (
            None if any(not d.is_const for d in shape) else jnp.broadcast_to(x, shape_of({"shape": shape}))
        ),
        "broadcast_like": lambda x, y: jnp.broadcast_to(x, y.shape),
        "stretched": lambda x, y: jnp.broadcast_to(x, jnp.broadcast_shapes(x.shape, y.shape)),
        "reshape": lambda x, *_, shape, runtime: x.reshape(shape_of({"shape": shape})),
        "reshape_like": lambda x, y: x.reshape(y.shape),
        "concatenate": lambda *xs, axis: jnp.concatenate(xs, axis),
        "stack": lambda *xs, axis: jnp.stack(xs, axis),
        "index": lambda x, *rest, spec: x[numpy_index(np, (x, *rest), numbers(spec))],
        "add_at": at("add"),
        "bordered": lambda x, v, widths: jnp.pad(x, widths, constant_values=v),
        "divmod": lambda x, y, item: jnp.remainder(x, y) if item == "remainder" else None,
        "round": lambda x, decimals: 0 * x,
        "swapaxes": lambda x, axis1, axis2: jnp.swapaxes(x, axis1, axis2),
        "moveaxis": lambda x, source, destination: jnp.moveaxis(x, source, destination),
        "roll": lambda x, *k, axis, shift=None: jnp.roll(x, shift if shift is not None else k[0], axis),
        "repeat": lambda x, *r, axis, repeats=None: jnp.repeat(x, r[0] if repeats is None else repeats, axis),
        "split": lambda x, sections, axis, item: jnp.split(
            x, sections if isinstance(sections, int) else list(sections), axis
        )[int(item[3:])],
        "pad": lambda x, *v, pad_width, mode="constant", constant_values=None: jnp.pad(
            x, pad_width, mode=mode, **({"constant_values": v[0] if v else 0} if mode == "constant" else {})
        ),
        "full_like": lambda x, v, dtype: jnp.full_like(x, v),
        "linspace": lambda a, b, num, endpoint: jnp.linspace(a, b, num, endpoint=endpoint),
        "meshgrid": lambda *xs, indexing, item: jnp.meshgrid(*xs, indexing=indexing)[int(item[3:])],
        "take_along_axis": lambda x, i, axis: jnp.take_along_axis(x, i, axis),
        "topk": topk,
        "quantile": quantile,
        "norm": lambda x, ord=None, axis=None, keepdims=False: jnp.linalg.norm(x, ord, axis, keepdims),
    }


#: JAX has none of these, or says something else of them; differences examine them.
NOT_IN_JAX = {
    "floordiv",
    "named",
    "stop_gradient",
    "part",
    "prod_of_others",
    "set_at",
    "bessel_j",
    "j0",
    "j1",
}
NOT_IN_JAX |= {"shift", "some", "within", "complex", "cast"}

#: Those of `tests/test_derivatives_jax.py`, and what is made of them.
NOT_HERE = {
    "einsum",
    "tensordot",
    "inner",
    "kron",
    "qr",
    "svd",
    "svdvals",
    "eigh",
    "eigvalsh",
    "slogdet",
    "pinv",
}
NOT_HERE |= {"lstsq", "expm", "matrix_power", "diagonal_of", "diagonal_matrix"}
NOT_HERE |= {"conv1d", "conv2d", "max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d"}

CHOSEN = [
    (name, k)
    for name, cases in CASES.items()
    for k in sorted({len(cases) // 3, len(cases) // 2, len(cases) - 1})
    if name not in NOT_HERE
    and has_gradient(name, k)
    and cases[k].shapes
    and all(0 not in s for s in cases[k].shapes)
]


def weights(x: Any, lib: Any) -> Any:
    """Numbers for the elements of a result: no symmetric sum hides a fault."""
    return lib.cos(lib.arange(int(np.prod(np.shape(x)))) * 0.7 + 0.3).reshape(np.shape(x))


def weighed(x: Node, array: Any) -> Node:
    """The same weighted sum in a graph; `array` has the shape of x."""
    w = np.asarray(weights(array, np))
    graph = x.graph
    flat = graph.const(tuple(w.ravel().tolist()), x.type.with_shape((Dim(w.size),)))
    w_node = flat.apply("reshape_like", x) if x.rank else flat.apply("index", spec=(("int", 0),))
    total = x * w_node
    return total.apply("sum", axis=None, keepdims=False) if total.rank else total


def applied(name: str, case: Case) -> Callable[..., Any]:
    attrs = dict(case.attrs)
    if case.item:
        attrs["item"] = case.item
    return lambda *xs: rules()[name](*xs, **attrs)


def test_every_gradient_is_compared_or_named() -> None:
    differentiable = {n for n in CASES for k in range(len(CASES[n])) if has_gradient(n, k)}
    assert differentiable <= rules().keys() | NOT_IN_JAX | NOT_HERE


@pytest.mark.parametrize(("name", "k"), CHOSEN, ids=[f"{n}-{k}" for n, k in CHOSEN])
def test_first_and_second_order(name: str, k: int) -> None:
    if name in NOT_IN_JAX:
        pytest.skip("not in JAX")
    case = CASES[name][k]
    arrays = [np.asarray(a) for a in case.arrays("f8", seed=300 + k)]
    floats = [i for i, a in enumerate(arrays) if a.dtype.kind == "f"]
    f = applied(name, case)
    out = f(*map(jnp.asarray, arrays))
    if out is None:
        pytest.skip("not in JAX")

    def cost(*xs: Any) -> Any:
        return jnp.sum(f(*xs) * weights(out, jnp))

    def slope(*xs: Any) -> Any:
        return sum(jnp.sum(g * weights(g, jnp)) for g in jax.grad(cost, floats)(*xs))

    graph = Graph()
    xs = leaves(graph, arrays, Dim)  # the weights need known sizes
    node = weighed(case.build(name)(*xs), out)
    for order, function in enumerate((cost, slope)):
        found = grad(node, [xs[i] for i in floats])
        wanted = jax.grad(function, floats)(*map(jnp.asarray, arrays))
        for g, w in zip(found, wanted, strict=True):
            got = 0.0 if g is None else run([g], arrays)[0]
            np.testing.assert_allclose(got, w, rtol=1e-8, atol=1e-10, err_msg=f"order {order + 1}")
        parts = [weighed(g, w) for g, w in zip(found, wanted, strict=True) if g is not None]
        if not parts:
            return
        node = sum(parts[1:], parts[0])
