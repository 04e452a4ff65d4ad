"""What stays on the device beside loop nests: recurrences, products of stacks, joins, running totals.

The tests run in numba-cuda's simulator, in a process of their own; what they compare with is the interpreter.
"""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_compiled_scans import ARGS, FORMS

import tlang
from tlang.emit.cuda import own
from tlang.emit.cuda.actions import Launch
from tlang.run.cuda import gpu
from tlang.run.cuda.tape import DeviceSegment, DeviceTape, signature

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
EXTRA = "numba-cuda is needed (the extra `cuda`)"
RNG = np.random.default_rng(11)
simulated = pytest.mark.skipif(not SIMULATED, reason="runs in the simulator, in a process of its own")


@pytest.mark.skipif(find_spec("numba_cuda") is None, reason=EXTRA)
@pytest.mark.skipif(SIMULATED, reason="this is that process")
def test_in_the_simulator() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "NUMBA_ENABLE_CUDASIM": "1"},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr


class Transfers:
    """Counts what goes to the device and back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.down: list[tuple[int, ...]] = []
        self.up: list[int] = []
        download, upload, write = gpu.download, gpu.upload, gpu.write

        def downloading(array: Any, shape: Any) -> Any:
            self.down.append(tuple(shape))
            return download(array, shape)

        def uploading(array: Any) -> Any:
            self.up.append(array.size)
            return upload(array)

        def writing(target: Any, array: Any) -> None:
            self.up.append(array.size)
            write(target, array)

        monkeypatch.setattr(gpu, "download", downloading)
        monkeypatch.setattr(gpu, "upload", uploading)
        monkeypatch.setattr(gpu, "write", writing)

    def clear(self) -> None:
        """Begins anew."""
        self.down.clear()
        self.up.clear()


@pytest.fixture
def transfers(monkeypatch: pytest.MonkeyPatch) -> Transfers:
    return Transfers(monkeypatch)


def compiled(text: str) -> Any:
    """A program whose results stay on the device."""
    return tlang.compile(text, backend="cuda", device_arrays=True)


def flat(x: Any) -> list[Any]:
    return [a for y in x for a in flat(y)] if isinstance(x, tuple) else [x]


def agree(text: str, *args: Any, tolerance: float | None = None, calls: int = 2) -> None:
    """The results of `f` are the interpreter's, in the second call too."""
    wanted = flat(tlang.compile(text, unused="ignore").f(*args))
    m = tlang.compile(text, backend="cuda", unused="ignore")
    for _ in range(calls):
        for a, b in zip(flat(m.f(*args)), wanted, strict=True):
            assert (np.shape(a), np.asarray(a).dtype) == (np.shape(b), np.asarray(b).dtype)
            exact = np.asarray(b).dtype.kind in "iub"
            near = tolerance or (1e-5 if np.asarray(b).dtype == np.float32 else 1e-12)
            np.testing.assert_allclose(a, b, 0 if exact else near, 0 if exact else near)


# ---------------------------------------------------------------- recurrences


def steps(name: str) -> str:
    step, args = FORMS[name]
    return f"function f({ARGS}) = scan(step, {args}) where {{ {step} }}"


@simulated
@pytest.mark.parametrize("n", [0, 1, 2, 5])
@pytest.mark.parametrize("name", FORMS)
def test_recurrences(name: str, n: int) -> None:
    agree(steps(name), RNG.normal(size=(n, 4)), RNG.normal(size=(4, 4)) * 0.5, n)


@simulated
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("options", ["", ", reverse = True", ", last = True", ", checkpoint = 2"])
def test_gradients_of_recurrences(dtype: str, options: str) -> None:
    text = f"""
        function f(xs: {dtype}[n, b, d], w, u: {dtype}[d, d], h0: {dtype}[b, d]) = (dxs, dw, du, dh) where {{
            dxs, dw, du, dh = grad(cost, xs, w, u, h0)
            step(x, h) = tanh(x @ w + h @ u)
            cost = sum(scan(step, xs, init = h0{options}) ** 2)
        }}
    """
    kind = {"f32": np.float32, "f64": np.float64}[dtype]
    shapes = [(3, 2, 3), (3, 3), (3, 3), (2, 3)]
    agree(text, *(RNG.normal(size=s).astype(kind) * 0.5 for s in shapes))


RNN = """
    function f(xs: f64[n, b, 3], w_in: f64[3, 5], w: f64[5, 5]) = (cost, dw) where {
        step(x, h) = tanh(x @ w_in + h @ w)
        cost = sum(scan(step, xs, init = zeros((b, 5)), last = True) ** 2)
        dw = grad(cost, w)
    }
"""


@simulated
def test_a_recurrence_and_its_gradient_move_nothing(transfers: Transfers) -> None:
    m = compiled(RNN)
    args = [RNG.normal(size=s) for s in [(4, 2, 3), (3, 5), (5, 5)]]
    m.f(*args)
    transfers.clear()
    cost, dw = m.f(*args)
    assert not transfers.down
    assert sorted(transfers.up) == sorted(a.size for a in args)
    wanted = tlang.compile(RNN).f(*args)
    np.testing.assert_allclose(cost, wanted[0])
    np.testing.assert_allclose(dw, wanted[1])


@simulated
@pytest.mark.parametrize("options", ["checkpoint = True", "checkpoint = 2", "reverse = True, checkpoint = 2"])
def test_recurrences_in_recurrences_move_sizes_alone(options: str, transfers: Transfers) -> None:
    text = f"""
        function f(xs: f64[n, 4], w: f64[2, 2], h0: f64[2, 2]) = (hs, dw) where {{
            step(x, h) = tanh(reshape(x, (2, 2)) + h @ w)
            hs = scan(step, xs, init = h0, {options})
            dw = grad(sum(hs ** 2), w)
        }}
    """
    for n in (1, 4, 7):
        stays_there(text, [RNG.normal(size=s) for s in [(n, 4), (2, 2), (2, 2)]], transfers, numbers=True)


@simulated
def test_an_error_in_a_step_is_looked_for_once(transfers: Transfers) -> None:
    text = "function f(i: i64[n], u: f64[4]) = scan(step, i, init = 0.0) where { step(i, h) = h + u[i] }"
    m = compiled(text)
    u = RNG.normal(size=4)
    transfers.clear()
    np.testing.assert_allclose(m.f(np.array([3, 0, 1]), u), np.cumsum(u[[3, 0, 1]]))
    assert transfers.down.count((1,)) == 1
    with pytest.raises(tlang.TlangError) as found:
        m.f(np.array([3, 4, 1]), u)
    with pytest.raises(tlang.TlangError) as wanted:
        tlang.compile(text).f(np.array([3, 4, 1]), u)
    assert str(found.value) == str(wanted.value)
    np.testing.assert_allclose(m.f(np.array([3, 0, 1]), u), np.cumsum(u[[3, 0, 1]]))


@simulated
@pytest.mark.parametrize(
    "body",
    [
        "scan(step, init = sum(xs), while = go) where { step(h) = h / 2\n go(h) = abs(h) > 1 }",
        "scan(step, xs, init = zeros(3)) where { step(x, h) = sort(x + h) }",
    ],
)
def test_other_recurrences_are_numpys(body: str) -> None:
    agree(f"function f(xs: f64[n, 3]) = {body}", RNG.normal(size=(4, 3)))


# ---------------------------------------------------------------- products of stacks

PRODUCTS = {
    "stacks": ("x: {t}[b, n, k], y: {t}[b, k, m]", "x @ y", [(3, 2, 4), (3, 4, 5)]),
    "one of them": ("x: {t}[1, n, k], y: {t}[1, k, m]", "x @ y", [(1, 2, 4), (1, 4, 5)]),
    "ones": ("x: {t}[b, n, k], y: {t}[b, k, m]", "x @ y", [(2, 1, 1), (2, 1, 1)]),
    "none": ("x: {t}[b, n, k], y: {t}[b, k, m]", "x @ y", [(0, 2, 4), (0, 4, 5)]),
    "nothing inside": ("x: {t}[b, n, k], y: {t}[b, k, m]", "x @ y", [(2, 2, 0), (2, 0, 5)]),
    "one matrix at the right": ("x: {t}[b, n, k], y: {t}[k, m]", "x @ y", [(3, 2, 4), (4, 5)]),
    "one matrix at the left": ("x: {t}[n, k], y: {t}[b, k, m]", "x @ y", [(2, 4), (3, 4, 5)]),
    "turned": (
        "x: {t}[b, k, n], y: {t}[b, m, k]",
        "transpose(x, (0, 2, 1)) @ transpose(y, (0, 2, 1))",
        [(3, 4, 2), (3, 5, 4)],
    ),
    "two axes": ("x: {t}[a, b, n, k], y: {t}[a, b, k, m]", "x @ y", [(2, 3, 2, 4), (2, 3, 4, 5)]),
    "stretched": ("x: {t}[a, 1, n, k], y: {t}[b, k, m]", "x @ y", [(2, 1, 2, 4), (3, 4, 5)]),
    "stretched at the right": (
        "x: {t}[a, b, n, k], y: {t}[a, 1, k, m]",
        "x @ y",
        [(2, 3, 2, 4), (2, 1, 4, 5)],
    ),
    "heads": (
        "x: {t}[n, l, h, d], y: {t}[n, l, h, d]",
        "transpose(x, (0, 2, 1, 3)) @ transpose(y, (0, 2, 3, 1))",
        [(2, 5, 3, 4), (2, 5, 3, 4)],
    ),
    "a vector at the right": ("x: {t}[b, n, k], y: {t}[k]", "x @ y", [(3, 2, 4), (4,)]),
    "a vector at the left": ("x: {t}[k], y: {t}[b, k, m]", "x @ y", [(4,), (3, 4, 5)]),
    "a column": ("x: {t}[b, n, k], y: {t}[k, c]", "x @ y[:, 1]", [(3, 2, 4), (4, 3)]),
    "slices": ("x: {t}[b, n, k], y: {t}[b, k, m]", "x[1:, :, 1:] @ y[1:, 1:, :2]", [(3, 2, 4), (3, 4, 5)]),
    "every other": ("x: {t}[b, n, k], y: {t}[b, k, 6]", "x @ y[:, :, ::2]", [(3, 2, 4), (3, 4, 6)]),
    "columns of columns": ("x: {t}[b, 4, k], y: {t}[b, k, m]", "x[:, ::2] @ y", [(3, 4, 2), (3, 2, 3)]),
    "the last first": ("x: {t}[b, n, k], y: {t}[b, k, m]", "x[::-1] @ y", [(3, 2, 4), (3, 4, 5)]),
    "parts of matrices": ("x: {t}[n, k], y: {t}[k, m]", "x[:, 1:] @ y[1:]", [(3, 4), (4, 5)]),
    "a number at all places": ("x: {t}[b, n, k]", "x @ ones_like(x[0]).T", [(3, 2, 4)]),
    "einsum": ("x: {t}[b, n, k], y: {t}[b, m, k]", 'einsum("bnk,bmk->bnm", x, y)', [(3, 2, 4), (3, 5, 4)]),
}


@simulated
@pytest.mark.parametrize("dtype", ["f32", "f64"])
@pytest.mark.parametrize("name", PRODUCTS)
def test_products(name: str, dtype: str) -> None:
    params, formula, shapes = PRODUCTS[name]
    kind = {"f32": np.float32, "f64": np.float64}[dtype]
    given = [RNG.normal(size=s).astype(kind) for s in shapes]
    params = params.format(t=dtype)
    agree(f"function f({params}) = {formula}", *given)
    names = ", ".join("xy"[: len(shapes)])
    agree(f"function f({params}) = grad(sum(({formula}) ** 2), {names})", *given)


@simulated
def test_products_move_nothing(transfers: Transfers) -> None:
    text = """
        function f(x: f64[b, n, 6], w, v: f64[6, 2, 3]) = (a @ (transpose(a, (0, 1, 3, 2)) @ c), g) where {
            heads(m) = transpose(reshape(x @ reshape(m, (6, 6)), (b, n, 2, 3)), (0, 2, 1, 3))
            a = heads(w)
            c = heads(v)
            g = grad(sum(softmax(a @ transpose(c, (0, 1, 3, 2))) @ c), w)
        }
    """
    args = [RNG.normal(size=s) for s in [(2, 3, 6), (6, 2, 3), (6, 2, 3)]]
    stays_there(text, args, transfers)


def stays_there(text: str, args: list[Any], transfers: Transfers, numbers: bool = False) -> None:
    """The results of a second call are right, and nothing but the arguments goes to the device or back.

    Where sizes are computed, `numbers` are moved too.
    """
    m = compiled(text)
    m.f(*args)
    transfers.clear()
    found = flat(m.f(*args))
    assert not [shape for shape in transfers.down if shape or not numbers]
    assert sorted(n for n in transfers.up if n > 1 or not numbers) == sorted(a.size for a in args)
    for a, b in zip(found, flat(tlang.compile(text).f(*args)), strict=True):
        np.testing.assert_allclose(a, b, 1e-12, 1e-12)


# ---------------------------------------------------------------- joined tensors


@simulated
@pytest.mark.parametrize("dtype", ["f32", "f64", "i64", "bool"])
@pytest.mark.parametrize(
    ("params", "formula", "shapes"),
    [
        ("x: {t}[n, k], y: {t}[m, k]", "concatenate([x, y], axis = 0)", [(3, 2), (1, 2)]),
        ("x: {t}[n, k], y: {t}[n, m]", "concatenate([x, y, x], axis = 1)", [(3, 2), (3, 4)]),
        ("x: {t}[n, k], y: {t}[n, m]", "concatenate([x, y], axis = -1)", [(3, 0), (3, 4)]),
        ("x: {t}[a, n, k], y: {t}[a, m, k]", "concatenate([x, y], axis = 1)", [(2, 3, 2), (2, 1, 2)]),
        ("x: {t}[n], y: {t}[m]", "concatenate([x, y], axis = 0)", [(0,), (5,)]),
        ("x: {t}[k, n], y: {t}[m, k]", "concatenate([x.T, y[::-1]], axis = 0)", [(2, 3), (3, 2)]),
        ("x: {t}[n, k], y: {t}[n, k]", "stack([x, y], axis = 0)", [(3, 2), (3, 2)]),
        ("x: {t}[n, k], y: {t}[n, k]", "stack([x, y, x[::-1]], axis = 1)", [(3, 2), (3, 2)]),
        ("x: {t}[n, k], y: {t}[k, n]", "stack([x, y.T], axis = 2)", [(3, 2), (2, 3)]),
        ("x: {t}[n, k], y: {t}[n, k]", "stack([x, y], axis = 0)", [(0, 2), (0, 2)]),
        ("x: {t}[n], y: {t}", "stack([x[0], y, x[1]], axis = 0)", [(2,), ()]),
    ],
)
def test_joined(params: str, formula: str, shapes: list[tuple[int, ...]], dtype: str) -> None:
    kinds = {"f32": np.float32, "f64": np.float64, "i64": np.int64, "bool": np.bool_}
    given = [(3 * RNG.normal(size=s)).astype(kinds[dtype]) for s in shapes]
    params = params.format(t=dtype)
    agree(f"function f({params}) = {formula}", *given)
    if dtype.startswith("f"):
        agree(f"function f({params}) = grad(sum(({formula}) ** 3), x, y)", *given)


@simulated
def test_many_are_stacked() -> None:
    entries = ", ".join(f"x[{k % 3}] * {k}" for k in range(40))
    agree(f"function f(x: f64[3, n]) = stack([{entries}])", RNG.normal(size=(3, 2)))


@simulated
def test_joined_tensors_move_nothing(transfers: Transfers) -> None:
    text = """
        function f(xs: f64[n, 3], w: f64[7, 4]) = (hs, dw, ys) where {
            step(x, h) = tanh(concatenate([x, h], axis = 0) @ w)
            hs = scan(step, xs, init = zeros(4))
            dw = grad(sum(hs ** 2), w)
            ys = stack([hs[:, 0], cumsum(hs[:, 1])], axis = 1)
        }
    """
    stays_there(text, [RNG.normal(size=(4, 3)), RNG.normal(size=(7, 4)) / 3], transfers)


# ---------------------------------------------------------------- running totals


@pytest.fixture(params=["alone", "a team", "all blocks"])
def form(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which form of a running total rows of 2 or more elements are for."""
    if request.param != "alone":
        monkeypatch.setattr(own, "SHORT", 1)
        monkeypatch.setattr(own, "SHORT_ACROSS", 1)
    if request.param == "all blocks":
        monkeypatch.setattr(own, "WHOLE", 1)
        monkeypatch.setattr(own, "SHARE", 1)


@simulated
@pytest.mark.usefixtures("form")
@pytest.mark.parametrize("dtype", ["f32", "f64", "i32", "bool"])
@pytest.mark.parametrize("op", ["cumsum", "cumprod"])
@pytest.mark.parametrize(
    ("shape", "axis"),
    [((0,), 0), ((1,), 0), ((29,), 0), ((3, 9), 1), ((9, 3), 0), ((2, 7, 3), 1), ((0, 5), 1)],
)
def test_running_totals(op: str, shape: tuple[int, ...], axis: int, dtype: str) -> None:
    kinds = {"f32": np.float32, "f64": np.float64, "i32": np.int32, "bool": np.bool_}
    x = (2 * RNG.normal(size=shape)).astype(kinds[dtype])
    dims = ", ".join("abc"[: len(shape)])
    for reverse in (False, True):
        formula = f"{op}(x, axis = {axis}, reverse = {reverse})"
        agree(f"function f(x: {dtype}[{dims}]) = {formula}", x, calls=1)
        if dtype.startswith("f"):
            agree(
                f"function f(x: {dtype}[{dims}]) = grad(sum({formula} ** 2), x)", x, calls=1, tolerance=1e-4
            )


@simulated
@pytest.mark.usefixtures("form")
def test_a_running_total_of_a_view_and_of_infinities() -> None:
    x = RNG.normal(size=(4, 6)).astype(np.float32)
    x[1, 3] = np.inf
    x[2, 4] = np.nan
    agree(
        "function f(x: f32[n, m]) = (cumsum(x.T), cumsum(x[:, ::2], axis = 0), cumprod(x[::-1], axis = 0))", x
    )


# ---------------------------------------------------------------- code


@pytest.mark.skipif(find_spec("numba_cuda") is None, reason=EXTRA)
@pytest.mark.skipif(SIMULATED, reason="the simulator compiles nothing")
@pytest.mark.parametrize(
    "formula",
    [
        "concatenate([x, y.T], axis = 1)",
        "stack([x, y[::-1]], axis = 1)",
        "cumsum(x, axis = 1)",
        "cumprod(x, axis = 0, reverse = True)",
    ],
)
def test_code_of_f32_has_no_f64(formula: str, monkeypatch: pytest.MonkeyPatch) -> None:
    launches: dict[tuple[str, tuple[str, ...]], None] = {}
    plain = DeviceSegment.__init__

    def made(self: DeviceSegment, *args: Any) -> None:
        plain(self, *args)
        launches.update({(a.text, signature(a)): None for a in self.actions if isinstance(a, Launch)})

    monkeypatch.setattr(DeviceSegment, "__init__", made)
    text = f"function f(x, y: f32[n, n]) = grad(sum(({formula}) ** 2), x)"
    session = tlang.compile(text, unused="ignore")._session
    DeviceTape(*session.backends.to_compile(session.program.function(session.program.main.scope.names["f"])))
    assert launches
    for code, kinds in launches:
        assert ".f64" not in gpu.to_ptx(code, "kernel", kinds)
