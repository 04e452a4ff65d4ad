"""Linear algebra, windows and Fourier transforms beside JAX: values, first and second derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tlang

jax: Any = pytest.importorskip("jax", reason="JAX is the peer of these tests: pip install jax")
jax.config.update("jax_enable_x64", True)
jnp: Any = jax.numpy
lax: Any = jax.lax

pytestmark = pytest.mark.slow


def channels_last(padding: Any, **how: Any) -> Callable[[Any, Any], Any]:
    names = ("NCHW", "OIHW", "NCHW")
    return lambda x, w: lax.conv_general_dilated(x, w, padding=padding, dimension_numbers=names, **how)


def pooled(x: Any, size: tuple[int, ...], strides: tuple[int, ...], mean: bool) -> Any:
    if mean:
        return lax.reduce_window(x, 0.0, lax.add, size, strides, "VALID") / np.prod(size)
    return lax.reduce_window(x, -jnp.inf, lax.max, size, strides, "VALID")


def spd(x: Any) -> Any:
    return x @ x.T + 2 * jnp.eye(x.shape[0])


#: Formulas of x and w with their types, and the same in JAX, of arrays of these shapes.
PAIRS: tuple[tuple[str, str, Callable[..., Any], tuple[tuple[int, ...], ...]], ...] = (
    ("x @ w", "x: f64[n, m], w: f64[m, k]", lambda x, w: x @ w, ((2, 3), (3, 2))),
    ("x @ w", "x: f64[b, n, m], w: f64[m]", lambda x, w: x @ w, ((2, 2, 3), (3,))),
    ("x @ w", "x: f64[m], w: f64[b, m, k]", lambda x, w: x @ w, ((3,), (2, 3, 2))),
    ("x @ w", "x: f64[b, 1, n, m], w: f64[c, m, k]", lambda x, w: x @ w, ((2, 1, 2, 3), (2, 3, 2))),
    (
        'einsum("bij,bkj->ik", x, w)',
        "x: f64[b, n, m], w: f64[b, k, m]",
        lambda x, w: jnp.einsum("bij,bkj->ik", x, w),
        ((2, 2, 3), (2, 2, 3)),
    ),
    (
        'einsum("ii,ij->j", x, w)',
        "x: f64[n, n], w: f64[n, m]",
        lambda x, w: jnp.einsum("ii,ij->j", x, w),
        ((3, 3), (3, 2)),
    ),
    (
        "tensordot(x, w, axes = ((1, 0), (0, 2)))",
        "x: f64[n, m], w: f64[m, k, n]",
        lambda x, w: jnp.tensordot(x, w, ((1, 0), (0, 2))),
        ((2, 3), (3, 2, 2)),
    ),
    ("kron(x, w)", "x: f64[n, m], w: f64[k, l]", jnp.kron, ((2, 2), (2, 3))),
    ("inv(x) @ w", "x: f64[n, n], w: f64[n, m]", lambda x, w: jnp.linalg.inv(x) @ w, ((3, 3), (3, 2))),
    ("solve(x, w)", "x: f64[n, n], w: f64[n]", jnp.linalg.solve, ((3, 3), (3,))),
    ("det(x) * w", "x: f64[n, n], w: f64[m]", lambda x, w: jnp.linalg.det(x) * w, ((3, 3), (2,))),
    (
        "slogdet(x).logabsdet * w",
        "x: f64[n, n], w: f64[m]",
        lambda x, w: jnp.linalg.slogdet(x)[1] * w,
        ((3, 3), (2,)),
    ),
    (
        "cholesky(x @ x.T + 2 * eye(n)) @ w",
        "x: f64[n, n], w: f64[n]",
        lambda x, w: jnp.linalg.cholesky(spd(x)) @ w,
        ((3, 3), (3,)),
    ),
    ("qr(x).Q @ w", "x: f64[n, m], w: f64[m]", lambda x, w: jnp.linalg.qr(x)[0] @ w, ((4, 3), (3,))),
    ("qr(x).R @ w", "x: f64[n, m], w: f64[m]", lambda x, w: jnp.linalg.qr(x)[1] @ w, ((4, 3), (3,))),
    (
        "svd(x, full_matrices = False).U @ w",
        "x: f64[n, m], w: f64[m]",
        lambda x, w: jnp.linalg.svd(x, full_matrices=False)[0] @ w,
        ((4, 3), (3,)),
    ),
    (
        "w @ svd(x, full_matrices = False).Vh",
        "x: f64[n, m], w: f64[n]",
        lambda x, w: w @ jnp.linalg.svd(x, full_matrices=False)[2],
        ((2, 4), (2,)),
    ),
    (
        "svd(x, full_matrices = False).S * w",
        "x: f64[n, m], w: f64[m]",
        lambda x, w: jnp.linalg.svd(x, full_matrices=False)[1] * w,
        ((4, 3), (3,)),
    ),
    (
        "eigh(x + x.T).eigenvectors @ w",
        "x: f64[n, n], w: f64[n]",
        lambda x, w: jnp.linalg.eigh(x + x.T)[1] @ w,
        ((3, 3), (3,)),
    ),
    (
        "eigh(x + x.T).eigenvalues * w",
        "x: f64[n, n], w: f64[n]",
        lambda x, w: jnp.linalg.eigh(x + x.T)[0] * w,
        ((3, 3), (3,)),
    ),
    ("pinv(x) @ w", "x: f64[n, m], w: f64[n]", lambda x, w: jnp.linalg.pinv(x) @ w, ((4, 3), (4,))),
    ("pinv(x) @ w", "x: f64[n, m], w: f64[n]", lambda x, w: jnp.linalg.pinv(x) @ w, ((2, 3), (2,))),
    ("lstsq(x, w).x", "x: f64[n, m], w: f64[n]", lambda x, w: jnp.linalg.lstsq(x, w)[0], ((4, 2), (4,))),
    (
        "expm(x) @ w",
        "x: f64[n, n], w: f64[n]",
        lambda x, w: jax.scipy.linalg.expm(x) @ w,
        ((3, 3), (3,)),
    ),
    (
        "matrix_power(x, 3) @ w",
        "x: f64[n, n], w: f64[n]",
        lambda x, w: jnp.linalg.matrix_power(x, 3) @ w,
        ((3, 3), (3,)),
    ),
    (
        "norm(x, axis = 1) * w",
        "x: f64[n, m], w: f64[n]",
        lambda x, w: jnp.linalg.norm(x, axis=1) * w,
        ((3, 4), (3,)),
    ),
    (
        "norm(x, axis = 0, ord = 3) * w",
        "x: f64[n, m], w: f64[m]",
        lambda x, w: jnp.linalg.norm(x, axis=0, ord=3) * w,
        ((3, 4), (4,)),
    ),
    (
        'norm(x, ord = "nuc") * w',
        "x: f64[n, m], w: f64[k]",
        lambda x, w: jnp.linalg.norm(x, ord="nuc") * w,
        ((3, 2), (2,)),
    ),
    (
        "conv2d(x, w)",
        "x: f64[b, c, h, v], w: f64[o, c, k, l]",
        channels_last("VALID", window_strides=(1, 1)),
        ((2, 2, 3, 4), (2, 2, 2, 2)),
    ),
    (
        "conv2d(x, w, stride = (2, 1), padding = ((1, 0), (2, 1)), dilation = (1, 2))",
        "x: f64[b, c, h, v], w: f64[o, c, k, l]",
        channels_last([(1, 0), (2, 1)], window_strides=(2, 1), rhs_dilation=(1, 2)),
        ((1, 2, 4, 4), (2, 2, 2, 2)),
    ),
    (
        'conv2d(x, w, padding = "same", stride = 2)',
        "x: f64[1, 2, 4, 5], w: f64[2, 2, 3, 2]",
        channels_last("SAME", window_strides=(2, 2)),
        ((1, 2, 4, 5), (2, 2, 3, 2)),
    ),
    (
        "max_pool2d(x, 2) * w",
        "x: f64[n, m], w: f64[k]",
        lambda x, w: pooled(x, (2, 2), (2, 2), False) * w,
        ((4, 4), (2,)),
    ),
    (
        "avg_pool2d(x, (2, 3), stride = 1) * w",
        "x: f64[n, 4], w: f64[2]",
        lambda x, w: pooled(x, (2, 3), (1, 1), True) * w,
        ((4, 4), (2,)),
    ),
    (
        "abs(fft(x * w[0], n = 4)) ** 2",
        "x: f64[n], w: f64[m]",
        lambda x, w: jnp.abs(jnp.fft.fft(x * w[0], n=4)) ** 2,
        ((5,), (2,)),
    ),
    (
        "irfft(rfft(x, axis = 0)[1:3] * w, axis = 0)",
        "x: f64[6, m], w: f64[m]",
        lambda x, w: jnp.fft.irfft(jnp.fft.rfft(x, axis=0)[1:3] * w, axis=0),
        ((6, 2), (2,)),
    ),
    (
        "angle(fft(x)) * w[0]",
        "x: f64[n], w: f64[m]",
        lambda x, w: jnp.angle(jnp.fft.fft(x)) * w[0],
        ((5,), (2,)),
    ),
)


@pytest.mark.parametrize(("formula", "types", "peer", "shapes"), PAIRS, ids=[p[0] for p in PAIRS])
def test_values_gradients_and_hessians(
    formula: str, types: str, peer: Callable[..., Any], shapes: tuple[tuple[int, ...], ...]
) -> None:
    m = tlang.compile(
        f"""
        function f({types}) = {formula}
        function g({types}) = (a, b) where {{
            y = {formula}; a, b = grad(sum(sin(y) + y * y * 0.3), x, w)
        }}
        function j({types}) = jacobian({formula}, x)
        function h({types}) = hessian(sum(sin(y) + y * y * 0.3), x) where {{ y = {formula} }}
        """,
        unused="ignore",
    )
    rng = np.random.default_rng(7)
    x, w = (rng.normal(size=s) for s in shapes)

    def cost(x: Any, w: Any) -> Any:
        y = peer(x, w)
        return jnp.sum(jnp.sin(y) + y * y * 0.3)

    wanted = np.asarray(peer(x, w))
    np.testing.assert_allclose(m.f(x, w), wanted, rtol=1e-10, atol=1e-12)
    for got, i in zip(m.g(x, w), (0, 1), strict=True):
        np.testing.assert_allclose(got, jax.grad(cost, i)(x, w), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(m.j(x, w), jax.jacobian(peer)(x, w), rtol=1e-8, atol=1e-10)
    np.testing.assert_allclose(m.h(x, w), jax.hessian(cost)(x, w), rtol=1e-7, atol=1e-9)
