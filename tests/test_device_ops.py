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
from tlang.run import gpu

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
