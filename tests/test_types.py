"""Dtypes against NumPy, sizes as a module over the integers, unification and broadcasting."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tlang
from tlang.types import (
    DTYPES,
    F32,
    F64,
    FROM_NUMPY,
    I64,
    ONE,
    THEANO_NAMES,
    Dim,
    DType,
    Mismatch,
    Solver,
    Symbol,
    Tensor,
    can_cast_safely,
    fresh_symbol,
    promote,
)

ALL = list(DTYPES.values())


def numpy_of(dtype: DType) -> np.dtype[Any]:
    return np.dtype(dtype.numpy_name)


# ---------------------------------------------------------------- dtypes


def test_dtypes_are_those_of_numpy() -> None:
    assert len(ALL) == 13
    for t in ALL:
        n = numpy_of(t)
        assert FROM_NUMPY[n.name] is t
        assert (n.kind, n.itemsize * 8) == (t.kind, t.bits)
        assert t.is_inexact == np.issubdtype(n, np.inexact)
        assert t.is_integer == np.issubdtype(n, np.integer)
        if t.is_integer:
            assert t.integer_range() == (np.iinfo(n).min, np.iinfo(n).max)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_promotion_of_tensors(count: int) -> None:
    for kinds in itertools.product(ALL, repeat=count):
        wanted = np.result_type(*map(numpy_of, kinds))
        assert promote([Tensor(k) for k in kinds]) == FROM_NUMPY[wanted.name], kinds


@pytest.mark.parametrize("literal", [1, 1.0], ids=["integer", "float"])
def test_literals_are_weak(literal: int | float) -> None:
    weak = Tensor(I64 if isinstance(literal, int) else F64, (), True)
    for t in ALL:
        wanted = FROM_NUMPY[np.result_type(numpy_of(t), literal).name]
        assert promote([Tensor(t), weak]) == wanted
        assert promote([weak, Tensor(t)]) == wanted
        for u in ALL:
            wanted = FROM_NUMPY[np.result_type(np.promote_types(numpy_of(t), numpy_of(u)), literal).name]
            assert promote([Tensor(t), weak, Tensor(u)]) == wanted
    assert promote([weak]) == weak.dtype
    assert promote([Tensor(I64, (), True), Tensor(F64, (), True)]) == F64


def test_literals_through_a_program() -> None:
    m = tlang.compile("function f(x: f32, i: i8, b: bool) = (0.1 * x, 2 * i, i + 0.5, b + 1, x + i, 2 ** i)")
    kinds = [v.dtype.name for v in m.f(1.0, 3, True)]
    assert kinds == ["float32", "int8", "float64", "int64", "float32", "int8"]


def test_safe_casts() -> None:
    for a, b in itertools.product(ALL, ALL):
        assert can_cast_safely(a, b) == np.can_cast(numpy_of(a), numpy_of(b), "safe"), (a, b)


def test_theano_names() -> None:
    letters = {"b": "i8", "w": "i16", "i": "i32", "l": "i64", "f": "f32", "d": "f64", "c": "c64", "z": "c128"}
    ranks = {
        "scalar": 0,
        "vector": 1,
        "row": 2,
        "col": 2,
        "matrix": 2,
        "tensor3": 3,
        "tensor4": 4,
        "tensor5": 5,
    }
    assert set(THEANO_NAMES) == {a + b for a in letters for b in ranks}
    for name, (dtype, dims) in THEANO_NAMES.items():
        assert dtype.name == letters[name[0]]
        assert len(dims) == ranks[name[1:]]
        pattern = {"row": ("1", "_"), "col": ("_", "1")}.get(name[1:], ("_",) * len(dims))
        assert dims == pattern
    m = tlang.compile("function f(x: dmatrix, r: drow, k: iscalar, v: fvector) = (x + r, k, v)")
    assert m.f.signature.startswith("f(x: f64[_, _], r: f64[1, _], k: i32, v: f32[_])")
    assert m.f(np.ones((2, 3)), np.ones((1, 3)), 1, np.ones(2, "f4")).out0.shape == (2, 3)


# ---------------------------------------------------------------- sizes

NAMES = [Symbol(n) for n in "abc"]
UNKNOWN = [fresh_symbol() for _ in range(3)]


def dims(symbols: list[Symbol]) -> st.SearchStrategy[Dim]:
    terms = st.dictionaries(st.sampled_from(symbols), st.integers(-3, 3))
    return st.builds(linear, st.integers(-9, 9), terms)


def linear(const: int, terms: dict[Symbol, int]) -> Dim:
    total = Dim(const)
    for s, k in terms.items():
        total = total + Dim.of(s).scale(k)
    return total


DIMS = dims(NAMES + UNKNOWN)


@given(DIMS, DIMS, DIMS, st.integers(-4, 4))
def test_sizes_add_as_linear_sums(a: Dim, b: Dim, c: Dim, k: int) -> None:
    assert a + b == b + a
    assert hash(a + b) == hash(b + a)
    assert (a + b) + c == a + (b + c)
    assert a - a == Dim(0)
    assert (a - b) + b == a
    assert (a + b).scale(k) == a.scale(k) + b.scale(k)
    assert a.scale(0) == Dim(0)
    assert all(coefficient for _, coefficient in (a + b).terms)
    assert list((a + b).symbols()) == sorted((a + b).symbols())


@given(DIMS, DIMS, st.lists(st.integers(0, 50), min_size=6, max_size=6))
def test_sizes_evaluate_as_sums(a: Dim, b: Dim, values: list[int]) -> None:
    sizes = dict(zip(NAMES + UNKNOWN, values, strict=True))
    assert (a + b).evaluate(sizes) == a.evaluate(sizes) + b.evaluate(sizes)
    assert (a - b).evaluate(sizes) == a.evaluate(sizes) - b.evaluate(sizes)
    assert a.is_const == (not a.terms)


def test_sizes_are_written_as_sums() -> None:
    n, m = (Dim.of(Symbol(s)) for s in "nm")
    assert str(n + m + Dim(1)) == "m + n + 1"
    assert str(n.scale(2) - m) == "-m + 2*n"
    assert str(n - Dim(1)) == "n - 1"
    assert str(Dim(0)) == "0"
    assert Dim(3, (), "feats") == Dim(3)
    assert Tensor(F32, (n, Dim(3, (), "feats"))).declared() == "f32[n, feats]"
    assert str(Tensor(F32, (n, Dim(3, (), "feats")))) == "f32[n, 3]"
    with pytest.raises(KeyError):
        n.evaluate({})


# ---------------------------------------------------------------- unification


@given(dims(NAMES), dims(NAMES))
def test_named_sizes_equal_only_themselves(a: Dim, b: Dim) -> None:
    solver = Solver()
    assert solver.unify(a, b) == (a == b)
    assert not solver.solution


@given(DIMS, DIMS)
def test_unification_makes_equal(a: Dim, b: Dim) -> None:
    solver, other = Solver(), Solver()
    done = solver.unify(a, b)
    assert done == other.unify(b, a)
    if done and solver.solution:
        assert solver.resolve(a) == solver.resolve(b)
        assert solver.unify(a, b)
    assert solver.resolve(solver.resolve(a)) == solver.resolve(a)
    if a == b:
        assert done
        assert not solver.solution


@given(st.lists(st.tuples(DIMS, DIMS), max_size=5))
def test_earlier_equations_stay_solved(pairs: list[tuple[Dim, Dim]]) -> None:
    solver = Solver()
    solved = []
    for a, b in pairs:
        before = dict(solver.solution)
        if solver.unify(a, b) and solver.solution != before:
            solved.append((a, b))
        for x, y in solved:
            assert solver.resolve(x) == solver.resolve(y)


def test_unification_by_example() -> None:
    u, n = Dim.of(fresh_symbol()), Dim.of(Symbol("n"))
    solver = Solver()
    assert solver.unify(u + Dim(1), n)
    assert solver.resolve(u) == n - Dim(1)
    assert not solver.unify(u, n)
    assert not Solver().unify(u, Dim(-2))
    assert not Solver().unify(u.scale(2), Dim(3))
    assert not Solver().unify(Dim(3), Dim(4))
    assert Solver().unify(u.scale(2), n)  # left to the run


# ---------------------------------------------------------------- broadcasting

SHAPES = st.lists(st.lists(st.sampled_from([0, 1, 1, 2, 3]), max_size=4), min_size=1, max_size=4)


@settings(max_examples=300)
@given(SHAPES)
def test_broadcasting_of_known_sizes(shapes: list[list[int]]) -> None:
    try:
        wanted = np.broadcast_shapes(*map(tuple, shapes))
    except ValueError:
        with pytest.raises(Mismatch):
            Solver().broadcast([tuple(map(Dim, s)) for s in shapes])
    else:
        assert Solver().broadcast([tuple(map(Dim, s)) for s in shapes]) == tuple(map(Dim, wanted))


def test_named_sizes_do_not_stretch() -> None:
    n, m = (Dim.of(Symbol(s)) for s in "nm")
    assert Solver().broadcast([(n, ONE), (m,)]) == (n, m)
    assert Solver().broadcast([(n,), (ONE, ONE)]) == (ONE, n)
    for other in (m, Dim(3), n + Dim(1)):
        with pytest.raises(Mismatch) as caught:
            Solver().broadcast([(n,), (other,)])
        assert caught.value.code == "T101"
        assert [side[2] for side in caught.value.sides] == [n, other]


def test_an_unknown_size_meets_what_it_is() -> None:
    n, u, v = Dim.of(Symbol("n")), Dim.of(fresh_symbol()), Dim.of(fresh_symbol())
    solver = Solver()
    assert solver.broadcast([(u,), (ONE,)]) == (u,)
    assert not solver.solution
    assert tuple(map(solver.resolve, solver.broadcast([(u,), (v,), (n,)]))) == (n,)
    assert solver.resolve(u) == solver.resolve(v) == n


def test_an_unknown_size_that_is_one_does_not_stretch() -> None:
    m = tlang.compile("function f(x, y: f64[_]) = x + y")
    assert m.f(np.ones(3), np.ones(3)).shape == (3,)
    with pytest.raises(tlang.ShapeError):
        m.f(np.ones(3), np.ones(1))
