"""Every distribution against SciPy at 10^6 draws, against its paper in plain Python, against RandomState."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from tlang.graph.ops.random import DISTRIBUTIONS as ROWS
from tlang.run import distributions, rng, samplers

Array = Any
F64, F32, I64, BOOL = (np.dtype(t) for t in ("f8", "f4", "i8", "?"))
N = 1_000_000
STATE = rng.philox_state(2026, "main.r")


def draw(
    name: str,
    params: Sequence[Any],
    shape: tuple[int, ...] = (N,),
    dtype: np.dtype[Any] = F64,
    state: rng.State = STATE,
) -> Array:
    return distributions.draw(state, name, [np.asarray(p) for p in params], shape, dtype)[0]


def test_the_two_tables_have_the_same_rows() -> None:
    assert set(distributions.DISTRIBUTIONS) == set(ROWS)


# ---------------------------------------------------------------- against SciPy

FLOATS = [
    ("uniform", (2.0, 5.0), stats.uniform(2, 3)),
    ("normal", (-1.0, 2.0), stats.norm(-1, 2)),
    ("lognormal", (0.5, 0.75), stats.lognorm(0.75, scale=math.exp(0.5))),
    ("exponential", (2.5,), stats.expon(scale=2.5)),
    ("gamma", (0.25, 2.0), stats.gamma(0.25, scale=2)),
    ("gamma", (1.0, 1.0), stats.expon()),
    ("gamma", (7.5, 0.5), stats.gamma(7.5, scale=0.5)),
    ("gamma", (1e6, 1.0), stats.gamma(1e6)),
    ("beta", (0.5, 0.5), stats.beta(0.5, 0.5)),
    ("beta", (2.0, 5.0), stats.beta(2, 5)),
    ("beta", (0.1, 0.75), stats.beta(0.1, 0.75)),
]
COUNTS = [
    ("bernoulli", (0.3,), stats.bernoulli(0.3)),
    ("poisson", (0.01,), stats.poisson(0.01)),
    ("poisson", (9.75,), stats.poisson(9.75)),
    ("poisson", (10.0,), stats.poisson(10)),
    ("poisson", (80.5,), stats.poisson(80.5)),
    ("binomial", (10, 0.25), stats.binom(10, 0.25)),
    ("binomial", (40, 0.25), stats.binom(40, 0.25)),
    ("binomial", (100, 0.875), stats.binom(100, 0.875)),
    ("binomial", (10**9, 2e-8), stats.binom(10**9, 2e-8)),
    ("integers", (-3, 9), stats.randint(-3, 9)),
    ("random_integers", (-3, 9), stats.randint(-3, 10)),
    ("categorical", ([0.1, 0.0, 0.6, 0.3],), stats.rv_discrete(values=([0, 2, 3], [0.1, 0.6, 0.3]))),
    ("choice", (6,), stats.randint(0, 6)),
    ("choice", ([3, 5, 9], [0.5, 0.2, 0.3]), stats.rv_discrete(values=([3, 5, 9], [0.5, 0.2, 0.3]))),
]
LARGE = [
    ("poisson", (1e5,)),
    ("poisson", (1e12,)),
    ("binomial", (10**7, 0.5)),
    ("binomial", (2**62, 0.75)),
]


def name_of(case: tuple[Any, ...]) -> str:
    return "-".join([case[0], *(str(p).replace(" ", "") for p in case[1])])


def moments_fit(x: Array, mean: float, variance: float, kurtosis: float) -> None:
    """Mean and variance within five standard errors of 10^6 numbers."""
    assert abs(x.mean() - mean) <= 5 * math.sqrt(variance / len(x))
    assert abs(x.var() - variance) <= 5 * variance * math.sqrt((kurtosis + 2) / len(x))


@pytest.mark.parametrize("dtype", [F64, F32], ids=str)
@pytest.mark.parametrize("case", FLOATS, ids=name_of)
def test_floats(case: tuple[str, tuple[float, ...], Any], dtype: np.dtype[Any]) -> None:
    name, params, right = case
    x = draw(name, params, dtype=dtype)
    assert x.dtype == dtype
    x = x.astype(np.float64)
    assert stats.kstest(x, right.cdf).pvalue > 1e-3
    mean, variance, kurtosis = (float(m) for m in right.stats(moments="mvk"))
    moments_fit(x, mean, variance, kurtosis)


@pytest.mark.parametrize("case", COUNTS, ids=name_of)
def test_counts(case: tuple[str, tuple[Any, ...], Any]) -> None:
    name, params, right = case
    x = draw(name, params, dtype=I64)
    values, counts = np.unique(x, return_counts=True)
    expected = right.pmf(values) * N
    assert (expected > 0).all()
    often = expected >= 10
    rest = counts[~often].sum(), N - expected[often].sum()
    found, wanted = [*counts[often], rest[0]], [*expected[often], rest[1]]
    if rest[1] < 5:  # too few to be a cell of their own
        found, wanted = found[:-1], wanted[:-1]
    wanted = np.array(wanted) * (sum(found) / sum(wanted))
    assert stats.chisquare(found, wanted).pvalue > 1e-3
    moments_fit(x.astype(float), right.mean(), right.var(), float(right.stats(moments="k")))


@pytest.mark.parametrize("case", LARGE, ids=name_of)
def test_large_counts_are_nearly_normal(case: tuple[str, tuple[Any, ...]]) -> None:
    name, params = case
    right = stats.poisson(*params) if name == "poisson" else stats.binom(*params)
    x = draw(name, params, dtype=I64).astype(float)
    jitter = np.random.default_rng(5).uniform(-0.5, 0.5, N)
    z = (x + jitter - right.mean()) / math.sqrt(right.var() + 1 / 12)
    skew = float(right.stats(moments="s"))
    cdf = lambda v: stats.norm.cdf(v) - skew / 6 * (v * v - 1) * stats.norm.pdf(v)  # noqa: E731
    assert stats.kstest(z, cdf).pvalue > 1e-3


def test_the_whole_range_of_i64() -> None:
    top = 2**63 - 1
    assert (draw("binomial", (top, 1.0), (3,), I64) == top).all()
    assert (draw("binomial", (top, 0.0), (3,), I64) == 0).all()
    assert (draw("binomial", (0, 0.5), (3,), I64) == 0).all()
    assert (draw("poisson", (0.0,), (3,), I64) == 0).all()
    x = draw("poisson", (float(top - 10 * top**0.5),), (1000,), I64)
    assert x.min() > 0
    least, greatest = draw("random_integers", (-(2**63), top), (1000,), I64), np.int64(2**62)
    assert least.min() < -greatest < greatest < least.max()


@pytest.mark.parametrize("code", ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_counts_of_each_dtype(code: str) -> None:
    dtype = np.dtype(code)
    top = min(int(np.iinfo(dtype).max), 2**63 - 1)
    for name, params in [("poisson", (8.0,)), ("binomial", (100, 0.5)), ("bernoulli", (0.5,))]:
        assert (draw(name, params, (999,), dtype) == draw(name, params, (999,), I64)).all()
    assert draw("binomial", (top, 1.0), (2,), dtype).tolist() == [top, top]


def test_dirichlet() -> None:
    alpha = np.array([0.5, 2.0, 4.0])
    for dtype in (F64, F32):
        x = draw("dirichlet", (alpha,), (N // 4, 3), dtype)
        np.testing.assert_allclose(x.sum(axis=1), 1, rtol=1e-6)
        for j, a in enumerate(alpha):
            right = stats.beta(a, alpha.sum() - a)
            assert stats.kstest(x[:, j].astype(float), right.cdf).pvalue > 1e-3
        covariance = stats.dirichlet(alpha).cov()
        np.testing.assert_allclose(np.cov(x.T.astype(float)), covariance, atol=2e-3)
    tiny = draw("dirichlet", (1e-3,), (1000, 4))  # gamma numbers that underflow
    assert np.isfinite(tiny).all()
    np.testing.assert_allclose(tiny.sum(axis=1), 1)


def test_multinomial() -> None:
    p = np.array([0.2, 0.0, 0.5, 0.3])
    x = draw("multinomial", (30, p), (N // 4, 4), I64)
    assert (x.sum(axis=1) == 30).all()
    assert (x[:, 1] == 0).all()
    for j in (0, 2, 3):
        found = np.bincount(x[:, j], minlength=31)
        expected = stats.binom(30, p[j]).pmf(np.arange(31)) * len(x)
        often = expected > 10
        cells = [*found[often], found[~often].sum()], [*expected[often], expected[~often].sum()]
        assert stats.chisquare(*cells).pvalue > 1e-3
    np.testing.assert_allclose(np.cov(x.T), 30 * (np.diag(p) - np.outer(p, p)), atol=0.1)
    n = np.array([0, 1, 50])
    rows = np.array([[[1.0, 0.0]], [[0.25, 0.75]]])
    x = draw("multinomial", (n, rows), (2, 3, 2), I64)
    assert (x.sum(axis=-1) == n).all()
    assert (x[0, :, 1] == 0).all()


def test_categories_for_each_row() -> None:
    gen = np.random.default_rng(3)
    p = gen.dirichlet([1, 1, 1, 1], size=5)
    x = draw("categorical", (p,), (N // 5, 5), I64)
    for row in range(5):
        counts = np.bincount(x[:, row], minlength=4)
        assert stats.chisquare(counts, p[row] * len(x)).pvalue > 1e-3
        shared = draw("categorical", (p[row],), x.shape, I64)[:, row]
        assert (shared == x[:, row]).all(), "one row for all, or a row for each: the same map"


def test_orders_are_equally_likely() -> None:
    rows = draw("permutation", (4,), (N // 4, 4), I64)
    assert (np.sort(rows, axis=1) == np.arange(4)).all()
    code = rows @ np.array([64, 16, 4, 1])
    assert stats.chisquare(np.unique(code, return_counts=True)[1]).pvalue > 1e-3
    assert len(np.unique(code)) == 24
    first = draw("permutation", (1000,), (1000,), I64)
    assert (draw("permutation", (1000,), (7, 1000), I64)[0] == first).all()
    assert sorted(first.tolist()) == list(range(1000))


def test_shuffles() -> None:
    x = np.arange(12.0).reshape(4, 3)
    order = draw("permutation", (4,), (4,), I64)
    assert (draw("shuffle", (x,), (4, 3)) == x[order]).all()
    rows = draw("permutation", (3,), (4, 3), I64)
    assert (draw("shuffle_row_elements", (x,), (4, 3)) == np.take_along_axis(x, rows, 1)).all()
    flags = np.array([True, True, False])
    assert draw("shuffle", (flags,), (3,), BOOL).sum() == 2


def test_choice_without_replacement() -> None:
    name = "choice without replacement"
    pairs = np.array(
        [draw(name, (4,), (2,), I64, rng.PhiloxState(STATE.key, k)) for k in range(12_000)]
    ) @ np.array([4, 1])
    assert len(np.unique(pairs)) == 12
    assert stats.chisquare(np.unique(pairs, return_counts=True)[1]).pvalue > 1e-3
    p = np.array([0.1, 0.2, 0.0, 0.7])
    pairs = np.array([draw(name, (4, p), (2,), I64, rng.PhiloxState(STATE.key, k)) for k in range(20_000)])
    possible = list(itertools.permutations([0, 1, 3], 2))
    found = [int(((pairs[:, 0] == i) & (pairs[:, 1] == j)).sum()) for i, j in possible]
    assert stats.chisquare(found, [20_000 * p[i] * p[j] / (1 - p[i]) for i, j in possible]).pvalue > 1e-3
    items = np.array([10.5, 20.5, 30.5])
    assert sorted(draw(name, (items,), (3, 1)).reshape(-1).tolist()) == items.tolist()


@pytest.mark.parametrize("name", ["poisson", "gamma", "binomial", "beta", "exponential", "bernoulli"])
def test_neighbouring_seeds_and_names_are_uncorrelated(name: str) -> None:
    params = {"poisson": (20.0,), "gamma": (1.5, 1.0), "binomial": (60, 0.4), "beta": (2.0, 3.0)}
    dtype = I64 if name in ("poisson", "binomial", "bernoulli") else F64
    states = [rng.philox_state(seed, n) for seed in (0, 1, 2) for n in ("m.a", "m.b")]
    states += [rng.PhiloxState(states[0].key, c) for c in (1, 2)]
    x = np.array([draw(name, params.get(name, (0.5,)), (100_000,), dtype, s) for s in states], float)
    assert np.abs(np.corrcoef(x) - np.eye(len(states))).max() < 4.5 / math.sqrt(100_000)
    for lag in (1, 2, 3):
        assert abs(np.corrcoef(x[0, :-lag], x[0, lag:])[0, 1]) < 4.5 / math.sqrt(100_000)


# ---------------------------------------------------------------- the maps, in plain Python from the papers


def pairs(element: int, attempt: int, state: rng.PhiloxState = STATE) -> tuple[float, float]:
    """The two uniform numbers of a block of an element."""
    words = rng.philox4x32(
        [(b := element + (attempt << 48)) & 0xFFFFFFFF, b >> 32, state.counter, 0],
        (state.key & 0xFFFFFFFF, state.key >> 32),
    )
    w = [int(v) for v in words]
    return (w[0] + (w[1] << 32) >> 11) * 2.0**-53, (w[2] + (w[3] << 32) >> 11) * 2.0**-53


def gamma_number(element: int, shape: float) -> float:
    d = (shape + 1 if shape < 1 else shape) - 1 / 3
    c = 1 / math.sqrt(9 * d)
    for attempt in itertools.count():
        u1, u2 = pairs(element, 2 * attempt)
        x = math.sqrt(-2 * math.log(1 - u1)) * math.cos(2 * math.pi * u2)
        u, boost = pairs(element, 2 * attempt + 1)
        v = (1 + c * x) ** 3
        if v > 0 and math.log(1 - u) < x * x / 2 + d - d * v + d * math.log(v):
            return d * v * ((1 - boost) ** (1 / shape) if shape < 1 else 1)
    raise AssertionError


def poisson_number(element: int, lam: float) -> int:
    if lam < 10:
        u, _ = pairs(element, 0)
        return next(k for k in range(200) if stats.poisson(lam).cdf(k) > u)
    b = 0.931 + 2.53 * math.sqrt(lam)
    a = -0.059 + 0.02483 * b
    for attempt in itertools.count():
        u, v = pairs(element, attempt)
        u -= 0.5
        us = 0.5 - abs(u)
        k = math.floor((2 * a / us + b) * u + lam + 0.43)
        if us >= 0.07 and v <= 0.9277 - 3.6224 / (b - 2):
            return k
        if k < 0 or (us < 0.013 and v > us):
            continue
        left = math.log(v) + math.log(1.1239 + 1.1328 / (b - 3.4)) - math.log(a / us**2 + b)
        if left <= -lam + k * math.log(lam) - math.lgamma(k + 1):
            return k
    raise AssertionError


def binomial_number(element: int, n: int, p: float) -> int:
    if p > 0.5:
        return n - binomial_number(element, n, 1 - p)
    if n * p < 10:
        u, _ = pairs(element, 0)
        return next(k for k in range(n + 1) if stats.binom(n, p).cdf(k) > u)
    spread = math.sqrt(n * p * (1 - p))
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * p
    alpha, vr, m = (2.83 + 5.1 / b) * spread, 0.92 - 4.2 / b, math.floor((n + 1) * p)
    for attempt in itertools.count():
        u, v = pairs(element, attempt)
        u -= 0.5
        us = 0.5 - abs(u)
        k = math.floor((2 * a / us + b) * u + n * p + 0.5)
        if k < 0 or k > n:
            continue
        if us >= 0.07 and v <= vr:
            return k
        law = stats.binom(n, p)
        if math.log(v * alpha / (a / us**2 + b)) <= law.logpmf(k) - law.logpmf(m):
            return k
    raise AssertionError


def test_the_maps_are_those_of_the_papers() -> None:
    for shape in (0.3, 1.0, 4.5):
        right = [2 * gamma_number(i, shape) for i in range(200)]
        np.testing.assert_allclose(draw("gamma", (shape, 2.0), (200,)), right, rtol=1e-12)
    for lam in (0.5, 9.9, 10.0, 300.0):
        right = [poisson_number(i, lam) for i in range(200)]
        assert draw("poisson", (lam,), (200,), I64).tolist() == right
    for n, p in ((12, 0.4), (45, 0.3), (60, 0.75), (10**6, 0.01)):
        right = [binomial_number(i, n, p) for i in range(200)]
        assert draw("binomial", (n, p), (200,), I64).tolist() == right
    right = [x / (x + gamma_number(2 * i + 1, 3.0)) for i in range(100) if (x := gamma_number(2 * i, 0.5))]
    np.testing.assert_allclose(draw("beta", (0.5, 3.0), (100,)), right, rtol=1e-12)
    parts = np.array([gamma_number(i, 1.5) for i in range(60)]).reshape(20, 3)
    right = parts / parts.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(draw("dirichlet", (1.5,), (20, 3)), right, rtol=1e-12)
    left = 40
    for j, share in enumerate((0.2, 0.3 / 0.8, 1.0)):
        part = binomial_number(j, left, share)
        assert draw("multinomial", (40, [0.2, 0.3, 0.5]), (3,), I64)[j] == part
        left -= part


def test_pointwise_maps() -> None:
    u, z = rng.uniform01(STATE, (999,), F64), rng.normal01(STATE, (999,), F64)
    assert (draw("bernoulli", (0.4,), (999,), BOOL) == (u < 0.4)).all()
    assert (draw("bernoulli", (0.4,), (999,), F32) == (u < 0.4)).all()
    np.testing.assert_allclose(draw("exponential", (3.0,), (999,)), -3 * np.log1p(-u), rtol=1e-15)
    assert (draw("lognormal", (0.5, 2.0), (999,)) == np.exp(0.5 + 2.0 * z)).all()
    for p in ([0.25, 0.25, 0.5], [0.0, 1.0, 0.0]):
        right = [next(k for k in range(3) if sum(p[: k + 1]) > v) for v in u]
        assert draw("categorical", (p,), (999,), I64).tolist() == right
    words = rng.bits64(STATE, 50)
    assert words[:4].tolist() == [
        int(w[k]) | int(w[k + 1]) << 32 for _, b in rng.philox_blocks(STATE, 2) for w in b for k in (0, 2)
    ]
    assert draw("permutation", (50,), (50,), I64).tolist() == sorted(range(50), key=lambda i: words[i])


def test_logarithms_of_probabilities() -> None:
    gen = np.random.default_rng(1)
    lam = gen.uniform(10, 1e5, 1000)
    k = np.maximum(np.round(lam + gen.normal(0, 3, 1000) * np.sqrt(lam)), 0)
    found = samplers._log_poisson(k, lam)
    np.testing.assert_allclose(found, stats.poisson(lam).logpmf(k), rtol=1e-9)
    n, p = gen.integers(20, 10**6, 1000).astype(float), gen.uniform(0.01, 0.5, 1000)
    k = np.clip(np.round(n * p + gen.normal(0, 3, 1000) * np.sqrt(n * p)), 0, n)
    np.testing.assert_allclose(samplers._log_binomial(k, n, p), stats.binom(n, p).logpmf(k), rtol=1e-7)
    with np.errstate(all="ignore"):
        ends = samplers._log_binomial(np.array([0.0, 30.0]), np.array([30.0, 30.0]), np.array([0.4, 0.4]))
    np.testing.assert_allclose(ends, stats.binom(30, 0.4).logpmf([0, 30]))


BY_ELEMENT = [
    ("lognormal", (0.0, 1.0), F64),
    ("exponential", (2.0,), F32),
    ("gamma", (0.5, 1.0), F64),
    ("gamma", (2.5, 1.0), F32),
    ("beta", (0.5, 2.0), F64),
    ("bernoulli", (0.5,), BOOL),
    ("binomial", (100, 0.4), I64),
    ("poisson", (30.0,), I64),
    ("poisson", (3.0,), I64),
    ("random_integers", (0, 10), I64),
    ("categorical", ([0.5, 0.5],), I64),
    ("choice", (10,), I64),
]


@pytest.mark.parametrize(("name", "params", "dtype"), BY_ELEMENT)
def test_an_element_depends_on_its_place_alone(
    name: str, params: tuple[Any, ...], dtype: np.dtype[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    long = draw(name, params, (50, 7), dtype)
    assert (draw(name, params, (111,), dtype) == long.reshape(-1)[:111]).all()
    monkeypatch.setattr(rng, "_CHUNK", 16)
    assert (draw(name, params, (50, 7), dtype) == long).all()


def test_parameters_of_other_elements_do_not_matter() -> None:
    lam = np.array([3.0, 50.0, 8.0, 1000.0, 0.0])
    together = draw("poisson", (lam,), (200, 5), I64)
    for j, one in enumerate(lam):
        assert (draw("poisson", (one,), (200, 5), I64)[:, j] == together[:, j]).all()
    shapes = np.array([[0.25], [3.0]])
    together = draw("gamma", (shapes, 1.0), (2, 300))
    for i in (0, 1):
        assert (draw("gamma", (shapes[i], 1.0), (2, 300))[i] == together[i]).all()


# ---------------------------------------------------------------- mt19937


def row_by_row(method: Callable[..., Array], *params: Array) -> Callable[..., Array]:
    """What Theano's helpers do: a call for each row."""

    def drawn(size: tuple[int, ...]) -> Array:
        return np.array([method(*(p[i] for p in params)) for i in range(size[0])])

    return drawn


def theano_cases(
    gen: np.random.RandomState,
) -> Iterator[tuple[str, Sequence[Any], Any, tuple[int, ...], Any]]:
    """Name, parameters, the same of RandomState by `size`, shape, dtype."""
    p = np.array([0.25, 0.25, 0.5])
    rows = np.array([[0.5, 0.5, 0.0], [0.25, 0.25, 0.5], [0.0, 1.0, 0.0]])
    trials = np.array([5, 60, 1000])
    yield "uniform", (-1.0, 3.0), lambda size: gen.uniform(-1, 3, size), (4, 3), F64
    yield "normal", ([0.0, 5.0], 2.0), lambda size: gen.normal([0, 5], 2, size), (3, 2), F64
    yield "binomial", (10, 0.3), lambda size: gen.binomial(10, 0.3, size), (50,), I64
    yield (
        "binomial",
        ([5, 500], [0.3, 0.8]),
        lambda size: gen.binomial([5, 500], [0.3, 0.8], size),
        (9, 2),
        I64,
    )
    yield "poisson", (4.5,), lambda size: gen.poisson(4.5, size), (20,), I64
    yield "poisson", (450.0,), lambda size: gen.poisson(450.0, size), (20,), I64
    yield "random_integers", (-5, 20), lambda size: gen.randint(-5, 21, size), (31,), I64
    yield "random_integers", (0, 2**63 - 2), lambda size: gen.randint(0, 2**63 - 1, size), (31,), I64
    yield "integers", (0, 7), lambda size: gen.randint(0, 7, size), (31,), I64
    yield "choice", (10,), lambda size: gen.choice(10, size), (2, 5), I64
    yield "choice", (3, p), lambda size: gen.choice(3, size, p=p), (25,), I64
    yield "choice", ([2.5, 3.5, 1.0], p), lambda size: gen.choice([2.5, 3.5, 1.0], size, p=p), (25,), F64
    yield "choice without replacement", (10,), lambda size: gen.choice(10, size, False), (2, 4), I64
    yield "choice without replacement", (3, p), lambda size: gen.choice(3, size, False, p), (3,), I64
    yield "permutation", (8,), lambda size: gen.permutation(8), (8,), I64
    yield "permutation", (8,), lambda size: np.array([gen.permutation(8) for _ in range(3)]), (3, 8), I64
    yield "multinomial", (20, p), lambda size: gen.multinomial(20, p, size[0]), (6, 3), I64
    yield "multinomial", (trials, rows), row_by_row(gen.multinomial, trials, rows), (3, 3), I64
    x = np.arange(12.0).reshape(4, 3)
    yield "shuffle", (x,), lambda size: gen.permutation(x), (4, 3), F64
    shuffled = row_by_row(lambda row: row[gen.permutation(3)], x)
    yield "shuffle_row_elements", (x,), shuffled, (4, 3), F64
    yield "exponential", (2.0,), lambda size: gen.exponential(2.0, size), (7,), F64
    yield "lognormal", (1.0, 0.5), lambda size: gen.lognormal(1.0, 0.5, size), (7,), F64
    yield "gamma", (0.5, 2.0), lambda size: gen.gamma(0.5, 2.0, size), (7,), F64
    yield "beta", ([0.5, 3.0], 2.0), lambda size: gen.beta([0.5, 3.0], 2.0, size), (4, 2), F64
    yield "dirichlet", ([1.0, 2.0],), lambda size: gen.dirichlet([1.0, 2.0], size[0]), (4, 2), F64
    yield "bernoulli", (0.3,), lambda size: gen.binomial(1, 0.3, size), (40,), BOOL
    yield "categorical", (p,), lambda size: gen.choice(3, size, p=p), (40,), I64


def test_mt19937_is_randomstate_in_every_distribution() -> None:
    """The numbers, and what each draw leaves behind for the next."""
    state: rng.State = rng.mt19937_state(89234)
    gen = np.random.RandomState(89234)
    seen = set()
    for _ in range(2):
        for name, params, method, shape, dtype in theano_cases(gen):
            arrays = [np.asarray(p) for p in params]
            found, state = distributions.draw(state, name, arrays, shape, dtype)
            seen.add(name)
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, method(shape), err_msg=name)
    assert seen == set(ROWS)


def test_mt19937_takes_probabilities_of_f32() -> None:
    p = np.full(7, 1 / 7, np.float32)
    state = rng.mt19937_state(3)
    for name, params, shape in [
        ("choice", (7, p), (50,)),
        ("multinomial", (9, p), (5, 7)),
        ("categorical", (p,), (50,)),
    ]:
        x = draw(name, params, shape, I64, state)
        assert x.shape == shape


# ---------------------------------------------------------------- what cannot be drawn

WRONG = [
    ("lognormal", (0.0, -1.0), (2,), F64, "`sigma` of lognormal is -1.0, but must be at least 0"),
    ("exponential", (math.nan,), (2,), F64, "`scale` of exponential is nan"),
    ("gamma", (-1.0, 1.0), (2,), F64, "`shape` of gamma is -1.0"),
    ("gamma", (math.inf, 1.0), (2,), F64, "`shape` of gamma is inf"),
    ("gamma", (1.0, -2.0), (2,), F64, "`scale` of gamma is -2.0"),
    ("beta", (0.0, 1.0), (2,), F64, "`a` of beta is 0.0, but must be greater than 0"),
    ("beta", (1.0, [1.0, -3.0]), (2,), F64, "`b` of beta is -3.0"),
    ("dirichlet", ([1.0, 0.0],), (3, 2), F64, "`alpha` of dirichlet is 0.0"),
    ("bernoulli", (1.5,), (2,), BOOL, "`p` of bernoulli is 1.5, but must be from 0 to 1"),
    ("binomial", (-1, 0.5), (2,), I64, "`n` of binomial is -1"),
    ("binomial", (200, 0.5), (2,), np.dtype("i1"), "`n` of binomial is 200, but must be at most 127 for i8"),
    ("binomial", (2, math.nan), (2,), I64, "`p` of binomial is nan"),
    ("poisson", (-0.5,), (2,), I64, "`lam` of poisson is -0.5"),
    ("poisson", (100.0,), (2,), np.dtype("i1"), "`lam` of poisson is 100.0, but must be at most 14.3"),
    ("poisson", (1e19,), (2,), I64, "at most 9.22337e+18 for i64"),
    ("integers", (5, 5), (2,), I64, "`high` of integers is 5"),
    ("random_integers", (5, 4), (2,), I64, "`high` of random_integers is 4, but must be at least `low`"),
    ("random_integers", (0, 256), (2,), np.dtype("u1"), "at most 255 for u8"),
    ("categorical", ([0.5, 0.6],), (2,), I64, "`p` of categorical is 1.1, but must be probabilities"),
    ("categorical", ([1.5, -0.5],), (2,), I64, "`p` of categorical is -0.5, but must be at least 0"),
    ("categorical", (np.full(300, 1 / 300),), (2,), np.dtype("i1"), "`p` of categorical is 300"),
    ("multinomial", (-1, [0.5, 0.5]), (2,), I64, "`n` of multinomial is -1"),
    ("multinomial", (3, [[0.5, 0.5], [0.5, 0.4]]), (2, 2), I64, "`p` of multinomial is 0.9"),
    ("permutation", (5,), (4,), I64, "`n` of permutation is 5, but must be 4, the size of the last axis"),
    ("permutation", (300,), (300,), np.dtype("u1"), "`n` of permutation is 300, but must be at most 256"),
    ("choice", (0,), (2,), I64, "`a` of choice is 0, but must be something to choose from"),
    ("choice", (3, [0.5, 0.5]), (2,), I64, "`p` of choice is 2, but must be 3 probabilities"),
    ("choice without replacement", (3,), (2, 2), I64, "is 3, but must be at least 4"),
    ("choice without replacement", (3, [1.0, 0.0, 0.0]), (2,), I64, "is 1, but must be at least 2"),
]


@pytest.mark.parametrize("state", [STATE, rng.mt19937_state(1)], ids=lambda s: s.generator)
@pytest.mark.parametrize("case", WRONG, ids=lambda c: f"{c[0]}-{c[4][:20]}")
def test_wrong_parameters(case: tuple[Any, ...], state: rng.State) -> None:
    name, params, shape, dtype, message = case
    with pytest.raises(rng.InvalidParameter) as found:
        draw(name, params, shape, dtype, state)
    assert message in str(found.value)


@pytest.mark.parametrize("state", [STATE, rng.mt19937_state(1)], ids=lambda s: s.generator)
def test_no_elements(state: rng.State) -> None:
    empty = np.empty
    for name, params, shape, dtype in [
        *((name, params, (0, 3), dtype) for name, params, dtype in BY_ELEMENT),
        ("dirichlet", (1.0,), (0, 3), F64),
        ("dirichlet", (1.0,), (3, 0), F64),
        ("multinomial", (5, [0.5, 0.5]), (0, 2), I64),
        ("permutation", (0,), (0,), I64),
        ("permutation", (0,), (2, 0), I64),
        ("shuffle", (empty((0, 2)),), (0, 2), F64),
        ("shuffle_row_elements", (empty((2, 0)),), (2, 0), F64),
        ("choice", (0,), (0,), I64),
        ("choice without replacement", (4,), (0,), I64),
    ]:
        found, after = distributions.draw(state, name, [np.asarray(p) for p in params], shape, dtype)
        assert found.shape == shape
        assert found.dtype == dtype
        assert after.generator == state.generator
