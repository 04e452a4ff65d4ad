"""Random recurrences against JAX's `lax.scan`: values, gradients, gradients of gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tlang

jax = pytest.importorskip("jax", reason="JAX is the oracle here (the extra `oracles`)")
WRT = ("w", "u", "xs", "c", "h0")


def expression(rng: np.random.Generator, depth: int, names: list[str]) -> str:
    """A formula of vectors and of the number c, which is written alike in tlang and in Python."""
    if depth == 0 or rng.random() < 0.2:
        return str(rng.choice([*names, "0.5", "c"]))
    a, b = expression(rng, depth - 1, names), expression(rng, depth - 1, names)
    vector = rng.choice(names)
    forms = [
        f"({a} + {b})",
        f"({a} - {b})",
        f"({a} * {b})",
        f"tanh({a})",
        f"sin({a})",
        f"tanh(({a} + {vector}) @ w)",
        f"tanh(({a} * {vector}) @ u)",
        f"({a} * sum({b}))",
    ]
    return forms[rng.integers(len(forms))]


@pytest.mark.parametrize(
    "seed", [*range(4), *(pytest.param(k, marks=pytest.mark.slow) for k in range(4, 60))]
)
def test_agrees_with_jax(seed: int) -> None:
    rng = np.random.default_rng(seed)
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy
    names = ["x", "h", "g"][: 2 + seed % 2]
    carried = names[1:]
    new = [f"tanh({expression(rng, 3, names)} + 0 * x)" for _ in carried]
    out = f"{expression(rng, 2, names)} + 0 * x"
    reverse = bool(rng.integers(2))
    option = ["", ", checkpoint = True", ", checkpoint = 2"][rng.integers(3)]
    results = ["a", "b"][: len(carried)]
    text = f"""
        function f(xs: f64[n, d], w, u: f64[d, d], c: f64, h0, g0: f64[d], v: f64[d, d]) = (
            cost, {", ".join("d" + k for k in WRT)}, second
        ) where {{
            step(x, {", ".join(carried)}) = ({", ".join([*new, out])})
            {", ".join(results)}, o = scan(step, xs, init = ({", ".join([k + "0" for k in carried])}),
                reverse = {reverse}{option})
            cost = sum(a * a) + sum(sin(o)){" + sum(b[0])" if len(carried) == 2 else ""}
            {", ".join("d" + k for k in WRT)} = grad(cost, {", ".join(WRT)}, disconnected = "zero")
            second = grad(sum(dw * v) + sum(du * v) + sum(dxs ** 2) + dc, w, disconnected = "zero")
        }}
    """

    def cost(xs: Any, w: Any, u: Any, c: Any, h0: Any, g0: Any) -> Any:
        known = {"w": w, "u": u, "c": jnp.asarray(c), "tanh": jnp.tanh, "sin": jnp.sin, "sum": jnp.sum}

        def step(carry: Any, x: Any) -> Any:
            scope = {**known, "x": x, **dict(zip(carried, carry, strict=True))}
            made = tuple(eval(e, scope) for e in new)
            return made, (made, eval(out, scope))

        _, (rows, outs) = jax.lax.scan(step, (h0, g0)[: len(carried)], xs, reverse=reverse)
        return (rows[0] ** 2).sum() + jnp.sin(outs).sum() + (rows[1][0].sum() if len(carried) == 2 else 0)

    shapes = [(5, 3), (3, 3), (3, 3), (), (3,), (3,)]
    data = [rng.normal(size=s) for s in shapes]
    v = rng.normal(size=(3, 3))
    gradients = jax.grad(cost, (1, 2, 0, 3, 4))

    def slope(w: Any) -> Any:
        dw, du, dxs, dc, _ = gradients(data[0], w, *data[2:])
        return (dw * v).sum() + (du * v).sum() + (dxs**2).sum() + dc

    wanted = [cost(*data), *gradients(*data), jax.grad(slope)(data[1])]
    got = tlang.compile(text, backend="numpy", unused="ignore").f(*data, v)
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)
