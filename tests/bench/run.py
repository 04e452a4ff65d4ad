"""tlang beside its peers, in one run: kernels, loops, whole programs, compile time, memory.

    python tests/bench/run.py [--only TEXT] [--rounds N] [--threads N] [--json FILE] [--markdown FILE]

Each side is a process of its own on the same cores, so that libraries do not meet. All give their results
first, which must agree; then they are timed in turn, so that a busy machine slows all of them down. The table
has medians over the rounds, and tlang's ratio to the best of the others beside the aim.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from cases import CASES, Case

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
#: A sample is at least so long, in seconds.
SAMPLE = 0.01
SIDES = ("tlang", "numpy", "numexpr", "jax", "pytensor")
Row = dict[str, Any]
#: The environment of all sides: OpenBLAS chooses its kernels by the processor.
PLAIN = {k: v for k, v in os.environ.items() if k != "OPENBLAS_CORETYPE"}


class Side:
    """A process that does the work of one library."""

    def __init__(self, name: str, threads: int) -> None:
        environment = {**PLAIN, "PYTHONPATH": os.pathsep.join([str(ROOT), str(HERE)])}
        for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS"):
            environment[variable] = str(threads)
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "side.py"), name, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def ask(self, what: str, value: object) -> Any:
        """The answer to a question; None if the side has none."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if self.process.poll() is not None:
            return None
        print(json.dumps([what, value]), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        return json.loads(line) if line else None


def measure(case: Case, sides: dict[str, Side], rounds: int) -> dict[str, float]:
    """Medians in seconds, by side. All sides must have computed the same."""
    results = {name: side.ask("build", case.name) for name, side in sides.items() if name in case.sides}
    there = {name: r for name, r in results.items() if r is not None}
    for name, found in there.items():
        if not case.random:
            np.testing.assert_allclose(
                found,
                there["tlang"],
                rtol=case.tolerance,
                atol=case.tolerance,
                err_msg=f"{name}, {case.name}",
            )
    times: dict[str, list[float]] = {name: [] for name in there}
    for _ in range(rounds):
        for name in there:
            times[name].append(sides[name].ask("time", SAMPLE))
    return {name: median(t) for name, t in times.items()}


def kernels(chosen: list[Case], rounds: int, threads: int) -> list[Row]:
    """The rows of the cases."""
    sides = {name: Side(name, threads) for name in SIDES} if chosen else {}
    rows: list[Row] = []
    for case in chosen:
        found = measure(case, sides, rounds)
        row: Row = {
            "case": case.name,
            "unit": "us",
            **{k: 1e6 * t for k, t in found.items()},
            "aim": case.aim,
        }
        peers = [t for name, t in found.items() if name != "tlang"]
        row["ratio"] = found["tlang"] / min(peers) if peers else None
        rows.append(row)
        print(line(row), flush=True)
    for side in sides.values():
        side.process.kill()
    return rows


def line(row: Row) -> str:
    """A row of the table."""

    def number(x: float | None) -> str:
        return "" if x is None else f"{x:.2f}" if x < 10 else f"{x:.0f}"

    cells = [f"{row['case']} ({row['unit']})", *(number(row.get(name)) for name in SIDES)]
    return f"| {' | '.join([*cells, number(row.get('ratio')), number(row.get('aim'))])} |"


HEAD = f"| | {' | '.join(SIDES)} | tlang / best | aim |\n|---|{'---|' * (len(SIDES) + 2)}"

# ---------------------------------------------------------------- whole programs

BY_HAND = """
import numpy as np
r = np.random.default_rng(0)
x, y, w, b = r.normal(size=(400, 784)), r.integers(0, 2, 400) * 1.0, r.normal(size=784), 0.0
for _ in range(10_000):
    z = x @ w + b
    p = 1 / (1 + np.exp(-z))
    xent = np.logaddexp(0, z) - y * z
    d = (p - y) / 400
    w -= 0.1 * (d @ x + 0.02 * w)
    b -= 0.1 * d.sum()
"""
BY_JAX = """
import numpy as np, jax, jax.numpy as jnp
jax.config.update("jax_enable_x64", True)
r = np.random.default_rng(0)
x, y, w, b = r.normal(size=(400, 784)), r.integers(0, 2, 400) * 1.0, r.normal(size=784), 0.0
def cost(w, b, x, y):
    z = x @ w + b
    return jnp.mean(jnp.logaddexp(0, z) - y * z) + 0.01 * jnp.sum(w**2)
@jax.jit
def run(w, b, x, y):
    def step(_, s):
        gw, gb = jax.grad(cost, (0, 1))(*s, x, y)
        return s[0] - 0.1 * gw, s[1] - 0.1 * gb
    return jax.lax.fori_loop(0, 10_000, step, (w, b))
jax.block_until_ready(run(jnp.asarray(w), jnp.asarray(b), x, y))
"""
TLANG = [sys.executable, "-c", "import sys; from tlang.tools.cli import main; sys.exit(main())"]


def seconds(command: list[str], folder: Path, cold: bool) -> float | None:
    """How long a process takes; None if it fails. `cold` empties tlang's cache of kernels first."""
    environment = {**PLAIN, "PYTHONPATH": str(ROOT), "TLANG_CACHE_DIR": str(folder)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    for entry in folder.glob("kernels/*") if cold else ():
        entry.unlink()
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, cwd=ROOT, stdin=subprocess.DEVNULL)
    return time.perf_counter() - start if done.returncode == 0 else None


def programs(only: str, rounds: int) -> list[Row]:
    """Whole processes, from start to end, with byte-code present."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        quiet = folder / "logistic.tl"
        text = (ROOT / "programs" / "logistic_regression.tl").read_text()
        quiet.write_text("\n".join(x for x in text.splitlines() if not x.startswith("print")))
        run, python = [*TLANG, "run"], [sys.executable, "-c"]
        small = [str(p) for p in sorted((ROOT / "programs").glob("0*.tl"))]
        by_hand, by_jax = [*python, BY_HAND], [*python, BY_JAX]
        cases: list[tuple[str, dict[str, list[str]], float]] = [
            ("tlang --version", {"tlang": [*TLANG, "--version"]}, 0.06),
            ("tlang, a prompt without input", {"tlang": [*TLANG, "repl"]}, 0.3),
            ("tlang check 01_formulas.tl", {"tlang": [*TLANG, "check", small[0]]}, 0.15),
            *((f"tlang run {Path(p).name}", {"tlang": [*run, p]}, 0.25) for p in small),
            ("10,000 steps, warm", {"tlang": [*run, str(quiet)], "numpy": by_hand, "jax": by_jax}, 0.5),
            ("10,000 steps, cold", {"tlang": [*run, str(quiet)], "numpy": by_hand, "jax": by_jax}, 0.7),
        ]
        for case, sides, aim in cases:
            if only not in case:
                continue
            times: dict[str, list[float]] = {side: [] for side in sides}
            for at in range(rounds + 1):  # the first is for byte-code and caches
                for side, command in sides.items():
                    taken = seconds(command, folder, "cold" in case and side == "tlang")
                    if at and taken is not None:
                        times[side].append(taken)
            found = {side: median(t) for side, t in times.items() if t}
            row: Row = {"case": case, "unit": "s", **found, "aim": aim}
            if "jax" in found:
                row["ratio"] = found["tlang"] / found["jax"]
            rows.append(row)
            print(line(row), flush=True)
    return rows


# ---------------------------------------------------------------- compile time and memory

EQUATIONS = """
import os, sys, tempfile, time
os.environ["TLANG_CACHE_DIR"] = tempfile.mkdtemp()
import numpy as np, tlang, tlang.run.build as build
kinds = [
    "{0} * x + {1}.5 * y", "exp(-abs({0})) + y", "{0} - mean({0}) * x", "{0} / (1 + x ** 2)", "tanh({0}) + y"
]
count = int(sys.argv[1])
lines = [f"e{k} = " + kinds[k % 5].format(f"e{k - 1}", k) for k in range(1, count)]
text = "\\n".join(["tensor x: f64[n]", "tensor y: f64[n]", "e0 = x + y", *lines])
text += f"\\nfunction f(x, y) = e{count - 1}"
start = time.perf_counter()
m = tlang.compile(text, backend="cpu")
m.f(np.ones(10), np.ones(10))
print(time.perf_counter() - start)
before = len(build._BUILT)
for n in range(1, 51):
    m.f(np.ones(n), np.ones(n))
print(len(build._BUILT) - before)
"""
MEMORY = """
import resource
import numpy as np, tlang
text = "tensor a: f64[n]\\ntensor b: f64[n]\\nfunction f(a, b) = a * b + exp(-a) * (b - 1) / (1 + a ** 2)"
m = tlang.compile(text, backend="cpu")
m.f(np.ones(10), np.ones(10))
n = 10**7
a, b = np.ones(n), np.ones(n)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
m.f(a, b)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / (8 * n))
"""


def sizes(only: str) -> list[Row]:
    """Compile time by the number of equations, compilations for 50 sizes, memory of a fused chain."""
    environment = {**PLAIN, "PYTHONPATH": str(ROOT)}
    rows: list[Row] = []

    def answers(script: str, *arguments: str) -> list[float]:
        command = [sys.executable, "-c", script, *arguments]
        out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        return [float(x) for x in out.split()]

    def add(case: str, unit: str, value: float, aim: float) -> None:
        rows.append({"case": case, "unit": unit, "tlang": value, "aim": aim})
        print(line(rows[-1]), flush=True)

    for count in (100, 200, 500, 1000) if only in "equations" else ():
        took, compiled = answers(EQUATIONS, str(count))
        add(f"compile {count} equations", "s", took, count / 100)
        if count == 100:
            add("compilations for 50 more sizes", "count", compiled, 0)
    if only in "memory":
        add("memory of a fused chain of 10^7 beyond its inputs", "outputs", *answers(MEMORY), 1.05)
    return rows


def main() -> None:
    """Measures, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="cases with this text in their name")
    parser.add_argument("--rounds", type=int, default=9, metavar="N")
    parser.add_argument("--threads", type=int, default=1, metavar="N")
    parser.add_argument("--quick", action="store_true", help="the cheapest cases alone")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--markdown", metavar="FILE")
    options = parser.parse_args()
    print(HEAD)
    chosen = [c for c in CASES if options.only in c.name and (c.quick or not options.quick)]
    rows = kernels(chosen, options.rounds, options.threads)
    if not options.quick:
        rows += programs(options.only, min(5, options.rounds)) + sizes(options.only)
    about = f"{platform.machine()}, {os.cpu_count()} cores, {time.strftime('%Y-%m-%d')}"
    if options.json:
        Path(options.json).write_text(json.dumps({"machine": about, "rows": rows}, indent=1))
    if options.markdown:
        Path(options.markdown).write_text("\n".join([about, "", HEAD, *map(line, rows), ""]))


if __name__ == "__main__":
    main()
