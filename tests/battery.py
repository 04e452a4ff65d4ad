"""A battery of tests of randomness on the bits of tlang's Philox, in the manner of Diehard and PractRand.

    python tests/battery.py                       1 GiB, a few minutes
    python tests/battery.py --mib 16 --source randu
    python tests/battery.py --write               renews tests/battery.txt

The bits come from three sources, as programs use them: one long draw (half of them), many short draws of one
variable, and the first blocks of variables with neighbouring seeds and names. Every test takes the bits in
chunks and gives one p-value. A good generator gives p-values that are uniform on 0 .. 1; a bad one gives many
of 0. A test whose p-value is odd is done once more on the bits that come next; it fails if it is odd again.
The source `randu`, a generator of 1968 that is known to be bad, shows that the battery can fail.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from tlang.run import rng

Array = Any
#: 64-bit words of a chunk: 8 MiB.
CHUNK = 1 << 20
FIGURE = Path(__file__).parent / "battery.txt"
#: A p-value below this, or above 1 less it, is odd; one run in a hundred of a good generator has one.
LIMIT = 1e-4


# ---------------------------------------------------------------- sources


def one_draw() -> Iterator[Array]:
    """The blocks of one draw, one after the other."""
    state = rng.philox_state(0, "main.r")
    first = 0
    while True:
        yield words(np.arange(first, first + CHUNK // 2, dtype=np.uint64), state.key, state.counter)
        first += CHUNK // 2


def many_draws() -> Iterator[Array]:
    """The first 64 blocks of draw after draw of one variable."""
    state = rng.philox_state(1, "main.noise")
    each, first = 64, 0
    while True:
        draws = np.arange(first, first + CHUNK // 2 // each, dtype=np.uint64)
        yield words(np.tile(np.arange(each, dtype=np.uint64), len(draws)), state.key, np.repeat(draws, each))
        first += len(draws)


def many_variables() -> Iterator[Array]:
    """The first 64 blocks of variables whose seeds and names are neighbours."""
    each, number = 64, 0
    while True:
        numbers = range(number, number + CHUNK // 2 // each)
        keys = [rng.philox_state(n % 256, f"main.w{n // 256}").key for n in numbers]
        block = np.tile(np.arange(each, dtype=np.uint64), len(keys))
        yield words(block, np.repeat(np.array(keys, np.uint64), each), 0)
        number = numbers.stop


def randu() -> Iterator[Array]:
    """x <- 65539 x mod 2^31, of which the upper 16 bits are used."""
    x, power = np.uint64(1), np.array([pow(65539, k, 2**31) for k in range(1, 4097)], np.uint64)
    while True:
        rows = []
        for _ in range(4 * CHUNK // 4096):
            row = x * power & np.uint64(2**31 - 1)
            x = row[-1]
            rows.append(row >> np.uint64(15))
        yield np.concatenate(rows).astype("<u2").view("<u8")


def words(block: Array, key: Any, draw: Any) -> Array:
    """The 64-bit words of blocks, in order."""
    key, draw = np.asarray(key, np.uint64), np.asarray(draw, np.uint64)
    low, up = np.uint64(0xFFFFFFFF), np.uint64(32)
    halves = rng.philox4x32((block & low, block >> up, draw & low, draw >> up), (key & low, key >> up))
    w = np.stack([h.astype("<u4") for h in halves], axis=1)
    return w.reshape(-1).view("<u8")


SOURCES: dict[str, Callable[[], Iterator[Array]]] = {
    "one draw": one_draw,
    "many draws": many_draws,
    "many variables": many_variables,
    "randu": randu,
}


# ---------------------------------------------------------------- tests


def chi_square(counts: Array, probabilities: Array) -> float:
    """The p-value of counts; cells where fewer than 10 are expected become one."""
    counts, expected = np.asarray(counts, float), np.asarray(probabilities, float) * np.sum(counts)
    often = expected >= 10
    if not often.all():
        counts = np.append(counts[often], counts[~often].sum())
        expected = np.append(expected[often], expected[~often].sum())
        if expected[-1] < 10:  # too few to be a cell of their own
            counts, expected = counts[:-1], expected[:-1] * (counts[:-1].sum() / expected[:-1].sum())
    if not counts.sum() or not expected.all():  # nothing where something is expected
        return 0.0
    statistic = float(np.sum((counts - expected) ** 2 / expected))
    return float(stats.chi2.sf(statistic, len(counts) - 1))


def two_sided(z: float) -> float:
    return float(2 * stats.norm.sf(abs(z)))


class Counted:
    """A test that counts cells: `cells(x)` gives counts for a chunk, `law()` their probabilities."""

    def __init__(self) -> None:
        self.counts: Array = 0

    def feed(self, x: Array) -> None:
        self.counts = self.counts + self.cells(x)

    def p_value(self) -> float:
        return chi_square(self.counts, self.law())

    def cells(self, x: Array) -> Array:
        raise NotImplementedError

    def law(self) -> Array:
        return np.full(len(self.counts), 1 / len(self.counts))


class Monobit(Counted):
    """The number of ones, at each of the 64 places of a word."""

    def __init__(self) -> None:
        super().__init__()
        self.words = 0

    def cells(self, x: Array) -> Array:
        self.words += len(x)
        return np.array([np.count_nonzero(x & np.uint64(1 << b)) for b in range(64)])

    def p_value(self) -> float:
        z = (self.counts - self.words / 2) / np.sqrt(self.words / 4)
        return float(stats.chi2.sf(np.sum(z**2), 64))


class Frequency(Monobit):
    """The number of ones of all bits."""

    def p_value(self) -> float:
        bits = 64 * self.words
        return two_sided((self.counts.sum() - bits / 2) / np.sqrt(bits / 4))


class Words16(Counted):
    """Each of the 65,536 words of 16 bits is as likely."""

    def cells(self, x: Array) -> Array:
        return np.bincount(x.view("<u2"), minlength=65536)


class Serial(Counted):
    """Overlapping patterns of 8 bits, by the difference of the statistics for 8 and 7 bits (Good 1953)."""

    def cells(self, x: Array) -> Array:
        b = x.view("u1")
        both = b[:-1].astype(np.uint16) | (b[1:].astype(np.uint16) << 8)
        return sum(np.bincount((both >> s & 0xFF).astype(np.int64), minlength=256) for s in range(8))

    def p_value(self) -> float:
        n = float(self.counts.sum())
        short = self.counts[:128] + self.counts[128:]
        psi = [float(np.sum((c - n / len(c)) ** 2) * len(c) / n) for c in (self.counts, short)]
        return float(stats.chi2.sf(psi[0] - psi[1], 128))


class Runs:
    """The number of places where a bit differs from the one before."""

    def __init__(self) -> None:
        self.changes, self.places = 0, 0

    def feed(self, x: Array) -> None:
        inside = (x ^ (x >> np.uint64(1))) & np.uint64(2**63 - 1)
        between = np.count_nonzero((x[:-1] >> np.uint64(63)) != (x[1:] & np.uint64(1)))
        self.changes += int(np.bitwise_count(inside).sum()) + between
        self.places += 63 * len(x) + len(x) - 1

    def p_value(self) -> float:
        return two_sided((self.changes - self.places / 2) / np.sqrt(self.places / 4))


class LongestRun(Counted):
    """The longest run of ones in each word of 64 bits."""

    def cells(self, x: Array) -> Array:
        lengths = np.zeros(len(x), np.int64)
        at, left = np.arange(len(x)), x
        while len(at):
            going = left != 0
            at, left = at[going], left[going]
            lengths[at] += 1
            left = left & (left << np.uint64(1))
        return np.bincount(lengths, minlength=65)

    def law(self) -> Array:
        def at_most(m: int) -> int:  # strings of 64 bits without a run of more than m ones
            found = [1]
            for n in range(1, 66):
                found.append(sum(found[max(0, n - 1 - m) : n]))
            return found[65]

        total = [at_most(m) for m in range(65)]
        return np.array([t - (total[m - 1] if m else 0) for m, t in enumerate(total)], dtype=object) / 2.0**64


class Gaps(Counted):
    """The gaps between words of 32 bits whose upper four bits are 0."""

    def __init__(self) -> None:
        super().__init__()
        self.since = 0

    def cells(self, x: Array) -> Array:
        hits = np.flatnonzero(x.view("<u4") < 1 << 28)
        gaps = np.diff(hits, prepend=-1 - self.since) - 1
        self.since = 2 * len(x) - 1 - int(hits[-1])
        return np.bincount(np.minimum(gaps, 200), minlength=201)

    def law(self) -> Array:
        p = 1 / 16 * (15 / 16) ** np.arange(201)
        p[200] = (15 / 16) ** 200
        return p


class Weights(Counted):
    """The number of ones of each word of 32 bits."""

    def cells(self, x: Array) -> Array:
        return np.bincount(np.bitwise_count(x.view("<u4")), minlength=33)

    def law(self) -> Array:
        return stats.binom(32, 0.5).pmf(np.arange(33))


class WeightPairs(Counted):
    """The numbers of ones of neighbouring words of 64 bits, in classes."""

    edges = np.array([29, 31, 32, 34])

    def cells(self, x: Array) -> Array:
        kind = np.searchsorted(self.edges, np.bitwise_count(x))
        return np.bincount(5 * kind[0::2] + kind[1::2], minlength=25)

    def law(self) -> Array:
        p = np.diff(stats.binom(64, 0.5).cdf([-1, *self.edges, 64]))
        return np.outer(p, p).reshape(-1)


class BytePairs(Counted):
    """The lowest bytes of neighbouring words of 32 bits."""

    def cells(self, x: Array) -> Array:
        low = (x.view("<u4") & np.uint32(255)).astype(np.int64)
        return np.bincount(256 * low[0::2] + low[1::2], minlength=65536)


class Orders(Counted):
    """The orders of four neighbouring words of 32 bits."""

    def cells(self, x: Array) -> Array:
        order = np.argsort(x.view("<u4").reshape(-1, 4), axis=1) @ np.array([64, 16, 4, 1])
        return np.bincount(order, minlength=256)[self.codes]

    codes = np.array([64 * a + 16 * b + 4 * c + d for a in range(4) for b in range(4) for c in range(4)
                      for d in range(4) if len({a, b, c, d}) == 4])  # fmt: skip


class Maxima(Counted):
    """The eighth power of the greatest of eight uniform numbers is uniform."""

    def cells(self, x: Array) -> Array:
        top = x.view("<u4").reshape(-1, 8).max(axis=1) * 2.0**-32
        return np.bincount((top**8 * 128).astype(np.int64), minlength=128)


class Birthdays(Counted):
    """4096 birthdays in a year of 2^32 days: equal spacings are nearly Poisson with mean 4 (Marsaglia)."""

    def cells(self, x: Array) -> Array:
        days = np.sort(x.view("<u4").reshape(-1, 4096).astype(np.int64), axis=1)
        spacings = np.sort(np.diff(days, axis=1), axis=1)
        equal = np.count_nonzero(spacings[:, 1:] == spacings[:, :-1], axis=1)
        return np.bincount(np.minimum(equal, 20), minlength=21)

    def law(self) -> Array:
        p = stats.poisson(4).pmf(np.arange(21))
        p[20] = stats.poisson(4).sf(19)
        return p


class Ranks(Counted):
    """The ranks of matrices of 32 by 32 bits, from an eighth of the chunks."""

    def __init__(self) -> None:
        super().__init__()
        self.chunk = -1
        self.counts = np.zeros(3, np.int64)

    def cells(self, x: Array) -> Array:
        self.chunk += 1
        if self.chunk % 8:
            return np.zeros(3, np.int64)
        rows = x.view("<u4").reshape(-1, 32).copy()
        every, rank = np.arange(len(rows)), np.zeros(len(rows), np.int64)
        for column in range(32):
            bit = (rows >> np.uint32(column) & np.uint32(1)).astype(bool)
            free = bit & (np.arange(32) >= rank[:, None])
            pivot = free.argmax(axis=1)
            found = free[every, pivot]
            at, target = every[found], rank[found]
            lead = rows[at, pivot[found]]
            rows[at, pivot[found]] = rows[at, target]
            rows[at, target] = lead
            below = (rows[at] >> np.uint32(column) & np.uint32(1)).astype(bool)
            below[np.arange(len(at)), target] = False
            rows[at] ^= np.where(below, lead[:, None], np.uint32(0))
            rank[found] += 1
        return np.bincount(np.clip(32 - rank, 0, 2), minlength=3)

    def law(self) -> Array:
        def p(r: int) -> float:
            found = 2.0 ** (r * (64 - r) - 1024)
            for i in range(r):
                found *= (1 - 2.0 ** (i - 32)) ** 2 / (1 - 2.0 ** (i - r))
            return found

        return np.array([p(32), p(31), 1 - p(32) - p(31)])


class Spectrum(Counted):
    """The periodogram of 2^20 bits of each chunk is exponential."""

    def cells(self, x: Array) -> Array:
        bits = np.unpackbits(x[: 1 << 14].view("u1"), bitorder="little")
        power = np.abs(np.fft.rfft(1.0 - 2.0 * bits))[1:-1] ** 2 / len(bits)
        return np.bincount((np.exp(-power) * 64).astype(np.int64), minlength=64)


class Lags:
    """Bits that are 7, 64, 128, 192, 256, 1024 and 4096 places apart are equal half of the time."""

    places = (7, 64, 128, 192, 256, 1024, 4096)

    def __init__(self) -> None:
        self.z = np.zeros(len(self.places))
        self.chunks = 0

    def feed(self, x: Array) -> None:
        self.chunks += 1
        for i, lag in enumerate(self.places):
            if lag == 7:
                other = (x[:-1] >> np.uint64(7)) | (x[1:] << np.uint64(57))
                differ = x[:-1] ^ other
            else:
                differ = x[: -(lag // 64)] ^ x[lag // 64 :]
            bits = 64 * len(differ)
            self.z[i] += (int(np.bitwise_count(differ).sum()) - bits / 2) / np.sqrt(bits / 4)

    def p_value(self) -> float:
        return float(stats.chi2.sf(np.sum(self.z**2) / self.chunks, len(self.places)))


TESTS: dict[str, Callable[[], Any]] = {
    "frequency": Frequency,
    "frequency by place": Monobit,
    "words of 16 bits": Words16,
    "serial": Serial,
    "runs": Runs,
    "longest run": LongestRun,
    "gaps": Gaps,
    "weights": Weights,
    "weights of neighbours": WeightPairs,
    "bytes of neighbours": BytePairs,
    "orders of four": Orders,
    "greatest of eight": Maxima,
    "birthday spacings": Birthdays,
    "matrix ranks": Ranks,
    "spectrum": Spectrum,
    "lags": Lags,
}


# ---------------------------------------------------------------- running


def battery(source: str, mib: int, names: Iterable[str] = TESTS, skip: int = 0) -> dict[str, float]:
    """The p-value of tests on so many MiB of a source, after some that are left out."""
    tests = {name: TESTS[name]() for name in names}
    chunks = SOURCES[source]()
    for _ in range(skip // 8):
        next(chunks)
    for _ in range(mib // 8):
        x = next(chunks)
        for test in tests.values():
            test.feed(x)
    return {name: test.p_value() for name, test in tests.items()}


def is_odd(p: float) -> bool:
    return not LIMIT <= p <= 1 - LIMIT


def again(found: dict[str, dict[str, float]], sizes: dict[str, int]) -> dict[tuple[str, str], float]:
    """What odd tests of a source give on the bits that come next, as many as before."""
    out = {}
    for source, values in found.items():
        odd = [name for name, p in values.items() if is_odd(p)]
        if odd:
            repeated = battery(source, sizes[source], odd, skip=sizes[source])
            out |= {(source, name): p for name, p in repeated.items()}
    return out


def figure(
    found: dict[str, dict[str, float]], sizes: dict[str, int], repeated: dict[tuple[str, str], float]
) -> str:
    """The p-values as a table, and where they lie between 0 and 1."""
    lines = ["p-values of the battery of tests/battery.py: uniform on 0 .. 1 for random bits", ""]
    lines.append(f"{'':22}" + "".join(f"{s:>16}" for s in found))
    lines.append(f"{'':22}" + "".join(f"{sizes[s]:>12} MiB" for s in found))
    for name in TESTS:
        cells = [f"{p[name]:.4f}{' !' if is_odd(p[name]) else '  '}" for p in found.values()]
        lines.append(f"{name:22}" + "".join(f"{c:>16}" for c in cells))
    every = [v for p in found.values() for v in p.values()]
    counts = np.bincount((np.minimum(every, 0.999) * np.array(10)).astype(int), minlength=10)
    lines += ["", f"{len(every)} p-values in tenths of 0 .. 1:"]
    lines += [f"  {k / 10:.1f} {'#' * n}" for k, n in enumerate(counts)]
    uniform = stats.kstest(every, "uniform").pvalue
    lines += ["", f"Kolmogorov-Smirnov of all of them: p = {uniform:.3f}"]
    lines += [f"below {LIMIT:g} or above {1 - LIMIT:g} (!): {sum(map(is_odd, every))}"]
    for (source, name), p in repeated.items():
        lines.append(f"  {name} of {source} on the next {sizes[source]} MiB: {p:.4f}")
    lines.append(f"failures, which are odd twice: {sum(map(is_odd, repeated.values()))}")
    return "".join(f"{line.rstrip()}\n" for line in lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--mib", type=int, default=1024, help="how many MiB of bits in all (default: 1024)")
    parser.add_argument("--source", choices=SOURCES, help="one source alone")
    parser.add_argument("--write", action="store_true", help=f"writes {FIGURE.name}")
    options = parser.parse_args()
    sizes = {"one draw": options.mib // 2, "many draws": options.mib // 4, "many variables": options.mib // 4}
    if options.source:
        sizes = {options.source: options.mib}
    start = time.perf_counter()
    found = {source: battery(source, mib) for source, mib in sizes.items()}
    repeated = again(found, sizes)
    text = figure(found, sizes, repeated)
    print(text, end="")
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)
    if options.write:
        FIGURE.write_text(text)
    return int(any(map(is_odd, repeated.values())))


if __name__ == "__main__":
    sys.exit(main())
