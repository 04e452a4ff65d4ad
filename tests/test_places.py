"""Indexing by arrays in kernels: places, gathers and scatters agree with NumPy's indexing."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from compiled import BACKEND, CompiledTape, of_the_processor
from hypothesis import given, settings
from hypothesis import strategies as st

from tlang.api import compile
from tlang.errors import TlangError
from tlang.graph.node import OPS, Graph, Node, toposort
from tlang.graph.ops import indexing
from tlang.interpret import Tape
from tlang.plan.fuse import lower
from tlang.plan.steps import Alone
from tlang.types import FROM_NUMPY, I64, Dim, Symbol, Tensor

FULL = ("slice", None, None, 1)


def leaf(graph: Graph, name: str, array: Any, symbolic: bool) -> Node:
    """A parameter for an array, with a name for each size or with the sizes themselves."""
    dims = [Dim.of(Symbol(f"{name}{k}", True)) if symbolic else Dim(n) for k, n in enumerate(np.shape(array))]
    return graph.leaf("tensor", Tensor(FROM_NUMPY[np.asarray(array).dtype.name], tuple(dims)), name=name)


def agree(roots: Sequence[Node], arrays: dict[str, Any]) -> CompiledTape:
    """The interpreter, the lowered graph in the interpreter, and the kernels give the same."""

    def given_array(node: Node) -> Any:
        return arrays[node.attr("name")]

    wanted = Tape(roots, leaves(roots)).run(given_array, None)  # type: ignore[arg-type]
    lowered = lower(roots)
    compiled = CompiledTape(roots, leaves(roots))
    assert not compiled.failed
    for found in (
        Tape(lowered, leaves(roots)).run(given_array, None),  # type: ignore[arg-type]
        compiled.run(given_array, None),  # type: ignore[arg-type]
    ):
        for w, f in zip(wanted, found, strict=True):
            assert np.asarray(w).dtype == np.asarray(f).dtype
            np.testing.assert_array_equal(f, w)
    return compiled


def assert_native(tape: CompiledTape) -> None:
    """NumPy does nothing but make views."""
    alone = [s.node for s in tape.steps_of_plan if isinstance(s, Alone)]
    assert tape.segments or alone
    assert all(n.op.view for n in alone), [n.op.name for n in alone]


def leaves(roots: Sequence[Node]) -> list[Node]:
    return [n for n in toposort(roots) if n.op.name == "tensor"]


@st.composite
def subscripts(draw: Any, shape: tuple[int, ...]) -> tuple[list[tuple[Any, ...]], list[Any]]:
    """A spec for a shape, and the arrays that it names (from input 0 on)."""
    spec: list[tuple[Any, ...]] = []
    arrays: list[Any] = []
    common = draw(st.sampled_from([(3,), (2, 3), (1,), (0,)]))
    for size in shape[: draw(st.integers(1, len(shape)))]:
        if draw(st.integers(0, 5)) == 0:
            spec.append(("new",))
        kind = draw(st.sampled_from(["int", "scalar", "array", "array", "slice", "full"]))
        if kind == "int":
            spec.append(("int", draw(st.integers(-size, size - 1))))
        elif kind == "slice":
            start = draw(st.integers(0, size - 1))
            spec.append(draw(st.sampled_from([("slice", Dim(start), None, 1), ("slice", None, None, -1)])))
        elif kind == "full":
            spec.append(FULL)
        else:
            rank = 0 if kind == "scalar" else draw(st.integers(1, len(common)))
            dtype = draw(st.sampled_from(["i8", "i4", "u1"]))
            numbers = st.lists(st.integers(0 if dtype == "u1" else -size, size - 1), min_size=6, max_size=6)
            spec.append(("input", len(arrays)))
            arrays.append(np.resize(np.array(draw(numbers), dtype), common[len(common) - rank :]))
    return spec, arrays


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_indexing_by_arrays(data: Any) -> None:
    """x[spec], x with values stored there, and x with values added there."""
    shape = data.draw(st.sampled_from([(4,), (3, 4), (2, 3, 4), (1, 3)]))
    spec, indices = data.draw(subscripts(shape))
    dtype = data.draw(st.sampled_from(["f8", "f4", "i8", "?"]))
    rng = np.random.default_rng(3)
    x = rng.integers(-9, 9, shape).astype(dtype)
    graph, symbolic = Graph(), data.draw(st.booleans())
    arrays: dict[str, Any] = {"x": x, **{f"i{k}": a for k, a in enumerate(indices)}}
    nodes = {name: leaf(graph, name, a, symbolic and name == "x") for name, a in arrays.items()}
    rest = [nodes[f"i{k}"] for k in range(len(indices))]
    shifted = indexing._shift(tuple(spec), 1)
    made = graph.make(OPS["index"], [nodes["x"], *rest], spec=shifted)
    roots = [made]
    numbers = [tuple(p.const if isinstance(p, Dim) else p for p in e) for e in spec]
    place = x[indexing.numpy_index(np, tuple(indices), tuple(numbers))]
    if not symbolic and ("new",) not in spec:
        values = rng.integers(-9, 9, place.shape).astype(dtype)
        if data.draw(st.booleans()) and values.ndim:
            values = values[..., :1]
        arrays["v"] = values
        v = leaf(graph, "v", values, False)
        twice = indexing._shift(tuple(spec), 2)
        kinds = ["set_at"] if dtype == "?" else ["set_at", "add_at"]
        roots += [graph.make(OPS[k], [nodes["x"], v, *rest], spec=twice) for k in kinds]
        if dtype != "?":
            zeros = nodes["x"].apply("zeros_like")
            roots.append(graph.make(OPS["add_at"], [zeros, v, *rest], spec=twice))
    assert_native(agree(roots, arrays))


PICK = """
tensor x: f64[n, k]
tensor y: i64[n]
cost = -mean(log_softmax(x, axis = 1)[arange(n), y])
function f(x, y) = (cost, grad(cost, x))
"""


@pytest.mark.parametrize("shape", [(5, 3), (1, 1), (300, 20)])
def test_one_a_row(shape: tuple[int, int]) -> None:
    """The cross-entropy of labels is one nest for each pass, and agrees with the formula."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=shape), rng.integers(-shape[1], shape[1], shape[0])
    n = np.arange(shape[0])
    e = np.exp(x - x.max(1, keepdims=True))
    p = e / e.sum(1, keepdims=True)
    wanted = -np.log(p[n, y]).mean()
    slope = p.copy()
    slope[n, y] -= 1
    for backend in ("numpy", BACKEND):
        m = compile(PICK, backend=backend)
        for _ in range(3):
            cost, g = m.f(x, y)
            np.testing.assert_allclose(cost, wanted, rtol=1e-12)
            np.testing.assert_allclose(g, slope / shape[0], rtol=1e-11, atol=1e-15)


PROGRAM = """
tensor i: i64[m]
tensor s: i64
shared w: f64[5, 3] = ones((5, 3))
tensor x: f64[n, k]
tensor y: i64[n]
function row(x, s) = x[s]
function rows(x, i) = sum(x[i], axis = 1)
function pick(x, y) = x[arange(n), y]
function put(i) = sum(w) where { update w[i] = 7 }
function top(x) = argmax(x, axis = 0)
function at(x) = x[2, 1]
"""


@pytest.mark.parametrize(
    ("function", "args"),
    [
        ("row", (np.ones((4, 3)), 4)),
        ("row", (np.ones((4, 3)), -5)),
        ("row", (np.ones((0, 3)), 0)),
        ("rows", (np.ones((4, 3)), [0, 3, 4])),
        ("pick", (np.ones((2, 3)), [0, 3])),
        ("pick", (np.ones((2, 3)), [0, -4])),
        ("put", ([0, 5],)),
        ("put", ([-6, 1],)),
        ("top", (np.ones((0, 3)),)),
        ("at", (np.ones((2, 3)),)),
    ],
    ids=str,
)
def test_errors_are_those_of_the_interpreter(function: str, args: tuple[Any, ...]) -> None:
    """Outside of a size: the same coded error from both backends, and the state stays."""
    found = []
    for backend in ("numpy", BACKEND):
        m = compile(PROGRAM, backend=backend)
        for _ in range(2):
            with pytest.raises(TlangError) as e:
                getattr(m, function)(*args)
            found.append(str(e.value))
        np.testing.assert_array_equal(m.w.value, np.ones((5, 3)))
        good = m.row(np.arange(12.0).reshape(4, 3), -1)
        np.testing.assert_array_equal(good, [9, 10, 11])
    assert len(set(found)) == 1


@pytest.mark.parametrize("dtype", ["f8", "f4", "i8", "u1", "?"])
def test_argmax(dtype: str) -> None:
    """The first extreme element, or the first NaN, along every axis."""
    rng = np.random.default_rng(1)
    x = rng.integers(-3, 4, (6, 5, 4)).astype(dtype)
    if dtype.startswith("f"):
        x[rng.random(x.shape) < 0.1] = np.nan
        x[0, 0], x[1, 1] = np.inf, -np.inf
    graph = Graph()
    node = leaf(graph, "x", x, True)
    roots = [
        graph.make(OPS[name], [node], axis=axis, keepdims=keep)
        for name in ("argmax", "argmin")
        for axis in (0, 1, 2, -1)
        for keep in (False, True)
    ]
    assert_native(agree(roots, {"x": x}))


IN_PLACE = """
tensor i: i64
tensor k: i64[m]
tensor v: f64
tensor u: f64[n]
shared w: f64[1000] = zeros(1000)
shared a: f64[50, 40] = zeros((50, 40))
tensor p: f64[50]
tensor q: f64[40]
function put(i, v) where { update w[i] = v }
function puts(k, v) where { update w[k] = w[k] + v }
function rank1(p, q) where { update a = a + outer(p, q) }
function turned(v) where { update w = w[::-1] + v }
function waves(v) where { update w = sin(w) + v }
function both(v) = w where { update w = w + v }
function new(v) = (n = w * 2, m = sum(w)) where { update w = w * 2 + v }
"""


@of_the_processor
def test_updates_in_place() -> None:
    """Calls and loops overwrite a state that nobody else has, and only that; the numbers are the same."""
    p, q = np.arange(50.0), np.arange(40.0)
    calls: list[tuple[str, tuple[Any, ...], bool]] = [
        ("put", (3, 2.5), True),
        ("put", (-1, 1.5), True),
        ("puts", ([1, 2, 999], 0.5), False),
        ("rank1", (p, q), True),
        ("turned", (1.0,), False),
        ("waves", (0.5,), False),
        ("both", (2.0,), False),
        ("new", (2.0,), False),
    ]
    for name, args, in_place in calls:
        plain, fast = (compile(IN_PLACE, backend=b) for b in ("numpy", BACKEND))
        key = "a" if name == "rank1" else "w"
        for _ in range(12):  # the eighth call prepares for more like it
            before = fast._session.store.shared[key]
            at, held = before.ctypes.data, fast.w.value
            was = held.copy()
            del before
            for m in (plain, fast):
                result = getattr(m, name)(*args)
            if name == "both":
                np.testing.assert_array_equal(result, was)
            np.testing.assert_array_equal(held, was)
        assert (fast._session.store.shared[key].ctypes.data == at) == in_place, name
        for m in (plain, fast):
            m.repeat(5, name, *args)
        np.testing.assert_allclose(fast.w.value, plain.w.value, rtol=1e-12)
        np.testing.assert_allclose(fast.a.value, plain.a.value, rtol=1e-12)


@of_the_processor
def test_a_state_that_others_have_is_not_overwritten() -> None:
    m = compile(IN_PLACE, backend=BACKEND)
    for _ in range(10):
        m.put(3, 1.0)
    held = m._session.store.shared["w"]
    m.put(3, 7.0)
    assert held[3] == 1
    assert m.w.value[3] == 7
    with pytest.raises(TlangError, match="R115"):
        m.put(1000, 2.0)
    assert m.w.value[3] == 7


def test_places_of_rows_in_a_block() -> None:
    """Rows that are done together each have their own place along the axis of rows."""
    text = """
        tensor x: f64[n, m]
        tensor u: f64[m]
        tensor i: i64[m]
        r = arange(n)[:, None]
        function sums(x, u) = sum(where(r < 2, x * r, x) * u, axis = 1)
        function columns(x, u) = sum((x + r) * u, axis = 0)
        function picked(x, i, u) = sum(x[:, i] * u, axis = 1)
        tensor s: f64[m, m]
        function triangle(s, u) = (tril(s) @ u, u @ triu(s))
    """
    rng = np.random.default_rng(2)
    for shape in ((4, 4), (9, 5), (130, 130)):
        x, u, i = rng.normal(size=shape), rng.normal(size=shape[1]), rng.integers(0, shape[1], shape[1])
        plain, fast = (compile(text, backend=b) for b in ("numpy", BACKEND))
        for name, args in (("sums", (x, u)), ("columns", (x, u)), ("picked", (x, i, u))):
            np.testing.assert_allclose(getattr(fast, name)(*args), getattr(plain, name)(*args), rtol=1e-10)
        if shape[0] == shape[1]:
            for a, b in zip(fast.triangle(x, u), plain.triangle(x, u), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)


def test_a_place_that_others_need_too() -> None:
    """The nest that puts a value into its place gives the place to another nest."""
    graph = Graph()
    arrays = {"x": np.arange(4.0), "v": np.float64(7)}
    nodes = {k: leaf(graph, k, a, False) for k, a in arrays.items()}
    spec = (("input", 2),)
    place = graph.literal(-3).cast(I64)
    roots = [graph.make(OPS[k], [nodes["x"], nodes["v"], place], spec=spec) for k in ("add_at", "set_at")]
    agree(roots, arrays)


def test_a_matrix_and_its_transpose() -> None:
    """What a nest reads along its rows and, in another part, along its columns."""
    text = """
        tensor x: f64[n, n]
        tensor u: f64[n]
        function a(x) = x + exp(x).T
        function b(x) = sum(x * tanh(x.T + 1).T, axis = 0) + sum(exp(x).T * x, axis = 1)
        function c(x, u) = (x * u) @ u + u @ exp(x * u[:, None])
        function d(x, u) = exp(x + u[:, None]).T * exp(x + u) + (x + u).T
    """
    x = np.random.default_rng(0).normal(size=(7, 7))
    plain, fast = (compile(text, backend=b) for b in ("numpy", BACKEND))
    for name in "abcd":
        args = (x,) if name in "ab" else (x, x[0].copy())
        np.testing.assert_allclose(getattr(fast, name)(*args), getattr(plain, name)(*args), rtol=1e-10)


def test_places_that_only_the_run_knows() -> None:
    """A sum into a slice whose end is the lesser of two sizes is NumPy's."""
    text = """
        tensor x: f64[n, m]
        y = qr(x.T).R
        function d(x) = grad(sum(jacobian(y, x) ** 2), x)
        function e(x) = grad(sum(x[:minimum(size(x, 0), 2)] ** 2), x)
    """
    x = np.random.default_rng(3).uniform(0.2, 1, (2, 3))
    plain, fast = compile(text, backend="numpy"), compile(text, backend=BACKEND)
    np.testing.assert_allclose(fast.d(x), plain.d(x), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(fast.e(x), 2 * x)
