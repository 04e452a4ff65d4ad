"""tlang on a GPU beside JAX and CuPy, in one run: bandwidth of kernels, training steps, latency of a call.

    python tests/bench/gpu_run.py [--only TEXT] [--rounds N] [--scale X] [--json FILE]

Needs the extra `cuda`; peers that are not installed are left out. Kernels are shown as shares of the rate at
which the device copies an array of the same size, measured beside them; training steps as ratios to the best
peer. `--scale 1e-5` makes everything small, so that the script runs in the simulator
(`NUMBA_ENABLE_CUDASIM=1`), where the times say nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

#: JAX would take the memory of the whole device.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import tlang
from tlang.run.cuda import gpu

#: A sample is at least so long, in seconds.
SAMPLE = 0.05
Work = Callable[[], Any]


@dataclass(frozen=True)
class Row:
    """One line of the table: medians in seconds by side, bytes that must be moved, and the aim."""

    name: str
    seconds: dict[str, float]
    moved: int = 0
    aim: str = ""


# ---------------------------------------------------------------- measuring


def sample(work: Work, wait: Work) -> float:
    """Seconds for one piece of work, from enough of them in a row."""
    work()
    wait()
    count = 1
    while True:
        start = time.perf_counter()
        for _ in range(count):
            work()
        wait()
        spent = time.perf_counter() - start
        if spent >= SAMPLE:
            return spent / count
        count = max(2 * count, int(count * 1.2 * SAMPLE / max(spent, 1e-9)))


def in_turn(sides: dict[str, tuple[Work, Work]], rounds: int) -> dict[str, float]:
    """Medians of the sides, which take turns."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, (work, wait) in sides.items():
            times[name].append(sample(work, wait))
    return {name: median(t) for name, t in times.items()}


def same(results: dict[str, Any], tolerance: float) -> None:
    """All sides must have computed the same."""
    for name, found in results.items():
        np.testing.assert_allclose(found, results["tlang"], rtol=tolerance, atol=tolerance, err_msg=name)


# ---------------------------------------------------------------- peers


def jax_side() -> Any:
    """JAX on its GPU; None where there is none."""
    try:
        import jax
    except ImportError:
        return None
    return jax if any(d.platform == "gpu" for d in jax.devices()) else None


def cupy_side() -> Any:
    """CuPy; None where it is not installed, or finds no device."""
    try:
        import cupy

        return cupy if cupy.cuda.runtime.getDeviceCount() else None
    except Exception:
        return None


# ---------------------------------------------------------------- kernels

KERNELS = """
tensor x, y, z: f32[n]
tensor a: f32[r, c]
tensor g, b: f32[c]
function chain(x, y, z) = x * 2 ** tanh(y) + sqrt(abs(z)) - 1 / (1 + exp(-x))
function rows(a) = softmax(a, axis=1)
m = mean(a, axis=1)[:, None]
function norm(a, g, b) = (a - m) / sqrt(mean((a - m) ** 2, axis=1)[:, None] + 1e-5) * g + b
function total(x) = sum(x)
"""


def kernels(scale: float, only: str, rounds: int) -> list[Row]:
    """The bandwidth of elementwise work, of rows and of a sum, as the device's copy has it."""
    n = max(64, int(1e8 * scale))
    c = 4096 if scale == 1 else 32
    r = max(2, n // c)
    rng = np.random.default_rng(0)
    made = {name: rng.standard_normal(n, np.float32) for name in "xyz"}
    a, g, b = rng.standard_normal((r, c), np.float32), np.ones(c, np.float32), np.zeros(c, np.float32)
    m = tlang.compile(KERNELS, backend="cuda", device_arrays=True, unused="ignore")
    put = tlang.compile("tensor v: f32[n]\nfunction f(v) = v + 0", backend="cuda", device_arrays=True)
    put2 = tlang.compile("tensor v: f32[n, m]\nfunction f(v) = v + 0", backend="cuda", device_arrays=True)
    x, y, z = (put.f(made[k]) for k in "xyz")
    da, dg, db = put2.f(a), put.f(g), put.f(b)
    jax, cupy = jax_side(), cupy_side()
    cases: list[tuple[str, Work, Callable[[Any, list[Any]], Any], list[Any], int, str]] = [
        ("f32 chain", lambda: m.chain(x, y, z), _chain, [made[k] for k in "xyz"], 16 * n, ">= 0.80"),
        ("softmax of rows", lambda: m.rows(da), _softmax, [a], 8 * r * c, ">= 0.70"),
        ("layer norm", lambda: m.norm(da, dg, db), _norm, [a, g, b], 8 * r * c, ">= 0.70"),
        ("sum", lambda: m.total(x), lambda xp, v: xp.sum(v[0]), [made["x"]], 4 * n, ""),
    ]
    rows = []
    for name, work, formula, arrays, moved, aim in cases:
        if only not in name:
            continue
        source = gpu.empty(max(1, moved // 8), np.float32)
        target = gpu.empty(max(1, moved // 8), np.float32)
        sides: dict[str, tuple[Work, Work]] = {
            "copy": (lambda s=source, t=target: gpu.copy(t, s), gpu.synchronize),
            "tlang": (work, gpu.synchronize),
        }
        results = {"tlang": np.asarray(work())}
        if jax is not None:
            given = [jax.device_put(v) for v in arrays]
            f = jax.jit(lambda *v, formula=formula: formula(jax.numpy, list(v)))
            results["jax"] = np.asarray(f(*given))
            sides["jax"] = (lambda f=f, given=given: f(*given).block_until_ready(), lambda: None)
        if cupy is not None:
            held = [cupy.asarray(v) for v in arrays]
            results["cupy"] = formula(cupy, held).get()
            sides["cupy"] = (
                lambda formula=formula, held=held: formula(cupy, held),
                cupy.cuda.runtime.deviceSynchronize,
            )
        same(results, 1e-2 if name == "sum" else 1e-4)
        rows.append(Row(name, in_turn(sides, rounds), moved, aim))
        show(rows[-1])
    return rows


def _chain(xp: Any, v: list[Any]) -> Any:
    x, y, z = v
    return x * 2 ** xp.tanh(y) + xp.sqrt(xp.abs(z)) - 1 / (1 + xp.exp(-x))


def _softmax(xp: Any, v: list[Any]) -> Any:
    e = xp.exp(v[0] - v[0].max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def _norm(xp: Any, v: list[Any]) -> Any:
    a, g, b = v
    d = a - a.mean(axis=1, keepdims=True)
    return d / xp.sqrt((d**2).mean(axis=1, keepdims=True) + 1e-5) * g + b


# ---------------------------------------------------------------- training

LOGISTIC = """
tensor x: f32[n, f]
tensor y: f32[n]
shared w: f32[f] = zeros(F, dtype=f32)
shared b: f32 = 0
z = x @ w + b
cost = mean(softplus(z) - y * z) + 0.01 * sum(w ** 2)
gw, gb = grad(cost, w, b)
function train(x, y) = cost where { update w = w - 0.1 * gw; update b = b - 0.1 * gb }
"""

MLP = """
tensor x: f32[n, p]
tensor y: i64[n]
shared W1: f32[p, h] = zeros((64, H), dtype=f32)
shared b1: f32[h] = zeros(H, dtype=f32)
shared W2: f32[h, k] = zeros((H, 10), dtype=f32)
shared b2: f32[k] = zeros(10, dtype=f32)
logits = relu(x @ W1 + b1) @ W2 + b2
cost = -mean(log_softmax(logits, axis=1)[arange(size(x, 0)), y])
g1, h1, g2, h2 = grad(cost, W1, b1, W2, b2)
function train(x, y) = cost where {
    update W1 = W1 - 0.1 * g1; update b1 = b1 - 0.1 * h1
    update W2 = W2 - 0.1 * g2; update b2 = b2 - 0.1 * h2
}
"""


def training(scale: float, only: str, rounds: int) -> list[Row]:
    """Steps of logistic regression on 10^6 x 784 numbers of f32, and of a perceptron for the digits."""
    rows = []
    rng = np.random.default_rng(0)
    n, f = max(32, int(1e6 * scale)), 784 if scale == 1 else 12
    if only in "logistic regression":
        x, y = rng.standard_normal((n, f), np.float32), rng.integers(0, 2, n).astype(np.float32)
        steps = 20 if scale == 1 else 2
        m = tlang.compile(LOGISTIC.replace("F,", f"{f},"), backend="cuda", device_arrays=True)
        put = tlang.compile("tensor v: f32[n, m]\nfunction f(v) = v + 0", backend="cuda", device_arrays=True)
        dx, dy = put.f(x), put.f(y[None]).reshaped((n,))
        sides: dict[str, tuple[Work, Work]] = {
            "tlang": (lambda: m.repeat(steps, "train", dx, dy), gpu.synchronize)
        }
        jax, cupy = jax_side(), cupy_side()
        if jax is not None:
            sides["jax"] = _logistic_jax(jax, x, y, steps)
        if cupy is not None:
            sides["cupy"] = _logistic_cupy(cupy, x, y, steps)
        found = {name: t / steps for name, t in in_turn(sides, rounds).items()}
        rows.append(Row("logistic regression", found, 4 * n * f, "<= the best peer"))
        show(rows[-1])
    if only in "digits mlp":
        rows.append(_digits(scale, rounds))
        show(rows[-1])
    return rows


def _logistic_jax(jax: Any, x: Any, y: Any, steps: int) -> tuple[Work, Work]:
    jnp = jax.numpy

    def cost(w: Any, b: Any, x: Any, y: Any) -> Any:
        z = x @ w + b
        return jnp.mean(jnp.logaddexp(0, z) - y * z) + 0.01 * jnp.sum(w**2)

    @jax.jit
    def run(w: Any, b: Any, x: Any, y: Any) -> Any:
        def step(_: int, s: Any) -> Any:
            gw, gb = jax.grad(cost, (0, 1))(*s, x, y)
            return s[0] - 0.1 * gw, s[1] - 0.1 * gb

        return jax.lax.fori_loop(0, steps, step, (w, b))

    given = [jax.device_put(v) for v in (np.zeros(x.shape[1], np.float32), np.float32(0), x, y)]
    return lambda: jax.block_until_ready(run(*given)), lambda: None


def _logistic_cupy(cupy: Any, x: Any, y: Any, steps: int) -> tuple[Work, Work]:
    dx, dy = cupy.asarray(x), cupy.asarray(y)
    w, b = cupy.zeros(x.shape[1], np.float32), cupy.float32(0)

    def run() -> None:
        nonlocal w, b
        for _ in range(steps):
            d = (1 / (1 + cupy.exp(-(dx @ w + b))) - dy) / len(x)
            w, b = w - 0.1 * (d @ dx + 0.02 * w), b - 0.1 * d.sum()

    return run, cupy.cuda.runtime.deviceSynchronize


def _digits(scale: float, rounds: int) -> Row:
    """A hidden layer of 256 for 64 pixels, batches of 128, an epoch of 100 steps."""
    rng = np.random.default_rng(0)
    batch, hidden, steps = (128, 256, 100) if scale == 1 else (4, 5, 2)
    x, y = rng.random((batch, 64), np.float32), rng.integers(0, 10, batch)
    parts = [
        rng.standard_normal((64, hidden)).astype(np.float32) * np.float32(0.1),
        np.zeros(hidden, np.float32),
        rng.standard_normal((hidden, 10)).astype(np.float32) * np.float32(0.1),
        np.zeros(10, np.float32),
    ]
    m = tlang.compile(re.sub(r"\bH\b", str(hidden), MLP), backend="cuda", device_arrays=True)
    for name, value in zip(("W1", "b1", "W2", "b2"), parts, strict=True):
        m[name].value = value
    sides: dict[str, tuple[Work, Work]] = {"tlang": (lambda: m.repeat(steps, "train", x, y), gpu.synchronize)}
    jax = jax_side()
    if jax is not None:
        jnp = jax.numpy

        def cost(p: Any, x: Any, y: Any) -> Any:
            logits = jax.nn.relu(x @ p[0] + p[1]) @ p[2] + p[3]
            return -jnp.mean(jax.nn.log_softmax(logits, axis=1)[jnp.arange(len(y)), y])

        @jax.jit
        def run(p: Any, x: Any, y: Any) -> Any:
            def step(_: int, p: Any) -> Any:
                return [v - 0.1 * g for v, g in zip(p, jax.grad(cost)(p, x, y), strict=True)]

            return jax.lax.fori_loop(0, steps, step, p)

        given = jax.device_put((parts, x, y))
        sides["jax"] = (lambda: jax.block_until_ready(run(*given)), lambda: None)
    found = in_turn(sides, rounds)
    return Row("digits mlp", {name: t / steps for name, t in found.items()}, 0, "<= the best peer")


def latency(only: str, rounds: int) -> list[Row]:
    """A call that does next to nothing, and what a file of one such call costs to compile."""
    if only not in "call":
        return []
    m = tlang.compile("tensor x: f32[n]\nfunction f(x) = x + 1", backend="cuda", device_arrays=True)
    x = m.f(np.zeros(32, np.float32))
    row = Row("call of a small function", in_turn({"tlang": (lambda: m.f(x), gpu.synchronize)}, rounds))
    show(row)
    return [row]


# ---------------------------------------------------------------- the table

SIDES = ("tlang", "copy", "jax", "cupy")


def show(row: Row) -> None:
    """A line of the table."""

    def number(x: float | None) -> str:
        return "" if x is None else f"{1e6 * x:.1f}"

    cells = [row.name, *(number(row.seconds.get(side)) for side in SIDES)]
    peers = [t for side, t in row.seconds.items() if side in ("jax", "cupy")]
    share = row.seconds["copy"] / row.seconds["tlang"] if "copy" in row.seconds else None
    rate = row.moved / row.seconds["tlang"] / 1e9 if row.moved else None
    cells += ["" if rate is None else f"{rate:.0f}", "" if share is None else f"{share:.2f}"]
    cells += [f"{row.seconds['tlang'] / min(peers):.2f}" if peers else "", row.aim]
    print(f"| {' | '.join(cells)} |", flush=True)


def main() -> None:
    """Runs what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="", help="rows whose names contain this")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--scale", type=float, default=1.0, help="sizes, as a share of those of the table")
    parser.add_argument("--json", help="also write the rows here")
    options = parser.parse_args()
    gpu.require()
    device = gpu.device()
    print(f"{device.name}, {device.memory / 2**30:.0f} GiB; medians of {options.rounds} rounds in turn\n")
    print(f"| us | {' | '.join(SIDES)} | GB/s | of copy | tlang / best peer | aim |")
    print(f"|---|{'---|' * (len(SIDES) + 4)}")
    rows = kernels(options.scale, options.only, options.rounds)
    rows += training(options.scale, options.only, options.rounds)
    rows += latency(options.only, options.rounds)
    if options.json:
        Path(options.json).write_text(json.dumps([vars(r) for r in rows], indent=1))


if __name__ == "__main__":
    main()
