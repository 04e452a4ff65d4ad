"""`bench expr`: how long one evaluation takes; state and streams are as before afterwards."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from statistics import median

from tlang.elaborate.plans import Evaluation
from tlang.run.evaluation import Evaluator
from tlang.source import Span

#: How narrow the confidence interval must be, as a part of the median, for a measurement to end early.
TIGHT = 0.02
#: Evaluations at least and at most.
FEWEST, MOST = 5, 10_000


@dataclass(frozen=True)
class Measurement:
    """The times of an evaluation, in seconds: the median, and its 95 percent confidence interval.

    `first` is what the first evaluation took longer, in which code is compiled or loaded.
    """

    text: str
    median: float
    low: float
    high: float
    runs: int
    first: float

    def __str__(self) -> str:
        interval = f"{_unit(self.low)} .. {_unit(self.high)}"
        return f"bench {self.text}: {_unit(self.median)} ({interval}, {self.runs} runs)"


def measure(evaluator: Evaluator, e: Evaluation, span: Span, seconds: float) -> Measurement:
    """Evaluates once for warm-up, then until the interval is tight, or for so many seconds."""
    store = evaluator.store
    shared, states = store.shared, dict(store.streams.states)
    times: list[float] = []
    try:
        start = time.perf_counter()
        evaluator.evaluate(e)
        first = time.perf_counter() - start
        end = time.perf_counter() + seconds
        while len(times) < FEWEST or (time.perf_counter() < end and not _is_done(times)):
            start = time.perf_counter()
            evaluator.evaluate(e)
            times.append(time.perf_counter() - start)
    finally:
        store.commit(shared, states)
    low, high = _interval(times)
    middle = median(times)
    text = " ".join(span.text.split()).removeprefix("bench ")
    return Measurement(text, middle, low, high, len(times), max(0.0, first - middle))


def _is_done(times: list[float]) -> bool:
    """Whether more evaluations would say no more; looked at when their number has grown by an eighth."""
    count = len(times)
    if count < 20 or count % max(1, 2 ** (count.bit_length() - 4)):
        return False
    low, high = _interval(times)
    return high - low <= TIGHT * median(times) or count >= MOST


def _interval(times: list[float]) -> tuple[float, float]:
    """The 95 percent confidence interval of the median, by the binomial distribution of ranks."""
    ordered, count = sorted(times), len(times)
    reach = 1.96 * math.sqrt(count) / 2
    low = max(0, math.floor(count / 2 - reach))
    return ordered[low], ordered[min(count - 1, math.ceil(count / 2 + reach))]


def _unit(seconds: float) -> str:
    for scale, name in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {name}"
    return f"{seconds / 1e-9:.3g} ns"
