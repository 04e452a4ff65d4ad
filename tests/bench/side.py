"""One side of the benchmarks: a process that builds cases and times them when it is asked to."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import Any

if hasattr(os, "sched_setaffinity"):  # before libraries count the processors
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[2])])

import numpy as np
from cases import CASES


def digest(result: Any) -> list[float]:
    """The means of a result's arrays, and some of their elements."""
    out: list[float] = []
    for part in result if isinstance(result, list | tuple) else [result]:
        array = np.asarray(part, np.float64).ravel()
        out += [float(array.mean()), *array[:: max(1, array.size // 5)][:5].tolist()]
    return out


def main() -> None:
    """Answers lines of JSON with lines of JSON."""
    name = sys.argv[1]
    out, sys.stdout = sys.stdout, sys.stderr
    work: Any = None
    for line in sys.stdin:
        what, value = json.loads(line)
        answer: Any = None
        if what == "build":
            case = next(c for c in CASES if c.name == value)
            with contextlib.suppress(Exception):  # this side has no column then
                work = case.sides[name](*case.data(np.random.default_rng(1)))
                work()
                answer = digest(work())
        else:
            work()
            count, start = 0, time.perf_counter()
            while (spent := time.perf_counter() - start) < value:
                for _ in range(max(1, count) if spent < value / 4 else 1 + count // 8):
                    work()
                    count += 1
            answer = spent / count
        print(json.dumps(answer), file=out, flush=True)


if __name__ == "__main__":
    main()
