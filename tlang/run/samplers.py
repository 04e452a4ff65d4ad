"""Numbers of the distributions that reject, search or sort, from the blocks of Philox.

Every function takes a Philox state and the numbers of the elements that it is to make, so that an
element depends on the key, the counter of the draw and its own number alone. `u, u'` are the two uniform
numbers of [0, 1) of a block, see `tlang.run.rng.doubles`; all arithmetic is in f64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tlang.run.rng import PhiloxState, bits64, doubles, element_blocks

_Array: TypeAlias = NDArray[Any]
#: Elements (their positions) and the number of the attempt to proposals, and whether they are accepted.
_Propose: TypeAlias = "Callable[[_Array, int], tuple[_Array, _Array]]"

#: From this mean on, binomial and Poisson numbers are found by rejection; below it by search.
SEARCH = 10.0


def rejected(propose: _Propose, todo: _Array, out: _Array) -> None:
    """Fills `out` at the positions `todo`, each by the first attempt that is accepted."""
    attempt = 0
    while len(todo):
        value, accepted = propose(todo, attempt)
        out[todo[accepted]] = value[accepted]
        todo = todo[~accepted]
        attempt += 1


# ---------------------------------------------------------------- gamma


def log_gamma_parts(state: PhiloxState, element: _Array, shape: _Array) -> tuple[_Array, _Array]:
    """Numbers g, b with g * exp(b) a standard gamma number of a shape, for each element.

    Marsaglia and Tsang, A simple method for generating gamma variables (2000). With a = shape, or shape + 1
    below 1, d = a - 1/3 and c = 1 / sqrt(9 d): attempt t has in block 2 t of the element the normal x of
    `normal01` (the first of a pair), in block 2 t + 1 the uniforms u, u', and v = (1 + c x)^3. It is accepted
    if v > 0 and ln(1 - u) < x^2 / 2 + d - d v + d ln v. Then g = d v and b = 0, or b = ln(1 - u') / shape for
    a shape below 1.
    """
    small = shape < 1.0
    d = np.where(small, shape + 1.0, shape) - 1.0 / 3.0
    c = 1.0 / np.sqrt(9.0 * d)
    boost = np.empty(len(element))

    def propose(todo: _Array, attempt: int) -> tuple[_Array, _Array]:
        pair = doubles(element_blocks(state, element[todo], 2 * attempt))
        x = np.sqrt(-2.0 * np.log(1.0 - pair[:, 0])) * np.cos((2.0 * np.pi) * pair[:, 1])
        more = doubles(element_blocks(state, element[todo], 2 * attempt + 1))
        t = 1.0 + c[todo] * x
        v = t * t * t
        boost[todo] = np.log(1.0 - more[:, 1])
        bound = 0.5 * x * x + d[todo] - d[todo] * v + d[todo] * np.log(v)
        return d[todo] * v, (v > 0.0) & (np.log(1.0 - more[:, 0]) < bound)

    g = np.empty(len(element))
    rejected(propose, np.arange(len(element)), g)
    return g, np.where(small, boost / shape, 0.0)


def log_gamma(state: PhiloxState, element: _Array, shape: _Array) -> _Array:
    """The logarithms of standard gamma numbers, finite also where the numbers underflow."""
    g, b = log_gamma_parts(state, element, shape)
    result: _Array = np.log(g) + b
    return result


# ---------------------------------------------------------------- counts

#: ln n! - (n + 1/2) ln n + n - ln(2 pi) / 2 of n = 0 (by convention 0 there) to 15.
_STIRLING = np.array(
    [0.0]
    + [math.lgamma(n + 1) - (n + 0.5) * math.log(n) + n - 0.5 * math.log(2 * math.pi) for n in range(1, 16)]
)


def _stirling(n: _Array) -> _Array:
    """The error of Stirling's formula for ln n!, for n of 1 and more."""
    r = 1.0 / (n * n)
    series = (1 / 12 - r * (1 / 360 - r * (1 / 1260 - r * (1 / 1680 - r / 1188)))) / n
    small = n < 16.0
    known = _STIRLING[np.where(small, np.maximum(n, 0.0), 0.0).astype(np.int64)]
    result: _Array = np.where(small, known, series)
    return result


def _deviance(x: _Array, mean: _Array) -> _Array:
    """X ln(x / mean) + mean - x, exact also where x is near the mean."""
    v = (x - mean) / (x + mean)
    near = np.abs(v) < 0.1
    w = np.where(near, v, 0.0)
    total = np.zeros_like(w)
    for k in range(9, 0, -1):
        total = w * w * (total + 1.0 / (2 * k + 1))
    series = (x - mean) * w + 2.0 * x * w * total
    result: _Array = np.where(near, series, x * np.log(x / mean) + mean - x)
    return result


def _log_poisson(k: _Array, lam: _Array) -> _Array:
    """Ln of the probability of k (Loader, Fast and accurate computation of binomial probabilities, 2000)."""
    inside = -_stirling(k) - _deviance(k, lam) - 0.5 * np.log(2.0 * np.pi * k)
    result: _Array = np.where(k > 0.0, inside, -lam)
    return result


def _log_binomial(k: _Array, n: _Array, p: _Array) -> _Array:
    """Ln of the probability of k of n (Loader 2000)."""
    rest = n - k
    inside = (
        _stirling(n)
        - _stirling(k)
        - _stirling(rest)
        - _deviance(k, n * p)
        - _deviance(rest, n * (1.0 - p))
        + 0.5 * np.log(n / (2.0 * np.pi * k * rest))
    )
    edge = np.where(k <= 0.0, n * np.log1p(-p), n * np.log(p))
    result: _Array = np.where((k > 0.0) & (rest > 0.0), inside, edge)
    return result


def _searched(u: _Array, first: _Array, ratio: Callable[[_Array, float], _Array], mean: _Array) -> _Array:
    """The least k whose cumulated probability exceeds u: the probability of 0 is `first`, and that of k is
    that of k - 1 times `ratio(positions, k)`.

    Where u is so near to 1 that rounding hides the end, it ends with the last probability above 2^-60.
    """
    out = np.zeros(len(u))
    left, mass = u.copy(), np.broadcast_to(first, u.shape).copy()
    todo = np.arange(len(u))
    k = 0
    while True:
        going = (left[todo] >= mass[todo]) & ((mass[todo] > 2.0**-60) | (k < mean[todo]))
        todo = todo[going]
        if not len(todo):
            return out
        left[todo] -= mass[todo]
        k += 1
        out[todo] = k
        mass[todo] *= ratio(todo, float(k))


def poisson(state: PhiloxState, element: _Array, lam: _Array) -> _Array:
    """Poisson numbers, as f64.

    Below a mean of 10 by search with u of the element's first block. Otherwise by transformed rejection,
    Hörmann, The transformed rejection method for generating Poisson random variables (1993), PTRS: attempt t
    has u - 1/2 and u' of the element's block t as U and V.
    """
    out = np.empty(len(element))
    small = lam < SEARCH
    at = np.flatnonzero(small)
    if len(at):
        mean = lam[at]
        u = doubles(element_blocks(state, element[at], 0))[:, 0]
        out[at] = _searched(u, np.exp(-mean), lambda todo, k: mean[todo] / k, mean)
    b = 0.931 + 2.53 * np.sqrt(lam)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    vr = 0.9277 - 3.6224 / (b - 2.0)

    def propose(todo: _Array, attempt: int) -> tuple[_Array, _Array]:
        pair = doubles(element_blocks(state, element[todo], attempt))
        u, v = pair[:, 0] - 0.5, pair[:, 1]
        us = 0.5 - np.abs(u)
        k = np.floor((2.0 * a[todo] / us + b[todo]) * u + lam[todo] + 0.43)
        quick = (us >= 0.07) & (v <= vr[todo])
        possible = (k >= 0.0) & ((us >= 0.013) | (v <= us))
        height = np.log(v * inverse_alpha[todo] / (a[todo] / (us * us) + b[todo]))
        return k, quick | (possible & (height <= _log_poisson(k, lam[todo])))

    rejected(propose, np.flatnonzero(~small), out)
    return out


def binomial(state: PhiloxState, element: _Array, n: _Array, p: _Array) -> _Array:
    """Numbers of successes of n trials (f64) with probability p, as f64.

    With q = min(p, 1 - p), and n less the number for p above 1/2: below a mean n q of 10 by search with u of
    the element's first block. Otherwise by transformed rejection, Hörmann, The generation of binomial random
    variates (1993), BTRS: attempt t has u - 1/2 and u' of the element's block t as U and V.
    """
    out = np.empty(len(element))
    q = np.minimum(p, 1.0 - p)
    mean = n * q
    small = mean < SEARCH
    at = np.flatnonzero(small)
    if len(at):
        m, odds, bound = n[at], (q / (1.0 - q))[at], mean[at]
        u = doubles(element_blocks(state, element[at], 0))[:, 0]
        ratio = lambda todo, k: np.maximum(m[todo] - k + 1.0, 0.0) / k * odds[todo]  # noqa: E731
        out[at] = np.minimum(_searched(u, np.exp(m * np.log1p(-q[at])), ratio, bound), m)
    spread = np.sqrt(mean * (1.0 - q))
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * q
    vr = 0.92 - 4.2 / b
    alpha = (2.83 + 5.1 / b) * spread
    top = _log_binomial(np.floor((n + 1.0) * q), n, q)

    def propose(todo: _Array, attempt: int) -> tuple[_Array, _Array]:
        pair = doubles(element_blocks(state, element[todo], attempt))
        u, v = pair[:, 0] - 0.5, pair[:, 1]
        us = 0.5 - np.abs(u)
        k = np.floor((2.0 * a[todo] / us + b[todo]) * u + mean[todo] + 0.5)
        possible = (k >= 0.0) & (k <= n[todo])
        height = np.log(v * alpha[todo] / (a[todo] / (us * us) + b[todo]))
        bound = _log_binomial(k, n[todo], q[todo]) - top[todo]
        return k, possible & (((us >= 0.07) & (v <= vr[todo])) | (height <= bound))

    rejected(propose, np.flatnonzero(~small), out)
    result: _Array = np.where(p > 0.5, n - out, out)
    return result


# ---------------------------------------------------------------- orders and categories


def order(state: PhiloxState, rows: int, count: int) -> _Array:
    """For each row the numbers 0 .. count - 1 in a random order, i64[rows, count].

    They are sorted by the 64-bit words of the draw, see `tlang.run.rng.bits64`, the word of an element by its
    place in C order; equal words by their places.
    """
    keys = bits64(state, rows * count).reshape(rows, count)
    return np.argsort(keys, axis=1, kind="stable")


def weighted_order(state: PhiloxState, p: _Array) -> _Array:
    """The numbers 0 .. len(p) - 1 as they come when each is taken with a probability in proportion to p.

    They are sorted by -ln(1 - u) / p (Efraimidis and Spirakis 2006) of the uniform numbers of the draw.
    """
    u = (bits64(state, len(p)) >> 11) * 2.0**-53
    return np.argsort((0.0 - np.log(1.0 - u)) / p, kind="stable")


def category(u: _Array, p: _Array) -> _Array:
    """The least index whose cumulated probability exceeds u, i64 of the shape of u.

    p is f64[k], or has the shape of u (or stretches to it) and a last axis more. The probabilities are
    cumulated along the last axis and divided by their sum.
    """
    cumulated = np.cumsum(p, axis=-1)
    cumulated = cumulated / cumulated[..., -1:]
    if cumulated.size == cumulated.shape[-1]:
        return np.asarray(np.searchsorted(cumulated.reshape(-1), u, side="right"), np.int64)
    return np.asarray(np.sum(cumulated[..., :-1] <= u[..., None], axis=-1, dtype=np.int64))
