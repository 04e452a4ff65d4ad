"""Random well-typed programs: their values, gradients and second derivatives against JAX."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, seed, settings
from hypothesis import strategies as st

import tlang

jax = pytest.importorskip("jax", reason="JAX is the oracle: pip install jax")
jax.config.update("jax_enable_x64", True)
jnp = jax.numpy

SIZES = {"n": 3, "m": 4, "k": 2, "1": 1}
LEAVES = {
    "x": ("n", "m"),
    "y": ("n", "m"),
    "v": ("m",),
    "c": ("n", "1"),
    "w": ("m", "k"),
    "q": ("m", "m"),
    "s": (),
}
DECLARED = ", ".join(
    f"{name}: f64[{', '.join(dims)}]" if dims else f"{name}: f64" for name, dims in LEAVES.items()
)


@dataclass(frozen=True)
class Term:
    """A formula in tlang and as a function of NumPy's or JAX's module and the leaves, with its dimensions."""

    text: str
    value: Callable[[Any, dict[str, Any]], Any]
    dims: tuple[str, ...]


class Tie(Exception):
    """Two numbers are equal where the gradient depends on which is greater: JAX decides otherwise."""


def greater(xp: Any, a: Any, b: Any) -> Any:
    if xp is np and np.any(a == b):
        raise Tie
    return xp.maximum(a, b)


def greatest(xp: Any, a: Any, axis: int | None) -> Any:
    top = xp.max(a, axis=axis, keepdims=True)
    if xp is np and np.any((a == top).sum(axis=axis) > 1):
        raise Tie
    return xp.max(a, axis=axis)


def softplus(xp: Any, a: Any) -> Any:
    return xp.logaddexp(a, 0.0)


def log_softmax(xp: Any, a: Any, axis: int) -> Any:
    top = xp.max(a, axis=axis, keepdims=True)
    return a - top - xp.log(xp.sum(xp.exp(a - top), axis=axis, keepdims=True))


UNARY: dict[str, Callable[[Any, Any], Any]] = {
    "exp(tanh({}))": lambda xp, a: xp.exp(xp.tanh(a)),
    "sin({})": lambda xp, a: xp.sin(a),
    "cos({})": lambda xp, a: xp.cos(a),
    "tanh({})": lambda xp, a: xp.tanh(a),
    "(1 / (1 + exp(-{})))": lambda xp, a: 1 / (1 + xp.exp(-a)),
    "log(1 + exp({}))": softplus,
    "log(1 / (1 + exp(-{})))": lambda xp, a: -softplus(xp, -a),
    "sqrt(1 + ({}) ** 2)": lambda xp, a: xp.sqrt(1 + a**2),
    "log1p(abs({}))": lambda xp, a: xp.log1p(xp.abs(a)),
    "arctan({})": lambda xp, a: xp.arctan(a),
    "(-({}))": lambda xp, a: -a,
    "({}) ** 3": lambda xp, a: a**3,
    "relu({} + 0.1)": lambda xp, a: xp.where(a + 0.1 > 0, a + 0.1, 0.0),
    "erf({})": lambda xp, a: jax.scipy.special.erf(a) if xp is jnp else np.asarray(jax.scipy.special.erf(a)),
}
BINARY: dict[str, Callable[[Any, Any, Any], Any]] = {
    "({} + {})": lambda xp, a, b: a + b,
    "({} - {})": lambda xp, a, b: a - b,
    "({} * {})": lambda xp, a, b: a * b,
    "({} / (1.5 + sin({})))": lambda xp, a, b: a / (1.5 + xp.sin(b)),
    "maximum({}, {})": greater,
    "where({} > 0.2, {}, 0.5)": lambda xp, a, b: xp.where(a > 0.2, b, 0.5),
}


class Generator:
    """Draws terms from a source of random numbers."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.used: set[str] = set()

    def pick(self, items: Any) -> Any:
        items = list(items)
        return items[self.random.randrange(len(items))]

    def leaf(self) -> Term:
        name = self.pick(LEAVES)
        self.used.add(name)
        return Term(name, lambda xp, e: e[name], LEAVES[name])

    def term(self, depth: int) -> Term:
        if depth == 0:
            return self.leaf()
        made = None
        while made is None:
            kind = self.pick((self.unary, self.unary, self.binary, self.binary, self.reduced, self.product,
                              self.turned, self.sliced, self.joined, self.normalised))  # fmt: skip
            made = kind(depth)
        return made

    def unary(self, depth: int) -> Term:
        form, inner = self.pick(UNARY), self.term(depth - 1)
        return Term(form.format(inner.text), lambda xp, e: UNARY[form](xp, inner.value(xp, e)), inner.dims)

    def binary(self, depth: int) -> Term | None:
        form, a, b = self.pick(BINARY), self.term(depth - 1), self.term(depth - 1)
        dims = together(a.dims, b.dims)
        if dims is None:
            return None
        return Term(
            form.format(a.text, b.text), lambda xp, e: BINARY[form](xp, a.value(xp, e), b.value(xp, e)), dims
        )

    def reduced(self, depth: int) -> Term | None:
        a = self.term(depth - 1)
        if not a.dims:
            return None
        name, axis = (
            self.pick(("sum", "mean", "max", "prod", "logsumexp")),
            self.random.randrange(len(a.dims)),
        )

        def value(xp: Any, e: dict[str, Any]) -> Any:
            x = a.value(xp, e)
            if name == "max":
                return greatest(xp, x, axis)
            if name == "logsumexp":
                top = xp.max(x, axis=axis, keepdims=True)
                return xp.log(xp.sum(xp.exp(x - top), axis=axis)) + xp.squeeze(top, axis)
            return getattr(xp, name)(x, axis=axis)

        return Term(f"{name}({a.text}, axis = {axis})", value, a.dims[:axis] + a.dims[axis + 1 :])

    def product(self, depth: int) -> Term | None:
        a, b = self.term(depth - 1), self.term(depth - 1)
        if not 1 <= len(a.dims) <= 2 or not 1 <= len(b.dims) <= 2 or a.dims[-1] != b.dims[0]:
            return None
        return Term(
            f"({a.text} @ {b.text})",
            lambda xp, e: a.value(xp, e) @ b.value(xp, e),
            (*a.dims[:-1], *b.dims[1:]),
        )

    def turned(self, depth: int) -> Term | None:
        a = self.term(depth - 1)
        if len(a.dims) != 2:
            return None
        return Term(f"({a.text}).T", lambda xp, e: a.value(xp, e).T, a.dims[::-1])

    def sliced(self, depth: int) -> Term | None:
        a = self.term(depth - 1)
        if not a.dims or a.dims[0] == "1":
            return None
        form = self.pick(("[0]", "[-1]", "[::-1]", "[None]"))
        dims = {"[::-1]": a.dims, "[None]": ("1", *a.dims)}.get(form, a.dims[1:])
        index = {"[0]": 0, "[-1]": -1, "[::-1]": slice(None, None, -1), "[None]": None}[form]
        return Term(f"({a.text}){form}", lambda xp, e: a.value(xp, e)[index], dims)

    def joined(self, depth: int) -> Term | None:
        a, b = self.term(depth - 1), self.term(depth - 1)
        if a.dims != b.dims or len(a.dims) > 2:
            return None
        return Term(
            f"sum(stack([{a.text}, {b.text}], axis = 0) ** 2, axis = 0)",
            lambda xp, e: xp.sum(xp.stack([a.value(xp, e), b.value(xp, e)], axis=0) ** 2, axis=0),
            a.dims,
        )

    def normalised(self, depth: int) -> Term | None:
        a = self.term(depth - 1)
        if not a.dims:
            return None
        axis = self.random.randrange(len(a.dims))
        return Term(
            f"log(softmax({a.text}, axis = {axis}))",
            lambda xp, e: log_softmax(xp, a.value(xp, e), axis),
            a.dims,
        )


def together(a: tuple[str, ...], b: tuple[str, ...]) -> tuple[str, ...] | None:
    """The dimensions of a stretched pair; None where they do not fit, or both stretch."""
    size = max(len(a), len(b))
    left, right = ("1",) * (size - len(a)) + a, ("1",) * (size - len(b)) + b
    found = []
    for d, e in zip(left, right, strict=True):
        if d != e and "1" not in (d, e):
            return None
        found.append(e if d == "1" else d)
    result = tuple(found)
    return result if result in (left, right) else None


def check(random: Random, backend: str) -> None:
    """One random program: on NumPy or as compiled code, against JAX."""
    generator = Generator(random)
    term = generator.term(random.randrange(1, 5))
    values = np.random.default_rng(random.randrange(2**32))
    given = {name: values.uniform(-1.5, 1.5, [SIZES[d] for d in dims]) for name, dims in LEAVES.items()}
    try:
        with np.errstate(all="ignore"):
            plain = term.value(np, given)
    except Tie:
        assume(False)
    assume(np.all(np.isfinite(plain)) and np.all(np.abs(plain) < 1e4))
    names = sorted(generator.used)

    def cost(*leaves: Any) -> Any:
        return jnp.sum(term.value(jnp, {**given, **dict(zip(names, leaves, strict=True))}))

    def steepness(*leaves: Any) -> Any:
        return sum(jnp.sum(g**2) for g in jax.grad(cost, tuple(range(len(names))))(*leaves))

    leaves = [jnp.asarray(given[name]) for name in names]
    wanted = [cost(*leaves), *jax.grad(cost, tuple(range(len(names))))(*leaves)]
    twice = random.random() < 0.2
    if twice:
        wanted += jax.grad(steepness, tuple(range(len(names))))(*leaves)
    assume(all(np.all(np.isfinite(g)) and np.all(np.abs(g) < 1e6) for g in wanted))
    first = [f"g_{name}" for name in names]
    total = f"sum({term.text})"
    options = 'disconnected = "zero"'
    lines = [f"cost = {total}", f"{', '.join(first)} = grad(cost, {', '.join(names)}, {options})"]
    if twice:
        squares = " + ".join(f"sum({g} ** 2)" for g in first)
        lines += [
            f"steep = {squares}",
            f"{', '.join('h' + g for g in first)} = grad(steep, {', '.join(names)}, {options})",
        ]
    outputs = ["cost", *first, *(["h" + g for g in first] if twice else [])]
    head = f"function f({DECLARED}) = ({', '.join(outputs)})"
    text = f"{head} where {{\n    " + "\n    ".join(lines) + "\n}\n"
    try:
        found = tlang.compile(text, backend=backend, unused="ignore").f(*given.values())
    except Exception as e:
        e.add_note(text)
        raise
    for name, a, b in zip(outputs, found, wanted, strict=True):
        scale = max(1.0, float(np.max(np.abs(b), initial=0.0)))
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9 * scale, err_msg=f"{name} of\n{text}")


QUIET = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
}


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@seed(20261126)
@settings(max_examples=40, **QUIET)
@given(st.randoms(use_true_random=False))
def test_some(backend: str, random: Random) -> None:
    check(random, backend)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_ten_thousand(block: int) -> None:
    """A thousand programs of each seed, every fourth of them compiled."""

    @seed(block)
    @settings(max_examples=1000, **QUIET)
    @given(st.randoms(use_true_random=True), st.integers(0, 3))
    def run(random: Random, which: int) -> None:
        check(random, "cpu" if which == 0 else "numpy")

    run()
