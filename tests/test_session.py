"""Whole programs from Python: the published figures, transactions, streams, scale."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import tlang

LOGISTIC = """
tensor x: f64[n, 784]
tensor y: f64[n]
shared w: f64[784] = zeros(784)
shared b: f64 = 0
p_1  = 1 / (1 + exp(-(x @ w) - b))
xent = -y * log(p_1) - (1 - y) * log(1 - p_1)
cost = mean(xent) + 0.01 * sum(w ** 2)
gw, gb = grad(cost, w, b)
function train(x, y) = cost where {
    update w = w - 0.1 * gw
    update b = b - 0.1 * gb
}
function loss(x, y) = cost
"""


def theano_data() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.RandomState(0)
    return rng.randn(400, 784), rng.randint(size=400, low=0, high=2), rng.randn(784)


def test_logistic_regression_has_the_published_costs() -> None:
    x, y, w = theano_data()
    m = tlang.compile(LOGISTIC)
    m.w.value = w
    costs = [m.train(x, y) for _ in range(3)]
    np.testing.assert_allclose(costs, [18.082170424166975, 17.900066730863088, 17.7192111189101], rtol=1e-14)


def test_logistic_regression_agrees_with_numpy_by_hand() -> None:
    x, y, w = theano_data()
    b = 0.0
    m = tlang.compile(LOGISTIC)
    m.w.value = w
    for _ in range(50):
        z = x @ w + b
        p = np.where(z >= 0, 1 / (1 + np.exp(-np.abs(z))), np.exp(-np.abs(z)) / (1 + np.exp(-np.abs(z))))
        w, b = w - 0.1 * (x.T @ (p - y) / 400 + 0.02 * w), b - 0.1 * np.mean(p - y)
        m.train(x, y)
    np.testing.assert_allclose(m.w.value, w, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(m.b.value, b, rtol=1e-10)


def test_ten_thousand_steps_stay_finite() -> None:
    x, y, w = theano_data()
    m = tlang.compile(LOGISTIC)
    m.w.value = w
    last = m.repeat(10_000, "train", x, y)
    assert np.isfinite(last)
    assert np.isfinite(m.w.value).all()
    assert last < 1


def test_literal_formula_would_be_nan() -> None:
    """What stability by meaning saves us from: the formula as written overflows on the same data."""
    x, y, w = theano_data()
    with np.errstate(all="ignore"):
        p = 1 / (1 + np.exp(-(x @ w)))
        cost = np.mean(-y * np.log(p) - (1 - y) * np.log(1 - p))
    assert not np.isfinite(cost)
    m = tlang.compile(LOGISTIC)
    m.w.value = w
    assert np.isfinite(m.loss(x, y))


STREAMS = """
stream srng = {generator}(234)
random rv_u: f64[2, 2] ~ srng.uniform(0, 1)
random rv_n: f64[2, 2] ~ srng.normal(0, 1)
function f() = rv_u
function g() = rv_n where {{ hold rv_n }}
"""


def test_mt19937_gives_the_published_numbers() -> None:
    m = tlang.compile(STREAMS.format(generator="mt19937"))
    first = [[0.12672381, 0.97091597], [0.13989098, 0.88754825]]
    np.testing.assert_allclose(m.f(), first, atol=5e-9)
    gen = np.random.RandomState(234)
    seeds = [int(gen.randint(2**30)) for _ in range(2)]
    u, n = (np.random.RandomState(s) for s in seeds)
    assert np.array_equal(m.g(), m.g())
    assert np.array_equal(m.g(), n.normal(size=(2, 2)))
    u.uniform(size=(2, 2))
    assert np.array_equal(m.f(), u.uniform(size=(2, 2)))


@pytest.mark.parametrize("generator", ["philox", "mt19937"])
def test_states_and_seeds_replay(generator: str) -> None:
    m = tlang.compile(STREAMS.format(generator=generator))
    saved = m.rv_u.state
    v1, v2 = m.f(), m.f()
    m.rv_u.state = saved
    assert np.array_equal(m.f(), v1)
    assert np.array_equal(m.f(), v2)
    m.rv_u.seed = 7
    a = m.f()
    m.rv_u.seed = 7
    assert np.array_equal(m.f(), a)
    m.srng.seed = 902340
    b, c = m.f(), m.g()
    m.srng.seed = 902340
    assert np.array_equal(m.f(), b)
    assert np.array_equal(m.g(), c)


def test_another_random_variable_does_not_change_the_others() -> None:
    one = tlang.compile("random a: f64[5] ~ normal(0, 1)\nfunction f() = a")
    two = tlang.compile(
        "random b: f64[5] ~ normal(0, 1)\nrandom a: f64[5] ~ normal(0, 1)\nfunction f() = a + 0 * b"
    )
    assert np.array_equal(one.f(), two.f())
    assert np.array_equal(one.f(), two.f())


def test_a_failing_call_leaves_state_and_streams() -> None:
    m = tlang.compile(
        """
        shared total: i64 = 10
        shared seen: f64[3] = [0, 0, 0]
        random r: f64[3] ~ uniform(0, 1)
        function divide(k: i64) = total // k where {
            update total = total + 1
            update seen = seen + r
        }
        function place(i: i64) = total where { update seen[i] = 1.0; update total = 0 }
        """
    )
    m.divide(3)
    state, total, seen = m.r.state, m.total.value, m.seen.value
    with pytest.raises(tlang.StateError, match="R110"):
        m.divide(0)
    with pytest.raises(tlang.StateError, match="R115"):
        m.place(3)
    assert m.r.state == state
    assert m.total.value == total == 11
    assert np.array_equal(m.seen.value, seen)


def test_arguments_are_checked_before_anything_runs() -> None:
    m = tlang.compile(
        "shared s: i64 = 0\nfunction f(x: f64[n, 2], y: f64[n]) = sum(x) + sum(y) where { update s = s + 1 }"
    )
    good = np.ones((3, 2))
    for args, kind in (
        ((good, np.ones(4)), tlang.ShapeError),
        ((np.ones((3, 3)), np.ones(3)), tlang.ShapeError),
        ((np.ones(3), np.ones(3)), tlang.ShapeError),
        ((good.astype(complex), np.ones(3)), tlang.TypeError),
        (([[1, 2], [3]], [1, 2]), tlang.TypeError),
        (("a", [1]), tlang.TypeError),
        (([["a", "b"]], [1]), tlang.TypeError),
        ((good,), tlang.TypeError),
        ((good, np.ones(3), 1), tlang.TypeError),
        ((None, None), tlang.TypeError),
        ((object(), 1), tlang.TypeError),
    ):
        with pytest.raises(kind):
            m.f(*args)
    with pytest.raises(tlang.TypeError, match="did you mean `x`"):
        m.f(xx=good, y=np.ones(3))
    with pytest.raises(tlang.TypeError, match="twice"):
        m.f(good, x=good)
    assert m.s.value == 0
    assert m.f([[1, 2], [3, 4]], (5, 6)) == 21.0
    assert m.s.value == 1


def test_the_python_interface() -> None:
    m = tlang.compile(
        """
        shared state, new_state: i64 = 0
        tensor x, y: f64
        z = x + y
        function accumulator(inc: i64) = state where { update state = state + inc }
        function pair(x, y) = (total = z, product = x * y)
        function scale(v: f64[n], k: f64 = 2) = k * v
        set v = 3
        """
    )
    assert m.eval("z given x = 1, y = 2") == 3.0
    result = m.pair(x=2, y=3)
    assert (result.total, result.product) == (5.0, 6.0)
    total, product = m.pair(2, 3)
    assert (total, product) == (5.0, 6.0)
    assert m.accumulator(1) == 0
    null = m.accumulator.copy(drop_updates=True)
    other = m.accumulator.copy(swap={"state": "new_state"})
    assert null(100) == 1
    assert other(7) == 0
    assert (m.state.value, m.new_state.value) == (1, 7)
    m.state.set_value(5)
    assert m.state.get_value() == 5
    m.run("set w = accumulator(1); set v = v + 1")
    assert (m.w, m.v, m.state.value) == (5, 4, 6)
    assert m["accumulator"] is m.accumulator
    assert m.scale.signature == "scale(v: f64[n], k: f64 = 2) -> f64[n]"
    assert m.pair.signature == "pair(x: f64, y: f64) -> (total: f64, product: f64)"
    assert m.repeat(10, "accumulator", 2) == 24
    assert m.repeat(0, "accumulator", 2) is None
    assert isinstance(m.pair(1, 2).total, np.float64)
    with pytest.raises(tlang.StateError, match="did you mean `accumulator`"):
        _ = m.acumulator
    with pytest.raises(tlang.TlangError):
        m.run("set state = 1.5")
    with pytest.raises(tlang.TypeError):
        m.state.value = 1.5
    assert m.state.value == 26


def test_results_alias_nothing() -> None:
    m = tlang.compile("shared w: f64[3] = [1, 2, 3]\nfunction f(x: f64[3]) = (w, x, x.T)")
    x = np.ones(3)
    w, same, transposed = m.f(x)
    w[0] = same[0] = transposed[1] = 99
    assert m.w.value[0] == 1
    assert np.array_equal(x, np.ones(3))
    value = m.w.value
    value[0] = 5
    m.w.value = value
    value[0] = 6
    assert m.w.value[0] == 5


def test_declarations_only(tmp_path: Path) -> None:
    path = tmp_path / "p.tl"
    path.write_text("set n = 5\nshared a: i64 = 3\nshared b: i64 = n\nfunction f() = a + b\n")
    m = tlang.load(path, run=False)
    assert m.a.value == 3
    with pytest.raises(tlang.StateError, match="R150"):
        m.f()
    m.b.value = 4
    assert m.f() == 7
    assert tlang.load(path).f() == 8


@pytest.mark.parametrize(
    ("text", "argument", "expected"),
    [
        ("+ 1" * 100_000, 1.0, 100_001.0),
        ("- x" * 2_000, 2.0, 2.0 - 2 * 2_000),
    ],
)
def test_long_chains(text: str, argument: float, expected: float) -> None:
    m = tlang.compile(f"function f(x: f64) = x {text}")
    assert m.f(argument) == expected


def test_deep_nesting_gets_an_answer() -> None:
    assert tlang.compile(f"function f(x: f64) = {'(' * 3000}x{')' * 3000}").f(2) == 2
    assert tlang.compile(f"function f(x: f64) = {'-' * 5001}x").f(2) == -2
    nested = "exp(" * 3000 + "x" + ")" * 3000
    assert math.isinf(tlang.compile(f"function f(x: f64) = {nested}").f(2))
    deep = "[" * 40 + "1" + "]" * 40
    assert np.shape(tlang.compile("").eval(deep)) == (1,) * 40


def test_a_chain_of_equations_differentiates() -> None:
    lines = ["tensor x0: f64", *(f"x{i + 1} = sin(x{i}) + x{i}" for i in range(1000))]
    m = tlang.compile("\n".join([*lines, "d = grad(x1000, x0)", "function f(x0) = d"]))
    x, d = 0.3, 1.0
    for _ in range(1000):
        d *= np.cos(x) + 1
        x += np.sin(x)
    assert m.f(0.3) == pytest.approx(d, rel=1e-9)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_results_share_no_memory(backend: str) -> None:
    """What a caller has, and what a call gives, may be written to: the program keeps its own."""
    m = tlang.compile(
        """
        tensor x: f64[3, 3]
        shared s: f64[3, 3] = zeros((3, 3))
        function f(x) = (x, x.T, x + 1, x + 1, s, s.T) where { update s = x }
        function g(x) = x[1:]
        """,
        backend,
    )
    for _ in range(2):
        x = np.arange(2000.0 * 2000).reshape(2000, 2000)[:3, :3]
        results = m.f(x)
        arrays = [x, *results, m.s.value]
        for k, a in enumerate(arrays):
            assert not any(np.shares_memory(a, b) for b in arrays[:k])
        results[0][...] = 7
        results[4][...] = 7
        x[...] = 8
        np.testing.assert_array_equal(m.s.value, np.arange(6000.0).reshape(3, 2000)[:, :3])
        assert not np.shares_memory(m.g(x), x)


def test_quick_calls_mean_the_same() -> None:
    """A call like the one before takes a short way; whatever differs takes the usual one."""
    text = """
        tensor a: f64
        tensor k: i64
        tensor x: f64[n]
        tensor y: f32[n, 2]
        shared s: f64 = 0
        shared w: f64[n] = [1.0, 2.0, 3.0]
        function scalars(a, k) = a * k + s
        function acc(a) = s where { update s = s + a }
        function arrays(x, y) = (x * sum(y), w, sum(x)) where { update w = w + x }
        function default(a, k = 2) = a + k
        function nothing(a) = () where { update s = s + a }
    """
    m, plain = tlang.compile(text, "cpu"), tlang.compile(text, "numpy")
    x, y = np.arange(3.0), np.ones((3, 2), np.float32)
    calls = [
        ("scalars", (1.5, 2)),
        ("scalars", (2.5, 3)),
        ("scalars", (2, 3)),
        ("scalars", (np.float32(2.5), np.int8(3))),
        ("scalars", (1, 2**62)),
        ("acc", (1.0,)),
        ("acc", (2.0,)),
        ("acc", (np.float64(3.0),)),
        ("arrays", (x, y)),
        ("arrays", (x, y)),
        ("arrays", (x[::-1], y)),
        ("arrays", ([1, 2, 3], y)),
        ("arrays", (x, y[:, ::-1])),
        ("default", (1.0,)),
        ("default", (1.0, 5)),
        ("nothing", (1.0,)),
        ("nothing", (1.0,)),
    ]
    for _ in range(10):
        for name, args in calls:
            found, wanted = m[name](*args), plain[name](*args)
            assert type(found).__name__ == type(wanted).__name__
            for f, w in (
                zip(np.atleast_1d(found), np.atleast_1d(wanted), strict=True) if name != "arrays" else ()
            ):
                assert f == w
            if name == "arrays":
                for f, w in zip(found, wanted, strict=True):
                    np.testing.assert_allclose(f, w, rtol=1e-12)
                    assert type(f) is type(w)
    for bad in ((1.5, 2**63), (1.5, 2.5), ("a", 1), (1.5,), (1.5, 2, 3), (np.ones(2), 1)):
        with pytest.raises(tlang.TlangError):
            m.scalars(*bad)
    assert m.acc._fast is not None
    before = m.acc(0.0)
    m.s.value = 100.0
    assert m.acc(0.0) == 100.0 != before
    m.w.value = np.ones(5)
    assert m.arrays(np.ones(5), np.ones((5, 2), np.float32))[0].shape == (5,)
    with pytest.raises(tlang.TlangError):
        m.arrays(x, y)
