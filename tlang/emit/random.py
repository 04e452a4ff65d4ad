"""The functions that draw inside kernels: the bits of `tlang.run.rng`, whose docstrings define them.

`name` is what a kernel calls, and `helpers` the text that goes before it. All of them fill a range of the
elements of one draw, and return nothing::

    fill_uniform_float64(address, first, count, key, counter)
    fill_normal_float32(address, first, count, key, counter)
    fill_integers_uint8(address, first, count, key, counter, low, high)
    fill_integers_each_int64(address, first, count, key, counter, lows, highs)

They write the elements `first` to `first + count - 1` of the draw, in C order, to the `count` elements at
`address`. `first` must be a multiple of `per_block`; `count` may be any, also 0. The numbers do not depend
on how a draw is cut, so that threads may share one, and a loop may draw what it needs next. `key` and
`counter` are those of the state before the draw; the caller adds 1 to the counter after the last range.
Integer bounds are 64-bit words, modulo 2^64: `low` and `high` themselves, or in the form `integers_each`
the addresses of `count` of them, one for each of these elements. All arguments are int64; no function
allocates, and none checks a parameter.

Uniforms and integers are those of `tlang.run.rng` bit for bit; normals differ by 4 units in the last place at
most, in float32 hardly ever at all.

Uniforms are in [0, 1), normals have mean 0 and deviation 1. A uniform of [low, high) is
`low + (high - low) u` and a normal `mean + std z`, **each operation rounded**; a kernel compiled with the
flag `contract` would make one fused operation of it. LLVM fuses a product and a sum only if both carry the
flag, so write the product as a function without flags::

    @njit(fastmath=set(), forceinline=True)
    def product(a, b):
        return a * b
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

_INTEGERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))

#: Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011): the words of a block, w0 + 2^32 w1 and w2 + 2^32 w3.
#: Words lie in the lower half of int64; what is in the upper half of c0 to c3 is of no account, since a
#: product masks it away. Multiplying a masked word is one instruction on vectors of 64-bit integers.
_PHILOX = """\
@njit(forceinline=True)
def philox(block, key, counter):
    k0, k1 = key, key >> 32
    c0, c1, c2, c3 = block, block >> 32, counter, counter >> 32
    for _ in range(10):
        p0 = (c0 & 0xFFFFFFFF) * 0xD2511F53
        p1 = (c2 & 0xFFFFFFFF) * 0xCD9E8D57
        c0, c1, c2, c3 = (p1 >> 32) ^ c1 ^ k0, p1, (p0 >> 32) ^ c3 ^ k1, p0
        k0 += 0x9E3779B9
        k1 += 0xBB67AE85
    return (c0 & 0xFFFFFFFF) | (c1 << 32), (c2 & 0xFFFFFFFF) | (c3 << 32)
"""

#: Minimax polynomials of FreeBSD's msun (fdlibm): those of `e_log.c` in z1 = s^2 for ln((1 + s) / (1 - s)),
#: and of `k_sin.c` and `k_cos.c` in z2 = x^2 for |x| <= pi/4. These alone may be contracted: each sum has one
#: product, so that there is one way to do it, in vectors and in what is left over from them alike.
_POLYNOMIALS = """\
@njit(fastmath={'contract'}, forceinline=True)
def normal_polynomials(z1, z2):
    p = 1.818357216161805012e-01 + z1 * (1.531383769920937332e-01 + z1 * 1.479819860511658591e-01)
    p = 2.857142874366239149e-01 + z1 * (2.222219843214978396e-01 + z1 * p)
    p = 6.666666666666735130e-01 + z1 * (3.999999999940941908e-01 + z1 * p)
    s = 2.75573137070700676789e-06 + z2 * (-2.50507602534068634195e-08 + z2 * 1.58969099521155010221e-10)
    s = 8.33333333332248946124e-03 + z2 * (-1.98412698298579493134e-04 + z2 * s)
    s = -1.66666666666666324348e-01 + z2 * s
    c = -2.75573143513906633035e-07 + z2 * (2.08757232129817482790e-09 + z2 * -1.13596475577881948265e-11)
    c = -1.38888888888741095749e-03 + z2 * (2.48015872894767294178e-05 + z2 * c)
    return p, s, 4.16666666666666019037e-02 + z2 * c
"""

#: The two normals of a pair, by the method of Box and Muller, in float64: sqrt(-2 ln u1) times the cosine and
#: the sine of the angle 2 pi u2, which is rounded before it is reduced.
#:
#: u1 is 2^e (1 + f) with 1 + f between sqrt(1/2) and sqrt(2); nearer to 1 than that, e is 0 and the logarithm
#: keeps its relative accuracy, as f is exact. e comes from the bits of u1, of which those of sqrt(1/2) are
#: subtracted. A kernel sees bits through memory: u1 and 2^-e visit the place of the first number of the pair,
#: the element `at` of the dtype, and LLVM makes registers of it. In float32 u1 is rounded there, which may
#: change e, but moves the bounds of f by hardly anything.
#:
#: The angle is q pi/2 + x, with pi/2 in the three parts of `e_rem_pio2.c`, of which q times the first two is
#: exact. q is 0 to 4. Then (cos, sin) is (c, s), (-s, c), (-c, -s) or (s, -c), by products with 0, 1 and -1.
_NORMAL_PAIR = """\
@njit(fastmath=set(), forceinline=True)
def normal_pair_{t}(x, y, address, at):
    u1, u2 = {pair}
    place, bits = {t}_at(address), {bits}_at(address)
    place[at] = u1
    e = (bits[at] - {half}) >> {shift}
    bits[at] = ({bias} - e) << {shift}
    f = u1 * place[at] - 1.0
    s = f / (2.0 + f)
    angle = 6.283185307179586 * u2
    q = np.int32(u2 * 4.0 + 0.5)
    x = (angle - q * 1.57079632673412561417e00) - q * 6.07710050630396597660e-11
    x = x - q * 2.02226624879595063154e-21
    z1, z2 = s * s, x * x
    p1, p2, p3 = normal_polynomials(z1, z2)
    h = 0.5 * f * f
    ln = e * 6.93147180369123816490e-01 - ((h - (s * (h + z1 * p1) + e * 1.90821492927058770002e-10)) - f)
    radius = math.sqrt(-2.0 * ln)
    s = x + z2 * x * p2
    c = 1.0 - (0.5 * z2 - z2 * z2 * p3)
    odd = q & 1
    even = 1 - odd
    radius = (1 - (q & 2)) * radius
    return radius * (even * c - odd * s), radius * (odd * c + even * s)
"""

_PAIRS = {
    "float32": {
        "t": "float32",
        "pair": "((x & 0xFFFFFFFF) + 1) * 2.0**-32, (y & 0xFFFFFFFF) * 2.0**-32",
        "bits": "int32",
        "half": "0x3F3504F3",
        "shift": "23",
        "bias": "127",
    },
    "float64": {
        "t": "float64",
        "pair": "1.0 - ((x >> 11) & 0x1FFFFFFFFFFFFF) * 2.0**-53, ((y >> 11) & 0x1FFFFFFFFFFFFF) * 2.0**-53",
        "bits": "int64",
        "half": "0x3FE6A09E667F3BCD",
        "shift": "52",
        "bias": "1023",
    },
}

#: `low + floor(x (high - low) / 2^128)`: the long multiplication of x = (w0, w1, w2, w3) with the words f0
#: and f1 of the width, word by word of x; no partial sum can overflow 64 bits. A width of 2^64 is 0 here.
_INTEGER = """\
@njit(forceinline=True)
def integer_between(x, y, low, high):
    f0, f1 = (high - low) & 0xFFFFFFFF, ((high - low) >> 32) & 0xFFFFFFFF
    w1, w2, w3 = (x >> 32) & 0xFFFFFFFF, y & 0xFFFFFFFF, (y >> 32) & 0xFFFFFFFF
    t = w1 * f0 + ((((x & 0xFFFFFFFF) * f0) >> 32) & 0xFFFFFFFF)
    s = (x & 0xFFFFFFFF) * f1 + (t & 0xFFFFFFFF)
    t = w2 * f0 + ((t >> 32) & 0xFFFFFFFF)
    s = w1 * f1 + ((s >> 32) & 0xFFFFFFFF) + (t & 0xFFFFFFFF)
    t = w3 * f0 + ((t >> 32) & 0xFFFFFFFF)
    s = w2 * f1 + ((s >> 32) & 0xFFFFFFFF) + (t & 0xFFFFFFFF)
    t = w3 * f1 + ((t >> 32) & 0xFFFFFFFF) + ((s >> 32) & 0xFFFFFFFF)
    return low + (y if high == low else t)
"""

_UNIFORM_FLOAT64 = """\
@njit(fastmath=set())
def fill_uniform_float64(address, first, count, key, counter):
    out = float64_at(address)
    block, full = first // 2, count // 2
    for b in range(full):
        x, y = philox(block + b, key, counter)
        out[2 * b] = ((x >> 11) & 0x1FFFFFFFFFFFFF) * 2.0**-53
        out[2 * b + 1] = ((y >> 11) & 0x1FFFFFFFFFFFFF) * 2.0**-53
    if count & 1:
        x, y = philox(block + full, key, counter)
        out[2 * full] = ((x >> 11) & 0x1FFFFFFFFFFFFF) * 2.0**-53
"""

_UNIFORM_FLOAT32 = """\
@njit(fastmath=set())
def fill_uniform_float32(address, first, count, key, counter):
    out = float32_at(address)
    block, full = first // 4, count // 4
    for b in range(full):
        x, y = philox(block + b, key, counter)
        out[4 * b] = ((x >> 8) & 0xFFFFFF) * 2.0**-24
        out[4 * b + 1] = ((x >> 40) & 0xFFFFFF) * 2.0**-24
        out[4 * b + 2] = ((y >> 8) & 0xFFFFFF) * 2.0**-24
        out[4 * b + 3] = ((y >> 40) & 0xFFFFFF) * 2.0**-24
    for k in range(count & 3):
        x, y = philox(block + full, key, counter)
        word = (y if k & 2 else x) >> (8 + 32 * (k & 1))
        out[4 * full + k] = (word & 0xFFFFFF) * 2.0**-24
"""

_NORMAL_FLOAT64 = """\
@njit(fastmath=set())
def fill_normal_float64(address, first, count, key, counter):
    out = float64_at(address)
    block, full = first // 2, count // 2
    for b in range(full):
        x, y = philox(block + b, key, counter)
        out[2 * b], out[2 * b + 1] = normal_pair_float64(x, y, address, 2 * b)
    if count & 1:
        x, y = philox(block + full, key, counter)
        c, s = normal_pair_float64(x, y, address, 2 * full)
        out[2 * full] = c
"""

_NORMAL_FLOAT32 = """\
@njit(fastmath=set())
def fill_normal_float32(address, first, count, key, counter):
    out = float32_at(address)
    block, full = first // 4, count // 4
    for b in range(full):
        x, y = philox(block + b, key, counter)
        out[4 * b], out[4 * b + 1] = normal_pair_float32(x, x >> 32, address, 4 * b)
        out[4 * b + 2], out[4 * b + 3] = normal_pair_float32(y, y >> 32, address, 4 * b + 2)
    for k in range(count & 3):
        x, y = philox(block + full, key, counter)
        word = y if k & 2 else x
        c, s = normal_pair_float32(word, word >> 32, address, 4 * full + k)
        out[4 * full + k] = s if k & 1 else c
"""

_INTEGERS_SAME = """\
@njit
def fill_integers_{t}(address, first, count, key, counter, low, high):
    out = {t}_at(address)
    for b in range(count):
        x, y = philox(first + b, key, counter)
        out[b] = integer_between(x, y, low, high)
"""

_INTEGERS_EACH = """\
@njit
def fill_integers_each_{t}(address, first, count, key, counter, lows, highs):
    out, low, high = {t}_at(address), int64_at(lows), int64_at(highs)
    for b in range(count):
        x, y = philox(first + b, key, counter)
        out[b] = integer_between(x, y, low[b], high[b])
"""


@dataclass(frozen=True, slots=True)
class _Fill:
    """The texts of a function that fills, those that it calls first, and the elements of a block."""

    texts: tuple[str, ...]
    per_block: int


def _normal(dtype: str) -> tuple[str, ...]:
    return _PHILOX, _POLYNOMIALS, _NORMAL_PAIR.format_map(_PAIRS[dtype])


_FILLS: dict[tuple[str, str], _Fill] = {
    ("uniform", "float32"): _Fill((_PHILOX, _UNIFORM_FLOAT32), 4),
    ("uniform", "float64"): _Fill((_PHILOX, _UNIFORM_FLOAT64), 2),
    ("normal", "float32"): _Fill((*_normal("float32"), _NORMAL_FLOAT32), 4),
    ("normal", "float64"): _Fill((*_normal("float64"), _NORMAL_FLOAT64), 2),
    **{("integers", t): _Fill((_PHILOX, _INTEGER, _INTEGERS_SAME.format(t=t)), 1) for t in _INTEGERS},
    **{("integers_each", t): _Fill((_PHILOX, _INTEGER, _INTEGERS_EACH.format(t=t)), 1) for t in _INTEGERS},
}


def name(distribution: str, dtype: str) -> str:
    """The name of the function that fills with elements of `dtype`, NumPy's name of it.

    `distribution` is `"uniform"`, `"normal"`, `"integers"` or `"integers_each"`.
    """
    assert (distribution, dtype) in _FILLS, (distribution, dtype)
    return f"fill_{distribution}_{dtype}"


def per_block(distribution: str, dtype: str) -> int:
    """How many elements a block of Philox makes; a range of a draw begins at a multiple of it."""
    return _FILLS[distribution, dtype].per_block


def helpers(wanted: Iterable[tuple[str, str]]) -> str:
    """The text of the functions for pairs of a distribution and a dtype, with all that they call."""
    texts = dict.fromkeys(text for pair in wanted for text in _FILLS[pair].texts)
    return "".join(text + "\n\n" for text in texts)
