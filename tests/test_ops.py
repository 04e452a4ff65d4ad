"""The table of operations: complete rows, values against NumPy and SciPy, gradients against differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import scipy.special as special
from op_cases import (
    CASES,
    DTYPES,
    ELSEWHERE,
    FLAT,
    IDS,
    LAYOUTS,
    LEAVES,
    PAIRS,
    RECURRENCE,
    SHAPES,
    expected,
    has_gradient,
    leaves,
    run,
    size,
    spoiled,
    value,
)

import tlang
from tlang.errors import TlangError
from tlang.graph.grad import find_cut, grad, jvp, vjp
from tlang.graph.node import Graph, Node, verify
from tlang.graph.ops import FORMULAS, OPS
from tlang.graph.ops.random import DISTRIBUTIONS
from tlang.interpret import Tape
from tlang.rewrite import rewrite
from tlang.types import FROM_NUMPY, ONE, Dim, Tensor


def test_every_row_is_complete() -> None:
    for name, op in OPS.items():
        assert op.name == name
        assert callable(op.type), name
        assert op.doc.strip(), name
        assert op.doc.rstrip().endswith("." if op.public else (".", "?")), name
        if name not in LEAVES | RECURRENCE | {"draw", "unit"}:
            assert callable(op.numpy), name
        if name not in LEAVES:
            assert op.grad is not None or op.cut, (
                f"{name} has neither a gradient nor a reason for having none"
            )
        assert all(part.strip() for part in op.signature.split(",")) or not op.signature, name


def test_every_row_has_cases() -> None:
    assert set(OPS) | set(FORMULAS) == set(CASES) | ELSEWHERE | LEAVES


def test_view_rows_only_move_or_repeat_elements() -> None:
    """What `view` promises to the rewrites: an elementwise function may pass."""
    views = [name for name, op in OPS.items() if op.view]
    assert {"named", "transpose", "reshape", "index", "broadcast_to", "stop_gradient"} <= set(views)
    for name in views:
        for case in CASES[name]:
            arrays = case.arrays("f8")
            made = case.build(name)
            _, inside = value(lambda x, *r, made=made: made(x.apply("sin"), *r), *arrays)
            _, outside = value(lambda x, *r, made=made: made(x, *r).apply("sin"), *arrays)
            np.testing.assert_array_equal(inside, outside)


def test_shape_only_inputs_are_read_for_their_shape_only() -> None:
    for name, op in OPS.items():
        for case in CASES.get(name, []) if op.shape_only else []:
            arrays = case.arrays("f8")
            changed = [a * np.nan if i in op.shape_only else a for i, a in enumerate(arrays)]
            np.testing.assert_array_equal(
                value(case.build(name), *arrays)[1], value(case.build(name), *changed)[1]
            )


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(("name", "k"), FLAT, ids=IDS)
def test_values_agree_with_numpy(name: str, k: int) -> None:
    case = CASES[name][k]
    for dtype in [d for kind in case.dtypes for d in DTYPES[kind]]:
        arrays = case.arrays(dtype, seed=k)
        node, got = value(case.build(name), *arrays, dim=case.dim)
        wanted = expected(name, k, arrays)
        assert np.shape(got) == np.shape(wanted), dtype
        assert np.asarray(got).dtype.name == node.dtype.numpy_name, dtype
        if name not in ("zeros_like", "ones_like"):
            assert np.asarray(got).dtype == np.asarray(wanted).dtype, dtype
        tolerance = 3e-6 if np.dtype(dtype) == "f4" else 1e-13
        np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance, equal_nan=True, err_msg=dtype)
        settled = tuple(d for d in node.shape if d.is_const)
        assert all(d.const in np.shape(got) for d in settled)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_values_do_not_depend_on_the_layout_in_memory(layout: Callable[[Any], Any]) -> None:
    for name, k in FLAT:
        case = CASES[name][k]
        arrays = case.arrays(DTYPES[case.dtypes[0]][0], seed=k)
        if any(np.size(a) > 1 for a in arrays):
            _, got = value(case.build(name), *[layout(np.asarray(a)) for a in arrays], dim=case.dim)
            wanted = expected(name, k, arrays)
            np.testing.assert_allclose(got, wanted, rtol=1e-13, atol=1e-13, err_msg=f"{name}-{k}")


SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, -1.0, 1e300, -1e300, 5e-324, 700.0, -750.0])


FUNCTIONS = [n for n, c in CASES.items() if c[0].shapes == ((),) and len(c) == len(SHAPES)]


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if "f" in CASES[n][0].dtypes])
def test_special_values(name: str) -> None:
    case = CASES[name][0]
    with np.errstate(all="ignore"):
        single = SPECIAL.astype("f4")
    for x in (SPECIAL, single):
        with np.errstate(all="ignore"):
            wanted = case.oracle(x)
            _, got = value(case.build(name), x)
        np.testing.assert_allclose(got, wanted, rtol=1e-6, atol=5e-324)


#: Those of beta functions are in tests/test_special.py.
OTHERWISE = {"allclose", "beta", "betaln", "stretched"}
OF_TWO = [n for n, c in CASES.items() if tuple(x.shapes for x in c) == PAIRS and n not in OTHERWISE]


@pytest.mark.parametrize("name", [n for n in OF_TWO if "f" in CASES[n][0].dtypes])
def test_special_values_of_pairs(name: str) -> None:
    case = CASES[name][0]
    x, y = SPECIAL[:, None].copy(), SPECIAL[None, :].copy()
    with np.errstate(all="ignore"):
        wanted = case.oracle(x, y)
        graph = Graph()
        n = len(SPECIAL)
        a = graph.leaf("tensor", Tensor(FROM_NUMPY["float64"], (size(n), ONE)), name="x0")
        b = graph.leaf("tensor", Tensor(FROM_NUMPY["float64"], (ONE, size(n))), name="x1")
        (got,) = run([case.build(name)(a, b)], [x, y])
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    "name", ["sum", "mean", "prod", "max", "min", "var", "softmax", "log_softmax", "logsumexp"]
)
@pytest.mark.parametrize("bad", [np.nan, -np.inf])
def test_special_values_in_reductions(name: str, bad: float) -> None:
    x = np.array([[1.0, bad, 2.0], [3.0, 4.0, 5.0]])
    oracle = getattr(special, name, None) or getattr(np, name)
    attrs: dict[str, Any] = {"axis": 1}
    if name not in ("softmax", "log_softmax"):
        attrs["keepdims"] = False
    if name == "var":
        attrs["ddof"] = 0
    with np.errstate(all="ignore"):
        np.testing.assert_allclose(
            value(lambda a: a.apply(name, **attrs), x)[1], oracle(x, axis=1), rtol=1e-12
        )


#: Where ours differs from NumPy and SciPy on purpose, or where they have no say; other tests look at these.
OWN = {
    "beta": "SciPy's of NaN is infinite",
    "betaln": "SciPy's of NaN is infinite",
    "bessel_j": "SciPy's of an infinity is NaN",
    "bessel_i": "SciPy's of an infinity is NaN",
    "softmax": "SciPy's beside plus infinity is NaN everywhere",
    "recur": "the oracle multiplies by 0 where the recurrence begins",
    "argsort": "in descending order NaN comes first, as in `jax.lax.top_k`",
    "topk": "NaN comes first",
    "quantile": "NumPy's between equal infinities is NaN",
}


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_in_every_row(bad: float) -> None:
    seen = set()
    for name, k in FLAT:
        for place in (0, -1):
            arrays = spoiled(name, k, bad, place)
            if arrays is None or name in OWN:
                continue
            _, got = value(CASES[name][k].build(name), *[a[()] for a in arrays], dim=CASES[name][k].dim)
            wanted = expected(name, k, arrays)
            np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-12, err_msg=f"{name}-{k}")
            seen.add(name)
    assert len(seen) > 100


def test_nan_is_the_greatest_in_descending_order() -> None:
    m = tlang.compile(
        "function f(x: f64[n]) = (order = argsort(x, descending = True), best = topk(x, 2).values)"
    )
    found = m.f([1.0, np.nan, np.inf, 2.0])
    np.testing.assert_array_equal(found.order, [1, 2, 3, 0])
    np.testing.assert_array_equal(found.best, [np.nan, np.inf])


def test_where_keeps_the_condition_apart() -> None:
    c, x, y = np.array([True, False]), np.array([[1.0, 2.0], [3.0, 4.0]]), np.float64(9)
    _, got = value(lambda a, b, d: a.apply("where", b, d), c, x, y)
    np.testing.assert_array_equal(got, np.where(c, x, y))
    node, _ = value(lambda a, b, d: a.apply("where", b, d), c, x.astype("f4"), np.array([1, 2]))
    assert node.dtype.numpy_name == "float64"
    node, got = value(lambda a, b: a.apply("where", b, 0), c, x.astype("f4"))
    assert node.dtype.numpy_name == "float32"
    np.testing.assert_array_equal(got, np.where(c, x, 0))


@pytest.mark.parametrize("source", ["?", "i1", "u8", "i8", "f4", "f8"])
@pytest.mark.parametrize("target", ["?", "i1", "u8", "i8", "f4", "f8", "c16"])
def test_casts(source: str, target: str) -> None:
    x = np.array([0, 1, 3, 2], source)
    _, got = value(lambda a: a.apply("cast", dtype=FROM_NUMPY[np.dtype(target).name]), x)
    assert got.dtype == np.dtype(target)
    np.testing.assert_array_equal(got, x.astype(target))


def test_making() -> None:
    program = """
    function f(x: f64[n], k: i64) = (zeros(k), ones((n, 2)), eye(k), eye(2, n), arange(n), arange(2, 11, 3),
                                     full(k, (2, n)), zeros(n, dtype = i8), arange(k), n)
    """
    z, o, e, e2, a, a3, full, zi, ak, n = tlang.compile(program).f(np.ones(4), 3)
    for got, wanted in (
        (z, np.zeros(3)),
        (o, np.ones((4, 2))),
        (e, np.eye(3)),
        (e2, np.eye(2, 4)),
        (a, np.arange(4)),
        (a3, np.arange(2, 11, 3)),
        (full, np.full((2, 4), 3)),
        (zi, np.zeros(4, "i1")),
        (ak, np.arange(3)),
        (n, np.int64(4)),
    ):
        np.testing.assert_array_equal(got, wanted)
        assert got.dtype == wanted.dtype


def test_all_functions_of_one_number_through_the_pipeline() -> None:
    public = FORMULAS.keys() | {n for n, op in OPS.items() if op.public}
    names = [n for n in FUNCTIONS if n in public and "f" in CASES[n][0].dtypes and not CASES[n][0].attrs]
    outputs = ", ".join(f"{n} = {n}(x)" for n in names)
    m = tlang.compile(f"function f(x: f64[n]) = ({outputs})")
    x = np.linspace(0.6, 0.9, 5)
    results = m.f(x)
    for name in names:
        with np.errstate(all="ignore"):
            wanted = CASES[name][0].oracle(x)
        np.testing.assert_allclose(getattr(results, name), wanted, rtol=1e-14, err_msg=name)


@pytest.mark.parametrize(
    ("formula", "code"),
    [
        ("i // 0", "R110"),
        ("i % (i - i)", "R110"),
        ("i ** (i - 9)", "R111"),
        ("i ** -1", "T126"),
        ("max(x[:0])", "R112"),
        ("zeros(-2)", "T159"),
        ("zeros(i[0] - 9)", "R113"),
        ("one_hot(i, 2)", "R115"),
        ("x[i + 7]", "R115"),
        ("x[7]", "R115"),
        ("reshape(x, (5, 7))", "R116"),
        ("x[1:] + x[:-2]", "T101"),
        ("sum(x, axis = 1)", "T131"),
        ("sum(x, axis = (0, 0))", "T132"),
        ("squeeze(x)[0] + squeeze(x, axis = 0)", "T139"),
        ("full(x, 3)", "T141"),
        ("eye((2, 3, 4))", "T157"),
        ("transpose(x, axes = (1, 0))", "T131"),
        ("b - b", "T122"),
        ("b ** b", "T122"),
        ("-b", "T122"),
        ("x & i", "T121"),
        ("x and b", "T120"),
        ("softmax(x[0])", "T131"),
    ],
)
def test_errors(formula: str, code: str) -> None:
    with pytest.raises(TlangError) as caught:
        tlang.compile(f"function f(x: f64[n], i: i64[n], b: bool[n]) = {formula}", unused="ignore").f(
            np.ones(3), np.array([1, 2, 3]), np.array([True, False, True])
        )
    assert caught.value.code == code


# ---------------------------------------------------------------- shapes of results


@pytest.mark.parametrize(
    ("formula", "shape"),
    [
        ("x[1:]", "[n - 1, m]"),
        ("x[:-1]", "[n - 1, m]"),
        ("x[1:-1]", "[n - 2, m]"),
        ("x[::-1]", "[n, m]"),
        ("x[-3:]", "[3, m]"),
        ("x[:10]", "[_, m]"),
        ("x[::2]", "[_, m]"),
        ("x[:, None, 0]", "[n, 1]"),
        ("reshape(x, -1)", "[_]"),
        ("reshape(x, (m, n))", "[m, n]"),
        ("reshape(x, (n, -1))", "[n, m]"),
        ("reshape(x, (2, -1, n))", "[2, _, n]"),
        ("reshape(concatenate([x, x], axis = 0), (2, n, m))", "[2, n, m]"),
        ("reshape(x[:, :1], -1)", "[_]"),
        ("x.T", "[m, n]"),
        ("concatenate([x, x[1:]], axis = 0)", "[2*n - 1, m]"),
        ("stack([x, x], axis = 1)", "[n, 2, m]"),
        ("sum(x, axis = 0, keepdims = True)", "[1, m]"),
        ("broadcast_to(x, (5, n, m))", "[5, n, m]"),
        ("x @ x.T", "[n, n]"),
        ("one_hot(arange(n), 4)", "[n, 4]"),
    ],
)
def test_result_shapes(formula: str, shape: str) -> None:
    signature = tlang.compile(f"function f(x: f64[n, m]) = {formula}").f.signature
    assert signature.endswith(f"-> f64{shape}")


def test_a_slice_may_be_shorter_but_not_negative() -> None:
    m = tlang.compile("""
        function first(x: f64[n]) = x[:10]
        function rest(x: f64[n]) = x[1:]
        function last(x: f64[n]) = x[-3:]
    """)
    assert m.first(np.ones(4)).shape == (4,)
    assert m.first(np.ones(14)).shape == (10,)
    assert m.rest(np.ones(1)).shape == (0,)
    for f in (m.rest, m.last):
        with pytest.raises(TlangError):
            f(np.ones(0))


def test_squeeze_leaves_a_named_size_that_happens_to_be_one() -> None:
    m = tlang.compile("function f(x: f64[n, 1]) = squeeze(x)")
    assert m.f(np.ones((1, 1))).shape == (1,)
    assert m.f(np.ones((3, 1))).shape == (3,)


@pytest.mark.parametrize("target", ["w[0:1]", "w[0]", "w[:2, 1]"])
def test_a_value_must_fit_into_its_place(target: str) -> None:
    with pytest.raises(TlangError):
        tlang.compile(f"""
            shared w: f64[4, 3]
            function f(v: f64[5]) where {{ update {target} = v }}
        """)


# ---------------------------------------------------------------- gradients


def difference(f: Callable[..., Any], arrays: Sequence[Any], i: int, h: float = 1e-5) -> Any:
    """The gradient of (the real part of) a scalar function in its i-th array by central differences."""
    x = np.array(arrays[i], float)
    out = np.zeros_like(x)
    for at in np.ndindex(x.shape):
        ends = []
        for sign in (1, -1):
            moved = x.copy()
            moved[at] += sign * h
            ends.append(np.real(f(*arrays[:i], moved, *arrays[i + 1 :])))
        out[at] = (ends[0] - ends[1]) / (2 * h)
    return out


def weights(node: Node, seed: int) -> Node:
    """A cotangent of the shape of a node: no symmetric sum hides a fault."""
    phase = node.graph.const(0.3 + seed, Tensor(node.dtype))
    if node.rank == 0:
        return phase
    flat = node.graph.make(OPS["zeros_like"], [node]) + 1.0
    for axis in range(node.rank):
        flat = flat.apply("cumsum", axis=axis, reverse=False)
    return (flat * phase).apply("cos")


def check_gradients(
    build: Callable[..., Node], arrays: Sequence[Any], orders: int = 2, dim: Callable[[int], Dim] = size
) -> None:
    """Gradients of a weighted sum in every float input, and their own gradients, against differences."""
    graph = Graph()
    xs = leaves(graph, arrays, dim)
    floats = [i for i, x in enumerate(xs) if x.dtype.kind == "f"]
    node = build(*xs)

    def summed(out: Node, seed: int) -> Node:
        total = out * weights(out, seed)
        return total.apply("sum", axis=None, keepdims=False) if total.rank else total

    cost = summed(node, 0)
    for order in range(orders):
        tape = Tape(rewrite([cost], verify))

        def f(*values: Any, tape: Tape = tape) -> Any:
            return tape.run(lambda leaf: np.asarray(values[int(leaf.attr("name")[1:])])[()], None)[0]

        found = grad(cost, [xs[i] for i in floats])
        assert order or any(g is not None for g in found)
        for i, g in zip(floats, found, strict=True):
            wanted = difference(f, arrays, i)
            if g is None:
                np.testing.assert_allclose(wanted, 0, atol=1e-8)
                continue
            assert g.shape == xs[i].shape
            assert g.dtype == xs[i].dtype
            (got,) = run([g], arrays)
            np.testing.assert_allclose(
                got, wanted, rtol=2e-6, atol=2e-8, err_msg=f"order {order + 1}, input {i}"
            )
        parts = [summed(g, 1) for g in found if g is not None]
        if not parts:
            return
        cost = sum(parts[1:], parts[0])


DIFFERENTIABLE = [
    (n, k)
    for n, k in FLAT
    if has_gradient(n, k) and CASES[n][k].shapes and all(0 not in s for s in CASES[n][k].shapes)
]


@pytest.mark.parametrize(("name", "k"), DIFFERENTIABLE, ids=[f"{n}-{k}" for n, k in DIFFERENTIABLE])
def test_gradients_agree_with_differences(name: str, k: int) -> None:
    case = CASES[name][k]
    check_gradients(case.build(name), case.arrays("f8", seed=100 + k), dim=case.dim)


EMPTY = [(n, k) for n, k in FLAT if has_gradient(n, k) and any(0 in s for s in CASES[n][k].shapes)]


@pytest.mark.parametrize(("name", "k"), EMPTY, ids=[f"{n}-{k}" for n, k in EMPTY])
def test_gradients_of_empty_tensors_have_their_shapes(name: str, k: int) -> None:
    case = CASES[name][k]
    arrays = case.arrays("f8")
    graph = Graph()
    xs = leaves(graph, arrays, case.dim)
    out = case.build(name)(*xs)
    found = vjp(out, xs, weights(out, 0))
    for x, g, a in zip(xs, found, arrays, strict=True):
        if g is not None:
            assert g.shape == x.shape
            assert run([g], arrays)[0].shape == np.shape(a)


@pytest.mark.parametrize(("name", "k"), DIFFERENTIABLE, ids=[f"{n}-{k}" for n, k in DIFFERENTIABLE])
def test_jvp_agrees_with_differences_and_vjp(name: str, k: int) -> None:
    case = CASES[name][k]
    arrays = case.arrays("f8", seed=200 + k)
    graph = Graph()
    xs = leaves(graph, arrays, case.dim)
    out = case.build(name)(*xs)
    x = np.asarray(arrays[0])
    t = np.cos(np.arange(x.size) * 1.3 + 0.2).reshape(x.shape)
    tangent = graph.leaf("tensor", xs[0].type, name=f"x{len(arrays)}")
    found = jvp(out, xs[0], tangent)
    (back,) = vjp(out, [xs[0]], weights(out, 0))
    ends = [run([out], [x + h * t, *arrays[1:]])[0] for h in (1e-5, -1e-5)]
    wanted = (ends[0] - ends[1]) / 2e-5
    if found is None:
        np.testing.assert_allclose(wanted, 0, atol=1e-8)
        return
    assert found.dtype == out.dtype
    u, got, pulled = run([weights(out, 0), found, back], [*arrays, t])
    assert np.shape(got) == np.shape(wanted)
    np.testing.assert_allclose(got, wanted, rtol=2e-6, atol=2e-8)
    np.testing.assert_allclose(np.sum(u * got), np.sum(pulled * t), rtol=1e-9, atol=1e-12)


def grad_of(formula: str, wrt: str, types: str, *args: Any) -> Any:
    names = ", ".join(f"d{w} = g{w}" for w in wrt.split())
    parts = "; ".join(f"g{w} = grad(sum({formula}), {w})" for w in wrt.split())
    out = tlang.compile(f"function f({types}) = ({names}) where {{ {parts} }}", unused="ignore").f(*args)
    return tuple(out)


def test_ties() -> None:
    two = "x, y: f64"
    assert grad_of("maximum(x, y)", "x y", two, 1, 1) == (1, 0)
    assert grad_of("minimum(x, y)", "x y", two, 1, 1) == (1, 0)
    assert tlang.compile("function f(x: f64) = grad(abs(x), x)").f(0.0) == 0
    assert tlang.compile("function f(x: f64) = grad(relu(x), x)").f(0.0) == 0
    m = tlang.compile("function f(x: f64[n]) = (hi, lo) where { hi = grad(max(x), x); lo = grad(min(x), x) }")
    hi, lo = m.f([3, 1, 3, 1])
    np.testing.assert_array_equal(hi, [1, 0, 1, 0])
    np.testing.assert_array_equal(lo, [0, 1, 0, 1])
    clip = tlang.compile("""
        function f(x, a, b: f64) = (dx, da, db) where { dx, da, db = grad(clip(x, a, b), x, a, b) }
    """)
    assert tuple(clip.f(1, 1, 2)) == (1, 0, 0)
    assert tuple(clip.f(2, 1, 2)) == (1, 0, 0)
    assert tuple(clip.f(0, 1, 2)) == (0, 1, 0)
    assert tuple(clip.f(3, 1, 2)) == (0, 0, 1)
    assert tuple(clip.f(0, 5, 2)) == (0, 0, 1)  # low > high: the value is high


def test_prod_with_zeros() -> None:
    x = np.array([[1, 2, 0], [0, 5, 6], [7, 8, 9], [9, 10, 0]], float)
    got = tlang.compile("function f(x: f64[n, m]) = grad(sum(prod(x, axis = 1)), x)").f(x)
    np.testing.assert_array_equal(got, [[0, 0, 2], [30, 0, 0], [72, 63, 56], [0, 0, 90]])


@pytest.mark.parametrize(
    "x", [[2.0, 3.0, 5.0], [0.0, 3.0, 5.0], [0.0, 0.0, 5.0, 2.0], [0.0, 0.0, 0.0, 7.0], [4.0]]
)
def test_higher_derivatives_of_prod(x: list[float]) -> None:
    def build(a: Node) -> Node:
        return a.apply("prod", axis=None, keepdims=False)

    check_gradients(build, [np.array(x)], orders=3)


@pytest.mark.parametrize(
    ("power", "points"),
    [
        ("2", [0.0, -1.5, 2.0]),
        ("3", [0.0, -1.5]),
        ("1", [0.0, 2.0]),
        ("0", [0.0, 2.0]),
        ("0.5", [2.0]),
        ("-2", [-1.5]),
    ],
)
def test_constant_powers(power: str, points: list[float]) -> None:
    """First and second derivatives by hand, also at 0, where x ** (y - 1) is no number for small y."""
    p = float(power)
    m = tlang.compile(f"""
        function f(x: f64) = (d, dd) where {{
            d = grad(x ** {power}, x); dd = grad(d, x, disconnected = "zero")
        }}
    """)
    for x in points:
        d, dd = m.f(x)
        assert d == pytest.approx(p * x ** (p - 1) if p else 0)
        assert dd == pytest.approx(p * (p - 1) * x ** (p - 2) if p * (p - 1) else 0)


def test_powers_of_zero() -> None:
    m = tlang.compile("function f(x, y: f64) = (dx, dy) where { dx, dy = grad(x ** y, x, y) }")
    assert tuple(m.f(0, 0)) == (0, 0)
    assert tuple(m.f(0, 1)) == (1, 0)
    assert tuple(m.f(0, 2)) == (0, 0)
    dx, dy = m.f(-2, 3)
    assert dx == 12
    assert np.isnan(dy)


def test_rounding_has_derivative_zero() -> None:
    for name in ("floor", "ceil", "round", "trunc", "sign"):
        assert tlang.compile(f"function f(x: f64) = grad({name}(x) + x, x)").f(1.3) == 1
    dx, dy = grad_of("x // y", "x y", "x, y: f64", 7, 2)
    assert (dx, dy) == (0, 0)
    dx, dy = grad_of("x % y", "x y", "x, y: f64", 7.5, 2)
    assert (dx, dy) == (1, -3)
    dx, dy = grad_of("x % y", "x y", "x, y: f64", -7.5, 2)
    assert (dx, dy) == (1, 4)


@pytest.mark.parametrize(
    ("formula", "reason"),
    [
        ("f64(x > 0)", "comparison"),
        ("where(x > 0, 1.0, 2.0)", "comparison"),
        ("f64(i64(x))", "cast to integers"),
        ("stop_gradient(x)", "stop_gradient"),
        ("f64(argmax(x))", "index"),
        ("f64(size(x, 0))", "size"),
        ("ones_like(x)", "shape"),
        ("f64(isnan(x))", "comparison"),
    ],
)
def test_disconnected_paths_are_explained(formula: str, reason: str) -> None:
    with pytest.raises(TlangError) as caught:
        tlang.compile(f"function f(x: f64[n]) = grad(sum({formula}), x)")
    assert caught.value.code == "F135"
    assert reason in str(caught.value)
    zero = tlang.compile(f'function f(x: f64[n]) = grad(sum({formula}), x, disconnected = "zero")')
    np.testing.assert_array_equal(zero.f(np.ones(3)), np.zeros(3))


def test_a_cut_is_found_nearest_to_the_result() -> None:
    graph = Graph()
    (x,) = leaves(graph, [np.ones(3)])
    out = x.apply("floor").apply("gt", 0).apply("where", 1.0, 2.0)
    cut = find_cut(out, x)
    assert cut is not None
    assert cut.op.name in ("gt", "where")
    assert find_cut(out, leaves(Graph(), [np.ones(2)])[0]) is None


def test_the_last_of_repeated_stores_gets_the_gradient() -> None:
    graph = Graph()
    arrays = [np.arange(4.0), np.array([10.0, 20.0, 30.0]), np.array([2, 0, 2])]
    x, v, i = leaves(graph, arrays)
    out = graph.make(OPS["set_at"], [x, v, i], None, spec=(("input", 2),))
    dx, dv = vjp(out, [x, v], weights(out, 0))
    w, dx, dv = run([weights(out, 0), dx, dv], arrays)
    np.testing.assert_array_equal(dx, [0, w[1], 0, w[3]])
    np.testing.assert_array_equal(dv, [0, w[0], w[2]])


def test_gradients_of_draws_pass_through_location_and_scale() -> None:
    m = tlang.compile("""
        tensor m, s: f64
        stream g = philox(3)
        random r: f64 ~ g.normal(m, s)
        random u: f64 ~ g.uniform(m, s)
        function f(m, s) = (r, dm, ds) where { dm, ds = grad(r, m, s) }
        function h(m, s) = (u, dm, ds) where { dm, ds = grad(u, m, s) }
    """)
    r, dm, ds = m.f(1.5, 2.0)
    assert dm == 1
    assert ds == pytest.approx((r - 1.5) / 2.0)
    u, dm, ds = m.h(1.5, 2.0)
    assert dm + ds == pytest.approx(1)
    assert 1.5 * dm + 2.0 * ds == pytest.approx(u)
    assert np.isfinite(m.f(1.5, 0.0).ds)
    assert set(DISTRIBUTIONS) >= {"uniform", "normal", "integers"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_gradients_at_many_points(seed: int) -> None:
    for name, k in DIFFERENTIABLE:
        case = CASES[name][k]
        check_gradients(case.build(name), case.arrays("f8", seed=1000 * seed + k), dim=case.dim)
