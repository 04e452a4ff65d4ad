"""The body of `tlang bench`: the `bench` lines of a program, measured."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from tlang.run.bench import Measurement
from tlang.run.session import Session
from tlang.source import Source
from tlang.syntax.parse import parse


def run_benchmarks(
    source: Source, backend: str, threads: int, seed: int, unused: str, seconds: float
) -> list[Measurement]:
    """Runs a program without its output; what its `bench` lines measured."""
    session = Session(source, seed=seed, unused=unused, backend=backend, write=lambda text: None)
    session.backends.use_threads(threads)
    session.executor.bench_seconds = seconds
    session.run(session.declare(parse(source)))
    return session.executor.measurements


def report(found: list[Measurement]) -> str:
    """A line for each, with what was spent before the first result apart."""
    if not found:
        return "no bench lines"
    return "\n".join(f"{m}; the first took {1e3 * m.first:.3g} ms more" for m in found)


def to_json(found: list[Measurement]) -> list[dict[str, Any]]:
    """The measurements for tools, times in seconds."""
    return [asdict(m) for m in found]
