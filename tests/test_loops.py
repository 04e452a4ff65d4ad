"""Loops in compiled code against the interpreter: what they compute, where they stop, what they leave."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import StringIO
from typing import Any

import numpy as np
import pytest
from compiled import BACKEND, ON_A_GPU
from rich.console import Console

import tlang
from tlang.run.native.loop import NativeLoop
from tlang.tools import progress

MODEL = """
tensor x: f64[n, 6]
tensor y: f64[n]
shared w: f64[6] = zeros(6)
shared b: f64 = 0
shared steps: i64 = 0
p = sigmoid(x @ w + b)
cost = mean(-y * log(p) - (1 - y) * log(1 - p)) + 0.01 * sum(w ** 2)
gw, gb = grad(cost, w, b)
function train(x, y) = (cost = cost, guess = p > 0.5) where {
    update w = w - 0.5 * gw
    update b = b - 0.5 * gb
    update steps = steps + 1
}
function look(x) = sum(x @ w)
function shrink() = w where { update w = w * 0.5 + b }
tensor q: i64
function pick(x, q) = (a = x[argmax(x[:, q])], b = argmin(x, axis = 0)) where { update w = w + x[q] }
function put(q) = w where { update w[q] = 5.0 }
"""
RNG = np.random.default_rng(4)
DATA = "set data: f64[40, 6] = load('x.npy')\n"
X, Y = RNG.normal(size=(43, 6)), (RNG.random(43) > 0.5).astype(float)


def both(tmp_path: Any, commands: str, native: bool = True) -> list[Any]:
    """The program on both backends; `native` says whether its loops are expected in compiled code."""
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    text = (
        MODEL
        + 'set data: f64[43, 6] = load("d.npz", "x")\nset target: f64[43] = load("d.npz", "y")\n'
        + commands
    )
    path = tmp_path / "p.tl"
    path.write_text(text)
    made = []
    for backend in ("numpy", BACKEND):
        m = tlang.load(path, backend=backend, unused="ignore")
        made.append(m)
    assert ON_A_GPU or (made[1]._session.loops.why_slow == "") == native, made[1]._session.loops.why_slow
    for name in ("w", "b", "steps"):
        np.testing.assert_allclose(getattr(made[1], name).value, getattr(made[0], name).value, rtol=1e-9)
    for name, value in made[0]._session.store.values.items():
        np.testing.assert_allclose(made[1]._session.store.values[name], value, rtol=1e-9, err_msg=name)
    return made


@pytest.mark.parametrize(
    "commands",
    [
        "repeat 50 { set c = train(data, target) }",
        "repeat 50 { train(data, target) }",
        "repeat 2 { train(data, target) }",
        "repeat 50 as i { train(data, target) \n set j = i * 2 }",
        "for i in 3..20 { train(data, target) \n set j = i + 1 }",
        "repeat 20 { train(data, target) \n set s = look(data) }",
        "repeat 20 { train(data, target) \n train(data[:10], target[:10]) }",
        "for p0, q0 in batches(data, target, size = 5) { set c = train(p0, q0) }",
        "set z = 1.0 \n repeat 30 { set z = z * 1.01 + look(data) \n train(data, target) }",
        "set u = 1.0 \n set v = 0.0 \n repeat 30 { set v = u + v \n set u = v * 0.5 }",
        "set b = 0.5 \n repeat 30 { set old = shrink() }",
        "set u = 1.0 \n set v = 2.0 \n repeat 10 { set u, v = (v, u + v) }",
        "set v = 2.0 \n repeat 10 { set u = v \n set v = v + 1 }",
        "repeat 5 { set c = train(data, target) \n check c.cost < 10 }",
        'repeat 5 { set c = train(data, target) \n print("cost", c.cost, c.guess[0]) }',
        "repeat 6 as i { train(data, target) \n set v = data[i * 7] \n set k = argmax(data[:, i % 6]) }",
        "repeat 6 as i { train(data, target) \n set a = i * 4 \n set v = sum(data[[a, a + 1]], axis = 0) }",
        "repeat 6 { train(data, target) \n set s = (data[:6] + eye(6)) @ w }",
        "repeat 6 { set c = pick(data, 2) \n set d = concatenate([c.a, w]) }",
        "repeat 9 as i { put(i - 4) }",
        "set z = data \n repeat 5 { set z = z * 0.5 \n train(data, target) }",
        "repeat 4 { repeat 5 { set c = train(data, target) } }",
        "repeat 4 as i { for j in 2..5 { set c = train(data, target) \n set v = i * 10 + j } }",
        "repeat 4 { for p0, q0 in batches(data[:40], target[:40], size = 5) { set c = train(p0, q0) } }",
        "repeat 3 as i { repeat 2 as j { repeat 2 as k { set v = i * 100 + j * 10 + k } } \n print(v) }",
    ],
)
def test_loops_agree(tmp_path: Any, commands: str) -> None:
    both(tmp_path, commands)


def test_loops_that_need_python_agree(tmp_path: Any) -> None:
    nested = "repeat 4 { for p0, q0 in batches(data, target, size = 5) { set c = train(p0, q0) } }"
    both(tmp_path, nested, native=False)  # the inner loop is compiled, the outer one is not
    both(tmp_path, "repeat 4 as i { repeat i { set c = train(data, target) } }", native=False)


@pytest.mark.parametrize(
    "body",
    [
        "set k = k + 1 \n set c = train(data, target) \n set v = data[k * 9, 0]",
        "set c = train(data, target) \n set k = k + 1 \n put(k)",
        'set k = k + 1 \n set c = train(data, target) \n check k < 4, "too far"',
        "set k = k + 1 \n set v = one_hot(k, 4) \n set c = train(data, target)",
        "set c = train(data, target) \n set k = k + 1 \n set v = sum(w[[k, 1 - k]])",
    ],
)
@pytest.mark.parametrize("loop", ["repeat 20", "repeat 20 as i", "for i in 3..20"])
def test_an_error_leaves_what_the_interpreter_leaves(tmp_path: Any, body: str, loop: str) -> None:
    """The same error at the same place, and all values and states of the iterations before."""
    np.savez(tmp_path / "d.npz", x=X, y=Y)
    load = 'set data: f64[43, 6] = load("d.npz", "x")\nset target: f64[43] = load("d.npz", "y")\nset k = 0\n'
    path = tmp_path / "p.tl"
    path.write_text(MODEL + load)
    found = []
    for backend in ("numpy", "cpu"):
        m = tlang.load(path, backend=backend, unused="ignore")
        with pytest.raises(tlang.TlangError) as e:
            m.run(f"{loop} {{ {body} }}")
        assert not m._session.loops.why_slow
        found.append((str(e.value), m._session.store.values, m._session.store.shared))
    assert found[0][0] == found[1][0]
    for a, b in zip(found[0][1:], found[1][1:], strict=True):
        assert a.keys() == b.keys()
        for name, value in a.items():
            np.testing.assert_allclose(b[name], value, rtol=1e-9, err_msg=name)


def test_repeat_stops_at_an_error() -> None:
    """From Python: the state is that of the calls before the one that failed."""
    text = """
        tensor x: f64[n]
        shared at: i64 = 0
        function next(x) = x[at] where { update at = at + 1 }
    """
    found = []
    for backend in ("numpy", "cpu"):
        m = tlang.compile(text, backend=backend)
        with pytest.raises(tlang.TlangError, match="R115"):
            m.repeat(100, "next", np.arange(10.0))
        found.append(int(m.at.value))
    assert found == [10, 10]


def test_repeat_from_python() -> None:
    results = []
    for backend in ("numpy", "cpu"):
        m = tlang.compile(MODEL, backend=backend, unused="ignore")
        given = X.copy()
        last = m.repeat(100, "train", given, Y)
        results.append((last.cost, m.w.value, m.steps.value))
        np.testing.assert_array_equal(given, X)
        assert m.steps.value == 100
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def test_state_does_not_wait_for_outputs() -> None:
    """A size that the output and the update both need is computed in every iteration."""
    text = """
        tensor u: f64[n]
        tensor v: f64[n]
        shared a: f64 = 0
        shared o: f64 = 0
        cost = mean((a * u + o - v) ** 2)
        ga, go = grad(cost, a, o)
        function train(u, v) = cost where {
            update a = a - 0.1 * ga
            update o = o - 0.1 * go
        }
    """
    for count in (1, 2, 3, 4, 1000):
        made = [tlang.compile(text, backend=b) for b in ("numpy", "cpu")]
        costs = [m.repeat(count, "train", [1.0, 2.0, 3.0], [3.0, 5.0, 7.0]) for m in made]
        np.testing.assert_allclose(costs[1], costs[0], rtol=1e-9, atol=1e-20)
        np.testing.assert_allclose(made[1].a.value, made[0].a.value, rtol=1e-9)


def test_an_interrupt_leaves_whole_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C between two slices: the state is that of as many calls as `steps` has counted."""
    m = tlang.compile(MODEL, backend="cpu", unused="ignore")
    usual = NativeLoop.drive_all
    turns = iter(range(3))

    def interrupted(self: Any, *args: Any) -> Any:
        if next(turns, None) is None:
            raise KeyboardInterrupt
        return usual(self, *args)

    monkeypatch.setattr(NativeLoop, "drive_all", interrupted)
    with pytest.raises(KeyboardInterrupt):
        m.repeat(10**9, "train", X, Y)
    done = int(m.steps.value)
    assert done > 1
    plain = tlang.compile(MODEL, backend="numpy", unused="ignore")
    plain.repeat(done, "train", X, Y)
    np.testing.assert_allclose(m.w.value, plain.w.value, rtol=1e-9)


def test_threads_give_the_same_bits() -> None:
    text = """
        tensor x: f64[n, m]
        shared w: f64[m] = zeros(m)
        function step(x) = (softmax(x, axis = 1), sum(x)) where {
            update w = w + 0.01 * ((tanh(x @ w) + 1) @ x + sum(exp(x), axis = 0))
        }
    """.replace("f64[m] = zeros(m)", "f64[300] = zeros(300)").replace("f64[n, m]", "f64[n, 300]")
    big = np.random.default_rng(1).normal(size=(2000, 300)) / 100
    found = []
    for threads in (1, 2, 3):
        m = tlang.compile(text, backend="cpu", threads=threads)
        calls = [m.step(big) for _ in range(4)]
        last = m.repeat(5, "step", big)
        found.append((m.w.value, *last, *calls[-1]))
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_threads_must_be_a_number_of_threads() -> None:
    with pytest.raises(tlang.TlangError, match="A112"):
        tlang.compile("", threads=0)


class Listener:
    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.values: dict[str, Any] = {}

    def begin(self) -> None:
        self.seen.append("begin")

    def advance(self, done: int, total: int, values: Callable[[], Mapping[str, Any]]) -> None:
        self.seen.append((done, total))
        self.values = dict(values())

    def end(self) -> None:
        self.seen.append("end")


def test_progress_is_reported() -> None:
    """An outermost loop says how far it is, interpreted or compiled, and when it is over."""
    for backend in ("numpy", "cpu"):
        m = tlang.compile("shared s: f64 = 0\nfunction f() where { update s = s + 1 }", backend=backend)
        listener = m._session.loops.progress = Listener()
        m.run("for i in 2..8 { repeat 3 { f() } }")
        assert listener.seen[0] == "begin"
        assert listener.seen[-2:] == [(6, 6), "end"]
        assert listener.values["s"] == 18
        counts = [done for done, _ in listener.seen[1:-1]]
        assert counts == sorted(set(counts))
        m.run("for a in batches(ones(7), size = 2) { f() }")
        assert listener.seen[-2:] == [(4, 4), "end"]
        assert listener.values["s"] == 22


def test_progress_names_what_the_body_sets() -> None:
    m = tlang.compile(
        "shared v: f64[2] = [0, 0]\nfunction f() = sum(v) where { update v = v + 1 }", backend="numpy"
    )
    listener = m._session.loops.progress = Listener()
    m.run("repeat 3 as i { set cost, _ = (f(), 1); set whole = v }")
    assert listener.values == {"cost": 4.0}, "numbers only"


def test_the_progress_line_waits_for_a_second() -> None:
    shown = StringIO()
    line = progress.ProgressLine(Console(file=shown, force_terminal=True, width=100, _environ={}))
    line.begin()
    line.advance(1, 10, dict)
    line.end()
    assert shown.getvalue() == ""
    line.begin()
    line._began -= 5
    line.advance(5, 10, lambda: {"cost": 0.25})
    line.end()
    assert "5/10" in shown.getvalue()
    assert "cost = 0.25" in shown.getvalue()


def test_plain_progress_is_lines_for_a_log() -> None:
    shown = StringIO()
    log = progress.PlainProgress(shown)
    log.begin()
    log.advance(1, 10, dict)
    assert shown.getvalue() == ""
    log._began -= 5
    log.advance(5, 10, lambda: {"cost": 0.25, "k": 3})
    log.advance(6, 10, dict)
    log.end()
    (line,) = shown.getvalue().splitlines()
    assert line.startswith("5 of 10 steps (50 %), 1 steps/s, 5.0 s left, cost = 0.25, k = 3")


def test_progress_of_the_command_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tlang.tools.cli import main

    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    program = "shared s: i64 = 0\nfunction f() where { update s = s + 1 }\nrepeat 50 { f() }"
    assert main(["run", "--backend", "numpy", "--progress", "plain", "-c", program]) == 0
    assert "of 50 steps" in capsys.readouterr().err
    assert main(["run", "--progress", "none", "-c", program]) == 0
    assert capsys.readouterr().err == ""
