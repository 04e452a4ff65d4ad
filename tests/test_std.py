"""The modules of `std/`: losses, layers and optimisers, against formulas written with NumPy."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

import tlang

IMPORTS = """
import "std/losses.tl" as losses
import "std/layers.tl" as layers
import "std/optimisers.tl" as optimisers
"""
RNG = np.random.default_rng(5)
Z = RNG.normal(size=(6, 4)) * 3
P = special.softmax(Z, axis=1)
ONE = np.eye(4)[[0, 3, 1, 1, 2, 0]]
LABELS = np.array([0, 3, 1, 1, 2, 0])
Q = special.expit(Z)
BITS = (RNG.random((6, 4)) < 0.5).astype(float)


def module(formula: str, params: str) -> Any:
    return tlang.compile(f"{IMPORTS}function f({params}) = {formula}\n")


LOSSES: dict[str, tuple[tuple[Any, Any], Any]] = {
    "mse": ((Z, Q), np.mean((Z - Q) ** 2)),
    "mae": ((Z, Q), np.mean(abs(Z - Q))),
    "huber": ((Z, Q), np.mean(special.huber(1.0, Z - Q))),
    "binary_cross_entropy": ((Q, BITS), -np.mean(special.xlogy(BITS, Q) + special.xlog1py(1 - BITS, -Q))),
    "binary_cross_entropy_from_logits": (
        (Z, BITS),
        -np.mean(special.xlogy(BITS, Q) + special.xlog1py(1 - BITS, -Q)),
    ),
    "cross_entropy": ((P, ONE), np.mean(special.rel_entr(ONE, P).sum(1))),
    "cross_entropy_from_logits": ((Z, ONE), np.mean(special.rel_entr(ONE, P).sum(1))),
    "label_cross_entropy": ((P, LABELS), np.mean(special.rel_entr(ONE, P).sum(1))),
    "label_cross_entropy_from_logits": ((Z, LABELS), np.mean(special.rel_entr(ONE, P).sum(1))),
    "accuracy": ((Z, LABELS), np.mean(Z.argmax(1) == LABELS)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name: str) -> None:
    given, wanted = LOSSES[name]
    kind = "i64[n]" if given[1] is LABELS else "f64[n, k]"
    m = module(f"losses.{name}(a, b)", f"a: f64[n, k], b: {kind}")
    np.testing.assert_allclose(m.f(*given), wanted, rtol=1e-12)


@pytest.mark.parametrize(
    ("formula", "given"),
    [
        ("losses.binary_cross_entropy(1 / (1 + exp(-z)), t)", (800.0, -800.0)),
        ("losses.binary_cross_entropy_from_logits(z, t)", (800.0, -800.0)),
        (
            "losses.cross_entropy(softmax(stack([z, 0 * z], axis = 1), axis = 1), "
            "stack([t, 1 - t], axis = 1))",
            (800.0, 0.0),
        ),
    ],
)
def test_losses_at_the_ends(formula: str, given: tuple[float, float]) -> None:
    """Logits of 800 cost what they should, with finite gradients, right and wrong answers alike."""
    text = f"{IMPORTS}tensor z, t: f64[n]\ncost = {formula}\nfunction f(z, t) = (cost, grad(cost, z))\n"
    m = tlang.compile(text)
    for target in (0.0, 1.0):
        cost, slope = m.f([given[0]], [target])
        assert cost == (0.0 if target else 800.0)
        assert slope[0] == (0.0 if target else 1.0)


def test_layers() -> None:
    x = RNG.normal(size=(5, 3))
    w, b = RNG.normal(size=(3, 4)), RNG.normal(size=4)
    dense = module("layers.dense(x, w, b)", "x: f64[n, a], w: f64[a, b], b: f64[b]")
    np.testing.assert_allclose(dense.f(x, w, b), x @ w + b)
    for name, axis in (("layer_norm", 1), ("batch_norm", 0)):
        norm = module(f"layers.{name}(x, s, t)", "x: f64[n, a], s: f64[a], t: f64[a]")
        wanted = (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + 1e-5)
        np.testing.assert_allclose(norm.f(x, x[0], x[1]), wanted * x[0] + x[1])
    rows = module("layers.embedding(t, i)", "t: f64[n, a], i: i64[k]")
    np.testing.assert_array_equal(rows.f(x, [4, 0, 4]), x[[4, 0, 4]])
    drop = module("layers.dropout(x, kept, 0.25)", "x: f64[n, a], kept: bool[n, a]")
    np.testing.assert_allclose(drop.f(x, x > 0), np.where(x > 0, x, 0) / 0.75)
    attention = module("layers.attention(q, k, v)", "q: f64[n, a], k: f64[m, a], v: f64[m, b]")
    k, v = RNG.normal(size=(7, 3)), RNG.normal(size=(7, 2))
    np.testing.assert_allclose(
        attention.f(x, k, v), special.softmax(x @ k.T / np.sqrt(3), axis=1) @ v, rtol=1e-12
    )


def test_cells() -> None:
    x, h, c = (RNG.normal(size=(5, n)) for n in (3, 4, 4))
    ws, us, bs = RNG.normal(size=(4, 3, 4)), RNG.normal(size=(4, 4, 4)), RNG.normal(size=(4, 4))
    names = [f"w{k}: f64[a, b], u{k}: f64[b, b], b{k}: f64[b]" for k in range(4)]
    given = [[w, u, b] for w, u, b in zip(ws, us, bs, strict=True)]

    def gate(k: int, x: Any, h: Any) -> Any:
        return special.expit(x @ ws[k] + h @ us[k] + bs[k])

    def words(count: int) -> str:
        return ", ".join(f"w{k}, u{k}, b{k}" for k in range(count))

    gru = module(f"layers.gru_cell(x, h, {words(3)})", f"x: f64[n, a], h: f64[n, b], {', '.join(names[:3])}")
    z, r = gate(0, x, h), gate(1, x, h)
    new = np.tanh(x @ ws[2] + (r * h) @ us[2] + bs[2])
    np.testing.assert_allclose(gru.f(x, h, *chain(*given[:3])), z * h + (1 - z) * new)
    params = f"x: f64[n, a], h: f64[n, b], c: f64[n, b], {', '.join(names)}"
    lstm = module(f"layers.lstm_cell(x, h, c, {words(4)})", params)
    cell = gate(1, x, h) * c + gate(0, x, h) * np.tanh(x @ ws[3] + h @ us[3] + bs[3])
    state, after = lstm.f(x, h, c, *chain(*given))
    np.testing.assert_allclose(after, cell)
    np.testing.assert_allclose(state, gate(2, x, h) * np.tanh(cell))


def adam(w: Any, g: Any, m: Any, v: Any, t: int, rate: float = 0.001) -> Any:
    """Algorithm 1 of Kingma and Ba."""
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
    return w - rate * (m / (1 - 0.9 ** (t + 1))) / (np.sqrt(v / (1 - 0.999 ** (t + 1))) + 1e-8), m, v


STEPS: dict[str, tuple[int, Any]] = {
    "sgd": (0, lambda w, g, t: (w - 0.01 * g,)),
    "momentum": (1, lambda w, g, v, t: (w + 0.9 * v - 0.01 * g, 0.9 * v - 0.01 * g)),
    "nesterov": (1, lambda w, g, v, t: (w + 0.9 * (0.9 * v - 0.01 * g) - 0.01 * g, 0.9 * v - 0.01 * g)),
    "adagrad": (1, lambda w, g, s, t: (w - 0.01 * g / (np.sqrt(s + g**2) + 1e-8), s + g**2)),
    "rmsprop": (
        1,
        lambda w, g, s, t: (w - 0.001 * g / (np.sqrt(0.9 * s + 0.1 * g**2) + 1e-8), 0.9 * s + 0.1 * g**2),
    ),
    "adam": (2, adam),
    "adamw": (2, lambda w, g, m, v, t: adam(w - 0.001 * 0.01 * w, g, m, v, t)),
}


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@pytest.mark.parametrize("name", STEPS)
def test_optimisers(name: str, backend: str) -> None:
    """Ten steps down a curved valley."""
    memories, step = STEPS[name]
    new = ", ".join(["new_w", *(f"new_{k}" for k in range(memories))])
    old = ", ".join(["w", "g", *(f"s{k}" for k in range(memories))])
    counted = ", steps" if name.startswith("adam") else ""
    shared = "".join(f"shared s{k}: f64[3] = zeros(3)\n" for k in range(memories))
    m = tlang.compile(
        f"""{IMPORTS}shared w: f64[3] = [1, -2, 3]
{shared}shared steps: i64 = 0
cost = sum(w ** 4) + w[0] * w[1]
g = grad(cost, w)
function step() = cost where {{
    {new} = optimisers.{name}({old}{counted})
    update w = new_w
    {"; ".join(f"update s{k} = new_{k}" for k in range(memories))}
    update steps = steps + 1
}}
""",
        backend=backend,
    )
    state = [np.array([1.0, -2.0, 3.0]), *[np.zeros(3)] * memories]
    for t in range(10):
        w = state[0]
        g = 4 * w**3 + np.array([w[1], w[0], 0])
        state = list(step(w, g, *state[1:], t))
        m.step()
        np.testing.assert_allclose(m.w.value, state[0], rtol=1e-12)


def test_clipping() -> None:
    m = module("optimisers.clip_norm(x, 2)", "x: f64[n]")
    np.testing.assert_allclose(m.f([3.0, 4.0]), [1.2, 1.6])
    assert m.f([0.3, 0.4]).tolist() == [0.3, 0.4]
    assert m.f([0.0, 0.0]).tolist() == [0, 0]


def test_std_is_found_from_everywhere(tmp_path: Path) -> None:
    """By programs in any folder, and by files that they import; what is not there is an error."""
    (tmp_path / "inner.tl").write_text('import "std/losses.tl" as l\ncost(a, b) = l.mse(a, b)\n')
    (tmp_path / "p.tl").write_text('import "inner.tl" as inner\nfunction f(a: f64[n]) = inner.cost(a, 0)\n')
    assert tlang.load(tmp_path / "p.tl").f([1.0, 3.0]) == 5
    with pytest.raises(tlang.TlangError, match="D190") as caught:
        tlang.compile('import "std/nothing.tl" as n\n')
    assert "there is no file `std/nothing.tl`" in str(caught.value)
