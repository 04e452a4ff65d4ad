"""Comprehensions against loops: the values, how they are computed, what has no rule of its own."""

from __future__ import annotations

import itertools
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tlang
from tlang.graph.node import toposort

BACKENDS = ["numpy", "cpu"]
RNG = np.random.default_rng(11)
#: What formulas index: each size belongs to an index, so that every index has one range.
SIZES = {"i": 2, "j": 3, "k": 4, "l": 5}
TENSORS = ["i", "j", "ij", "ji", "ik", "kj", "kl", "ijk", "lk", "k", "li"]
TYPES = ", ".join(f"{t}_: f64[{', '.join(t)}]" for t in TENSORS)


def parts(names: str, depth: int) -> st.SearchStrategy[str]:
    """Formulas of one element, of indices that may be used."""
    usable = [t for t in TENSORS if set(t) <= set(names)]
    leaves = st.sampled_from([f"{t}_[{', '.join(t)}]" for t in usable])
    if "i" in names and "k" in names:
        rows = ["sum(ik_[i])", "max(kl_[k])", "(ik_ @ kl_)[i, 0]", "ik_[i] @ kl_[:, 1]", "sum(ik_[i] * k_)"]
        leaves = st.one_of(leaves, st.sampled_from(rows))
    leaves = st.one_of(leaves, st.sampled_from(["2", "0.5", *(f"f64({n})" for n in names)]))
    if not depth:
        return leaves
    inner = parts(names, depth - 1)
    forms = [
        leaves,
        st.tuples(inner, st.sampled_from("+-*"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        inner.map(lambda e: f"tanh({e})"),
        st.tuples(inner, inner).map(lambda t: f"where({t[0]} > {t[1]}, {t[0]}, 1.0)"),
    ]
    free = [n for n in SIZES if n not in names]
    if free:
        op = st.sampled_from(["sum", "max", "mean"])
        forms += [
            st.tuples(op, parts(names + n, depth - 1), st.just(n)).map(bound_somewhere) for n in free[:2]
        ]
    return st.one_of(forms)


def bound_somewhere(made: tuple[str, str, str]) -> str:
    """A reduction over an index that surely has a range."""
    op, body, n = made
    known = next(t for t in TENSORS if t == n or n in t) if n != "l" else None
    index = f"{n}_[{n}]" if n in TENSORS else "sum(lk_[l])"
    return f"{op}({body} + 0 * {index} for {n})" if known or n == "l" else body


def loops(formula: str, names: str, data: dict[str, Any]) -> Any:
    """The formula element by element, in Python."""

    def evaluate(env: dict[str, int]) -> Any:
        scope: dict[str, Any] = {**data, **env, "tanh": np.tanh, "f64": float}
        scope["where"] = lambda c, x, y: x if c else y
        for op, f in (("sum", np.sum), ("max", np.max), ("mean", np.mean)):
            scope[op] = lambda x, f=f: f(list(x)) if not isinstance(x, np.ndarray) else f(x)
        source = re.sub(r" for (\w)(?=\))", lambda m: f" for {m[1]} in range({SIZES[m[1]]})", formula)
        # names of the loop around are seen inside of generators as globals
        return eval(source, scope)

    shape = tuple(SIZES[n] for n in names)
    out = np.empty(shape)
    for index in itertools.product(*map(range, shape)):
        out[index] = evaluate(dict(zip(names, index, strict=True)))
    return out


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_formula_agrees_with_loops(data: st.DataObject) -> None:
    names = data.draw(st.sampled_from(["i", "ij", "ji", "ik", "ijk", "kji"]))
    body = data.draw(parts(names, 3))
    formula = body + "".join(f" + {n}_[{n}]" if n in TENSORS else "" for n in names)
    m = tlang.compile(
        f"function f({TYPES}) = [{formula} for {', '.join(names)}]", backend="numpy", unused="ignore"
    )
    arrays = {f"{t}_": RNG.normal(size=[SIZES[n] for n in t]) for t in TENSORS}
    np.testing.assert_allclose(m.f(*arrays.values()), loops(formula, names, arrays), rtol=1e-11, atol=1e-12)


def names_of(m: Any, name: str = "f") -> list[str]:
    """The operations of a function."""
    function = m._session.program.function(m._session.program.main.scope.names[name])
    return [n.op.name for n in toposort(function.roots())]


PRODUCTS = [
    ("[sum(a[i, k] * b[k, j] for k) for i, j]", "ik,kj->ij"),
    ("[sum(a[i, k] * b[k, j] for k) for j, i]", "ik,kj->ji"),
    ("[sum(a[k, i] * b[j, k] for k) for i, j]", "ki,jk->ij"),
    ("[sum(b[j, k] * a[k, i] for k) for i, j]", "ki,jk->ij"),
    ("[sum(a[i, k] * b[k] for k) for i]", "ik,k->i"),
    ("[sum(a[k] * b[k, j] for k) for j]", "k,kj->j"),
    ("[sum(a[b_, i, k] * b[b_, k, j] for k) for b_, i, j]", "bik,bkj->bij"),
    ("[sum(a[i, b_, k] * b[k, b_] for k) for b_, i]", "ibk,kb->bi"),
    ("[sum(a[b_, k] * b[b_, k] for k) for b_]", "bk,bk->b"),
    ("[sum(a[i, j, k] * b[k, l] for k) for i, j, l]", "ijk,kl->ijl"),
    ("[sum(a[k, l] * b[i, j, k] for k) for l, i, j]", "kl,ijk->lij"),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("formula", "subscripts"), PRODUCTS)
def test_sums_of_products_are_matrix_products(formula: str, subscripts: str, backend: str) -> None:
    left, right = subscripts.split("->")[0].split(",")
    types = ", ".join(
        f"{name}: f64[{', '.join('size_' + n for n in axes)}]" for name, axes in (("a", left), ("b", right))
    )
    m = tlang.compile(f"function f({types}) = {formula}", backend=backend)
    sizes = {"i": 2, "j": 3, "k": 4, "l": 5, "b": 3}
    a, b = (RNG.normal(size=[sizes[n] for n in axes]) for axes in (left, right))
    np.testing.assert_allclose(m.f(a, b), np.einsum(subscripts, a, b))
    found = names_of(m)
    assert "matmul" in found
    assert not {"sum", "mul", "scan"} & set(found)


def test_a_matrix_product_is_nothing_else() -> None:
    m = tlang.compile("function f(a: f64[n, m], b: f64[m, p]) = [sum(a[i, k] * b[k, j] for k) for i, j]")
    assert names_of(m) == ["tensor", "tensor", "matmul"]


CASES: list[tuple[str, str, Any]] = [
    ("[a[i, i] for i]", "a: f64[n, n]", lambda a: np.diag(a)),
    ("[a[j, i] for i, j]", "a: f64[n, m]", lambda a: a.T),
    ("[a[i] for i]", "a: f64[n, m]", lambda a: a),
    ("[a[:, i] for i]", "a: f64[n, m]", lambda a: a.T),
    ("[a[i][j] for j, i]", "a: f64[n, m]", lambda a: a.T),
    ("[a[i, 1:] for i]", "a: f64[3, 4]", lambda a: a[:, 1:]),
    ("[a[i, -1] - a[0, i] for i]", "a: f64[n, n]", lambda a: a[:, -1] - a[0]),
    ("[softmax(a[i]) for i]", "a: f64[n, m]", lambda a: np.exp(a) / np.exp(a).sum(1, keepdims=True)),
    ("[cumsum(a[i]) for i]", "a: f64[n, m]", lambda a: a.cumsum(1)),
    ("[argmax(a[:, j]) for j]", "a: f64[n, m]", lambda a: a.argmax(0)),
    ("[a[i] @ a.T for i]", "a: f64[n, m]", lambda a: a @ a.T),
    ("[a @ a[i] for i]", "a: f64[n, m]", lambda a: (a @ a.T).T),
    ("[a[i] @ a[j] for i, j]", "a: f64[n, m]", lambda a: a @ a.T),
    ("[b[i] @ a for i]", "a: f64[n, m], b: f64[k, l, n]", lambda a, b: b @ a),
    ("[b[i] @ b[i].T for i]", "b: f64[k, l, n]", lambda b: b @ b.transpose(0, 2, 1)),
    ("[b[i] @ a[i] for i]", "a: f64[k, n], b: f64[k, l, n]", lambda a, b: np.einsum("kln,kn->kl", b, a)),
    ("[a[i] @ b[i] for i]", "a: f64[k, l], b: f64[k, l, n]", lambda a, b: np.einsum("kl,kln->kn", a, b)),
    (
        "[[a[i], 2 * a[i] + b[j]] for i, j]",
        "a: f64[n], b: f64[m]",
        lambda a, b: np.stack([np.broadcast_to(a[:, None], (len(a), len(b))), 2 * a[:, None] + b], -1),
    ),
    ("[det(b[i]) for i]", "b: f64[k, n, n]", lambda b: np.linalg.det(b)),
    ("[sort2(a[i]) for i]", "a: f64[n, 2]", lambda a: np.sort(a, 1)),
    (
        "[i + 10 * j + 0 * i64(a[i, j]) for i, j]",
        "a: f64[n, m]",
        lambda a: np.add.outer(np.arange(len(a)), 10 * np.arange(a.shape[1])),
    ),
    ("[size(a[i]) + 0 * i for i]", "a: f64[n, m]", lambda a: np.full(len(a), a.shape[1])),
    ("sum(a[i, j] * i for i, j)", "a: f64[n, m]", lambda a: (a * np.arange(len(a))[:, None]).sum()),
    ("max(a[i] for i)", "a: f64[n, m]", lambda a: a.max(0)),
    ("any(a[i] > 1 for i)", "a: f64[n]", lambda a: (a > 1).any()),
    ("mean(a[i, j] for j, i)", "a: f64[n, m]", lambda a: a.mean()),
    ("[a[p[i]] for i]", "a: f64[n], p: i64[m]", lambda a, p: a[p]),
    (
        "[where(i > 0, a[i] - a[i - 1], a[i]) for i]",
        "a: f64[n]",
        lambda a: np.where(np.arange(len(a)) > 0, a - np.roll(a, 1), a),
    ),
    (
        "[a[i : i + 2] + 0 * b[i] for i]",
        "a: f64[n], b: f64[m]",
        lambda a, b: np.stack([a[i : i + 2] for i in range(len(b))]),
    ),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("formula", "types", "oracle"), CASES)
def test_values(formula: str, types: str, oracle: Any, backend: str) -> None:
    before = "sort2(v) = [min(v), max(v)]\n"
    m = tlang.compile(f"{before}function f({types}) = {formula}", backend=backend, unused="ignore")
    sizes = {"n": 4, "m": 3, "k": 2, "l": 5}
    arrays = []
    for name, dims in re.findall(r"(\w+): \w+\[([^]]*)\]", types):
        shape = [sizes.get(d.strip()) or int(d) for d in dims.split(",")]
        arrays.append(RNG.integers(0, 3, size=shape) if name == "p" else RNG.normal(size=shape))
    if "i : i + 2" in formula:
        arrays[1] = arrays[1][:3]
    np.testing.assert_allclose(m.f(*arrays), oracle(*arrays), rtol=1e-12, atol=1e-14)


def test_gradients_pass() -> None:
    m = tlang.compile("""
        function f(a: f64[n, m], b: f64[m, n]) = grad(c, a, b) where {
            c = sum(sum(a[i, k] * b[k, j] for k) ** 2 * (i + 2 * j) for i, j)
        }
    """)
    a, b = RNG.normal(size=(3, 2)), RNG.normal(size=(2, 3))
    weight = np.arange(3)[:, None] + 2 * np.arange(3)
    g = 2 * (a @ b) * weight
    for got, wanted in zip(m.f(a, b), (g @ b.T, a.T @ g), strict=True):
        np.testing.assert_allclose(got, wanted)


def test_indices_are_local_and_may_stand_in_templates() -> None:
    m = tlang.compile("""
        i = 5
        kernel(x, y) = [exp(-sum((x[i] - y[j]) ** 2)) for i, j]
        function f(x: f64[n, d], y: f64[m, d]) = kernel(x, y) + i
        function lower(x: f64[n, n]) = [where(i >= j, x[i, j], 0.0) for i, j]
        set v = [lower([[1, 2], [3, 4]])[j] for j]
    """)
    x, y = RNG.normal(size=(4, 2)), RNG.normal(size=(3, 2))
    np.testing.assert_allclose(m.f(x, y), np.exp(-((x[:, None] - y) ** 2).sum(-1)) + 5)
    assert m.v.tolist() == [[1, 0], [3, 4]]


def test_out_of_range_has_its_place() -> None:
    m = tlang.compile("function f(a: f64[n]) = [a[i + 1] - a[i] for i]")
    with pytest.raises(tlang.TlangError) as caught:
        m.f([1.0, 2])
    assert caught.value.code == "R115"
    assert "a[i + 1]" in caught.value.span.text
