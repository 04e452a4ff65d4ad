"""Special functions against mpmath: erfinv, beta, Bessel functions over their whole range."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

import tlang
from tlang.graph.ops import OPS

RNG = np.random.default_rng(11)
POSITIVE = np.concatenate([RNG.uniform(0, 60, 80), 10.0 ** RNG.uniform(-12, 5, 40)])
SIGNED = np.concatenate([POSITIVE, -POSITIVE[::3]])
INSIDE = np.concatenate(
    [RNG.uniform(-1, 1, 80), 1 - 10.0 ** RNG.uniform(-16, -1, 40), 10.0 ** RNG.uniform(-300, 0, 20)]
)


def errors(name: str, exact: Callable[..., Any], *arrays: Any, relative: bool = True, **attrs: Any) -> Any:
    """The errors of a row's NumPy meaning, of numbers with 40 digits."""
    meaning = OPS[name].numpy
    assert meaning is not None
    with np.errstate(all="ignore"):
        found = meaning(np, *arrays, **attrs)
    out = []
    with mpmath.workdps(40):
        for got, *xs in zip(found, *arrays, strict=True):
            wanted = exact(*map(mpmath.mpf, map(float, xs)))
            scale = wanted if relative and wanted else mpmath.mpf(1)
            out.append(float(abs((mpmath.mpf(float(got)) - wanted) / scale)))
    return np.array(out)


def test_erfinv() -> None:
    assert errors("erfinv", mpmath.erfinv, INSIDE).max() < 1e-15
    f = tlang.compile("function f(x: f64[n]) = erfinv(x)", backend="cpu").f
    np.testing.assert_allclose(f(INSIDE), [float(mpmath.erfinv(x)) for x in INSIDE], rtol=1e-14)
    np.testing.assert_array_equal(f([-1, 1, 0, 2, np.nan]), [-np.inf, np.inf, 0, np.nan, np.nan])


@pytest.mark.parametrize("order", range(6))
def test_bessel_functions(order: int) -> None:
    assert (
        errors("bessel_j", lambda x: mpmath.besselj(order, x), SIGNED, relative=False, order=order).max()
        < 1e-15
    )
    finite = SIGNED[np.abs(SIGNED) < 700]
    assert errors("bessel_i", lambda x: mpmath.besseli(order, x), finite, order=order).max() < 4e-15


def test_modified_bessel_functions_up_to_the_greatest_float() -> None:
    """exp(x) alone overflows from 709.8 on, I0 only from 713.9 on."""
    x = np.array([709.0, 711.0, 713.9])
    assert errors("bessel_i", lambda v: mpmath.besseli(0, v), x, order=0).max() < 1e-13
    assert tlang.compile("function f(x: f64) = i0(x)").f(714.5) == np.inf


def test_beta_functions() -> None:
    x, y = 10.0 ** RNG.uniform(-10, 10, (2, 200))
    with mpmath.workdps(40):
        near_one = np.array(
            [abs(float(mpmath.log(mpmath.beta(a, b)))) < 0.1 for a, b in zip(x, y, strict=True)]
        )
    wrong = errors("betaln", lambda a, b: mpmath.log(mpmath.beta(a, b)), x, y)
    assert wrong[~near_one].max() < 1e-14
    x, y = 10.0 ** RNG.uniform(-10, 2, (2, 200))
    assert errors("beta", mpmath.beta, x, y).max() < 2e-14
    negative = np.array([-0.5, -2.3, -1.7])
    assert errors("beta", mpmath.beta, negative, np.array([2.2, 0.4, 0.9])).max() < 1e-14


@pytest.mark.parametrize(
    ("x", "y", "beta", "betaln"),
    [
        (0, 1, np.inf, np.inf),
        (0, 0, np.inf, np.inf),
        (np.inf, 2, 0, -np.inf),
        (1e300, 1e300, 0, -2 * np.log(2) * 1e300),
        (np.nan, 1, np.nan, np.nan),
        (1, 1, 1, 0),
    ],
)
def test_edges_of_beta_functions(x: float, y: float, beta: float, betaln: float) -> None:
    m = tlang.compile("function f(x, y: f64) = (beta(x, y), beta(y, x), betaln(x, y), betaln(y, x))")
    np.testing.assert_allclose(m.f(x, y), [beta, beta, betaln, betaln], rtol=1e-14)
