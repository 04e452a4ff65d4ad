"""Kernels against the interpreter: every scalar form, every dtype, every way of stretching."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiled import BACKEND, CompiledTape, of_the_processor
from hypothesis import given, settings
from hypothesis import strategies as st

import tlang.graph.ops
from tlang.errors import TlangError
from tlang.graph.node import OPS, Graph, Node
from tlang.interpret import Tape
from tlang.plan.fuse import fused, lower
from tlang.plan.show import show
from tlang.plan.steps import LARGEST, Nest, inputs_of, why_not
from tlang.run.objects import ObjectError
from tlang.types import FROM_NUMPY, Dim, Symbol, Tensor

MAKERS = {"arange", "full", "ones", "zeros"}  # tested by the programs of tests/cases
PLACES = {"place", "gather"}  # tested in test_places.py
DRAWS = {"unit"}  # tested in test_native_random.py
SCALAR = sorted(n for n, op in OPS.items() if op.scalar is not None and n not in MAKERS | PLACES | DRAWS)
DTYPES = ("float64", "float32", "int64", "int32", "int8", "uint8", "uint64", "bool")
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -2.5, np.nan, np.inf, -np.inf, 1e-310, 1e300, 700.0, -745.0]


def numbers(dtype: str, count: int = 48) -> Any:
    rng = np.random.default_rng(7)
    if dtype == "bool":
        return rng.integers(0, 2, count).astype(bool)
    if dtype.startswith("float"):
        with np.errstate(all="ignore"):
            return np.array([*SPECIAL, *rng.normal(0, 3, count - len(SPECIAL))]).astype(dtype)
    limits = np.iinfo(dtype)
    ends = [limits.min, limits.max, 0, 1]
    return np.array([*ends, *rng.integers(0, 100, count - len(ends)).tolist()], dtype)


def leaf(graph: Graph, name: str, array: Any, dims: Sequence[str | int]) -> Node:
    kinds = tuple(Dim(d) if isinstance(d, int) else Dim.of(Symbol(d)) for d in dims)
    return graph.leaf("tensor", Tensor(FROM_NUMPY[array.dtype.name], kinds), name=name)


def both(roots: Sequence[Node], arrays: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """The roots by the interpreter, and by kernels."""

    def given_array(node: Node) -> Any:
        return arrays[node.attr("name")]

    compiled = CompiledTape(roots)
    assert not compiled.failed
    return Tape(roots).run(given_array, None), compiled.run(given_array, None)


def same(wanted: Any, found: Any) -> None:
    assert np.asarray(found).dtype == np.asarray(wanted).dtype
    assert np.shape(found) == np.shape(wanted)
    if np.asarray(wanted).dtype.kind == "f":
        rtol = 1e-12 if np.asarray(wanted).dtype == np.float64 else 1e-6
        np.testing.assert_allclose(found, wanted, rtol=rtol, atol=5e-324)
    else:
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_scalar_forms(dtype: str) -> None:
    """Each operation with a scalar form, alone in a sum of loops, on specials and random numbers."""
    graph = Graph()
    arrays = {"x": numbers(dtype), "y": numbers(dtype)[::-1].copy(), "z": np.roll(numbers(dtype), 7)}
    arrays["c"] = np.arange(48) % 3 == 0
    leaves = {name: leaf(graph, name, array, ["n"]) for name, array in arrays.items()}
    roots, names = [], []
    for name in SCALAR:
        op = OPS[name]
        count = 1 if name in ("cast", "pow") else op.signature.count(",") + 1
        inputs = [leaves[k] for k in ("xyz" if name != "where" else "cxy")[:count]]
        many = [{}]
        if name == "cast":
            many = [{"dtype": t} for t in FROM_NUMPY.values() if t.kind != "c"]
        if name == "pow":
            inputs.append(graph.literal(3))
        for attrs in many:
            try:
                node = graph.make(op, inputs, **attrs)
            except TlangError:  # this dtype has no such operation
                continue
            if not why_not(node):
                roots.append(node)
                names.append(name)
    assert len(roots) > 20
    wanted, found = both(roots, arrays)
    for name, w, f in zip(names, wanted, found, strict=True):
        try:
            same(w, f)
        except AssertionError as e:
            raise AssertionError(f"{name}: {e}") from None


def test_every_scalar_form_is_reached() -> None:
    reached = set()
    graph = Graph()
    x = leaf(graph, "x", np.zeros(2), ["n"])
    c = leaf(graph, "c", np.zeros(2, bool), ["n"])
    for name in SCALAR:
        op = OPS[name]
        count = op.signature.count(",") + 1
        base = [c, x, x][:count] if name == "where" else [c] * count if op.convert == "logic" else [x] * count
        if op.convert == "bits":
            base = [c] * count
        if name == "pow":
            base[1] = graph.literal(2)
        attrs = {"dtype": FROM_NUMPY["float32"]} if name == "cast" else {}
        if not why_not(graph.make(op, base, **attrs)):
            reached.add(name)
    assert reached == set(SCALAR)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (("n", "m"), ("m",)),
        (("n", "m"), ("n", 1)),
        (("n", 1), (1, "m")),
        (("n", "m", "k"), ("m", 1)),
        (("n", "m", "k"), (1, "m", "k")),
        (("n", "m"), ()),
        ((), ()),
        ((1, "n"), ("m", "n")),
    ],
    ids=str,
)
@pytest.mark.parametrize("sizes", [(2, 3, 4), (1, 1, 1), (0, 3, 2), (5, 1, 7)], ids=str)
def test_stretching(a: tuple[Any, ...], b: tuple[Any, ...], sizes: tuple[int, ...]) -> None:
    known = dict(zip("nmk", sizes, strict=True))
    graph = Graph()
    rng = np.random.default_rng(3)
    arrays = {
        name: np.asarray(rng.normal(size=[known.get(d, d) for d in dims]))[()]
        for name, dims in (("a", a), ("b", b))
    }
    x, y = leaf(graph, "a", np.asarray(arrays["a"]), a), leaf(graph, "b", np.asarray(arrays["b"]), b)
    node = x * y + (x - y).apply("exp") * 2 + x
    for w, f in zip(*both([node, node * node, x + y], arrays), strict=True):
        same(w, f)


def test_arrays_that_are_not_contiguous() -> None:
    graph = Graph()
    base = np.random.default_rng(1).normal(size=(6, 8))
    x = leaf(graph, "x", base, ["n", "m"])
    for array in (base.T, base[::2, ::-1], np.asfortranarray(base), np.broadcast_to(base[0], (3, 8))):
        (w,), (f,) = both([x * x + x.apply("sin")], {"x": array})
        same(w, f)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_literals_that_are_no_numbers(dtype: str) -> None:
    graph = Graph()
    array = np.array([-1, 0, 2, np.nan], dtype)
    x = leaf(graph, "x", array, ["n"])
    roots = []
    for value in (np.inf, -np.inf, np.nan):
        literal = graph.const(value, Tensor(x.dtype))
        roots += [x.apply("gt", graph.literal(0)).apply("where", literal, x), x.apply("maximum", literal)]
    for w, f in zip(*both(roots, {"x": array}), strict=True):
        same(w, f)


def test_a_chain_is_one_nest() -> None:
    graph = Graph()
    x = leaf(graph, "x", np.zeros(3), ["n"])
    node = x
    for _ in range(10):
        node = node * x + 1
    (step,) = fused([node])
    assert isinstance(step, Nest)
    assert len(step.nodes) == 20
    assert step.outputs == (node,)
    assert [base for base, _ in step.reads] == [x]


def test_long_chains_are_divided() -> None:
    graph = Graph()
    x = leaf(graph, "x", np.zeros(3), ["n"])
    node = x.apply("sum", axis=None, keepdims=False) + x
    for _ in range(LARGEST):
        node = (node + x) * 0.5
    steps = fused([node])
    assert max(len(s.nodes) for s in steps if isinstance(s, Nest)) == LARGEST
    (w,), (f,) = both([node], {"x": np.arange(3.0)})
    same(w, f)


def test_nests_do_not_wait_for_each_other() -> None:
    """A sum of all elements between two loops keeps them apart."""
    graph = Graph()
    x = leaf(graph, "x", np.zeros(3), ["n"])
    first = x.apply("exp") * x
    total = first.apply("sum", axis=None, keepdims=False)
    node = (first / total + x) * first
    steps = fused([node])
    assert [type(s).__name__ for s in steps] == ["Nest", "Nest"]
    text = show(steps)
    assert "nest [n]\n    reads x: f64[n]" in text
    assert "sum: f64  (after, kept)" in text
    (w,), (f,) = both([node], {"x": np.arange(3.0)})
    same(w, f)


def test_rows_are_one_pass() -> None:
    """Softmax, and a matrix-vector product with the transposed product of its result, are one nest each."""
    graph = Graph()
    x = leaf(graph, "x", np.zeros((3, 4)), ["n", "m"])
    v = leaf(graph, "v", np.zeros(4), ["m"])
    (softmax,) = fused(lower([x.apply("softmax", axis=1)]))
    assert isinstance(softmax, Nest)
    assert softmax.split == 1
    inner = x.apply("matmul", v).apply("tanh")
    both_ways = fused(lower([x.apply("transpose", axes=None).apply("matmul", inner)]))
    assert len(both_ways) == 1
    text = show(both_ways)
    assert "(row, stage 1)" in text
    assert "(after, stage 1, kept)" in text


def test_why_an_operation_stands_alone() -> None:
    graph = Graph()
    x = leaf(graph, "x", np.zeros((3, 4)), ["n", "m"])
    text = show(fused([x.apply("cumsum", axis=0, reverse=False) * x]))
    assert "numpy cumsum" in text
    assert "`cumsum` is not elementwise, or has no scalar form" in text


@of_the_processor
def test_where_no_kernel_can_be_built_numpy_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> Any:
        raise ObjectError("no linker here")

    monkeypatch.setattr("tlang.run.build.build", broken)
    graph = Graph()
    x = leaf(graph, "x", np.zeros(3), ["n"])
    tape = CompiledTape([x * x + x.apply("exp")])
    assert tape.failed == ["no linker here"]
    (found,) = tape.run(lambda node: np.arange(3.0), None)
    same(np.arange(3.0) ** 2 + np.exp(np.arange(3.0)), found)


@of_the_processor
def test_no_run_imports_numba(tmp_path: Path) -> None:
    program = tmp_path / "p.tl"
    program.write_text(
        "tensor x: f64[n]\nfunction f(x) = exp(x) * x + 1\nf([0, 1]) #=> [1.0, 3.718281828459045]\n"
    )
    script = (
        "import sys; from tlang.tools.cli import main; "
        f"main(['run', '--backend', 'cpu', {str(program)!r}]); print('numba' in sys.modules)"
    )
    seen = []
    for _ in range(2):
        env = {**os.environ, "TLANG_CACHE_DIR": str(tmp_path / "cache")}
        done = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, env=env, check=True
        )
        seen.append(done.stdout.split()[-2:])
    assert seen == [["3.71828183]", "False"]] * 2


REDUCTIONS = sorted(name for name, op in OPS.items() if op.reduce is not None)
ALONG = ["mean", "var", "std", "softmax", "log_softmax", "logsumexp"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", [(5, 7, 3), (1, 4, 1), (9, 1, 2)], ids=str)
def test_reductions(dtype: str, sizes: tuple[int, ...]) -> None:
    """Each reduction over every set of axes, of an input and of a product."""
    graph = Graph()
    rng = np.random.default_rng(5)
    count = int(np.prod(sizes))
    array = rng.permutation(np.resize(numbers(dtype)[-30:], count)).reshape(sizes)
    x = leaf(graph, "x", array, list(sizes))
    sources = [x] if dtype == "bool" else [x, x * x]
    roots = []
    for name in [*REDUCTIONS, *ALONG]:
        for source in sources:
            for axis in (None, 0, 1, 2, (0, 1), (0, 2), (1, 2)):
                for keepdims in (False, True):
                    attrs: dict[str, Any] = {"axis": axis, "keepdims": keepdims}
                    if name in ("softmax", "log_softmax"):
                        attrs.pop("keepdims")
                    if name in ("var", "std"):
                        attrs["ddof"] = 0
                    if name in ("peak", "softmax", "log_softmax", "logsumexp") and dtype[0] != "f":
                        continue
                    try:
                        roots.append(graph.make(OPS[name], [source], **attrs))
                    except TlangError:  # this dtype has no such operation
                        continue
    for at in range(0, len(roots), 60):
        part = roots[at : at + 60]
        for root, w, f in zip(part, *both(part, {"x": array}), strict=True):
            try:
                close(w, f)
            except AssertionError as e:
                raise AssertionError(f"{root} of {root.inputs[0]}: {e}") from None


def close(wanted: Any, found: Any) -> None:
    """As `same`, with the freedom that a sum has."""
    assert np.asarray(found).dtype == np.asarray(wanted).dtype
    assert np.shape(found) == np.shape(wanted)
    if np.asarray(wanted).dtype.kind == "f":
        rtol, atol = (1e-10, 1e-12) if np.asarray(wanted).dtype == np.float64 else (1e-4, 1e-3)
        np.testing.assert_allclose(found, wanted, rtol=rtol, atol=atol)
    else:
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
@pytest.mark.parametrize("sizes", [(5, 7), (1, 4), (9, 1), (300, 70)], ids=str)
def test_products(dtype: str, sizes: tuple[int, int]) -> None:
    """Products of matrices and vectors, transposed or not, with what comes before and after."""
    n, m = sizes
    graph = Graph()
    rng = np.random.default_rng(6)
    arrays = {"x": rng.normal(size=(n, m)), "u": rng.normal(size=n), "v": rng.normal(size=m)}
    arrays = {k: (a * 3).astype(dtype) for k, a in arrays.items()}
    x, u, v = (leaf(graph, k, arrays[k], d) for k, d in (("x", ["n", "m"]), ("u", ["n"]), ("v", ["m"])))
    xt = x.apply("transpose", axes=None)
    left = x.apply("matmul", v)
    roots = [
        left,
        u.apply("matmul", x),
        xt.apply("matmul", u),
        v.apply("matmul", xt),
        xt.apply("matmul", left * u + u),
        u.apply("matmul", u),
        u.apply("outer_of", v) + x,
        x.apply("matmul", xt),
        xt.apply("matmul", x) * 2,
        (x * x).apply("matmul", xt + xt),
        left.apply("matmul", x.apply("abs")) + v,
    ]
    for w, f in zip(*both(roots, arrays), strict=True):
        close(w, f)


def test_views_are_read_in_place() -> None:
    """Slices, steps, transposes, new axes and reshapes are no steps of a plan."""
    graph = Graph()
    array = np.random.default_rng(8).normal(size=(6, 8, 3))
    x = leaf(graph, "x", array, ["n", 8, 3])
    nothing = (None, None, 1)

    def part(*entries: Any) -> Node:
        return x.apply("index", spec=entries)

    views = [
        part(("slice", Dim(1), None, 1), ("slice", *nothing), ("slice", *nothing)),
        part(("slice", *nothing), ("slice", Dim(1), Dim(7), 2), ("int", -1)),
        part(("slice", *nothing), ("slice", None, None, -1), ("slice", *nothing)),
        part(("int", 2), ("new",), ("slice", *nothing), ("slice", *nothing)),
        x.apply("transpose", axes=(2, 0, 1)),
        x.apply("transpose", axes=(1, 2, 0)).apply("sum", axis=1, keepdims=True),
        part(("slice", *nothing), ("int", 0), ("slice", *nothing)).apply("transpose", axes=None),
    ]
    for view in views:
        roots = [view * 2 + 1, (view * view).apply("sum", axis=-1, keepdims=False)]
        assert all(isinstance(s, Nest) for s in fused(lower(roots)))
        for w, f in zip(*both(roots, {"x": array}), strict=True):
            close(w, f)
    for w, f in zip(*both([*views, views[0].apply("transpose", axes=None) - 1], {"x": array}), strict=True):
        close(w, f)


def test_slices_that_do_not_exist_are_the_interpreters_error() -> None:
    graph = Graph()
    x = leaf(graph, "x", np.zeros(3), ["n"])
    y = x.apply("index", spec=(("slice", Dim(2), None, 1),)) * 2
    third = x.apply("index", spec=(("int", 2),)) + 1
    for node in (y, third):
        for count in (0, 1, 2, 3):
            errors = []
            for tape in (Tape([node]), CompiledTape([node])):
                try:
                    errors.append(np.shape(tape.run(lambda _, n=count: np.zeros(n), None)[0]))
                except TlangError as e:
                    errors.append(e.code)
            assert errors[0] == errors[1]


KINDS = ["add", "mul", "sub", "maximum", "tanh", "abs", "sigmoid", "sum"]


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_random_graphs_agree(data: st.DataObject) -> None:
    """Random formulas of a matrix, a row, a column and a scalar, with sums between."""
    graph = Graph()
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    shapes = {"a": ("n", "m"), "r": ("m",), "c": ("n", 1), "s": ()}
    known = {"n": data.draw(st.integers(0, 4)), "m": data.draw(st.integers(1, 5))}
    arrays = {k: np.asarray(rng.normal(size=[known.get(d, d) for d in v]))[()] for k, v in shapes.items()}
    pool = [leaf(graph, k, np.asarray(arrays[k]), v) for k, v in shapes.items()]
    for _ in range(data.draw(st.integers(2, 10))):
        kind = data.draw(st.sampled_from([*KINDS, "rows", "columns", "softmax"]))
        x, y = (data.draw(st.sampled_from(pool)) for _ in range(2))
        if kind in ("rows", "columns", "softmax"):
            if x.rank == 2:
                axis, wide = (0, False) if kind == "columns" else (1, True)
                attrs = {"axis": axis} | ({} if kind == "softmax" else {"keepdims": wide})
                pool.append(x.apply(kind if kind == "softmax" else "sum", **attrs))
        elif kind == "sum":
            pool.append(x.apply("sum", axis=None, keepdims=False))
        elif kind in ("tanh", "abs", "sigmoid"):
            pool.append(x.apply(kind))
        else:
            pool.append(x.apply(kind, y))
    for w, f in zip(*both(pool[4:], arrays), strict=True):
        assert np.shape(w) == np.shape(f)
        np.testing.assert_allclose(f, w, rtol=1e-10, atol=1e-12)


@of_the_processor
def test_equal_steps_are_one_function() -> None:
    """What is compiled does not grow with the number of layers that are alike."""

    def functions(layers: int) -> int:
        lines = [f"e{k} = e{k - 1} - mean(e{k - 1}) * x" for k in range(1, layers)]
        m = tlang.compile(
            "\n".join(["tensor x: f64[n]", "e0 = x", *lines, f"function f(x) = e{layers - 1}"]), "cpu"
        )
        m.f(np.ones(3))
        (tape,) = m._session.backends._calls.values()
        assert len(tape.steps_of_plan) >= layers
        return str(tape.segments[0].code.text).count("def ")

    assert functions(30) == functions(20)


def shared_graph(graph: Graph, x: Node, count: int, seed: int) -> list[Node]:
    """Random elementwise nodes, each of which many others read: some graphs are larger than a nest may be."""
    r = random.Random(seed)
    nodes = [x]
    for _ in range(count):
        a, b = (r.choice(nodes[-r.choice([3, 10, 60]) :]) for _ in range(2))
        name = r.choice(["add", "mul", "sin", "tanh", "maximum"])
        nodes.append(a.apply(name) if name in ("sin", "tanh") else a.apply(name, b))
    return list(dict.fromkeys([nodes[-1], *(r.choice(nodes) for _ in range(3))]))


@pytest.mark.parametrize("count", [30, 90, 150, 400])
def test_shared_nodes_of_large_graphs_wait_for_no_other_in_a_circle(count: int) -> None:
    for seed in range(12):
        graph = Graph()
        roots = shared_graph(graph, leaf(graph, "x", np.zeros(2), ["n"]), count, seed)
        steps = fused(roots)
        done: set[Node] = set()
        for step in steps:
            assert {b for b in inputs_of(step) if b.op.name != "tensor"} <= done
            done |= set(step.outputs)
        assert {r for r in roots if r.op.name != "tensor"} <= done


def test_large_graphs_have_the_values_of_the_interpreter() -> None:
    graph = Graph()
    x = leaf(graph, "x", np.zeros(2), ["n"])
    roots = shared_graph(graph, x, 150, 3)
    wanted, found = both(roots, {"x": np.linspace(-1, 1, 50)})
    for w, f in zip(wanted, found, strict=True):
        np.testing.assert_allclose(f, w, rtol=1e-9, atol=1e-12)


@of_the_processor
def test_threads_of_blas() -> None:
    """They are as many as a program is given; where it is given one, BLAS keeps its own."""
    import ctypes

    import tlang
    from tlang.run import blas

    count = blas._function("scipy_openblas_get_num_threads64_")
    if count is None:
        pytest.skip("NumPy has another BLAS")
    count.restype = ctypes.c_int
    before = count()
    try:
        tlang.compile("x = 1", threads=1)
        assert count() == before
        tlang.compile("x = 1", threads=2)
        assert count() == 2
    finally:
        blas.set_threads(before)
    assert count() == before


def test_what_a_nest_has_along_other_axes() -> None:
    """A formula that a nest has already, of a square matrix and of its transpose, is computed for each."""
    import tlang

    text = """
        function f(q: f64[m, m]) = (cost, g) where {
            cost = sum(-((1 / (1 + exp(-q))).T))
            g = grad(cost, q)
        }
        function other(q: f64[m, m]) = (sum(exp(q).T * q), exp(q) * q.T, sum(exp(q).T - exp(q), axis = 0))
    """
    q = np.random.default_rng(6).normal(size=(5, 5))
    plain, fast = tlang.compile(text, "numpy"), tlang.compile(text, BACKEND)
    for name in ("f", "other"):
        for found, wanted in zip(getattr(fast, name)(q), getattr(plain, name)(q), strict=True):
            np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-12)


def test_a_value_of_a_row_that_stretches_counts_once_a_column() -> None:
    graph = Graph()
    x = leaf(graph, "x", np.zeros((2, 3)), ["n", "m"])
    rows = x.apply("sum", axis=1, keepdims=True)
    wide = graph.make(OPS["broadcast_like"], [rows, x])
    roots = [x * rows] + [wide.apply("sum", axis=a, keepdims=False) for a in (None, 0, 1)]
    array = np.arange(6.0).reshape(2, 3)
    _, found = both(roots, {"x": array})
    stretched = np.broadcast_to(array.sum(1, keepdims=True), array.shape)
    for axis, f in zip((None, 0, 1), found[1:], strict=True):
        np.testing.assert_allclose(f, stretched.sum(axis))


#: The shapes of the values of random programs; "1" stretches.
VALUES = ((), ("n",), ("m",), ("n", "m"), ("m", "n"), ("n", "1"), ("1", "m"))
SIZES = {"n": 3, "m": 4, "1": 1}


def random_program(graph: Graph, seed: int) -> tuple[list[Node], dict[str, Any]]:
    """Some roots of random operations: reductions over any axes, stretching, transposes, functions."""
    r, rng = random.Random(seed), np.random.default_rng(seed)
    pool: dict[tuple[str, ...], list[Node]] = {}
    arrays: dict[str, Any] = {}
    for k, kind in enumerate(VALUES):
        arrays[f"x{k}"] = np.asarray(rng.uniform(0.5, 1.5, [SIZES[d] for d in kind]))[()]
        dims = [1 if d == "1" else d for d in kind]
        pool[kind] = [leaf(graph, f"x{k}", np.asarray(arrays[f"x{k}"]), dims)]
    made: list[Node] = []
    for _ in range(r.choice([4, 8, 12, 20])):
        kind = r.choice(VALUES)
        a, b, whole = (r.choice(pool[k][-r.choice([2, 5, 40]) :]) for k in (kind, kind, ("n", "m")))
        stretches = kind in ((), ("m",), ("n", "1"), ("1", "m"))
        match r.choice(
            ["add", "sin", "where", "reduce", "reduce", "keep", "like", "times", "T", "softmax", "cumsum"]
        ):
            case "sin":
                v = a.apply("sin")
            case "where":
                v = a.apply("lt", b).apply("where", a, b)
            case "reduce" if kind:
                axis = r.choice([None, *range(len(kind))])
                v = a.apply(r.choice(["sum", "max"]), axis=axis, keepdims=False) * 0.3
                kind = () if axis is None else kind[:axis] + kind[axis + 1 :]
            case "keep" if kind in (("n", "m"), ("m", "n")):
                axis = kind.index("n") if r.random() < 0.5 else kind.index("m")
                v = a.apply("sum", axis=axis, keepdims=True) * 0.3
                kind = tuple("1" if k == axis else d for k, d in enumerate(kind))
            case "like" if stretches:
                v, kind = graph.make(OPS["broadcast_like"], [a, whole]), ("n", "m")
            case "times" if stretches:
                v, kind = a * whole, ("n", "m")
            case "T" if kind[::-1] in pool:
                v, kind = a.apply("transpose", axes=None), kind[::-1]
            case "softmax" if kind:
                v = a.apply("softmax", axis=-1)
            case "cumsum" if kind:
                v = a.apply("cumsum", axis=0, reverse=False) * 0.3
            case _:
                v = a * 0.5 + b
        pool.setdefault(kind, []).append(v)
        made.append(v)
    return list(dict.fromkeys([made[-1], *(r.choice(made) for _ in range(r.choice([0, 1, 2])))])), arrays


def check_random_programs(seeds: Sequence[int]) -> None:
    for seed in seeds:
        roots, arrays = random_program(Graph(), seed)
        wanted, found = both(roots, arrays)
        for w, f in zip(wanted, found, strict=True):
            np.testing.assert_allclose(f, w, rtol=1e-9, atol=1e-9, err_msg=f"seed {seed}")


def test_random_programs() -> None:
    check_random_programs(range(30))


@pytest.mark.slow
@pytest.mark.parametrize("start", range(1000, 3000, 100))
def test_many_random_programs(start: int) -> None:
    check_random_programs(range(start, start + 100))


def test_steps_that_would_wait_for_each_other() -> None:
    """What floats above one nest is needed by another that waits for it: it gets a home of its own."""
    import tlang

    text = """
        tensor x: f64[n, m]
        tensor v: f64[m]
        tensor s: f64
        top = sum(stack([x, x], axis = 0) ** 2, axis = 0) - sqrt(1 + v ** 2)
        cost = sum(top / (1.5 + sin((s + v) * (x * v))))
        function f(x, v, s) = (cost, grad(cost, x), grad(cost, v), grad(cost, s))
    """
    rng = np.random.default_rng(7)
    given = rng.normal(size=(3, 4)), rng.normal(size=4), 0.7
    plain, fast = tlang.compile(text, "numpy"), tlang.compile(text, BACKEND)
    for found, wanted in zip(fast.f(*given), plain.f(*given), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-10)
