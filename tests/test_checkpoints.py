"""The state of programs in files: `save("model.npz")` and `load`, states of streams, safetensors."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import numpy as library

import tlang
from tlang.errors import StateError
from tlang.run import checkpoint, data, interrupts, rng

ENDINGS = ("npz", "safetensors")
BACKENDS = ("numpy", "cpu", "auto")

TRAIN = """
stream s = philox(3)
stream t = mt19937(7)
random x: f64[16, 3] ~ s.normal(0, 1)
random keep: bool[16, 3] ~ s.bernoulli(0.9)
random noise: f64[16] ~ normal(0, 0.1)
shared w: f64[3] ~ normal(0, 1)
shared velocity: f64[3] = [0, 0, 0]
shared steps: i64 = 0
target = x @ [1.0, -2.0, 0.5] + noise
seen = where(keep, x / 0.9, 0)
loss = mean((seen @ w - target) ** 2)
g = grad(loss, w)
function step() = loss where {
    update velocity = 0.9 * velocity - 0.01 * g
    update w = w + 0.9 * velocity - 0.01 * g
    update steps = steps + 1
}
random old: f64 ~ t.normal(0, 1)
shared moved: f64 = 0
function theano() = old where { update moved = moved + old }
"""
STATE = ("w", "velocity", "steps", "moved")
STREAMS = ("x", "keep", "noise", "old")


def state_of(m: Any) -> tuple[Any, ...]:
    """All of a program's state, in a form that compares bit for bit."""
    shared = tuple(np.asarray(m[name].value).tobytes() for name in STATE)
    return (*shared, *(m[name].state for name in STREAMS), m.s.seed, m.t.seed)


def after(steps: int, backend: str = "numpy") -> tuple[Any, ...]:
    m = tlang.compile(TRAIN, backend)
    m.repeat(steps, "step")
    return state_of(m)


# ---------------------------------------------------------------- resuming


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    "backend", ["numpy", "cpu"]
)  # with `auto` the time of the takeover is not determined
def test_resuming_gives_the_bits_of_not_stopping(backend: str, ending: str, tmp_path: Path) -> None:
    path = json.dumps(str(tmp_path / f"model.{ending}"))
    whole = tlang.compile(TRAIN, backend)
    whole.repeat(70, "step")
    for _ in range(3):  # leaves the second number of a pair behind
        whole.theano()
    first = tlang.compile(TRAIN, backend)
    first.repeat(30, "step")
    first.theano()
    first.run(f"save({path})")
    second = tlang.compile(TRAIN, backend, seed=5)
    second.repeat(3, "step")
    second.run(f"load({path})")
    assert state_of(second) == state_of(first)
    second.repeat(40, "step")
    second.theano()
    second.theano()
    assert state_of(second) == state_of(whole)
    assert second.step() == whole.step()


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
def test_a_program_saves_in_a_loop_and_goes_on(backend: str, tmp_path: Path) -> None:
    """Written as a program: a line that loads, when there is something, and one that saves."""
    path = tmp_path / "m.npz"
    lines = f'repeat 4 {{ repeat 25 {{ step() }}; save("{path}") }}'
    m = tlang.compile(TRAIN + lines, backend)
    assert state_of(m) == after(100, backend)
    again = tlang.compile(TRAIN + f'load("{path}")\n' + lines, backend)
    assert state_of(again) == after(200, backend)


def test_what_a_checkpoint_has(tmp_path: Path) -> None:
    """Shared values of imported files, of no elements and of every dtype; names that draw by `~`; seeds."""
    (tmp_path / "layer.tl").write_text(
        "shared w: f32[2] = [1, 2]\nstream g = philox(1)\nrandom r: f64 ~ g.uniform()\n"
        "function draw() = r where { update w = w + 1 }\n"
    )
    text = """import "layer.tl" as layer
        shared zero: c64[0, 3] = zeros((0, 3), c64)
        shared z: c128 = c128(2)
        shared flags: bool[2] = [True, False]
        shared small: u8 = 255
        shared w: f64[2] ~ normal(0, 1)
        stream s = philox(18446744073709551615)
        random u: f64 ~ s.uniform()
        set v: f64[2] ~ normal(0, 1)
    """
    main = tmp_path / "main.tl"
    main.write_text(text)
    m = tlang.load(main, seed=-3)
    m.layer.draw()
    m.run('set s.seed = 12\nsave("state.npz")\nset v: f64[2] ~ normal(0, 1)')
    with np.load(tmp_path / "state.npz") as file:
        note = json.loads(file["tlang.json"])
        assert set(file.files) - {"tlang.json"} == {
            *("zero", "z", "flags", "small", "w", "layer.w"),
            *("~w", "~v", "~u", "~layer.r"),
        }
        assert file["layer.w"].tolist() == [2, 3]
    assert note["shared"]["zero"] == "c64[0, 3]"
    assert note["seeds"] == {"s": 12}
    assert note["seed"] == -3
    other = tlang.load(main, seed=99)
    other.run('set small = 1\nload("state.npz")')
    assert other.layer.w.value.tolist() == [2, 3]
    assert other.small.value == 255
    assert other.s.seed == 12
    assert other.zero.value.shape == (0, 3)
    assert (other.w.value == m.w.value).all()
    assert other.layer.draw() == m.layer.draw()
    other.run("set v: f64[2] ~ normal(0, 1)")
    assert (other.v == m.v).all(), "the counter of a name that draws by `~`"
    other.run("set fresh: f64[2] ~ normal(0, 1)")
    m.run("set fresh: f64[2] ~ normal(0, 1)")
    assert (other.fresh == m.fresh).all(), "the seed of the default stream"
    with pytest.raises(StateError, match="D118"):
        m.run('save("state.safetensors")')  # which knows no complex numbers


def test_seeds_of_64_bits() -> None:
    m = tlang.compile(
        "stream s = philox(18446744073709551615)\nset a = s.seed\nset s.seed = -1\nset b = s.seed"
    )
    assert m.a == 2**64 - 1
    assert m.b == -1


# ---------------------------------------------------------------- another program


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ("shared w: f64[n] = [1]", "this program has no shared value `b`"),
        ("shared w, b, c: f64[n] = [1]", "it has no shared value `c`"),
        ("shared w: f32[n] = [1]\nshared b: f64[n] = [1]", "`w` is f32[n] here, f64[2] there"),
        ("shared w: f64[n, m] = [[1]]\nshared b: f64[n] = [1]", "`w` is f64[n, m] here, f64[2] there"),
        ("shared w: f64[3] = [1, 2, 3]\nshared b: f64[n] = [1]", "`w` is f64[3] here, f64[2] there"),
        ("shared w: f64[n] = [1]\nshared b: f64[n] = [1]", "`b` has size 4"),
        ("shared w = [1.0]\nshared b: f64[n] = [1]", "`w` is f64[1] here, f64[2] there"),
    ],
)
def test_a_schema_that_differs(ending: str, other: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / f"s.{ending}"
    stream = "\nstream g = philox(1)\nrandom r: f64 ~ g.normal()\n"
    tlang.compile("shared w: f64[n] = [1, 2]\nshared b: f64[m] = [1, 2, 3, 4]" + stream + f'save("{path}")')
    m = tlang.compile(other + stream + "function draw() = r\n")
    m.draw()
    before = m.r.state
    w = m.w.value
    with pytest.raises(StateError) as found:
        m.run(f'load("{path}")')
    assert found.value.code == "D120"
    assert reason in str(found.value)
    assert m.r.state == before
    np.testing.assert_array_equal(m.w.value, w)


def test_streams_that_differ(tmp_path: Path) -> None:
    path = tmp_path / "s.npz"
    tlang.compile(f'stream g = philox(1)\nrandom r: f64 ~ g.normal()\nsave("{path}")')
    for other, reason in [
        (
            "stream g = mt19937(1)\nrandom r: f64 ~ g.normal()",
            "`r` draws from mt19937 here, from philox there",
        ),
        ("stream g = philox(1)\nrandom q: f64 ~ g.normal()", "it has no random variable `q`"),
        ("random r: f64 ~ normal()\nrandom q: f64 ~ normal()", "it has no random variable `q`"),
    ]:
        with pytest.raises(StateError, match="D120") as found:
            tlang.compile(f'{other}\nload("{path}")')
        assert reason in str(found.value)


def test_files_without_a_state(tmp_path: Path) -> None:
    arrays, model = tmp_path / "a.npz", tmp_path / "m.npz"
    tlang.compile(
        f'set a = [1, 2]\nsave("{arrays}", a)\nload("{arrays}")\nshared w: f64 = 3\nsave("{model}")'
    )
    m = tlang.compile("shared w: f64 = 4")
    with pytest.raises(StateError) as found:
        checkpoint.load(m._session.store, str(arrays))
    assert found.value.code == "D120"
    with pytest.raises(StateError) as found:
        checkpoint.load(m._session.store, str(tmp_path / "none.npz"))
    assert found.value.code == "D101"
    with pytest.raises(StateError) as found:
        checkpoint.load(m._session.store, str(tmp_path / "w.npy"))
    assert found.value.code == "D101"
    (tmp_path / "w.csv").write_text("1,2\n")
    with pytest.raises(StateError) as found:
        checkpoint.load(m._session.store, str(tmp_path / "w.csv"))
    assert found.value.code == "D120"
    for ending in ("npy", "csv"):
        with pytest.raises(StateError) as found:
            checkpoint.save(m._session.store, f"{tmp_path}/w.{ending}")
        assert found.value.code == "D118"
        with pytest.raises(tlang.TypeError, match="F106"):
            m.run(f'save("{tmp_path}/w.{ending}")')
    m.run(f'set v = load("{model}", "w")')
    assert m.v == 3


def test_a_note_of_another_kind(tmp_path: Path) -> None:
    m = tlang.compile("shared w: f64 = 4\nrandom r: f64 ~ normal()")
    good = {"tlang": 1, "shared": {"w": "f64"}, "streams": {"r": "philox"}, "seeds": {}, "seed": 0}
    state = checkpoint.state_to_array(rng.PhiloxState(1, 2))
    arrays = [("w", np.array(1.0)), ("~r", state)]
    for note in [
        "not json",
        "[]",
        "5",
        "[" * 100_000,
        json.dumps(good | {"tlang": 2}),
        json.dumps(good | {"seed": 2**64}),
        json.dumps(good | {"seed": 0.5}),
        json.dumps(good | {"seeds": [1]}),
        json.dumps(good | {"shared": {"v": "f64"}}),
        json.dumps(good | {"streams": {"w": "philox"}}),
        json.dumps({k: v for k, v in good.items() if k != "seeds"}),
    ]:
        for ending in ENDINGS:
            path = str(tmp_path / f"x.{ending}")
            data.write(path, arrays, note=note)
            with pytest.raises(StateError) as found:
                checkpoint.load(m._session.store, path)
            assert found.value.code == "D120", note
    data.write(path, arrays, note=json.dumps(good))
    checkpoint.load(m._session.store, path)
    assert m.w.value == 1
    assert m.r.state == rng.PhiloxState(1, 2)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data(), st.sampled_from(ENDINGS))
def test_damaged_files_are_errors_and_change_nothing(
    tmp_path: Path, draws: st.DataObject, ending: str
) -> None:
    path = tmp_path / f"d.{ending}"
    m = tlang.compile("shared w: f64[3] = [1, 2, 3]\nshared k: i8 = 3\nrandom r: f64 ~ normal()")
    checkpoint.save(m._session.store, str(path))
    whole = bytearray(path.read_bytes())
    if draws.draw(st.booleans()):
        whole = whole[: draws.draw(st.integers(0, len(whole) - 1))]
    else:
        for _ in range(draws.draw(st.integers(1, 4))):
            whole[draws.draw(st.integers(0, len(whole) - 1))] = draws.draw(st.integers(0, 255))
    path.write_bytes(bytes(whole))
    m.run("set w = [4, 5, 6]")
    code = ""
    try:
        checkpoint.load(m._session.store, str(path))
    except StateError as e:
        code = e.code
    assert code[:1] in ("", "D")
    assert not code or m.w.value.tolist() == [4, 5, 6]


# ---------------------------------------------------------------- states of streams alone


def test_states_go_through_files(tmp_path: Path) -> None:
    path = tmp_path / "states.npz"
    m = tlang.compile(
        """
        stream s = philox(3)
        stream t = mt19937(3)
        random a, : f64 ~ s.normal()
    """.replace("a, ", "a")
        + """
        random b: f64 ~ s.normal()
        random c: f64 ~ t.normal()
        random d: f64 ~ t.normal()
        function draw() = (a, b, c, d)
        draw()
    """
    )
    for ending in ENDINGS:
        path = tmp_path / f"states.{ending}"
        m.run(f'save("{path}", a.state, c.state)')
        first = m.draw()
        m.run(
            f'set kept = load("{path}", "c.state")\n'
            f'set a.state = load("{path}", "a.state")\n'
            "set c.state = kept"
        )
        again = m.draw()
        assert (again.a, again.c) == (first.a, first.c)
        m.run(f'set b.state = load("{path}", "a.state")\nset d.state = load("{path}", "c.state")')
        exchanged = m.draw()
        assert (exchanged.b, exchanged.d) == (first.a, first.c)
        m.a.state = data.read(str(path), "a.state")
        assert m.draw().a == first.a
    for text, code in [
        (f'set a.state = load("{path}", "c.state")', "R141"),
        ("set a.state = u64([1, 2, 3])", "R142"),
        ("set a.state = u64(arange(316))", "R142"),
        ("set a.state = [1, 2, 3]", "F174"),
        ("set a.state = u64(3)", "F174"),
    ]:
        before = m.a.state
        with pytest.raises(tlang.TlangError) as found:
            m.run(text)
        assert found.value.code == code
        assert m.a.state == before


@pytest.mark.parametrize(
    "state", [rng.PhiloxState(2**64 - 1, 5), rng.mt19937_state(5)], ids=lambda s: s.generator
)
def test_states_as_arrays(state: rng.State) -> None:
    array = checkpoint.state_to_array(state)
    assert checkpoint.state_from_array(array) == state
    assert bytes(array[:1].astype("<u8").tobytes()).rstrip(b"\0").decode() == state.generator
    assert checkpoint.state_from_array(array[:-1]) is None
    assert checkpoint.state_from_array(array.astype(np.int64)) is None


# ---------------------------------------------------------------- safetensors


def test_the_library_reads_our_files_and_we_its(tmp_path: Path) -> None:
    names = ["bool", *(f"{s}int{b}" for s in ("", "u") for b in (8, 16, 32, 64)), "float32", "float64"]
    gen = np.random.default_rng(2)
    arrays = {n: (gen.normal(size=(2, 3)) * 100).astype(n) for n in names}
    arrays |= {
        "scalar": np.array(3.5),
        "empty": np.empty((0, 4), np.float32),
        "deep": np.ones((1,) * 9, "i2"),
    }
    path = tmp_path / "a.safetensors"
    data.write(str(path), list(arrays.items()))
    found = library.load_file(path)
    assert set(found) == set(arrays)
    for name, right in arrays.items():
        assert found[name].dtype == right.dtype
        np.testing.assert_array_equal(found[name], right)
    library.save_file(arrays, path, metadata={"framework": "np"})
    for name, right in arrays.items():
        again = data.read(str(path), name)
        assert (again.dtype, again.shape) == (right.dtype, right.shape)
        np.testing.assert_array_equal(again, right)
    assert data.read_all(str(path))[1] == ""
    m = tlang.compile(TRAIN)
    checkpoint.save(m._session.store, str(path))
    found = library.load_file(path)
    np.testing.assert_array_equal(found["w"], m.w.value)
    assert checkpoint.state_from_array(found["~old"]) == m.old.state


def test_half_floats_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "h.safetensors"
    library.save_file({"h": np.ones(3, np.float16), "x": np.ones(2)}, path)
    assert data.read(str(path), "x").tolist() == [1, 1]
    with pytest.raises(StateError) as found:
        data.read(str(path), "h")
    assert found.value.code == "D108"


# ---------------------------------------------------------------- interruptions


def interrupted_at(seconds: float) -> threading.Timer:
    """What sends SIGINT to this process after a time."""
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    return timer


def interrupted_at_line(k: int, action: Callable[[], object]) -> bool:
    """Does something with a KeyboardInterrupt at the k-th line of a call that runs; whether there was one."""
    left = k
    files = ("backends.py", "evaluation.py", "store.py", "streams.py")
    parts = (
        "call",
        "_call_at",
        "compute",
        "evaluate",
        "commit",
        "leaf",
        "drawn",
        "draw",
        "state",
        "check_sizes",
    )

    def trace(frame: Any, event: str, arg: object) -> Any:
        nonlocal left
        inside = frame.f_code.co_filename.endswith(files)
        if not inside or frame.f_code.co_name not in parts:
            return None
        if event == "line":
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    sys.settrace(trace)
    try:
        action()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@pytest.mark.parametrize("line", ["", "set loss_now = step()"])
def test_an_interrupt_at_any_line_of_a_call(backend: str, line: str) -> None:
    m, right = (tlang.compile(TRAIN, backend) for _ in range(2))
    m.step()
    right.step()
    k, whole = 0, 0
    while True:
        before = state_of(m)
        interrupted = interrupted_at_line(k, (lambda: m.run(line)) if line else m.step)
        now = state_of(m)
        if now != before:
            right.step()
            whole += 1
        assert now == (state_of(right) if now != before else before)
        if not interrupted:
            break
        k += 1
    assert k > 30
    assert whole > 1, "also interrupts after the state is stored were tried"


@pytest.mark.parametrize(("backend", "threads"), [("numpy", 1), ("cpu", 1), ("cpu", 2), ("auto", 1)])
def test_ctrl_c_leaves_a_state_between_two_steps(backend: str, threads: int) -> None:
    """10,000 steps, and SIGINT at random times: the state is that of so many whole steps."""
    gen = random.Random(f"{backend}{threads}")
    m = tlang.compile(TRAIN, backend, threads=threads)
    m.repeat(20, "step")  # what compiles has compiled
    start = time.perf_counter()
    m.repeat(200, "step")
    total = (time.perf_counter() - start) * 50
    seen = 220
    for _ in range(4):
        timer = interrupted_at(gen.uniform(0, min(total, 0.6)))
        try:
            m.repeat(10_000, "step")
            timer.join()
        except KeyboardInterrupt:
            pass
        timer.join()
        steps = int(m.steps.value)
        assert steps >= seen
        seen = steps
        assert m.x.state.counter == m.keep.state.counter == m.noise.state.counter == steps
        fresh = tlang.compile(TRAIN, "numpy" if backend == "numpy" else "cpu")
        fresh.repeat(steps, "step")
        if backend != "auto":
            assert state_of(m) == state_of(fresh)
        for name in ("w", "velocity"):
            np.testing.assert_allclose(m[name].value, fresh[name].value, rtol=1e-6, atol=1e-9)


def test_an_interrupt_waits() -> None:
    """What is half done is finished first; the handler from before is back; other threads are let alone."""
    before, done = signal.getsignal(signal.SIGINT), []

    def here() -> None:
        with interrupts.held():
            signal.raise_signal(signal.SIGINT)
            done.append("held")

    with pytest.raises(KeyboardInterrupt):
        here()
    assert signal.getsignal(signal.SIGINT) is before

    def elsewhere() -> None:
        with interrupts.held():
            done.append("elsewhere")

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert done == ["held", "elsewhere"]
    with pytest.raises(ValueError, match="inside"), interrupts.held():
        raise ValueError("inside")
    assert signal.getsignal(signal.SIGINT) is before


FAILS = """
stream s = philox(3)
random r: f64[8] ~ s.normal()
random k: i64 ~ s.integers(0, LAST)
shared total: f64[8] = [0, 0, 0, 0, 0, 0, 0, 0]
shared steps: i64 = 0
function step() = 1 // k where {
    update total = 0.5 * total + r
    update steps = steps + 1
}
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_error_leaves_the_state_before_its_step(backend: str) -> None:
    text = FAILS.replace("LAST", "1000")
    m = tlang.compile(text, backend)
    with pytest.raises(StateError, match="R110"):
        m.repeat(10_000, "step")
    steps = int(m.steps.value)
    assert 0 < steps < 10_000
    assert m.r.state.counter == m.k.state.counter == steps
    fresh = tlang.compile(text, "numpy")
    fresh.repeat(steps, "step")
    np.testing.assert_allclose(m.total.value, fresh.total.value, rtol=1e-12)
    with pytest.raises(StateError, match="R110"):
        fresh.step()


KILLED = """
import sys, time
import numpy as np
import tlang
from tlang.run import checkpoint

m = tlang.compile('''
    stream s = philox(3)
    random r: f64[n] ~ s.normal()
    shared w: f64[n] = zeros(200_000)
    shared steps: i64 = 0
    function step() where { update w = 0.9 * w + r; update steps = steps + 1 }
''', "numpy")
print("ready", flush=True)
while True:
    m.step()
    checkpoint.save(m._session.store, sys.argv[1])
    print(int(m.steps.value), flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no such signal on this system")
@pytest.mark.parametrize("ending", ENDINGS)
def test_kill_during_save_leaves_the_old_file_or_the_new(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"model.{ending}"
    text = KILLED.split("'''")[1]
    gen = random.Random(ending)
    torn = 0
    for _ in range(6):
        before = sorted(tmp_path.iterdir())
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        for _ in range(2 + gen.randrange(4)):
            last = child.stdout.readline().strip()
        waiting = time.monotonic() + 5
        while not any(p not in before and p != path for p in tmp_path.iterdir()):  # a save has begun
            assert time.monotonic() < waiting
        time.sleep(gen.uniform(0, 0.002))
        child.kill()
        rest = [line.strip() for line in child.stdout]
        child.wait()
        known = int(([last, *rest])[-1])
        torn += len([p for p in tmp_path.iterdir() if p not in before and p != path])
        m = tlang.compile(text, "numpy")
        checkpoint.load(m._session.store, str(path))
        steps = int(m.steps.value)
        assert steps in (known, known + 1)
        fresh = tlang.compile(text, "numpy")
        fresh.repeat(steps, "step")
        assert m.r.state == fresh.r.state
        np.testing.assert_array_equal(m.w.value, fresh.w.value)
        checkpoint.save(m._session.store, str(path))
        assert not [p for p in tmp_path.iterdir() if p.name.endswith("-tmp")], (
            "the next save clears what was left"
        )
    assert torn > 0, "no kill came during a save: the test shows nothing"
