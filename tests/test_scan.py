"""`scan`: against loops written out with NumPy, against JAX's `lax.scan`, against finite differences."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tlang
from tlang.graph.node import toposort
from tlang.graph.recurrence import Body

BACKENDS = ["numpy", "cpu"]
RNG = np.random.default_rng(7)


def compiled(text: str, backend: str = "numpy") -> Any:
    return tlang.compile(text, backend=backend, unused="ignore")


LSTM = """
function lstm(x: f64[d], h: f64[m], c: f64[m], w: f64[d, 4 * m], u: f64[m, 4 * m]) = (new, cell, out) where {
    z = x @ w + h @ u
    cell = sigmoid(z[m : 2 * m]) * c + sigmoid(z[:m]) * tanh(z[2 * m : 3 * m])
    new = sigmoid(z[3 * m :]) * tanh(cell)
    out = sum(new * cell) + sum(x)
}
tensor xs: f64[n, d]
tensor w: f64[d, 4 * m]
tensor u: f64[m, 4 * m]
tensor h0, c0: f64[m]
step(x, h, c) = lstm(x, h, c, w, u)
hs, cs, ys = scan(step, xs, init = (h0, c0))
h1, c1, zs = scan(step, xs, init = (h0, c0), last = True)
hb, cb, yb = scan(step, xs, init = (h0, c0), reverse = True)
hk, ck, yk = scan(step, xs, init = (h0, c0), checkpoint = True)
hl, cl, yl = scan(step, xs, init = (h0, c0), last = True, checkpoint = 3, reverse = True)
cost = sum(hs * hs) + sum(cs[-1]) + sum(ys * sin(ys))
costk = sum(hk * hk) + sum(ck[-1]) + sum(yk * sin(yk))
costl = sum(h1 * h1) + sum(exp(c1)) + sum(zs * zs)
costlr = sum(hl * hl) + sum(exp(cl)) + sum(yl * yl)
"""
PARAMS = "xs, w, u, h0, c0"


def lstm_data(n: int = 7, d: int = 3, m: int = 4) -> list[Any]:
    shapes = [(n, d), (d, 4 * m), (m, 4 * m), (m,), (m,)]
    return [RNG.normal(size=s) * 0.5 for s in shapes]


def sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def lstm_loop(xs: Any, w: Any, u: Any, h: Any, c: Any, reverse: bool = False) -> tuple[Any, Any, Any]:
    """The same as a loop, in NumPy."""
    n, m = len(xs), len(h)
    hs, cs, ys = np.empty((n, m)), np.empty((n, m)), np.empty(n)
    for t in range(n)[::-1] if reverse else range(n):
        i, f, g, o = np.split(xs[t] @ w + h @ u, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        hs[t], cs[t], ys[t] = h, c, (h * c).sum() + xs[t].sum()
    return hs, cs, ys


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n", [0, 1, 2, 7, 16])
def test_all_values_the_last_and_reversed(n: int, backend: str) -> None:
    m = compiled(
        LSTM + f"function f({PARAMS}) = (hs, cs, ys, h1, c1, zs, hb, cb, yb, hk, ck, yk, hl, cl, yl)",
        backend,
    )
    data = lstm_data(n)
    got = m.f(*data)
    hs, cs, ys = lstm_loop(*data)
    hb, cb, yb = lstm_loop(*data, reverse=True)
    first = [a[-1] if n else b for a, b in zip((hs, cs), data[3:], strict=True)]
    back = [a[0] if n else b for a, b in zip((hb, cb), data[3:], strict=True)]
    wanted = [hs, cs, ys, *first, ys, hb, cb, yb, hs, cs, ys, *back, yb]
    for a, b in zip(got, wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("cost", ["cost", "costk", "costl", "costlr"])
def test_gradients_agree_with_differences(cost: str, backend: str) -> None:
    m = compiled(
        LSTM + f"function f({PARAMS}) = {cost}\nfunction g({PARAMS}) = grad({cost}, {PARAMS})", backend
    )
    data = lstm_data()
    for k, slope in enumerate(m.g(*data)):
        for _ in range(3):
            along = RNG.normal(size=data[k].shape)
            sides = []
            for e in (1e-5, -1e-5):
                moved = [x + e * along if i == k else x for i, x in enumerate(data)]
                sides.append(m.f(*moved))
            np.testing.assert_allclose(
                (slope * along).sum(), (sides[0] - sides[1]) / 2e-5, rtol=1e-6, atol=1e-8
            )


def test_segments_change_nothing() -> None:
    text = (
        LSTM + f"function f({PARAMS}) = (grad(cost, {PARAMS}))\nfunction g({PARAMS}) = grad(costk, {PARAMS})"
    )
    m = compiled(text)
    for n in (1, 3, 10):
        data = lstm_data(n)
        for a, b in zip(m.f(*data), m.g(*data), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


SECOND = f"""
function second(v: f64[m, 4 * m], {PARAMS}) = grad(slope, {PARAMS}) where {{
    d = grad(COST, u)
    slope = sum(d * v)
}}
function along(v: f64[m, 4 * m], {PARAMS}) = jvp(COST, u, v)
"""


def jax_cost(checkpoint: bool = False) -> tuple[Any, Callable[..., Any]]:
    jax = pytest.importorskip("jax", reason="JAX is the oracle here (the extra `oracles`)")
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy

    def cost(xs: Any, w: Any, u: Any, h0: Any, c0: Any) -> Any:
        def step(carry: Any, x: Any) -> Any:
            h, c = carry
            i, f, g, o = jnp.split(x @ w + h @ u, 4)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), (h, c, (h * c).sum() + x.sum())

        _, (hs, cs, ys) = jax.lax.scan(jax.checkpoint(step) if checkpoint else step, (h0, c0), xs)
        return (hs * hs).sum() + cs[-1].sum() + (ys * jnp.sin(ys)).sum()

    return jax, cost


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ["cost", "costk"])
def test_value_and_two_derivatives_agree_with_jax(name: str, backend: str) -> None:
    jax, cost = jax_cost()
    text = LSTM + SECOND.replace("COST", name)
    m = compiled(
        text + f"function f({PARAMS}) = {name}\nfunction g({PARAMS}) = grad({name}, {PARAMS})", backend
    )
    data = lstm_data()
    np.testing.assert_allclose(m.f(*data), cost(*data), rtol=1e-12)
    all_of_them = tuple(range(5))
    for a, b in zip(m.g(*data), jax.grad(cost, all_of_them)(*data), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)
    v = RNG.normal(size=data[2].shape)

    def slope(*xs: Any) -> Any:
        return (jax.grad(cost, 2)(*xs) * v).sum()

    for a, b in zip(m.second(v, *data), jax.grad(slope, all_of_them)(*data), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(m.along(v, *data), slope(*data), rtol=1e-10)


def test_third_derivative_of_a_power() -> None:
    m = compiled("""
        times(p, x) = p * x
        function f(x: f64, k: i64) = c where {
            step(p) = p * x
            y = scan(step, init = 1.0, steps = k, last = True)
            a = grad(y, x); b = grad(a, x); c = grad(b, x)
        }
    """)
    assert m.f(2.0, 5) == pytest.approx(5 * 4 * 3 * 4)
    assert m.f(2.0, 3) == pytest.approx(6)
    assert m.f(2.0, 2) == 0


# ---------------------------------------------------------------- while


@pytest.mark.parametrize("backend", BACKENDS)
def test_while_stops_before_the_step(backend: str) -> None:
    m = compiled(
        """
        more(s) = s < 10
        add(x, s) = s + x
        function f(xs: f64[n]) = scan(add, xs, init = 0, while = more)
        function g(xs: f64[n]) = scan(add, xs, init = 0, while = more, last = True)
        function d(xs: f64[n], s0: f64) = grad(c, xs, s0) where {
            rec(x, s) = s * s + x
            ss = scan(rec, xs, init = s0, while = more)
            c = sum(ss * ss)
        }
        newton(x, a) = (x + a / x) / 2
        function root(a: f64) = scan(newton_, init = a, while = far, last = True) where {
            newton_(x) = newton(x, a)
            far(x) = abs(x * x - a) > 1e-12
        }
        function at_most(k: i64) = scan(one, init = 0, steps = k, while = few) where {
            one(i) = i + 1
            few(i) = i < 3
        }
        function droot(a: f64) = grad(r, a) where {
            newton_(x) = newton(x, a)
            far(x) = abs(x * x - a) > 1e-12
            r = scan(newton_, init = a, while = far, last = True)
        }
        """,
        backend,
    )
    assert m.f([3.0, 4, 5, 6]).tolist() == [3, 7, 12]
    assert m.f([30.0, 4]).tolist() == [30]
    assert m.f([1.0, 2]).tolist() == [1, 3]
    assert m.g([3.0, 4, 5, 6]) == 12
    assert m.root(2.0) == pytest.approx(2**0.5)
    assert m.droot(2.0) == pytest.approx(0.5 / 2**0.5, rel=1e-9)
    assert m.at_most(2).tolist() == [1, 2]
    assert m.at_most(9).tolist() == [1, 2, 3]
    # s1 = 4 + 3 = 7, s2 = 49 + 1 = 50, then it stops: c = s1 ** 2 + (s1 ** 2 + x2) ** 2
    dxs, ds = m.d([3.0, 1, 5, 6], 2.0)
    ds1 = 2 * 7 + 2 * 50 * 2 * 7
    np.testing.assert_allclose(dxs, [ds1, 100, 0, 0])
    assert ds == pytest.approx(ds1 * 4)


# ---------------------------------------------------------------- what bodies may hold


@pytest.mark.parametrize("backend", BACKENDS)
def test_steps_read_all_kinds_of_names(backend: str) -> None:
    m = compiled(
        """
        shared w: f64 = 2
        tensor b: f64
        scaled = w * 10
        random noise: f64 ~ normal(0, 1)
        step(x, h) = h + x * scaled + b
        total = scan(step, [1.0, 2], init = 0, last = True)
        function f(b) = total
        function g(b) = total where { given scaled = 100.0 }
        function h(b) = total where { given w = 1.0 }
        function dw(b) = grad(total, w)
        function ds(b) = grad(total, scaled)
        function db(b) = grad(total, b)
        function up(b) = total where { update w = w + 1 }
        shared other: f64 = 5
        function swapped = copy up where { swap w = other }
        noisy(x, h) = h + noise
        drawn = scan(noisy, zeros(3), init = 0)
        function n() = drawn
        function n1() = drawn where { hold noise }
        """,
        backend,
    )
    assert (m.f(1), m.g(1), m.h(1), m.dw(1), m.ds(1), m.db(1)) == (62, 302, 32, 30, 3, 2)
    assert (m.up(0), m.up(0), m.w.value) == (60, 90, 4)
    assert (m.swapped(0), m.other.value, m.w.value) == (150, 6, 4)
    a = m.n()
    np.testing.assert_allclose(a, a[0] * np.arange(1, 4))  # one draw a call
    assert m.n()[0] != a[0]
    assert m.n1()[0] == m.n1()[0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_scans_inside_of_scans_and_of_functions(backend: str) -> None:
    m = compiled(
        """
        function cumulative(x: f64[n], start: f64) = scan(plus, x, init = start) where { plus(x, s) = s + x }
        function rows(a: f64[n, m]) = scan(row, a, init = 0) where {
            row(x, s) = cumulative(cumulative(x, s), s)[-1]
        }
        function grads(a: f64[n, m]) = grad(c, a) where { r = rows(a); c = sum(r * r) }
        function twice(a: f64[n]) = cumulative(cumulative(a, 1.0), 2.0)
        """,
        backend,
    )
    a = RNG.normal(size=(4, 3))
    s, wanted = 0.0, []
    for row in a:
        s = s + np.cumsum(s + np.cumsum(row))[-1]
        wanted.append(s)
    np.testing.assert_allclose(m.rows(a), wanted)
    np.testing.assert_allclose(m.twice(a[0]), 2 + np.cumsum(1 + np.cumsum(a[0])))
    e = 1e-6
    slope = m.grads(a)
    for i, j in ((0, 0), (2, 1), (3, 2)):
        step = np.zeros_like(a)
        step[i, j] = e
        high, low = ((m.rows(a + t) ** 2).sum() for t in (step, -step))
        assert slope[i, j] == pytest.approx((high - low) / (2 * e), rel=1e-6)


def test_stable_forms_are_found_inside_of_steps() -> None:
    m = compiled(
        """
        s(z) = 1 / (1 + exp(-z))
        step(x, h) = h + log(s(x)) + log(1 - s(p[0] + x)) where_
    """.replace(" where_", "")
        + """
        tensor p: f64[k]
        function f(xs: f64[n], p) = scan(step, xs, init = 0, last = True)
        tensor xs: f64[n]
        c = scan(step, xs, init = 0, last = True)
        function g(xs, p) = grad(c, xs, p)
        lse(x, h) = h + log(sum(exp(x + h)))
        function big(x: f64[n, m]) = scan(lse, x, init = 0)
    """
    )
    assert m.f([-800.0, 100.0], [0.0]) == pytest.approx(-900)
    slopes = m.g([-800.0, 100.0], [0.0])
    np.testing.assert_allclose(slopes[0], [1.0, -1.0])
    np.testing.assert_allclose(slopes[1], [-1.0], atol=1e-12)
    np.testing.assert_allclose(m.big([[1000.0, 1000]]), [1000 + np.log(2)])


def test_what_is_the_same_in_all_steps_is_computed_once() -> None:
    m = compiled("""
        function f(xs: f64[n], w: f64[m, m]) = scan(step, xs, init = zeros(m)) where {
            step(x, h) = tanh(exp(w).T @ h) + x + sum(w)
        }
    """)
    function = m._session.program.function(m._session.program.main.scope.names["f"])
    order = toposort(function.roots())
    (scan,) = [n for n in order if n.op.name == "scan"]
    body: Body = scan.attr("body")
    assert {"exp", "sum", "transpose"} <= {n.op.name for n in order}
    assert not {"exp", "sum", "transpose"} & {n.op.name for n in toposort(body.results)}


def test_dtypes_of_literals_follow_the_step() -> None:
    m = compiled("""
        plus(x, h) = h + x
        count(x, k) = k + 1
        function a(xs: f32[n]) = scan(plus, xs, init = 0)
        function b(xs: f64[n]) = scan(count, xs, init = 0)
        function c(xs: i64[n]) = scan(plus, xs, init = 0)
        function d(xs: f64[n, 2]) = scan(plus, xs, init = [0, 0])
        both(x, k, s) = (k + 1, s + x / k)
        function e(xs: f32[n]) = scan(both, xs, init = (1, 0))
    """)
    assert m.a([1, 2]).dtype == np.float32
    assert m.b([1, 2]).dtype == np.int64
    assert m.c([1, 2]).dtype == np.int64
    assert m.d([[1, 2]]).dtype == np.float64
    k, s = m.e([1, 2])
    assert (k.tolist(), s.tolist()) == ([2, 3], [1, 2])


def test_a_map_is_a_scan_that_carries_nothing() -> None:
    m = compiled("""
        function f(a: f64[n, 2, 2]) = scan(det, a)
        function g(a: f64[n, 2, 2]) = grad(c, a) where { c = sum(scan(det, a)) }
        two(x) = (more = x + 1, double = 2 * x)
        function h(a: f64[n]) = scan(two, a)
    """)
    a = RNG.normal(size=(3, 2, 2))
    np.testing.assert_allclose(m.f(a), np.linalg.det(a))
    inverse = np.linalg.inv(a).transpose(0, 2, 1) * np.linalg.det(a)[:, None, None]
    np.testing.assert_allclose(m.g(a), inverse)
    assert m.h([1.0, 2]).double.tolist() == [2, 4]


def test_commands_and_templates_may_scan() -> None:
    m = compiled("""
        each(f, xs) = scan(f, xs)
        half(x) = x / 2
        set v = each(half, [1, 2])
        function k(x: f64) = x * 3
        set u = scan(k, [1.0, 2])
    """)
    assert m.v.tolist() == [0.5, 1]
    assert m.u.tolist() == [3, 6]


def test_sizes_inside_of_a_step_may_differ_from_step_to_step() -> None:
    m = compiled("""
        head(k, s) = s + sum(arange(k))
        function f(ks: i64[n]) = scan(head, ks, init = 0)
    """)
    assert m.f([3, 0, 5]).tolist() == [3, 3, 13]


def test_errors_inside_of_a_step_have_their_place() -> None:
    m = compiled(
        "pick(i, s) = s + x[i]\ntensor x: f64[n]\nfunction f(i: i64[k], x) = scan(pick, i, init = 0)"
    )
    with pytest.raises(tlang.TlangError) as caught:
        m.f([0, 7], [1.0, 2])
    assert caught.value.code == "R115"
    assert caught.value.span.text == "x[i]"
    m = compiled("one(x) = x\nfunction f(k: i64) = scan(one, init = 1, steps = k)")
    with pytest.raises(tlang.TlangError) as caught:
        m.f(-1)
    assert caught.value.code == "R113"


def test_long_and_deep() -> None:
    m = compiled("plus(x, h) = h + x\nfunction f(xs: f64[n]) = scan(plus, xs, init = 0, last = True)")
    assert m.f(np.ones(20_000)) == 20_000
    body = " + ".join(["x * h"] * 20_000)
    m = compiled(f"step(x, h) = {body}\nfunction f(xs: f64[n]) = scan(step, xs, init = 1)")
    assert m.f([1e-3, 1e-3]).tolist() == pytest.approx([20, 400])


def test_segments_need_less_memory() -> None:
    import tracemalloc

    text = """
        step(x, h) = sin(h) + x
        function f(xs: f64[n], h0: f64[m]) = grad(c, h0) where {
            c = sum(scan(step, xs, init = h0, last = True OPTION))
        }
    """
    peaks = []
    slopes = []
    for option in ("", ", checkpoint = True"):
        m = compiled(text.replace("OPTION", option))
        xs, h0 = RNG.normal(size=1600) * 0.1, np.linspace(0, 1, 1000)
        m.f(xs[:4], h0)
        tracemalloc.start()
        slopes.append(m.f(np.full(1600, 0.1), h0))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    np.testing.assert_allclose(slopes[0], slopes[1], rtol=1e-10)
    assert peaks[0] > 1600 * 8000  # what is carried into each step
    assert peaks[1] < 8 * 40 * 8000  # into each of 40 segments, and into each step of one


def test_a_value_and_a_function_of_it_are_both_read() -> None:
    m = compiled("""
        step(x, h) = c * h + tanh(c) * x
        tensor c: f64
        tensor xs: f64[n]
        y = scan(step, xs, init = 0, last = True)
        function f(xs, c) = y
        function g(xs, c) = grad(y, c)
    """)
    xs, e = np.array([1.0, 2, 3]), 1e-6
    assert m.g(xs, 0.7) == pytest.approx((m.f(xs, 0.7 + e) - m.f(xs, 0.7 - e)) / (2 * e), rel=1e-8)


def test_the_first_operation_that_is_not_finite_is_found_inside_of_a_step() -> None:
    m = compiled("step(x, h) = log(h) + x\nfunction f(xs: f64[n]) = scan(step, xs, init = 1.0)")
    m._session.backends.check_finite()
    with pytest.raises(tlang.TlangError) as caught:
        m.f([1.0, -5, 1])
    assert (caught.value.code, caught.value.span.text) == ("R160", "log(h)")


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_jacobians_and_hessians(backend: str) -> None:
    """Of all values that are carried, by differences; the hessian of what a recurrence ends with."""
    m = tlang.compile(
        """
        tensor w: f64[3]
        tensor xs: f64[n, 3]
        step(x, h) = tanh(x * h + w)
        every = scan(step, xs, init = zeros(3) + 0.5)
        end = sum(scan(step, xs, init = zeros(3) + 0.5, last = True) ** 2)
        function values(xs, w) = every
        function slope(xs, w) = grad(end, w)
        function rows(xs, w) = (by_w = jacobian(every, w), by_xs = jacobian(every, xs))
        function bend(xs, w) = hessian(end, w)
        """,
        backend=backend,
    )
    rng = np.random.default_rng(8)
    xs, w, step = rng.normal(size=(4, 3)), rng.normal(size=3), 1e-6

    def differences(f: Any, x: Any) -> Any:
        columns = []
        for at in np.ndindex(x.shape):
            there, back = x.copy(), x.copy()
            there[at] += step
            back[at] -= step
            columns.append((f(there) - f(back)) / (2 * step))
        stacked = np.stack(columns, axis=-1)
        return stacked.reshape(*stacked.shape[:-1], *x.shape)

    rows = m.rows(xs, w)
    np.testing.assert_allclose(rows.by_w, differences(lambda v: m.values(xs, v), w), atol=1e-8)
    np.testing.assert_allclose(rows.by_xs, differences(lambda v: m.values(v, w), xs), atol=1e-8)
    np.testing.assert_allclose(m.bend(xs, w), differences(lambda v: m.slope(xs, v), w), atol=1e-8)
