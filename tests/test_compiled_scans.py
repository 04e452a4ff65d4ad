"""Recurrences in compiled code, and products lifted out of them: the values are the interpreter's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import tlang
from tlang.graph.node import Node, toposort, verify
from tlang.graph.recurrence import Body
from tlang.rewrite import rewrite
from tlang.rewrite.close import close
from tlang.rewrite.simplify import simplify
from tlang.rewrite.stabilise import stabilise
from tlang.rewrite.unname import unname

RNG = np.random.default_rng(5)

#: A step, its arguments and options. Sizes of data: n steps, d = 4.
FORMS = {
    "all values": ("step(x, h) = tanh(x + h @ u)", "xs, init = zeros(4)"),
    "the last": ("step(x, h) = tanh(x + h @ u)", "xs, init = zeros(4), last = True"),
    "reversed": ("step(x, h) = tanh(x + h @ u)", "xs, init = zeros(4), reverse = True"),
    "reversed, the last": (
        "step(x, h) = tanh(x + h @ u)",
        "xs, init = zeros(4), reverse = True, last = True",
    ),
    "scalars": ("step(x, h) = 0.5 * h + sum(x)", "xs, init = 1"),
    "two that change places": ("step(x, a, b) = (b, a + sum(x))", "xs, init = (0, 1)"),
    "the last of two": ("step(x, a, b) = (b, a + sum(x))", "xs, init = (0, 1), last = True"),
    "an element as it is": ("step(x, h) = (new = x, out = h)", "xs, init = ones(4)"),
    "a constant": ("step(x, h) = (new = zeros(4), out = h + x)", "xs, init = ones(4)"),
    "one that stays": ("step(x, h, k) = (h + k + x, k)", "xs, init = (zeros(4), ones(4))"),
    "what is read": ("step(x, h) = (new = u[0], out = h + x)", "xs, init = ones(4)"),
    "twice the same": ("step(x, h) = (new = h + x, a = h + x, b = 2 * x)", "xs, init = zeros(4)"),
    "counted": ("step(h) = 1.5 * h", "init = 1, steps = k"),
    "integers": ("step(i, h) = (h + i) % 7", "arange(k), init = 0"),
    "bools": ("step(x, h) = not h and sum(x) > 0", "xs, init = True"),
    "f32": ("step(x, h) = f32(sum(x)) + h / 2", "xs, init = f32(0)"),
    "matrices": ("step(x, h) = tanh(h @ u + x)", "xs, init = zeros((3, 4))"),
    "two sequences": ("step(x, y, h) = h * y[0] + x @ u", "xs, xs * 2, init = ones(4)"),
    "none carried": ("step(x) = x @ u", "xs"),
    "sums": ("step(x, h) = h + outer(x, x @ u)", "xs, init = zeros((4, 4)), last = True"),
    "sums of sums": (
        "step(x, h) = (h + outer(x, x)) + (outer(x @ u, x) + 1)",
        "xs, init = zeros((4, 4)), last = True",
    ),
    "all sums": ("step(x, h) = h + outer(x, x)", "xs, init = zeros((4, 4))"),
    "a lookup": ("step(i, h) = tanh(u[i] @ u + h)", "arange(k) % 4, init = zeros(4)"),
}
#: Nothing is left to compute in a step, or something for which only NumPy has code.
NOT_COMPILED = {"an element as it is", "integers", "none carried", "sums"}
ARGS = "xs: f64[n, 4], u: f64[4, 4], k: i64"


def function(name: str) -> str:
    step, args = FORMS[name]
    return f"function f({ARGS}) = scan(step, {args}) where {{ {step} }}"


def data(n: int) -> tuple[Any, Any, int]:
    return RNG.normal(size=(n, 4)), RNG.normal(size=(4, 4)) * 0.5, n


def flat(x: Any) -> list[Any]:
    return list(x) if isinstance(x, tuple) else [x]


@pytest.mark.parametrize("name", FORMS)
def test_the_same_as_the_interpreter(name: str) -> None:
    slow, fast = (tlang.compile(function(name), backend=b, unused="ignore") for b in ("numpy", "cpu"))
    for n in (1, 2, 5, 6, 0, 5):
        given = data(n)
        for a, b in zip(flat(slow.f(*given)), flat(fast.f(*given)), strict=True):
            assert (np.asarray(a).dtype, np.shape(a)) == (np.asarray(b).dtype, np.shape(b))
            np.testing.assert_allclose(a, b, rtol=1e-6 if name == "f32" else 1e-12, atol=1e-12)
    compiled = bool(tape_of(fast).inner)
    assert compiled == (name not in NOT_COMPILED)


def tape_of(m: Any) -> Any:
    return m._session.backends.compiled(graph_of(m))


def graph_of(m: Any) -> Any:
    return m._session.program.function(m._session.program.main.scope.names["f"])


def test_steps_are_compiled() -> None:
    for name in ("all values", "reversed", "two that change places", "scalars", "counted", "matrices"):
        m = tlang.compile(function(name), backend="cpu", unused="ignore")
        m.f(*data(3))
        (inner,) = tape_of(m).inner
        assert inner.native
        assert len(inner.segments) == 1


def test_results_are_arrays_of_their_own() -> None:
    m = tlang.compile(
        f"function f({ARGS}) = (a = all_, b = last) where {{ step(x, h) = h + x; "
        "all_ = scan(step, xs, init = zeros(4)); last = scan(step, xs, init = zeros(4), last = True) }",
        backend="cpu",
        unused="ignore",
    )
    xs, u, k = data(3)
    first = m.f(xs, u, k)
    kept = first.a.copy()
    m.f(xs + 1, u, k)
    np.testing.assert_array_equal(first.a, kept)
    first.a[:] = 0
    np.testing.assert_array_equal(first.b, kept[-1])


def test_an_error_in_a_step_is_that_of_the_interpreter() -> None:
    text = "pick(i, s) = s + x[i]\ntensor x: f64[n]\nfunction f(i: i64[k], x) = scan(pick, i, init = 0)"
    for backend in ("numpy", "cpu"):
        m = tlang.compile(text, backend=backend)
        assert m.f([0, 1], [1.0, 2]).tolist() == [1, 3]
        with pytest.raises(tlang.TlangError) as caught:
            m.f([0, 7], [1.0, 2])
        assert (caught.value.code, caught.value.span.text) == ("R115", "x[i]")
        assert m.f([1, 1], [1.0, 2]).tolist() == [2, 4]


def test_recurrences_in_loops() -> None:
    text = """
        shared w: f64[4, 4] = eye(4) * 0.5
        step(x, h) = tanh(x + h @ w)
        tensor xs: f64[n, 4]
        cost = mean(scan(step, xs, init = zeros(4)) ** 2)
        g = grad(cost, w)
        function train(xs) = cost where { update w = w - 0.1 * g }
        set data = [[0.1, 0.2, 0.3, 0.4], [1, -1, 0, 2]]
        repeat 30 { set c = train(data) }
        short(x, h) = h + x[i]
    """
    slow, fast = (
        tlang.compile(text.replace("short(x, h) = h + x[i]", ""), backend=b) for b in ("numpy", "cpu")
    )
    np.testing.assert_allclose(fast.w.value, slow.w.value, rtol=1e-10)
    np.testing.assert_allclose(fast.c, slow.c, rtol=1e-10)
    assert not fast._session.loops.why_slow


def test_an_error_in_a_recurrence_stops_a_loop() -> None:
    m = tlang.compile(
        """
        shared at: i64 = 0
        pick(i, s) = s + x[i + at]
        tensor x: f64[n]
        total = scan(pick, [0, 1], init = 0, last = True)
        function f(x) = total where { update at = at + 1 }
        """,
        backend="cpu",
    )
    with pytest.raises(tlang.TlangError) as caught:
        m.run("set data = [1.0, 2, 3, 4]; repeat 10 { set t = f(data) }")
    assert caught.value.code == "R115"
    assert m["at"].value == 3
    assert m.t == 7


# ---------------------------------------------------------------- what is lifted out


def bodies(m: Any) -> list[list[str]]:
    """The operations in the bodies of a function's recurrences."""
    out = []
    for node in toposort(graph_of(m).roots()):
        if node.op.name == "scan":
            body: Body = node.attr("body")
            out.append([n.op.name for n in toposort(body.results)])
    return out


def test_products_of_the_sequences_are_made_before() -> None:
    m = tlang.compile(
        f"function f({ARGS}) = scan(step, xs, init = zeros(4)) "
        "where { step(x, h) = tanh((x * 2) @ u + h) }",
        unused="ignore",
    )
    assert bodies(m) == [["bound", "bound", "add", "tanh"]]


def test_a_gradient_has_no_product_for_each_step_but_one() -> None:
    m = tlang.compile("""
        function f(xs: f64[n, 4], w: f64[4, 4], u: f64[4, 4], b: f64[4]) = grad(c, w, u, b) where {
            step(x, h) = tanh(x @ w + h @ u + b)
            c = sum(scan(step, xs, init = zeros(4)) ** 2)
        }
    """)
    forward, backward = bodies(m)
    assert forward.count("matmul") == 1
    assert backward.count("matmul") == 1
    assert not any("outer" in name for name in backward)
    (scan,) = [n for n in toposort(graph_of(m).roots()) if n.op.name == "scan" and n.attr("reverse")]
    assert [b.rank for b in scan.attr("body").state] == [
        1,
        1,
    ]  # no matrix is carried: the cotangent and b's sum
    assert "tanh" not in backward  # what the forward run has made is kept


@pytest.mark.parametrize("name", FORMS)
def test_lifting_changes_no_value(name: str) -> None:
    m = tlang.compile(function(name), unused="ignore")
    draft = m._session.program.draft(m._session.program.main.scope.names["f"])
    roots: list[Node] = list(draft.outputs)
    for step in (unname, stabilise, simplify):
        roots = step(roots)
    plain = close(roots)
    lifted = rewrite(draft.outputs, verify)
    from tlang.interpret import Tape

    given = data(5)
    names = {"f(xs)": given[0], "f(u)": given[1], "f(k)": np.int64(given[2])}
    results = [Tape(r, draft.reads).run(lambda leaf: names[leaf.attr("name")], None) for r in (plain, lifted)]  # type: ignore[arg-type]
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6 if name == "f32" else 1e-12, atol=1e-12)
