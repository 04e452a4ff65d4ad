"""`bench expr`: how long one evaluation takes; state and streams are as before afterwards."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING

from tlang.elaborate.plans import Evaluation
from tlang.source import Span

if TYPE_CHECKING:
    from tlang.run.session import Session


def bench(session: Session, e: Evaluation, span: Span, seconds: float = 0.5) -> str:
    """The median time of repeated evaluations, after one that is not counted, with the spread."""
    shared, states = session.shared, dict(session.streams.states)
    times: list[float] = []
    try:
        session.evaluate(e)
        end = time.perf_counter() + seconds
        while len(times) < 5 or (time.perf_counter() < end and len(times) < 10_000):
            start = time.perf_counter()
            session.evaluate(e)
            times.append(time.perf_counter() - start)
    finally:
        session.shared, session.streams.states = shared, states
    times.sort()
    low, high = times[len(times) // 4], times[3 * len(times) // 4]
    text = " ".join(span.text.split()).removeprefix("bench ")
    return f"bench {text}: {_unit(median(times))} ({_unit(low)} .. {_unit(high)}, {len(times)} runs)"


def _unit(seconds: float) -> str:
    for scale, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {name}"
    return f"{seconds / 1e-9:.3g} ns"
