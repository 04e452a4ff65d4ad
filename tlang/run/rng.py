"""Random numbers: the definition of every draw, as pure functions over NumPy.

A generator is a value. A draw takes a state and gives numbers and the next state; nothing is kept
here. Compiled kernels must reproduce the bits of Philox words, uniforms and integers exactly, and
everything else to rounding. How bits become numbers is fixed by the docstrings of these functions:

- `philox4x32`: a counter and a key to 128 random bits, a *block*;
- `philox_state`: the seed and name of a variable to its key;
- `philox_blocks`: the blocks that a draw uses; `element_blocks`: those of elements that need more than one;
- `bits64`, `uniform01`, `normal01`, `integers_between`: blocks to numbers.

What can be drawn is in `tlang.run.distributions`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # `np.random` is imported when a generator needs it
    from numpy.random import RandomState

_Array: TypeAlias = NDArray[Any]
_DType: TypeAlias = "np.dtype[Any]"
_Shape: TypeAlias = tuple[int, ...]

_MASK32 = 2**32 - 1
_MASK64 = 2**64 - 1


# States


@dataclass(frozen=True, slots=True)
class PhiloxState:
    """Philox4x32-10 before a draw: a 64-bit key, and the number of draws made so far modulo 2^64."""

    generator: ClassVar[str] = "philox"
    key: int
    counter: int


@dataclass(frozen=True, slots=True)
class Mt19937State:
    """The whole state of a `numpy.random.RandomState`, as a value.

    `words` are the 624 32-bit words, little-endian, `position` the next of them to use (624: make new
    ones first), and `cached_gaussian` the second normal of a pair if `has_gauss` is 1.
    """

    generator: ClassVar[str] = "mt19937"
    words: bytes
    position: int
    has_gauss: int
    cached_gaussian: float


State: TypeAlias = PhiloxState | Mt19937State


def philox_state(seed: int, name: str) -> PhiloxState:
    """The state of the variable `name` of a stream `philox(seed)`, before its first draw.

    The key is `splitmix64(fnv1a64(name in UTF-8) + splitmix64(seed))`, sums modulo 2^64; any integer
    is a seed, and counts modulo 2^64. The key depends on nothing else, so that a program may gain,
    lose and reorder variables without changing the numbers of the others.
    """
    return PhiloxState(splitmix64(fnv1a64(name.encode()) + splitmix64(seed)), 0)


def next_draw(state: State) -> PhiloxState:
    """A Philox state after one draw."""
    assert isinstance(state, PhiloxState)
    return replace(state, counter=(state.counter + 1) & _MASK64)


def fnv1a64(data: bytes) -> int:
    """The 64-bit FNV-1a hash (Fowler, Noll, Vo; RFC 9923): for each byte, xor it in, then multiply."""
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 & _MASK64
    return value


def splitmix64(state: int) -> int:
    """The first output of SplitMix64 (Steele, Lea, Flood 2014) from `state` modulo 2^64.

    It is a bijection of the 64-bit integers whose outputs for neighbouring inputs are unrelated.
    """
    z = (state + 0x9E3779B97F4A7C15) & _MASK64
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _MASK64
    z = (z ^ z >> 27) * 0x94D049BB133111EB & _MASK64
    return z ^ z >> 31


def mt19937_state(seed: int) -> Mt19937State:
    """The state of `numpy.random.RandomState(seed)`.

    Raises `InvalidParameter` for a seed that is not in 0 .. 2^32 - 1.
    """
    if not 0 <= seed <= _MASK32:
        raise InvalidParameter("mt19937", "seed", seed, "an integer from 0 to 4294967295")
    return saved(np.random.RandomState(seed))


def mt19937_seeds(seed: int, k: int) -> list[int]:
    """The seeds of the first `k` variables of a stream `mt19937(seed)`, in order of declaration.

    They are the numbers `int(gen.randint(2**30))` with `gen = numpy.random.RandomState(seed)`, as in
    Theano's `RandomStreams`. Raises `InvalidParameter` for a seed that is not in 0 .. 2^32 - 1.
    """
    gen = restored(mt19937_state(seed))
    return [int(gen.randint(2**30)) for _ in range(k)]


def saved(gen: RandomState) -> Mt19937State:
    """The state of a generator of NumPy."""
    found = gen.get_state(legacy=False)
    assert isinstance(found, dict)
    words, position = found["state"]["key"], found["state"]["pos"]
    gauss = float(found["gauss"]) if found["has_gauss"] else 0.0
    return Mt19937State(words.astype("<u4").tobytes(), int(position), int(found["has_gauss"]), gauss)


def restored(state: Mt19937State) -> RandomState:
    """A generator of NumPy in a state."""
    gen = np.random.RandomState(0)
    words = np.frombuffer(state.words, "<u4").astype(np.uint32)
    gen.set_state(("MT19937", words, state.position, state.has_gauss, state.cached_gaussian))
    return gen


# Philox bits

_PHILOX_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_PHILOX_KEY_STEPS = (0x9E3779B9, 0xBB67AE85)

# Six arrays of 64-bit words of this length stay in a core's cache through the ten rounds.
_CHUNK = 16384


def philox4x32(counter: Sequence[_Array | int], key: tuple[int, int]) -> list[_Array]:
    """Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers, as easy as 1, 2, 3; 2011).

    `counter` is four 32-bit words, each an integer or an array, which broadcast to one shape; `key`
    is two 32-bit words. Gives the four output words, u64 arrays of that shape with values below 2^32.
    """
    words = [np.array(w) for w in np.broadcast_arrays(*(np.asarray(c, np.uint64) for c in counter))]
    c0, c1, c2, c3 = words
    p0, p1 = np.empty_like(c0), np.empty_like(c0)
    m0, m1 = _PHILOX_MULTIPLIERS
    k0, k1 = key
    for _ in range(10):
        np.multiply(c0, m0, out=p0)
        np.multiply(c2, m1, out=p1)
        np.right_shift(p1, 32, out=c0)
        c0 ^= c1
        c0 ^= k0
        np.right_shift(p0, 32, out=c2)
        c2 ^= c3
        c2 ^= k1
        np.bitwise_and(p1, _MASK32, out=c1)
        np.bitwise_and(p0, _MASK32, out=c3)
        k0 = (k0 + _PHILOX_KEY_STEPS[0]) & _MASK32
        k1 = (k1 + _PHILOX_KEY_STEPS[1]) & _MASK32
    return words


def philox_blocks(state: PhiloxState, count: int) -> Iterator[tuple[int, _Array]]:
    """The first `count` blocks of the draw that `state` is about to make, in pieces.

    Block b of a draw is Philox of the 128-bit counter `b + 2^64 * state.counter`, least significant
    word first, with the key's low and high 32 bits. A piece is the index of its first block and the
    words, little-endian u32[blocks, 4].
    """
    for first, last in chunks(count):
        yield first, _words(state, np.arange(first, last, dtype=np.uint64))


def element_blocks(state: PhiloxState, elements: _Array, attempt: int) -> _Array:
    """For some elements of a draw the block of an attempt: block `element + 2^48 * attempt`.

    What needs an unknown number of words for an element, such as a method of rejection, takes them from
    blocks of the element's own, so that no element depends on another. `elements` is an integer array [n];
    the words are little-endian u32[n, 4].
    """
    return _words(state, elements.astype(np.uint64) + np.uint64(attempt << 48))


def chunks(count: int) -> Iterator[tuple[int, int]]:
    """The bounds of pieces of `count` elements that stay in a core's cache."""
    for first in range(0, count, _CHUNK):
        yield first, min(first + _CHUNK, count)


def _words(state: PhiloxState, block: _Array) -> _Array:
    """The words of blocks of the draw that `state` is about to make, little-endian u32[blocks, 4]."""
    key = (state.key & _MASK32, state.key >> 32)
    call = (state.counter & _MASK32, state.counter >> 32)
    words = np.empty((len(block), 4), "<u4")
    for i, word in enumerate(philox4x32((block & _MASK32, block >> 32, *call), key)):
        words[:, i] = word
    return words


# Bits to numbers


def doubles(words: _Array) -> _Array:
    """The two uniform f64 numbers of [0, 1) of each block, f64[blocks, 2]: those of `uniform01`."""
    pair: _Array = (words.view("<u8") >> 11) * 2.0**-53
    return pair


def bits64(state: PhiloxState, count: int) -> _Array:
    """The first `count` 64-bit words of a draw, u64: w0 + 2^32 w1, then w2 + 2^32 w3 of each block."""
    out = np.empty(-(-count // 2) * 2, np.uint64)
    for first, words in philox_blocks(state, -(-count // 2)):
        out[2 * first : 2 * (first + len(words))] = words.view("<u8").reshape(-1)
    return out[:count]


def uniform01(state: PhiloxState, shape: _Shape, dtype: _DType) -> _Array:
    """Uniform numbers of [0, 1) in C order, exact multiples of 2^-53 (f64) or 2^-24 (f32).

    f64: a block (w0, w1, w2, w3) gives two elements `(x >> 11) * 2^-53`, of x = w0 + 2^32 w1 and
    x = w2 + 2^32 w3. f32: a block gives four elements `(w >> 8) * 2^-24`.
    """
    bits, drop = ("<u8", 11) if dtype == np.float64 else ("<u4", 8)
    scale = dtype.type(2.0 ** (drop - 8 * np.dtype(bits).itemsize))
    size, per_block = prod(shape), 16 // np.dtype(bits).itemsize
    out = np.empty(-(-size // per_block) * per_block, dtype)
    for first, words in philox_blocks(state, -(-size // per_block)):
        place = out[per_block * first : per_block * (first + len(words))]
        place[:] = words.view(bits).reshape(-1) >> drop
        place *= scale
    return out[:size].reshape(shape)


def normal01(state: PhiloxState, shape: _Shape, dtype: _DType) -> _Array:
    """Standard normal numbers in C order, by the method of Box and Muller (1958).

    A pair u1 of (0, 1], u2 of [0, 1) gives two neighbouring elements, `sqrt(-2 ln u1) cos(2 pi u2)`
    and `sqrt(-2 ln u1) sin(2 pi u2)`. f64: a block gives one pair, 1 - u and u' of the two uniforms
    u, u' of `uniform01`. f32: a block gives two pairs `(w0 + 1) 2^-32, w1 2^-32` and the same of w2
    and w3; they are computed in f64 and rounded once.
    """
    size, per_block = prod(shape), 2 if dtype == np.float64 else 4
    out = np.empty(-(-size // per_block) * per_block, dtype)
    for first, words in philox_blocks(state, -(-size // per_block)):
        if dtype == np.float64:
            pairs = doubles(words)
            u1, u2 = 1.0 - pairs[:, 0], pairs[:, 1]
        else:
            pairs = words.reshape(-1, 2) * 2.0**-32
            u1, u2 = pairs[:, 0] + 2.0**-32, pairs[:, 1]
        radius, angle = np.sqrt(-2.0 * np.log(u1)), (2.0 * np.pi) * u2
        place = out[per_block * first : per_block * (first + len(words))].reshape(-1, 2)
        place[:, 0] = radius * np.cos(angle)
        place[:, 1] = radius * np.sin(angle)
    return out[:size].reshape(shape)


def integers_between(state: PhiloxState, shape: _Shape, dtype: _DType, low: _Array, high: _Array) -> _Array:
    """Integers of [low, high) in C order, of any integer dtype; the bounds broadcast to `shape`.

    An element takes a whole block: with x the 128-bit integer of its words, the least significant
    first, it is `low + floor(x * (high - low) / 2^128)`, computed exactly. No value is favoured by
    more than 2^-64 of its probability.
    """
    with np.errstate(over="ignore"):  # arithmetic modulo 2^64 gives high - low right for all bounds
        base, width = low.astype(np.uint64), high.astype(np.uint64)
        width = width - base
    base, width = np.broadcast_to(base, shape), np.broadcast_to(width, shape)
    size = prod(shape)
    out = np.empty(size, np.uint64)
    for first, words in philox_blocks(state, size):
        part = slice(first, first + len(words))
        factor, x = width.flat[part], words.view("<u8")
        carried = _high_product(x[:, 0], factor)
        middle = x[:, 1] * factor + carried
        offset = _high_product(x[:, 1], factor) + (middle < carried)
        # A width of 2^64, from the least i64 to above the greatest, is 0 modulo 2^64.
        out[part] = base.flat[part] + np.where(factor == 0, x[:, 1], offset)
    return out.astype(dtype).reshape(shape)


def _high_product(a: _Array, b: _Array) -> _Array:
    """The upper 64 bits of the 128-bit products of u64 arrays; no partial sum can overflow."""
    a0, a1, b0, b1 = a & _MASK32, a >> 32, b & _MASK32, b >> 32
    cross = a1 * b0 + (a0 * b0 >> 32)
    other = a0 * b1 + (cross & _MASK32)
    product: _Array = a1 * b1 + (cross >> 32) + (other >> 32)
    return product


# Errors


class InvalidParameter(ValueError):
    """A parameter of a distribution has a value that it cannot take.

    `distribution` and `name` say which parameter, `value` is the first value at fault as a Python
    number, `expected` is a phrase for what it must be, such as "at least 0".
    """

    def __init__(self, distribution: str, name: str, value: object, expected: str) -> None:
        super().__init__(f"`{name}` of {distribution} is {value}, but must be {expected}")
        self.distribution = distribution
        self.name = name
        self.value = value
        self.expected = expected
