"""Gradients through complex numbers, against differences: every row that takes them, Fourier transforms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from op_cases import CASES, FLAT, leaves, run

import tlang
from tlang.errors import TlangError
from tlang.graph.grad import grad
from tlang.graph.node import Graph, Node
from tlang.graph.ops import OPS
from tlang.types import Mismatch

TRIED = [
    (n, k)
    for n, k in FLAT
    if n in OPS
    and OPS[n].grad is not None
    and "f" in CASES[n][k].dtypes
    and CASES[n][k].shapes
    and all(0 not in s for s in CASES[n][k].shapes)
]


def cost_of(name: str, k: int) -> tuple[list[Node], Node, list[Any]] | None:
    """Real leaves, a real cost of what a row makes of complex numbers of them; None if it refuses those."""
    case = CASES[name][k]
    arrays = case.arrays("f8", seed=5)
    count = len(case.shapes)
    values = [*arrays, *(0.4 + 0.3 * np.cos(a + 1) for a in arrays[:count])]
    graph = Graph()
    real = leaves(graph, values, case.dim)
    xs = [x.apply("complex", y) for x, y in zip(real[:count], real[len(arrays) :], strict=True)]
    try:
        out = case.build(name)(*xs, *real[count : len(arrays)])
    except (TlangError, Mismatch):
        return None
    if not out.dtype.is_inexact:
        return None
    if out.dtype.kind == "c":
        out = out.apply("real") * 0.7 - out.apply("imag") * 0.4
    out = (out * 1.3).apply("sin")
    total = out.apply("sum", axis=None, keepdims=False) if out.rank else out
    return real, total, values


def differences(total: Node, values: list[Any], i: int, h: float = 1e-5) -> Any:
    out = np.zeros_like(values[i])
    for at in np.ndindex(out.shape):
        ends = []
        for sign in (1, -1):
            moved = [np.array(v) for v in values]
            moved[i][at] += sign * h
            ends.append(run([total], moved)[0])
        out[at] = (ends[0] - ends[1]) / (2 * h)
    return out


def test_rows_that_take_complex_numbers() -> None:
    """All of them at once: first and second derivatives in the real and the imaginary parts."""
    tried = set()
    for name, k in TRIED:
        found = cost_of(name, k)
        if found is None:
            continue
        tried.add(name)
        real, cost, values = found
        floats = [x for x in real if x.dtype.kind == "f"]
        for order in range(2):
            gradients = grad(cost, floats)
            for x, g in zip(floats, gradients, strict=True):
                i = real.index(x)
                if g is None:
                    flat = name in ("sign", "cholesky") or not np.any(differences(cost, values, i))
                    assert order or flat, name
                    continue
                message = f"{name}-{k}, order {order + 1}, input {i}"
                np.testing.assert_allclose(
                    run([g], values)[0], differences(cost, values, i), rtol=3e-6, atol=3e-7, err_msg=message
                )
            parts = [(g * g).apply("sum", axis=None, keepdims=False) for g in gradients if g is not None]
            if not parts:
                break
            cost = sum(parts[1:], parts[0])
    assert {"add", "mul", "div", "exp", "matmul", "sum", "inv", "solve", "abs", "conj", "cast"} - tried <= {
        "cast"
    }


TRANSFORMS = [
    ("fft", {}, (6,)),
    ("fft", {"n": 4}, (6,)),
    ("fft", {"n": 8, "axis": 0}, (5, 2)),
    ("ifft", {}, (5,)),
    ("ifft", {"n": 7}, (2, 5)),
    ("rfft", {}, (6,)),
    ("rfft", {}, (5,)),
    ("rfft", {"n": 4}, (6,)),
    ("rfft", {"n": 9, "axis": 0}, (6, 2)),
    ("irfft", {}, (4,)),
    ("irfft", {"n": 5}, (4,)),
    ("irfft", {"n": 6, "axis": 0}, (3, 2)),
    ("irfft", {"n": 1}, (3,)),
    ("irfft", {"n": 8}, (3,)),
]


@pytest.mark.parametrize(("name", "how", "shape"), TRANSFORMS)
def test_fourier_transforms(name: str, how: dict[str, int], shape: tuple[int, ...]) -> None:
    options = "".join(f", {k} = {v}" for k, v in how.items())
    dims = ", ".join("nmk"[: len(shape)])
    given = "x" if name == "rfft" else "complex(x, y)"
    m = tlang.compile(
        f"""
        tensor x, y: f64[{dims}]
        out = {name}({given}{options})
        cost = sum(sin(real(out) * 1.1) + cos(imag(out) + 0.3))
        function f(x, y) = out
        function c(x, y) = cost
        function g(x, y) = (a, b) where {{ a, b = grad(cost, x, y, disconnected = "zero") }}
        function h(x, y) = hessian(cost, x)
        """,
        unused="ignore",
    )
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(2, *shape))
    z = x if name == "rfft" else x + 1j * y
    np.testing.assert_allclose(m.f(x, y), getattr(np.fft, name)(z, **how), rtol=1e-12, atol=1e-12)
    a, b = m.g(x, y)
    for got, i in ((a, 0), (b, 1)):
        wanted = np.zeros(shape)
        for at in np.ndindex(shape):
            ends = []
            for sign in (1, -1):
                moved = [x.copy(), y.copy()]
                moved[i][at] += sign * 1e-5
                ends.append(m.c(*moved))
            wanted[at] = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-8)
    hessian = m.h(x, y)
    for at in np.ndindex(shape):
        up, down = x.copy(), x.copy()
        up[at] += 1e-5
        down[at] -= 1e-5
        wanted = (m.g(up, y).a - m.g(down, y).a) / 2e-5
        np.testing.assert_allclose(hessian[at], wanted, rtol=1e-5, atol=1e-7)


def test_lengths_of_transforms() -> None:
    m = tlang.compile("""
        function a(x: f64[n]) = rfft(x)
        function b(x: f64[2 * n]) = irfft(rfft(x))
        function c(x: f32[n], k: i64) = fft(x, n = k)
        function d(x: f64[n]) = rfft(x, n = 10)
        function e(x: f64[6, n]) = irfft(rfft(x, axis = 0), axis = 0)
        function f(x: i64[n]) = ifft(fft(x))
    """)
    assert m.a.signature.endswith("-> c128[_]")
    assert m.b.signature.endswith("-> f64[2*n]")
    assert m.c.signature.endswith("-> c64[_]")
    assert m.d.signature.endswith("-> c128[6]")
    assert m.e.signature.endswith("-> f64[6, n]")
    assert m.f.signature.endswith("-> c128[n]")
    x = np.arange(6.0)
    np.testing.assert_allclose(m.b(x), x, atol=1e-14)
    np.testing.assert_allclose(m.c(x.astype("f4"), 4), np.fft.fft(x, 4), rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(m.f(np.arange(5)), np.arange(5), atol=1e-14)
    for name, args in (("a", (np.zeros(0),)), ("c", (np.zeros(3, "f4"), 0)), ("c", (np.zeros(3, "f4"), -1))):
        with pytest.raises(TlangError) as caught:
            m[name](*args)
        assert caught.value.code in ("R112", "R113")
