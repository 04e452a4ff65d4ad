"""What programs and callers have on a device: arguments, results, state, loops that stay there.

`tests/test_cuda.py` runs these tests in numba-cuda's simulator, `TLANG_TEST_BACKEND=cuda pytest` on a GPU.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compiled import ON_A_GPU

import tlang
from tlang.run.cuda import gpu
from tlang.run.cuda.loop import DeviceLoop
from tlang.run.cuda.resident import Resident

pytestmark = pytest.mark.skipif(
    not ON_A_GPU, reason="a GPU or its simulator is needed: tests/test_cuda.py runs these"
)
TRAIN = """
tensor x: f64[n, 3]
tensor y: f64[n]
shared w: f64[3] = [0.5, -1, 2]
shared steps: i64 = 0
random noise: f64[n, 3] ~ normal(0, 0.1)
cost = mean((y - (x + noise) @ w) ** 2)
function train(x, y) = (cost = cost, steps = steps) where {
    update w = w - 0.1 * grad(cost, w)
    update steps = steps + 1
}
function pick(i: i64) = w[i] where { update steps = steps + 1 }
"""
X, Y = np.random.default_rng(3).normal(size=(6, 3)), np.arange(6.0)


class Transfers:
    """Counts the arrays that come from the device, and those that go there, in a piece of work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.counts: Counter[str] = Counter()
        for name in ("download", "upload", "write"):
            monkeypatch.setattr(gpu, name, self.counting(name, getattr(gpu, name)))

    def counting(self, name: str, function: Any) -> Any:
        def counted(*args: Any) -> Any:
            self.counts[name] += 1
            return function(*args)

        return counted


def test_arguments_are_read_at_each_call() -> None:
    m = tlang.compile("function f(x: f64[n]) = sum(x) * 2", backend="cuda")
    x = np.ones(5)
    assert m.f(x) == 10
    x[0] = 3  # the caller's array is the caller's
    assert m.f(x) == 14


def test_results_are_the_callers_own() -> None:
    m = tlang.compile(
        "shared s: f64[2] = [1, 2]\nfunction f() = (s, s * 2) where { update s = s + 1 }", "cuda"
    )
    first = m.f()
    first[0][0], first[1][1] = 50, 60
    assert m.s.value.tolist() == [2, 3]
    assert m.f()[0].tolist() == [2, 3]
    m.s.value[0] = 70
    assert m.s.value.tolist() == [3, 4]


def test_device_arrays_stay_and_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    m = tlang.compile("function f(x: f32[n, m]) = x * 2", backend="cuda", device_arrays=True)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    first = m.f(x)
    assert isinstance(first, Resident)
    assert (first.shape, first.dtype, first.ndim, len(first)) == ((2, 3), np.float32, 2, 2)
    moved = Transfers(monkeypatch)
    second = m.f(first)
    assert not moved.counts
    np.testing.assert_array_equal(np.asarray(second), x * 4)
    assert moved.counts["download"] == 1
    np.testing.assert_array_equal(second[1], x[1] * 4)
    assert str(second) == str(x * 4) or "array" in repr(second)


def test_arrays_of_other_libraries() -> None:
    class Other:
        """Has an array on the device, as CuPy has."""

        def __init__(self, of: Resident) -> None:
            self.kept, self.__cuda_array_interface__ = of, of.__cuda_array_interface__

    m = tlang.compile("function f(x: f64[n]) = x + 1", backend="cuda", device_arrays=True)
    held = m.f([1.0, 2.0])
    assert np.asarray(m.f(Other(held))).tolist() == [3, 4]
    with pytest.raises(tlang.TypeError, match="T107"):
        m.f(Other(tlang.compile("function f(x: f64[n, m]) = x", "cuda", device_arrays=True).f([[1.0]])))
    with pytest.raises(tlang.TypeError, match="A101"):
        tlang.compile("function f(x: f64[n]) = x", backend="numpy").f(Other(held))


def test_records_and_values_from_python() -> None:
    m = tlang.compile("function f(x: f64[n]) = (a = x * 2, b = sum(x))\nset r = f([1, 2])", backend="cuda")
    assert isinstance(m.r.a, np.ndarray)
    assert m.r.a.tolist() == [2, 4]
    assert m.eval("r.a + r.b").tolist() == [5, 7]


def test_state_goes_to_a_file_and_back(tmp_path: Path) -> None:
    programs = {}
    for backend in ("numpy", "cuda"):
        m = programs[backend] = tlang.compile(TRAIN, backend=backend)
        m.repeat(5, "train", X, Y)
    path = str(tmp_path / "state.npz")
    programs["cuda"].run(f'save("{path}")')
    fresh = tlang.compile(TRAIN, backend="cuda")
    fresh.run(f'load("{path}")')
    assert fresh.noise.state == programs["cuda"].noise.state == programs["numpy"].noise.state
    assert fresh.repeat(4, "train", X, Y).cost == programs["cuda"].repeat(4, "train", X, Y).cost
    np.testing.assert_allclose(fresh.w.value, tlang_after(9).w.value, rtol=1e-12)


def tlang_after(count: int) -> Any:
    """The program after so many steps of the interpreter."""
    m = tlang.compile(TRAIN, backend="numpy")
    m.repeat(count, "train", X, Y)
    return m


def test_loops_stay_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    loops: list[DeviceLoop] = []
    run = DeviceLoop.run

    def counted(self: DeviceLoop, *args: Any) -> int:
        loops.append(self)
        moved.counts.clear()  # of the first iteration, and of the loop's making
        return run(self, *args)

    monkeypatch.setattr(DeviceLoop, "run", counted)
    moved = Transfers(monkeypatch)
    m = tlang.compile(TRAIN, backend="cuda")
    m.repeat(40, "train", X, Y)
    assert len(loops) == 1
    assert loops[0].done == 39
    np.testing.assert_allclose(m.w.value, tlang_after(40).w.value, rtol=1e-12)
    assert moved.counts["upload"] == 0
    assert moved.counts["write"] == 0
    assert moved.counts["download"] <= 8  # the state of the stream, twice the results, w: at the end


@pytest.mark.parametrize("wrong", [5, 17, 39, 64])
def test_a_loop_that_fails_stops_where_the_interpreter_stops(wrong: int) -> None:
    text = TRAIN + "shared at: i64 = 0\nfunction next() = w[at - LIMIT] where { update at = at + 1 }\n"
    text = text.replace("LIMIT", str(wrong - 2))
    found = []
    for backend in ("numpy", "cuda"):
        m = tlang.compile(text, backend=backend, unused="ignore")
        with pytest.raises(tlang.StateError) as raised:
            m.run("repeat 100 { set v = next() }")
        found.append((raised.value.code, m.at.value, m._session.store.values.get("v")))
    assert found[0][:2] == found[1][:2]
    np.testing.assert_array_equal(found[0][2], found[1][2])


def test_batches_of_what_has_no_room_on_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """They come batch by batch."""
    monkeypatch.setattr("tlang.run.cuda.resident._is_batch", lambda array, base: False)
    commands = "for a, b in batches(x0, y0, size = 2) { train(a, b) }\n"
    found = []
    for backend in ("numpy", "cuda"):
        m = tlang.compile(TRAIN, backend=backend)
        data = {"x0": np.tile(X, (5, 1)), "y0": np.tile(Y, 5)}
        for name, value in data.items():
            m._session.store.store_value(name, value, None, None)
        m.run(commands)
        found.append(m.w.value)
    np.testing.assert_allclose(found[1], found[0], rtol=1e-12)
