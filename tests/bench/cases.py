"""What is measured: for each case the same work on every side, as a function without arguments.

A side is a library; its builder makes everything ready, and what it returns does the work once and gives the
result, by which the sides are compared. A library that is not installed has no column.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

#: As many as this process may use.
THREADS = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
Work = Callable[[], Any]
Builder = Callable[..., Work]
Data = Callable[[np.random.Generator], tuple[Any, ...]]


@dataclass
class Case:
    """A row of the table: its data, a builder for each side, and the aim as a ratio to the best peer."""

    name: str
    data: Data
    sides: dict[str, Builder]
    aim: float = 1.0
    tolerance: float = 1e-9
    random: bool = False
    quick: bool = False


def tlang_side(text: str) -> Builder:
    """The function f of a program."""

    def build(*data: Any) -> Work:
        import tlang

        f = tlang.compile(text, backend="cpu", threads=THREADS).f
        return lambda: f(*data)

    return build


def numexpr_side(text: str, names: str) -> Builder:
    """An expression of arrays."""

    def build(*data: Any) -> Work:
        import numexpr

        values = dict(zip(names.split(), data, strict=True))
        return lambda: numexpr.evaluate(text, values)

    return build


def jax_side(f: Callable[..., Any]) -> Builder:
    """A jitted function."""

    def build(*data: Any) -> Work:
        import jax

        jax.config.update("jax_enable_x64", True)
        made = jax.jit(f)
        given = [jax.numpy.asarray(x) for x in data]
        return lambda: jax.block_until_ready(made(*given))

    return build


def pytensor_side(f: Callable[..., Any]) -> Builder:
    """A compiled function."""

    def build(*data: Any) -> Work:
        import pytensor
        import pytensor.tensor as pt

        arrays = [np.asarray(x) for x in data]
        given = [pt.TensorType(x.dtype.name, [1 if d == 1 else None for d in x.shape])() for x in arrays]
        made = pytensor.function(given, f(*given))
        made.trust_input = True
        return lambda: made(*arrays)

    return build


def module(name: str) -> Any:
    """NumPy, or what has its names in another library."""
    from importlib import import_module

    return import_module(name)


def alike(f: Callable[..., Any]) -> dict[str, Builder]:
    """The sides of a function that is written alike for all, `f(xp, *data)`."""
    return {
        "numpy": lambda *data: lambda: f(np, *data),
        "jax": jax_side(lambda *data: f(module("jax.numpy"), *data)),
        "pytensor": pytensor_side(lambda *data: f(module("pytensor.tensor"), *data)),
    }


def chain(xp: Any, a: Any, b: Any, x: Any, y: Any, z: Any) -> Any:
    """An elementwise chain with four functions."""
    return a * x**2 + b * xp.sin(y) + xp.tanh(x * y) - xp.log1p(abs(z))


def soft(xp: Any, x: Any) -> Any:
    """Softmax of rows."""
    e = xp.exp(x - xp.max(x, axis=1, keepdims=True))
    return e / xp.sum(e, axis=1, keepdims=True)


def log_sum(xp: Any, x: Any) -> Any:
    """The logarithm of sums of exponentials of rows."""
    top = xp.max(x, axis=1, keepdims=True)
    return (top + xp.log(xp.sum(xp.exp(x - top), axis=1, keepdims=True)))[:, 0]


STEP = """
tensor x: {t}[n, 784]
tensor y: {t}[n]
shared w: {t}[784] = zeros(784, {t})
shared b: {t} = 0
p = 1 / (1 + exp(-(x @ w) - b))
xent = -y * log(p) - (1 - y) * log(1 - p)
cost = mean(xent) + 0.01 * sum(w ** 2)
gw, gb = grad(cost, w, b)
function train(x, y) = (p > 0.5, xent) where {{
    update w = w - 0.1 * gw
    update b = b - 0.1 * gb
}}
"""
STEPS = 200
MLP = """
tensor x: f64[n, 784]
tensor y: f64[n, 10]
shared w1: f64[784, 256] = zeros((784, 256))
shared b1: f64[256] = zeros(256)
shared w2: f64[256, 10] = zeros((256, 10))
shared b2: f64[10] = zeros(10)
cost = -mean(sum(y * log_softmax(tanh(x @ w1 + b1) @ w2 + b2, axis = 1), axis = 1))
g1, h1, g2, h2 = grad(cost, w1, b1, w2, b2)
function train(x, y) = cost where {
    update w1 = w1 - 0.1 * g1
    update b1 = b1 - 0.1 * h1
    update w2 = w2 - 0.1 * g2
    update b2 = b2 - 0.1 * h2
}
"""
MLP_STEPS = 20


def tlang_steps(dtype: str) -> Builder:
    """A loop of steps of logistic regression, of which the weights are wanted."""

    def build(x: Any, y: Any) -> Work:
        import tlang

        m = tlang.compile(STEP.format(t=dtype), backend="cpu", threads=THREADS)

        def work() -> Any:
            m.w.value, m.b.value = np.zeros(784, x.dtype), x.dtype.type(0)
            m.repeat(STEPS, "train", x, y)
            return m.w.value

        return work

    return build


def numpy_steps(x: Any, y: Any) -> Work:
    """The same by hand."""
    real = x.dtype.type

    def work() -> Any:
        w, b = np.zeros(784, x.dtype), real(0)
        for _ in range(STEPS):
            d = (1 / (1 + np.exp(-(x @ w) - b)) - y) / real(len(y))
            w -= real(0.1) * (d @ x + real(0.02) * w)
            b -= real(0.1) * d.sum()
        return w

    return work


def jax_steps(x: Any, y: Any) -> Work:
    """The same with JAX's gradient, in one compiled loop."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def cost(w: Any, b: Any, x: Any, y: Any) -> Any:
        z = x @ w + b
        return jnp.mean(jnp.logaddexp(0, z) - y * z) + 0.01 * jnp.sum(w**2)

    @jax.jit
    def run(x: Any, y: Any) -> Any:
        def step(_: Any, s: Any) -> Any:
            gw, gb = jax.grad(cost, (0, 1))(*s, x, y)
            return s[0] - 0.1 * gw, s[1] - 0.1 * gb

        return jax.lax.fori_loop(0, STEPS, step, (jnp.zeros(784, x.dtype), jnp.zeros((), x.dtype)))[0]

    given = jnp.asarray(x), jnp.asarray(y)
    return lambda: jax.block_until_ready(run(*given))


def pytensor_steps(x: Any, y: Any) -> Work:
    """The same with PyTensor's gradient, a call for each step."""
    import pytensor
    import pytensor.tensor as pt

    tx, ty = pt.matrix(dtype=x.dtype.name), pt.vector(dtype=x.dtype.name)
    w, b = pytensor.shared(np.zeros(784, x.dtype)), pytensor.shared(x.dtype.type(0))
    z = tx @ w + b
    cost = pt.mean(pt.softplus(z) - ty * z) + x.dtype.type(0.01) * pt.sum(w**2)
    gw, gb = pytensor.grad(cost, [w, b])
    rate = x.dtype.type(0.1)
    f = pytensor.function([tx, ty], [], updates=[(w, w - rate * gw), (b, b - rate * gb)])
    f.trust_input = True

    def work() -> Any:
        w.set_value(np.zeros(784, x.dtype))
        b.set_value(x.dtype.type(0))
        for _ in range(STEPS):
            f(x, y)
        return w.get_value()

    return work


def tlang_mlp(x: Any, y: Any, w1: Any, w2: Any) -> Work:
    """A loop of steps of a network."""
    import tlang

    m = tlang.compile(MLP, backend="cpu", threads=THREADS)

    def work() -> Any:
        m.w1.value, m.w2.value, m.b1.value, m.b2.value = w1, w2, np.zeros(256), np.zeros(10)
        m.repeat(MLP_STEPS, "train", x, y)
        return m.w2.value

    return work


def numpy_mlp(x: Any, y: Any, w1: Any, w2: Any) -> Work:
    """The same by hand."""

    def work() -> Any:
        a, b, c, d = w1.copy(), np.zeros(256), w2.copy(), np.zeros(10)
        for _ in range(MLP_STEPS):
            h = np.tanh(x @ a + b)
            g = (soft(np, h @ c + d) - y) / len(y)
            back = (g @ c.T) * (1 - h * h)
            c -= 0.1 * (h.T @ g)
            d -= 0.1 * g.sum(0)
            a -= 0.1 * (x.T @ back)
            b -= 0.1 * back.sum(0)
        return c

    return work


def jax_mlp(x: Any, y: Any, w1: Any, w2: Any) -> Work:
    """The same with JAX's gradient, in one compiled loop."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def cost(s: Any, x: Any, y: Any) -> Any:
        return -jnp.mean(jnp.sum(y * jax.nn.log_softmax(jnp.tanh(x @ s[0] + s[1]) @ s[2] + s[3]), axis=1))

    @jax.jit
    def run(x: Any, y: Any, s: Any) -> Any:
        def step(_: Any, s: Any) -> Any:
            return jax.tree.map(lambda p, g: p - 0.1 * g, s, jax.grad(cost)(s, x, y))

        return jax.lax.fori_loop(0, MLP_STEPS, step, s)[2]

    given = tuple(map(jnp.asarray, (x, y)))
    start = tuple(map(jnp.asarray, (w1, np.zeros(256), w2, np.zeros(10))))
    return lambda: jax.block_until_ready(run(*given, start))


RNN = """
tensor xs: f64[n, d]
tensor w, u: f64[d, d]
step(x, h) = tanh(x @ w + h @ u)
hs = scan(step, xs, init = zeros(d))
cost = sum(hs ** 2)
gw, gu = grad(cost, w, u)
"""


def numpy_rnn(xs: Any, w: Any, u: Any) -> Work:
    """A recurrent network as a loop of NumPy."""

    def work() -> Any:
        h, out = np.zeros(len(w)), np.empty_like(xs)
        for t, x in enumerate(xs):
            out[t] = h = np.tanh(x @ w + h @ u)
        return out

    return work


def numpy_rnn_gradient(xs: Any, w: Any, u: Any) -> Work:
    """Its gradient, back through time."""
    forward = numpy_rnn(xs, w, u)

    def work() -> Any:
        hs = forward()
        before = np.concatenate([np.zeros((1, len(w))), hs[:-1]])
        gs, g = np.empty_like(xs), np.zeros(len(w))
        for t in range(len(xs))[::-1]:
            gs[t] = (g + 2 * hs[t]) * (1 - hs[t] * hs[t])
            g = u @ gs[t]
        return [xs.T @ gs, before.T @ gs]

    return work


def jax_rnn(xs: Any, w: Any, u: Any) -> Any:
    """The same by `lax.scan`."""
    import jax
    import jax.numpy as jnp

    def step(h: Any, x: Any) -> Any:
        h = jnp.tanh(x @ w + h @ u)
        return h, h

    return jax.lax.scan(step, jnp.zeros(len(w)), xs)[1]


def jax_rnn_gradient(xs: Any, w: Any, u: Any) -> Any:
    """The gradient of a cost of it."""
    import jax

    return jax.grad(lambda w, u: (jax_rnn(xs, w, u) ** 2).sum(), (0, 1))(w, u)


def jax_random(kind: str) -> Builder:
    """A million numbers from a key."""

    def build() -> Work:
        import jax

        jax.config.update("jax_enable_x64", True)
        key = jax.random.key(0)
        f = jax.jit(lambda k: getattr(jax.random, kind)(k, (10**6,), "float64"))
        return lambda: jax.block_until_ready(f(key))

    return build


def _matrix(name: str, expression: str, f: Callable[..., Any], aim: float) -> Case:
    text = f"tensor x: f64[n, m]\nfunction f(x) = {expression}\n"
    return Case(name, lambda r: (r.normal(size=(1000, 1000)),), {"tlang": tlang_side(text), **alike(f)}, aim)


def _product(n: int) -> Case:
    text = "tensor x: f64[n, k]\ntensor y: f64[k, m]\nfunction f(x, y) = x @ y\n"
    sides = {"tlang": tlang_side(text), **alike(lambda xp, x, y: x @ y)}
    return Case(f"matmul {n}", lambda r: tuple(r.normal(size=(2, n, n))), sides, 1.05)


def _steps(dtype: str, short: str) -> Case:
    def data(r: np.random.Generator) -> tuple[Any, ...]:
        return r.normal(size=(400, 784)).astype(dtype), r.integers(0, 2, 400).astype(dtype)

    sides: dict[str, Builder] = {"tlang": tlang_steps(short), "numpy": numpy_steps}
    sides |= {"jax": jax_steps, "pytensor": pytensor_steps}
    name = f"logistic regression 400x784 {short}, {STEPS} steps in a loop"
    return Case(name, data, sides, 0.88, 1e-8 if short == "f64" else 1e-3)


def _rnn(r: np.random.Generator) -> tuple[Any, ...]:
    return r.normal(size=(1000, 64)), *(r.normal(size=(2, 64, 64)) / 16)


def _mlp(r: np.random.Generator) -> tuple[Any, ...]:
    weights = 0.05 * r.normal(size=(784, 256)), 0.05 * r.normal(size=(256, 10))
    return r.normal(size=(128, 784)), np.eye(10)[r.integers(0, 10, 128)], *weights


def _logistic(n: int) -> Case:
    sides = {
        "tlang": tlang_side("tensor x: f64[n]\nfunction f(x) = 1 / (1 + exp(-x))\n"),
        "numexpr": numexpr_side("1 / (1 + exp(-x))", "x"),
        **alike(lambda xp, x: 1 / (1 + xp.exp(-x))),
    }
    return Case(f"logistic function, 10^{len(str(n)) - 1}", lambda r: (r.normal(size=n),), sides, 0.75)


def _chain(name: str, types: tuple[str, str, str], data: Data) -> Case:
    text = "a * x ** 2 + b * sin(y) + tanh(x * y) - log1p(abs(z))"
    x, y, z = types
    program = f"tensor a: f64\ntensor b: f64\ntensor x: {x}\ntensor y: {y}\ntensor z: {z}\n"
    sides = {"tlang": tlang_side(f"{program}function f(a, b, x, y, z) = {text}\n")}
    sides["numexpr"] = numexpr_side(text, "a b x y z")
    return Case(name, lambda r: (2.0, 3.0, *data(r)), {**sides, **alike(chain)}, 0.4)


def _random(kind: str, text: str) -> Case:
    draw = {"uniform": "random", "normal": "standard_normal"}[kind]
    generator = np.random.default_rng(0)
    sides: dict[str, Builder] = {
        "tlang": tlang_side(f"random r: f64[1_000_000] ~ {text}\nfunction f() = r\n"),
        "numpy": lambda: lambda: getattr(generator, draw)(10**6),
        "jax": jax_random(kind),
    }
    return Case(f"{kind}, 10^6", lambda r: (), sides, 0.5, random=True)


_VECTOR = "f64[n]"
_ADD = "tensor x: f64\ntensor y: f64\nfunction f(x, y) = x + y\n"
CASES = [
    _logistic(10**6),
    _logistic(10**7),
    _chain("chain of 4 functions, 10^6", (_VECTOR,) * 3, lambda r: tuple(r.normal(size=(3, 10**6)))),
    _chain(
        "the chain with a row and a column",
        ("f64[n, m]", "f64[m]", "f64[n, 1]"),
        lambda r: (r.normal(size=(1000, 1000)), r.normal(size=1000), r.normal(size=(1000, 1))),
    ),
    _matrix("sum of columns, 1000x1000", "sum(x, axis = 0)", lambda xp, x: xp.sum(x, axis=0), 1.0),
    _matrix("sum of rows, 1000x1000", "sum(x, axis = 1)", lambda xp, x: xp.sum(x, axis=1), 1.0),
    _matrix("sum of all, 1000x1000", "sum(x)", lambda xp, x: xp.sum(x), 1.0),
    _matrix("softmax of rows", "softmax(x, axis = 1)", soft, 0.8),
    _matrix(
        "mean and variance of rows",
        "(mean(x, axis = 1), var(x, axis = 1))",
        lambda xp, x: [xp.mean(x, axis=1), xp.var(x, axis=1)],
        0.5,
    ),
    _matrix("logsumexp of rows", "logsumexp(x, axis = 1)", log_sum, 0.8),
    _product(8),
    _product(64),
    _product(1024),
    _steps("float64", "f64"),
    _steps("float32", "f32"),
    Case(
        f"MLP 784-256-10, batch 128, {MLP_STEPS} steps in a loop",
        _mlp,
        {"tlang": tlang_mlp, "numpy": numpy_mlp, "jax": jax_mlp},
        0.95,
        1e-7,
    ),
    Case(
        "recurrent network, 1000 steps, 64 hidden",
        _rnn,
        {
            "tlang": tlang_side(RNN + "function f(xs, w, u) = hs\n"),
            "numpy": numpy_rnn,
            "jax": jax_side(jax_rnn),
        },
        0.9,
    ),
    Case(
        "its gradient",
        _rnn,
        {
            "tlang": tlang_side(RNN + "function f(xs, w, u) = (gw, gu)\n"),
            "numpy": numpy_rnn_gradient,
            "jax": jax_side(jax_rnn_gradient),
        },
        0.9,
    ),
    _random("uniform", "uniform(0, 1)"),
    _random("normal", "normal(0, 1)"),
    Case(
        "a call of x + y, two numbers",
        lambda r: (1.5, 2.5),
        {"tlang": tlang_side(_ADD), **alike(lambda xp, x, y: x + y)},
        0.1,
        quick=True,
    ),
]
