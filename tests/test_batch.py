"""Stacks of every row against one at a time; jacobians and hessians against differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from op_cases import CASES, FLAT, Case, leaves, run, size

import tlang
from tlang.graph import batch
from tlang.graph.grad import jacobian
from tlang.graph.node import Graph, Node
from tlang.graph.ops import OPS
from tlang.types import Dim, Symbol, Tensor

#: `scaled` has scalar parameters only.
ROWS = [(n, k) for n, k in FLAT if "f" in CASES[n][k].dtypes and CASES[n][k].shapes and n != "scaled"]


def stacked(case: Case, name: str, which: list[int], count: int) -> tuple[Any, Any]:
    """A row for stacks of some inputs, by the rules, and one after the other."""
    arrays = case.arrays("f8", seed=1)
    many = [case.arrays("f8", seed=1 + i) for i in range(count)]
    graph = Graph()
    xs = leaves(graph, arrays, case.dim)
    front = Dim.of(Symbol("stack"))
    tall: dict[Node, Node] = {}
    given = list(arrays)
    for i in which:
        kind = Tensor(xs[i].dtype, (front, *xs[i].shape))
        tall[xs[i]] = graph.leaf("tensor", kind, name=f"x{len(given)}")
        given.append(np.stack([m[i] for m in many]) if count else np.zeros((0, *np.shape(arrays[i]))))
    out = case.build(name)(*xs)
    (made,) = batch.over([out], tall, 1)
    assert made.rank == out.rank + 1
    assert made.dtype == out.dtype
    got = run([made, *tall.values()], given)[0]  # the stacks say how many there are, where nothing reads them
    one = Graph()
    ys = leaves(one, arrays, case.dim)
    node = case.build(name)(*ys)
    rows = [run([node], [m[i] if i in which else a for i, a in enumerate(arrays)])[0] for m in many]
    return got, np.stack(rows) if rows else np.zeros((0, *np.shape(run([node], arrays)[0])))


@pytest.mark.parametrize(("name", "k"), ROWS, ids=[f"{n}-{k}" for n, k in ROWS])
def test_a_stack_is_each_of_it(name: str, k: int) -> None:
    case = CASES[name][k]
    places = range(len(case.shapes))
    for which in {(0,), (places[-1],), tuple(places)}:
        got, wanted = stacked(case, name, list(which), 3)
        np.testing.assert_allclose(got, wanted, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", ["add", "sum", "matmul", "index", "solve", "cumsum", "diag"])
def test_a_stack_of_none(name: str) -> None:
    got, wanted = stacked(CASES[name][1], name, [0], 0)
    assert got.shape == wanted.shape


def test_rules_are_of_rows() -> None:
    assert set(batch.RULES) <= set(OPS)


# ---------------------------------------------------------------- jacobians and hessians


def differences(f: Any, x: Any, h: float = 1e-5) -> Any:
    """The jacobian of a function of an array by central differences."""
    out = np.zeros((*np.shape(f(x)), *x.shape))
    for at in np.ndindex(x.shape):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[at] += sign * h
            ends.append(np.asarray(f(moved)))
        out[(..., *at)] = (ends[0] - ends[1]) / (2 * h)
    return out


#: Formulas of x: f64[n, m], of every kind that a cotangent may pass: the name of the function is `f`.
FORMULAS_OF_X = (
    "x ** 2",
    "sin(x) * x[0]",
    "sum(x ** 3)",
    "sum(x, axis = 0) ** 2",
    "mean(x * x, axis = 1, keepdims = True) * x",
    "x @ x.T",
    "x[0] @ x.T",
    "outer(x[0], x[:, 0])",
    "exp(x[1:]) + x[:-1]",
    "x[[1, 0, 1]] ** 2",
    "x[[1, 0], :][:, [2, 2, 0]] * 3",
    "concatenate([x, x * x], axis = 1)",
    "stack([x[0], x[1] ** 2])",
    "reshape(x ** 2, -1)",
    "softmax(x)",
    "logsumexp(x, axis = 1)",
    "cumsum(x ** 2, axis = 0)",
    "prod(x, axis = 1)",
    "max(x, axis = 1)",
    "where(x > 0.4, x ** 2, x)",
    "maximum(x, 0.5) ** 2",
    "inv(x @ x.T + eye(n))",
    "solve(x @ x.T + eye(n), x)",
    "solve(x @ x.T + eye(n), x[:, 0])",
    "cholesky(x @ x.T + eye(n))",
    "logdet(x @ x.T + eye(n))",
    "diag(x @ x.T)",
    "diag(x[0]) @ x.T",
    "tril(x @ x.T)",
    "trace(x @ x.T)",
    'einsum("ij,ik->jk", x, x)',
    "tensordot(x, x ** 2, axes = ((0,), (0,)))",
    "svd(x, full_matrices = False).S",
    "eigh(x @ x.T).eigenvalues",
    "qr(x.T).R",
    "pinv(x)",
    "expm(x @ x.T)",
    "norm(x, axis = 1)",
    "std(x, axis = 1)",
    "x / sum(x)",
    "sort(x, axis = 1) ** 2",
    "flip(x, axis = 1) * x",
    "gamma(x)",
)


@pytest.mark.parametrize("formula", FORMULAS_OF_X)
def test_jacobians_and_hessians_agree_with_differences(formula: str) -> None:
    m = tlang.compile(f"""
        tensor x: f64[n, m]
        y = {formula}
        function f(x) = y
        function j(x) = jacobian(y, x)
        function g(x) = grad(sum(y * cos(y)), x)
        function h(x) = hessian(sum(y * cos(y)), x)
    """)
    x = np.random.default_rng(3).uniform(0.2, 1, (2, 3))
    got, wanted = m.j(x), differences(m.f, x)
    assert got.shape == (*np.shape(m.f(x)), 2, 3)
    np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(m.h(x), differences(m.g, x), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("formula", FORMULAS_OF_X)
def test_without_rules_one_after_the_other(formula: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`each` can do everything that the rules do, and has gradients."""
    text = f"""
        tensor x: f64[n, m]
        y = {formula}
        function j(x) = jacobian(y, x)
        function d(x) = grad(sum(jacobian(y, x) ** 2), x, disconnected = "zero")
    """
    x = np.random.default_rng(3).uniform(0.2, 1, (2, 3))
    wanted = tlang.compile(text)
    found = wanted.j(x), wanted.d(x)
    monkeypatch.setattr(batch, "RULES", {})
    monkeypatch.setattr(batch, "_is_elementwise", lambda node: False)
    m = tlang.compile(text)
    np.testing.assert_allclose(m.j(x), found[0], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(m.d(x), found[1], rtol=1e-9, atol=1e-12)


def test_jacobians_of_and_in_scalars_and_empty_tensors() -> None:
    m = tlang.compile("""
        tensor s: f64
        tensor x: f64[n]
        function a(s) = jacobian(s ** 2, s)
        function b(s) = jacobian(s * [1.0, 2.0], s)
        function c(x) = jacobian(sum(x ** 2), x)
        function d(s) = hessian(s ** 3, s)
        function e(x) = (jacobian(x ** 2, x), hessian(sum(x ** 2), x))
        function k(x, s) = (z, w) where { z, w = jacobian(x * s, x, s) }
    """)
    assert m.a(3) == 6
    np.testing.assert_array_equal(m.b(3), [1, 2])
    np.testing.assert_array_equal(m.c([1, 2]), [2, 4])
    assert m.d(2) == 12
    j, h = m.e(np.zeros(0))
    assert j.shape == h.shape == (0, 0)
    z, w = m.k([1, 2], 3)
    np.testing.assert_array_equal(z, 3 * np.eye(2))
    np.testing.assert_array_equal(w, [1, 2])


def test_a_jacobian_of_a_node_has_its_type() -> None:
    graph = Graph()
    (x,) = leaves(graph, [np.ones((2, 3))])
    made = jacobian(x.apply("sum", axis=0, keepdims=False) * x, x)
    assert made is not None
    assert made.shape == (size(2), size(3), size(2), size(3))
