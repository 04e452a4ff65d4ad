"""What can be drawn: for each distribution what its parameters must satisfy, and how each generator draws.

`DISTRIBUTIONS` is the table, a row for each of those of `tlang.graph.ops.random`; `draw` is the one entry.
How the bits of Philox become numbers is fixed by the docstrings of `tlang.run.rng`, of
`tlang.run.samplers`, and here. mt19937 draws by the methods of `numpy.random.RandomState`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tlang.graph.ops import random as rows
from tlang.run import samplers
from tlang.run.rng import (
    InvalidParameter,
    PhiloxState,
    State,
    chunks,
    integers_between,
    next_draw,
    normal01,
    restored,
    saved,
    uniform01,
)
from tlang.types import FROM_NUMPY

if TYPE_CHECKING:  # its import takes a hundredth of a second, and Philox needs none of it
    from numpy.random import RandomState

_Array: TypeAlias = NDArray[Any]
_DType: TypeAlias = "np.dtype[Any]"
_Shape: TypeAlias = tuple[int, ...]
#: A parameter's name, where its values are right, and what they must be.
_Rules: TypeAlias = Iterator[tuple[str, _Array, str]]

_F64 = np.dtype(np.float64)
_I64 = np.dtype(np.int64)


@dataclass(frozen=True, slots=True)
class Distribution:
    """How a distribution is drawn.

    `requires(shape, dtype, *params)` yields a parameter's name, a boolean array that is true where its value
    is right, and what it must be; or a fourth item, the values to show in the place of the parameter's.
    `philox(state, shape, dtype, *params)` gives the numbers; `mt19937(gen, shape, *params)` gives them in any
    dtype, and advances `gen`.
    """

    requires: Callable[..., Iterator[tuple[Any, ...]]]
    philox: Callable[..., _Array]
    mt19937: Callable[..., Any]


# ---------------------------------------------------------------- functions of one uniform or normal number


def _uniform_requires(shape: _Shape, dtype: _DType, low: _Array, high: _Array) -> _Rules:
    yield "low", np.isfinite(low), "a finite number"
    yield "high", np.isfinite(high), "a finite number"
    yield "high", low <= high, "at least `low`"
    near = f"nearer to `low`: the difference is no finite {FROM_NUMPY[dtype.name]}"
    yield "high", np.isfinite(high - low), near


def _uniform(state: PhiloxState, shape: _Shape, dtype: _DType, low: _Array, high: _Array) -> _Array:
    """`low + (high - low) u` in the dtype, each operation rounded; may round to `high` itself."""
    out = uniform01(state, shape, dtype)
    out *= high - low
    out += low
    return out


def _normal_requires(shape: _Shape, dtype: _DType, mean: _Array, std: _Array) -> _Rules:
    yield "std", std >= 0, "at least 0"


def _normal(state: PhiloxState, shape: _Shape, dtype: _DType, mean: _Array, std: _Array) -> _Array:
    """`mean + std z` in the dtype, each operation rounded."""
    out = normal01(state, shape, dtype)
    out *= std
    out += mean
    return out


def _lognormal_requires(shape: _Shape, dtype: _DType, mean: _Array, sigma: _Array) -> _Rules:
    yield "sigma", sigma >= 0, "at least 0"


def _lognormal(state: PhiloxState, shape: _Shape, dtype: _DType, mean: _Array, sigma: _Array) -> _Array:
    """`exp(mean + sigma z)` of the normal numbers of the dtype, in f64 and rounded once."""
    out = normal01(state, shape, dtype).astype(_F64)
    out *= sigma
    out += mean
    np.exp(out, out=out)
    return out.astype(dtype, copy=False)


def _scale_requires(shape: _Shape, dtype: _DType, scale: _Array) -> _Rules:
    yield "scale", scale >= 0, "at least 0"


def _exponential(state: PhiloxState, shape: _Shape, dtype: _DType, scale: _Array) -> _Array:
    """`scale (0 - ln(1 - u))` of the uniform numbers of the dtype, in f64 and rounded once."""
    out = uniform01(state, shape, dtype).astype(_F64)
    np.log(np.subtract(1, out, out=out), out=out)
    np.subtract(0, out, out=out)
    out *= scale
    return out.astype(dtype, copy=False)


def _probability(p: _Array) -> _Rules:
    yield "p", (p >= 0) & (p <= 1), "from 0 to 1"


def _bernoulli_requires(shape: _Shape, dtype: _DType, p: _Array) -> _Rules:
    yield from _probability(p)


def _bernoulli(state: PhiloxState, shape: _Shape, dtype: _DType, p: _Array) -> _Array:
    """`u < p` in f64, with the uniform numbers of f64 whatever the dtype."""
    return (uniform01(state, shape, _F64) < p).astype(dtype)


# ---------------------------------------------------------------- gamma and its kin


def _positive(name: str, values: _Array, expected: str = "greater than 0, and finite") -> _Rules:
    yield name, (values > 0) & np.isfinite(values), expected


def _gamma_requires(shape: _Shape, dtype: _DType, k: _Array, scale: _Array) -> _Rules:
    yield "shape", (k >= 0) & np.isfinite(k), "at least 0, and finite"
    yield from _scale_requires(shape, dtype, scale)


def _gamma(state: PhiloxState, shape: _Shape, dtype: _DType, k: _Array, scale: _Array) -> _Array:
    """`scale g exp(b)` of `samplers.log_gamma_parts` in f64, rounded once."""

    def part(element: _Array, k: _Array, scale: _Array) -> _Array:
        g, b = samplers.log_gamma_parts(state, element, k)
        return np.asarray(scale * (g * np.exp(b)))

    return _by_element(part, shape, dtype, k, scale)


def _beta_requires(shape: _Shape, dtype: _DType, a: _Array, b: _Array) -> _Rules:
    yield from _positive("a", a)
    yield from _positive("b", b)


def _beta(state: PhiloxState, shape: _Shape, dtype: _DType, a: _Array, b: _Array) -> _Array:
    """`1 / (1 + exp(ln y - ln x))` in f64 of standard gamma numbers: x is element 2 i, y element 2 i + 1."""

    def part(element: _Array, a: _Array, b: _Array) -> _Array:
        x = samplers.log_gamma(state, 2 * element, a)
        y = samplers.log_gamma(state, 2 * element + 1, b)
        return np.asarray(1.0 / (1.0 + np.exp(y - x)))

    return _by_element(part, shape, dtype, a, b)


def _dirichlet_requires(shape: _Shape, dtype: _DType, alpha: _Array) -> _Rules:
    yield from _positive("alpha", alpha)


def _dirichlet(state: PhiloxState, shape: _Shape, dtype: _DType, alpha: _Array) -> _Array:
    """Standard gamma numbers in f64 over their sum along the last axis, by their logarithms."""
    logs = _by_element(lambda e, a: samplers.log_gamma(state, e, a), shape, _F64, alpha)
    if logs.size:
        logs -= logs.max(axis=-1, keepdims=True)
    np.exp(logs, out=logs)
    return np.asarray(logs / logs.sum(axis=-1, keepdims=True), dtype)


# ---------------------------------------------------------------- counts


def _binomial_requires(shape: _Shape, dtype: _DType, n: _Array, p: _Array) -> _Rules:
    yield from _trials(dtype, n)
    yield from _probability(p)


def _trials(dtype: _DType, n: _Array) -> _Rules:
    named = FROM_NUMPY[dtype.name]
    yield "n", n >= 0, "at least 0"
    yield "n", n <= named.integer_range()[1], f"at most {named.integer_range()[1]} for {named}"


def _binomial(state: PhiloxState, shape: _Shape, dtype: _DType, n: _Array, p: _Array) -> _Array:
    """`samplers.binomial`, an element for each number."""

    def part(element: _Array, n: _Array, p: _Array) -> _Array:
        return _counts(samplers.binomial(state, element, n.astype(_F64), p.astype(_F64)), n)

    return _by_element(part, shape, dtype, n, p)


def _counts(found: _Array, most: _Array) -> _Array:
    """Whole f64 as u64, at most so many: above 2^53 an f64 may be more than the number that it stands for."""
    whole: _Array = np.minimum(found, 2.0**63).astype(np.uint64)
    return np.minimum(whole, most.astype(np.uint64))


def _poisson_requires(shape: _Shape, dtype: _DType, lam: _Array) -> _Rules:
    named = FROM_NUMPY[dtype.name]
    greatest = named.integer_range()[1]
    most = greatest - 10 * greatest**0.5  # so that no draw exceeds the dtype, as NumPy has it for i64
    yield "lam", lam >= 0, "at least 0"
    yield "lam", lam <= most, f"at most {most:.6g} for {named}, whose greatest number is {greatest}"


def _poisson(state: PhiloxState, shape: _Shape, dtype: _DType, lam: _Array) -> _Array:
    """`samplers.poisson`, an element for each number."""
    most = np.uint64(FROM_NUMPY[dtype.name].integer_range()[1])

    def part(element: _Array, lam: _Array) -> _Array:
        return np.minimum(samplers.poisson(state, element, lam.astype(_F64)).astype(np.uint64), most)

    return _by_element(part, shape, dtype, lam)


def _multinomial_requires(shape: _Shape, dtype: _DType, n: _Array, p: _Array) -> Iterator[tuple[Any, ...]]:
    yield from _trials(dtype, n)
    yield from _weights(np.broadcast_to(p, shape))


def _multinomial(state: PhiloxState, shape: _Shape, dtype: _DType, n: _Array, p: _Array) -> _Array:
    """Category j of a row is binomial, of what is left of n, with probability p_j / (p_j + p_(j+1) + ...).

    It is an element of its own, by its place in C order. The sums are taken from the end.
    """
    rows, count = prod(shape[:-1]), shape[-1]
    p = np.broadcast_to(p, shape).reshape(rows, count).astype(_F64)
    rest = np.cumsum(p[:, ::-1], axis=1)[:, ::-1]
    share = np.where(rest > 0, np.minimum(p / rest, 1.0), 0.0)
    left = np.broadcast_to(n, shape[:-1]).reshape(rows).astype(np.uint64)
    out = np.empty((rows, count), np.uint64)
    for first, last in chunks(rows):
        for j in range(count):
            element = np.arange(first, last) * count + j
            trials = left[first:last]
            found = samplers.binomial(state, element, trials.astype(_F64), share[first:last, j])
            out[first:last, j] = _counts(found, trials)
            left[first:last] = trials - out[first:last, j]
    return out.astype(dtype).reshape(shape)


def _integers_requires(shape: _Shape, dtype: _DType, low: _Array, high: _Array) -> _Rules:
    named = FROM_NUMPY[dtype.name]
    least, greatest = named.integer_range()
    yield "low", low >= least, f"at least {least} for {named}"
    yield "high", low < high, "greater than `low`"
    yield "high", high <= greatest + 1, f"at most {greatest + 1} for {named}"


def _mt19937_integers(gen: RandomState, shape: _Shape, low: _Array, high: _Array) -> Any:
    unsigned = low.dtype == np.uint64 or high.dtype == np.uint64
    return gen.randint(low, high, shape, dtype=np.uint64 if unsigned and np.all(low >= 0) else np.int64)


def _inclusive_requires(shape: _Shape, dtype: _DType, low: _Array, high: _Array) -> _Rules:
    named = FROM_NUMPY[dtype.name]
    least, greatest = named.integer_range()
    yield "low", low >= least, f"at least {least} for {named}"
    yield "high", low <= high, "at least `low`"
    yield "high", high <= greatest, f"at most {greatest} for {named}"


def _inclusive(state: PhiloxState, shape: _Shape, dtype: _DType, low: _Array, high: _Array) -> _Array:
    """`integers_between` low and high + 1."""
    return integers_between(state, shape, dtype, low.astype(np.uint64), high.astype(np.uint64) + np.uint64(1))


def _mt19937_inclusive(gen: RandomState, shape: _Shape, low: _Array, high: _Array) -> Any:
    above = np.array([int(h) + 1 for h in high.reshape(-1)], dtype=object).reshape(high.shape)
    return gen.randint(low, above, shape, dtype=np.int64)


# ---------------------------------------------------------------- categories and orders


def _weights(p: _Array) -> Iterator[tuple[Any, ...]]:
    """Probabilities along the last axis, which add up to 1 as well as their dtype can say."""
    yield "p", p >= 0, "at least 0"
    total = p.sum(axis=-1, dtype=_F64)
    bound = float(np.sqrt(np.finfo(p.dtype).eps))
    yield "p", np.abs(total - 1.0) <= bound, "probabilities that add up to 1", total


def _index_range(name: str, count: int, dtype: _DType) -> Iterator[tuple[Any, ...]]:
    """The indices of so many things must be numbers of the dtype."""
    named = FROM_NUMPY[dtype.name]
    greatest = named.integer_range()[1]
    fits = np.array(count - 1 <= greatest)
    yield name, fits, f"at most {greatest + 1} for {named}", np.array(count)


def _categorical_requires(shape: _Shape, dtype: _DType, p: _Array) -> Iterator[tuple[Any, ...]]:
    yield "p", np.array(p.shape[-1] > 0), "probabilities, at least one", np.array(0)
    yield from _weights(p)
    yield from _index_range("p", p.shape[-1], dtype)


def _categorical(state: PhiloxState, shape: _Shape, dtype: _DType, p: _Array) -> _Array:
    """`samplers.category` of the uniform numbers of f64."""
    return samplers.category(uniform01(state, shape, _F64), p.astype(_F64)).astype(dtype)


def _permutation_requires(shape: _Shape, dtype: _DType, n: _Array) -> Iterator[tuple[Any, ...]]:
    yield "n", n == shape[-1], f"{shape[-1]}, the size of the last axis"
    yield from _index_range("n", shape[-1], dtype)


def _permutation(state: PhiloxState, shape: _Shape, dtype: _DType, n: _Array) -> _Array:
    """`samplers.order` of each row."""
    return samplers.order(state, prod(shape[:-1]), shape[-1]).astype(dtype).reshape(shape)


def _mt19937_permutation(gen: RandomState, shape: _Shape, n: _Array) -> Any:
    rows = [gen.permutation(shape[-1]) for _ in range(prod(shape[:-1]))]
    return np.array(rows, np.int64).reshape(shape)


def _nothing(shape: _Shape, dtype: _DType, x: _Array) -> _Rules:
    yield from ()


def _shuffle(state: PhiloxState, shape: _Shape, dtype: _DType, x: _Array) -> _Array:
    """x[`samplers.order`]."""
    return np.asarray(x[samplers.order(state, 1, shape[0])[0]])


def _row_elements(state: PhiloxState, shape: _Shape, dtype: _DType, x: _Array) -> _Array:
    """Each row of x in the order of `samplers.order`."""
    return np.take_along_axis(x, _permutation(state, shape, _I64, x), axis=-1)


def _mt19937_row_elements(gen: RandomState, shape: _Shape, x: _Array) -> Any:
    return np.take_along_axis(x, _mt19937_permutation(gen, shape, x), axis=-1)


def _choice_requires(
    shape: _Shape, dtype: _DType, a: _Array, p: _Array | None = None, distinct: bool = False
) -> Iterator[tuple[Any, ...]]:
    count = int(a) if a.ndim == 0 else len(a)
    enough = np.array(count > 0 or (count == 0 and prod(shape) == 0))
    yield "a", enough, "something to choose from", np.array(count)
    if a.ndim == 0:
        yield from _index_range("a", count, dtype)
    if p is not None:
        yield "p", np.array(len(p) == count), f"{count} probabilities", np.array(len(p))
        yield from _weights(p)
    if distinct:
        most = np.array(count if p is None else np.count_nonzero(p))
        wanted = f"at least {prod(shape)}, to have so many without one twice"
        yield "a" if p is None else "p", most >= prod(shape), wanted, most


def _distinct_requires(
    shape: _Shape, dtype: _DType, a: _Array, p: _Array | None = None
) -> Iterator[tuple[Any, ...]]:
    yield from _choice_requires(shape, dtype, a, p, distinct=True)


def _choice(state: PhiloxState, shape: _Shape, dtype: _DType, a: _Array, p: _Array | None = None) -> _Array:
    """`integers_between` 0 and the number of items, or `samplers.category`; then the items there."""
    if p is None:
        count = np.uint64(a if a.ndim == 0 else len(a))
        at = integers_between(state, shape, _I64, np.array(0, np.uint64), np.array(count))
    else:
        at = samplers.category(uniform01(state, shape, _F64), p.astype(_F64))
    return (at if a.ndim == 0 else a[at]).astype(dtype)


def _distinct(state: PhiloxState, shape: _Shape, dtype: _DType, a: _Array, p: _Array | None = None) -> _Array:
    """The first of `samplers.order`, or of `samplers.weighted_order`; then the items there."""
    count = int(a) if a.ndim == 0 else len(a)
    order = (
        samplers.order(state, 1, count)[0] if p is None else samplers.weighted_order(state, p.astype(_F64))
    )
    at = order[: prod(shape)].reshape(shape)
    return np.array(at if a.ndim == 0 else a[at], dtype)


def _mt19937_choice(replace: bool) -> Callable[..., Any]:
    def choice(gen: RandomState, shape: _Shape, a: _Array, p: _Array | None = None) -> Any:
        items = int(a) if a.ndim == 0 else np.arange(len(a))
        if prod(shape) == 0:
            return np.empty(shape, a.dtype)
        at = gen.choice(items, shape, replace, None if p is None else _sums_to_one(p))
        return at if a.ndim == 0 else a[at]

    return choice


def _mt19937_multinomial(gen: RandomState, shape: _Shape, n: _Array, p: _Array) -> Any:
    out = np.empty(shape, np.int64)
    p = np.broadcast_to(_sums_to_one(p), shape)
    n = np.broadcast_to(n, shape[:-1])
    for at in np.ndindex(shape[:-1]):
        out[at] = gen.multinomial(int(n[at]), p[at])
    return out


def _mt19937_dirichlet(gen: RandomState, shape: _Shape, alpha: _Array) -> Any:
    out = np.empty(shape)
    alpha = np.broadcast_to(alpha, shape)
    for at in np.ndindex(shape[:-1]):
        out[at] = gen.dirichlet(alpha[at])
    return out


def _sums_to_one(p: _Array) -> _Array:
    """Probabilities as they are, or divided by their sum where NumPy would refuse them."""
    p = p.astype(_F64)
    total = p.sum(axis=-1, keepdims=True)
    return np.where(np.abs(total - 1.0) > 1e-12, p / total, p)


# ---------------------------------------------------------------- the table


def _method(name: str) -> Callable[..., Any]:
    """A generator's method with the parameters in order, then the shape."""

    def drawn(gen: RandomState, shape: _Shape, *params: _Array) -> Any:
        # NumPy refuses a deviation or a scale of -0.0, which is no less than 0; adding 0 makes it 0.0.
        return getattr(gen, name)(*(p + 0 for p in params), shape)

    return drawn


DISTRIBUTIONS: dict[str, Distribution] = {
    "uniform": Distribution(_uniform_requires, _uniform, _method("uniform")),
    "normal": Distribution(_normal_requires, _normal, _method("normal")),
    "lognormal": Distribution(_lognormal_requires, _lognormal, _method("lognormal")),
    "exponential": Distribution(_scale_requires, _exponential, _method("exponential")),
    "gamma": Distribution(_gamma_requires, _gamma, _method("gamma")),
    "beta": Distribution(_beta_requires, _beta, _method("beta")),
    "dirichlet": Distribution(_dirichlet_requires, _dirichlet, _mt19937_dirichlet),
    "bernoulli": Distribution(
        _bernoulli_requires, _bernoulli, lambda gen, shape, p: gen.binomial(1, p, shape)
    ),
    "binomial": Distribution(_binomial_requires, _binomial, _method("binomial")),
    "poisson": Distribution(_poisson_requires, _poisson, _method("poisson")),
    "integers": Distribution(_integers_requires, integers_between, _mt19937_integers),
    "random_integers": Distribution(_inclusive_requires, _inclusive, _mt19937_inclusive),
    "categorical": Distribution(
        _categorical_requires,
        _categorical,
        lambda gen, shape, p: samplers.category(gen.random_sample(shape), p.astype(_F64)),
    ),
    "multinomial": Distribution(_multinomial_requires, _multinomial, _mt19937_multinomial),
    "permutation": Distribution(_permutation_requires, _permutation, _mt19937_permutation),
    "shuffle": Distribution(_nothing, _shuffle, lambda gen, shape, x: gen.permutation(x)),
    "shuffle_row_elements": Distribution(_nothing, _row_elements, _mt19937_row_elements),
    "choice": Distribution(_choice_requires, _choice, _mt19937_choice(True)),
    "choice without replacement": Distribution(_distinct_requires, _distinct, _mt19937_choice(False)),
}


def _by_element(part: Callable[..., _Array], shape: _Shape, dtype: _DType, *params: _Array) -> _Array:
    """Numbers made in pieces by `part(elements, *params)`, which gets the parameters of these elements."""
    size = prod(shape)
    out = np.empty(size, dtype)
    flat = [np.broadcast_to(p, shape) for p in params]
    for first, last in chunks(size):
        pieces = [np.asarray(p.flat[first:last]) if p.ndim else np.full(last - first, p) for p in flat]
        if dtype == np.float32:
            pieces = [p.astype(_F64) for p in pieces]
        out[first:last] = part(np.arange(first, last), *pieces)
    return out.reshape(shape)


def draw(
    state: State, distribution: str, params: Sequence[_Array], shape: _Shape, dtype: _DType
) -> tuple[_Array, State]:
    """Numbers of a distribution, a fresh array of `shape` and `dtype`, and the state after the draw.

    `distribution` is a row of `DISTRIBUTIONS` and `params` its parameters in order, which broadcast to
    `shape` as `tlang.graph.ops.random` says. Parameters of the draw's own dtype are converted to it first;
    the others keep theirs. Philox advances its counter by one, whatever the shape. mt19937 draws as the
    method of `numpy.random.RandomState` of the same meaning does with `size=shape` (integers: `randint`,
    bernoulli: `binomial` of 1, categorical: `choice`, shuffle: `permutation`; row by row where one has no
    `size`), in f64 or 64-bit integers, and casts.

    Raises `InvalidParameter` for the first value that the distribution cannot take, also if `shape`
    has no elements; before that `TypeError` and `ValueError` for a dtype and a shape that do not fit,
    from which a checked program is safe.
    """
    row, facts = DISTRIBUTIONS[distribution], rows.DISTRIBUTIONS[distribution]
    if dtype.kind not in facts.kinds or (dtype.kind == "f" and dtype.itemsize not in (4, 8)):
        raise TypeError(f"{distribution} does not draw {dtype}")
    values = []
    for x, p in zip(params, facts.params, strict=False):
        value = np.asarray(x)
        if p.kind == "integer" and value.dtype.kind not in "iu":
            raise TypeError(f"`{p.name}` of {distribution} must be an integer")
        if p.kind == "own" or (p.kind == "real" and value.dtype.kind != "f"):
            with np.errstate(over="ignore"):  # an infinite bound is reported below
                value = value.astype(dtype if p.kind == "own" else _F64)
        sizes = rows.beside(p.place, value.shape, 1)
        if np.broadcast_shapes(sizes, shape) != shape:
            raise ValueError(f"`{p.name}` of {distribution} does not stretch to {shape}")
        values.append(value)
    with np.errstate(all="ignore"):  # infinite and NaN parameters that are allowed give such numbers
        for name, right, expected, *shown in row.requires(shape, dtype, *values):
            if not np.all(right):
                value = shown[0] if shown else values[facts.names.index(name)]
                wrong = np.broadcast_to(value, right.shape)[~right].reshape(-1)[0].item()
                raise InvalidParameter(distribution, name, wrong, expected)
        if isinstance(state, PhiloxState):
            return row.philox(state, shape, dtype, *values), next_draw(state)
        gen = restored(state)
        wide = [v.astype(_F64) if v.dtype == np.float32 else v for v in values]
        return np.array(row.mt19937(gen, shape, *wide), dtype), saved(gen)
