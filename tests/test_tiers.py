"""Tiers: compiled code takes over from NumPy in the middle of the work, and nobody waits for LLVM."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tlang
from tlang.run import build, cache, tiers
from tlang.run.cache import Cache
from tlang.run.objects import ObjectError

PROGRAM = """
tensor x: f64[50]
shared s: f64[50] = zeros(50)
shared count: i64 = 0
function step(x) = (s, sum(s)) where {
    update s = 0.99 * s + sin(x) / (1 + x ** 2)
    update count = count + 1
}
"""


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and tiers for which everything pays."""
    monkeypatch.setenv("TLANG_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tiers, "LOAD", 0.0)
    monkeypatch.setattr(tiers, "COMPILE", 0.0)
    monkeypatch.setattr(tiers, "CHARACTER", 0.0)
    monkeypatch.setattr(build, "_BUILT", {})
    monkeypatch.setattr(tiers, "_COMPILING", {})
    return tmp_path


def wait() -> None:
    """Until nothing is compiled."""
    for job in tiers._COMPILING.values():
        job.wait()
        assert job.done()
        assert job.failed is None


def state(m: Any) -> tuple[Any, int]:
    return m.s.value, int(m.count.value)


def test_a_loop_is_taken_over(eager: Path) -> None:
    x = np.linspace(0, 1, 50)
    m, plain = tlang.compile(PROGRAM), tlang.compile(PROGRAM, "numpy")
    first = m.repeat(3, "step", x)
    assert tiers._COMPILING  # by a thread, while NumPy did all three
    assert not m._session.backends._compiled
    wait()
    plain.repeat(3, "step", x)
    found, wanted = m.repeat(500, "step", x), plain.repeat(500, "step", x)
    assert m._session.backends._compiled
    assert first is not None
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-12)
    np.testing.assert_allclose(found[1], wanted[1], rtol=1e-10)
    np.testing.assert_allclose(state(m)[0], state(plain)[0], rtol=1e-12)
    assert state(m)[1] == state(plain)[1] == 503


def test_calls_are_taken_over(eager: Path) -> None:
    x = np.linspace(0, 1, 50)
    m, plain = tlang.compile(PROGRAM), tlang.compile(PROGRAM, "numpy")
    for k in range(6):
        np.testing.assert_allclose(m.step(x)[0], plain.step(x)[0], rtol=1e-12)
        if k == 2:
            wait()
    assert m._session.backends._compiled
    assert state(m)[1] == 6


@pytest.mark.parametrize(
    "loop",
    [
        "for i in 0..400 { set r = step(row) }",
        "repeat 400 { set r = step(row) }",
        "for b in batches(data, size = 5) { set r = step(b[0]) }",
    ],
)
def test_programs_are_taken_over(eager: Path, loop: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same state as with NumPy alone, wherever the change comes; a loop in a loop keeps its tier."""
    data = "set row = arange(50) / 50\nset data = arange(2000)[:, None] / 2000 + zeros(50)\n"
    text = f"{PROGRAM}{data}repeat 3 {{ {loop} }}\n"
    monkeypatch.setattr(tiers, "ASK", 0.0)
    m, plain = tlang.compile(text), tlang.compile(text, "numpy")
    np.testing.assert_allclose(state(m)[0], state(plain)[0], rtol=1e-12)
    assert state(m)[1] == state(plain)[1] == 1200
    wait()
    warm = tlang.compile(text)
    assert warm._session.backends._compiled
    np.testing.assert_allclose(state(warm)[0], state(plain)[0], rtol=1e-12)
    assert state(warm)[1] == 1200


def test_a_cache_that_cannot_be_written(eager: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The code serves this process all the same."""
    monkeypatch.setattr(Cache, "put", lambda self, key, code: None)
    m = tlang.compile(PROGRAM)
    m.step(np.ones(50))
    wait()
    m.step(np.ones(50))
    assert m._session.backends._compiled
    assert Cache().stats().entries == 0


def test_code_that_cannot_be_made(eager: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy does all the work, and nothing is tried again."""
    reason = ObjectError("no")

    def fails(*given: Any) -> Any:
        raise reason

    monkeypatch.setattr(cache, "compile_text", fails)
    m = tlang.compile(PROGRAM)
    for _ in range(3):
        m.step(np.ones(50))
        for job in tiers._COMPILING.values():
            job.wait()
    assert [job.failed for job in tiers._COMPILING.values()] == [reason]
    assert not m._session.backends._compiled
    assert state(m)[1] == 3


def test_a_fault_of_the_compiler(eager: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NumPy goes on where it began; a backend that was chosen says that it cannot."""

    def fails(*given: Any) -> Any:
        raise AssertionError("a fault")

    monkeypatch.setattr(build, "fused", fails)
    m = tlang.compile(PROGRAM)
    for _ in range(3):
        m.step(np.ones(50))
    m.repeat(10, "step", np.ones(50))
    assert state(m)[1] == 13
    assert {type(t.failed) for t in m._session.backends._tiers.values()} == {AssertionError}
    with pytest.raises(AssertionError, match="a fault"):
        tlang.compile(PROGRAM, "cpu").step(np.ones(50))


def test_small_work_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLANG_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(tiers, "_COMPILING", {})
    m = tlang.compile(PROGRAM)
    m.repeat(20, "step", np.ones(50))
    assert not tiers._COMPILING


@pytest.mark.parametrize("backend", ["auto", "cpu"])
def test_no_run_imports_numba(tmp_path: Path, backend: str) -> None:
    """And the end of the process waits for what is compiled."""
    (tmp_path / "p.tl").write_text(
        PROGRAM + "repeat 60_000 { set r = step(arange(50) / 50) }\ncount #=> 60000\n"
    )
    command = [sys.executable, "-X", "importtime", "-c", "from tlang.tools.cli import main; main()"]
    command += ["run", "--backend", backend, str(tmp_path / "p.tl")]
    environment = {**os.environ, "TLANG_CACHE_DIR": str(tmp_path / "cache")}
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.stdout.split() == ["60000"], done.stderr
        assert "llvmlite" in done.stderr
        assert not re.search(r"\bnumba\b", done.stderr)  # numba-cuda has a hook of its own in each process
