"""`tlang emit`, `tlang streams` and `tlang doctor`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tlang
from tlang.errors import TlangError
from tlang.run import rng
from tlang.run.files import read_source
from tlang.source import Source
from tlang.tools import doctor
from tlang.tools.cli import main
from tlang.tools.emit import STAGES, emit
from tlang.tools.streams import streams

PROGRAMS = Path(__file__).parent.parent / "programs"


#: The stages that need nothing but tlang itself.
PLAIN = [stage for stage in STAGES if stage != "ptx"]


@pytest.mark.parametrize("stage", PLAIN)
@pytest.mark.parametrize("name", ["logistic_regression", "layers"])
def test_stages(stage: str, name: str, golden: Callable[[str, str], None]) -> None:
    path = str(PROGRAMS / f"{name}.tl")
    golden(f"emit/{name}.{stage}.txt", emit(read_source(path, path), stage) + "\n")


RECURRENCE = """\
function f(xs: f64[n, d], w: f64[d, d]) = (hs, slope) where {
    step(x, h) = tanh(x + h @ w)
    hs = scan(step, xs, init = zeros(d))
    slope = grad(sum(hs), w)
}
"""


@pytest.mark.parametrize("stage", ["graph", "plan"])
def test_steps_of_a_recurrence_are_shown(stage: str, golden: Callable[[str, str], None]) -> None:
    golden(f"emit/recurrence.{stage}.txt", emit(Source("recurrence.tl", RECURRENCE), stage) + "\n")


DRAWS = """\
random noise: f64[n, d] ~ normal(0, 0.1)
random keep: bool[n, d] ~ bernoulli(0.5)
random bias: f64[d] ~ uniform(-1, 1)
shared w: f64[d] = [1, 2]
function f(x: f64[n, d], y: f64[n]) = (cost, noise + bias) where {
    z = where(keep, tanh(x), 0)
    cost = mean((y - z @ w) ** 2)
    update w = w - grad(cost, w)
}
"""


@pytest.mark.parametrize("stage", ["plan", "code", "cuda"])
def test_draws_are_shown(stage: str, golden: Callable[[str, str], None]) -> None:
    golden(f"emit/draws.{stage}.txt", emit(Source("draws.tl", DRAWS), stage) + "\n")


@pytest.mark.parametrize("path", sorted(PROGRAMS.glob("*.tl")), ids=lambda p: p.stem)
@pytest.mark.parametrize("stage", PLAIN)
def test_every_program_has_stages(path: Path, stage: str) -> None:
    assert emit(read_source(str(path), str(path)), stage) or stage != "ast"


def test_ptx_of_a_function() -> None:
    pytest.importorskip("numba_cuda", reason="numba-cuda is needed (the extra `cuda`)")
    assert ".visible .entry kernel(" in emit(Source("draws.tl", DRAWS), "ptx")


def test_ptx_needs_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tlang.run.cuda.compiler.installed", lambda: False)
    with pytest.raises(TlangError, match="R173"):
        emit(Source("draws.tl", DRAWS), "ptx")


@pytest.mark.parametrize("stage", PLAIN)
def test_unknown_names(stage: str) -> None:
    source = Source("<text>", "tensor x: f64[n]\nfunction double(x) = 2 * x\n")
    assert "double" in emit(source, stage, "double")
    with pytest.raises(TlangError, match="A110"):
        emit(source, stage, "doubl")


def test_emit_imports_no_numba() -> None:
    command = [sys.executable, "-X", "importtime", "-c", "from tlang.tools.cli import main; main()", "emit"]
    done = subprocess.run(
        [*command, "--stage", "code", str(PROGRAMS / "logistic_regression.tl")],
        capture_output=True,
        text=True,
    )
    assert "def step_" in done.stdout
    assert not re.search(r"\bnumba\b", done.stderr)  # numba-cuda has a hook of its own in each process


def test_a_healthy_computer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TLANG_CACHE_DIR", str(tmp_path))
    status = main(["doctor", "--json"])
    found = {f["what"]: f for f in json.loads(capsys.readouterr().out)}
    assert found["object code"]["found"].startswith("compiled and loaded")
    assert "0 kernels" in found["cache"]["found"]
    assert status == int(any(f["advice"] for f in found.values()))
    main(["doctor"])
    assert "object code" in capsys.readouterr().out


def test_everything_is_examined(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TLANG_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("OMP_NUM_THREADS", "none")
    found = {f.what: f for f in doctor.examine()}
    assert {"python", "numpy", "processor", "vectors", "cores", "threads", "BLAS", "cache", "CUDA"} <= set(
        found
    )
    assert {"prompt_toolkit", "rich", "object code", "extra test", "extra bench", "history"} <= set(found)
    assert "unset OMP_NUM_THREADS" in found["threads"].advice
    assert found["history"].found == str(tmp_path / "state" / "tlang" / "history")
    assert "hypothesis" in found["extra test"].found
    assert not found["CUDA"].advice
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert not {f.what: f for f in doctor.examine()}["threads"].advice


def test_problems_come_with_advice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: object) -> object:
        raise doctor.ObjectError("cannot load: no")

    monkeypatch.setattr(doctor, "load_object", broken)
    monkeypatch.setattr(doctor.blas, "symbols", dict)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert shown.count("->") >= 3
    assert "! object code" in shown


def test_bench(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "b.tl"
    path.write_text(
        "shared s: f64 = 0\nfunction f() = s where { update s = s + 1 }\nprint(1)\nbench f()\nbench 1 + 1\n"
    )
    assert main(["bench", "--json", "--time", "0.05", str(path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [m["text"] for m in found] == ["f()", "1 + 1"]
    for m in found:
        assert 0 < m["low"] <= m["median"] <= m["high"]
        assert m["runs"] >= 5
    assert found[0]["first"] > 0
    assert main(["bench", "--time", "0.05", "--backend", "numpy", str(path)]) == 0
    assert capsys.readouterr().out.count("runs)") == 2
    path.write_text("x = 1\nbench y\n")
    assert main(["bench", str(path)]) == 1
    assert "error[" in capsys.readouterr().err


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_profile(backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each kernel with its place, rates that follow from its sizes, and the phases of compilation."""
    program = """
        tensor x: f64[100_000]
        shared w: f64[100_000] = ones(100_000)
        function step(x) where { update w = w + exp(x) }
        set data = zeros(100_000)
        repeat 50 { step(data) }
        check w[0] == 51
    """
    assert main(["run", "--profile", "--backend", backend, "-c", program]) == 0
    shown = capsys.readouterr().err
    assert "read and check" in shown
    if backend == "numpy":
        assert "numpy exp" in shown
        return
    assert "load code, or compile it" in shown
    (line,) = (line for line in shown.splitlines() if "loops add" in line)
    assert "<text>:4: w + exp(x)" in line
    time, unit, _, calls, each, *_ = line.split()
    assert calls in ("49", "50")
    bandwidth = float(line.split()[6])
    seconds = float(time) * {"s": 1, "ms": 1e-3, "us": 1e-6}[unit]
    assert abs(bandwidth - int(calls) * 3 * 800_000 / seconds / 1e9) < 0.02 * bandwidth
    assert float(each) > 0


def test_profile_of_a_program_that_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--profile", "-c", "set a = sum(ones(100))\ncheck a < 5"]) == 1
    shown = capsys.readouterr().err
    assert "numpy sum" in shown
    assert "C101" in shown


# ---------------------------------------------------------------- streams

STREAMS = """
stream s = philox(234)
stream t = mt19937(7)
random u: f64[n, 3] ~ s.uniform()
random v: f32[n] ~ s.normal()
random k: i64[5] ~ t.integers(0, 5)
random q: f64[2, n] ~ t.uniform()
random g: f64[n] ~ gamma(2)
random h: f64[n] ~ gamma(2)
random p: i64[2] ~ choice(10, replace = False)
random c: i64[2 * n + 1] ~ choice(10)
shared w: f64[3] ~ normal(0, 1)
repeat 2 { set z: f64[4] ~ uniform() }
tensor x: f64[n]
function first(x) = (x + u[:, 0], v, k, q)
function second(x) = (x + u[:, 0], g) where { hold u }
function pure(x) = x
function third(x) = (x, c, p)
function fourth = copy second where { swap g = h }
function later() = (a, g1) where { a = loaded * g1 }
random g1: f64 ~ normal()
shared loaded = load("no_such_file.npy")
"""


def test_streams(
    golden: Callable[[str, str], None], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "streams.tl"
    path.write_text(STREAMS)
    assert main(["streams", str(path), "--seed", "5"]) == 0
    golden("streams.txt", capsys.readouterr().out)
    assert main(["streams", str(path), "--json"]) == 0
    moves = json.loads(capsys.readouterr().out)
    assert [m["variable"] for m in moves if m["function"] == "second" and m["held"]] == ["u"]
    path.write_text("x = 1\nfunction f() = x")
    assert main(["streams", str(path)]) == 0
    assert capsys.readouterr().out == "no function draws\n"
    path.write_text("random r: f64 ~ nrmal()")
    assert main(["streams", str(path)]) == 1


CONSUMERS = """
random uniform: T[7, 3] ~ s.uniform()
random normal: T[7, 3] ~ s.normal()
random lognormal: T[7, 3] ~ s.lognormal()
random exponential: T[7, 3] ~ s.exponential()
random bernoulli: T[7, 3] ~ s.bernoulli(0.5)
random integers: i32[7, 3] ~ s.integers(0, 9)
random inclusive: i32[7, 3] ~ s.random_integers(0, 9)
random categorical: i64[7, 3] ~ s.categorical([0.5, 0.5])
random permutation: i64[7, 3] ~ s.permutation(3)
random shuffle: T[7, 3] ~ s.shuffle(zeros((7, 3), T))
random elements: T[7, 3] ~ s.shuffle_row_elements(zeros((7, 3), T))
random choice: i64[7, 3] ~ s.choice(5)
random weighted: i64[7, 3] ~ s.choice(2, p = [0.5, 0.5])
random distinct: i64[7, 3] ~ s.choice(33, replace = False)
random items: i64[3] ~ s.choice(arange(9), p = ones(9) / 9, replace = False)
random gamma_: T[7, 3] ~ s.gamma(2)
random beta: T[7, 3] ~ s.beta(2, 0.5)
random dirichlet: T[7, 3] ~ s.dirichlet(2)
random poisson: i64[7, 3] ~ s.poisson(3)
random binomial: i64[7, 3] ~ s.binomial(5, 0.5)
random multinomial: i64[7, 3] ~ s.multinomial(5, [0.5, 0.25, 0.25])
"""


@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_streams_say_what_draws_take(dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every distribution: the blocks, or words, that it really takes."""
    taken = 0

    def counting(state: rng.PhiloxState, block: Any) -> Any:
        nonlocal taken
        taken += len(block)
        return words(state, block)

    words = rng._words
    monkeypatch.setattr(rng, "_words", counting)
    names = [line.split()[1].rstrip(":") for line in CONSUMERS.strip().split("\n")]
    functions = "\n".join(f"function f_{n}() = {n}" for n in names)
    for generator in ("philox", "mt19937"):
        text = f"stream s = {generator}(3)\n{CONSUMERS.replace('T', dtype)}\n{functions}\n"
        m = tlang.compile(text, "numpy")
        for move in streams(Source("main.tl", text)):
            taken, before = 0, m[move.variable].state
            m[move.function]()
            after = m[move.variable].state
            number = int(re.sub(r"\D", "", move.moves.partition(",")[2] or move.moves) or -1)
            if generator == "mt19937":
                assert number in (-1, (after.position - before.position) % 624), move
            elif "at least" in move.moves:
                assert number <= taken, move
            else:
                assert number == taken, move
