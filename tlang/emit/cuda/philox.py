"""Draws in CUDA kernels, written out where they are: the bits of `tlang.run.rng`, like `tlang.emit.random`.

Uniforms and integers are those of the interpreter bit for bit. Normals of f64 take the `log`, `sin` and `cos`
of the device. Those of f32 are computed in f32 alone, with what would cancel done in integers: near u1 = 1
the logarithm is `log1p` of the exact distance from 1, and the angle is reduced to an eighth of a turn before
it becomes a float. For that little, sine and cosine are the polynomials of Cephes: those of the device have
a part for great angles that computes in f64.

All words are int64; of products of two halves only the bits that are asked for matter.
"""

from __future__ import annotations

from tlang.emit import random
from tlang.emit.text import Text, typed
from tlang.graph.node import Node
from tlang.types import F32, F64

_LOW = "0xFFFFFFFF"
#: For x of at most an eighth of a turn and z = x^2: `x + x z P(z)`, and `1 - z / 2 + z^2 Q(z)`.
_SINE = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_COSINE = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)


def per_block(node: Node) -> int:
    """How many numbers of a draw one block of the generator makes."""
    return random.per_block(node.attr("distribution"), node.dtype.numpy_name)


def words_of(out: Text, depth: int, node: Node, block: str, state: str) -> list[str]:
    """The numbers of one block of a draw, as expressions, after the lines that compute them."""
    x, y = _philox(out, depth, block, state)
    kind = node.attr("distribution"), node.dtype
    if kind == ("uniform", F64):
        return [_uniform64(x), _uniform64(y)]
    if kind == ("uniform", F32):
        return [_uniform32(w, shift) for w in (x, y) for shift in (8, 40)]
    if kind == ("normal", F64):
        return list(_normal64(out, depth, x, y))
    if kind == ("normal", F32):
        return [n for w in (x, y) for n in _normal32(out, depth, w, f"({w} >> 32)")]
    return [_integer(out, depth, node, x, y)]


def elements_of(out: Text, depth: int, node: Node, place: str, state: str) -> str:
    """The variable of one number of a draw, that of a place in it."""
    each = per_block(node)
    i = out.name("i")
    out.put(depth, f"{i} = {place}")
    x, y = _philox(out, depth, f"{i} // {each}" if each > 1 else i, state)
    kind = node.attr("distribution"), node.dtype
    made = out.name("v")
    if node.attr("distribution") == "integers":
        out.put(depth, f"{made} = {_integer(out, depth, node, x, y)}")
        return made
    if kind == ("normal", F64):
        one, other = _normal64(out, depth, x, y)
        out.put(depth, f"{made} = {other} if {i} & 1 else {one}")
        return made
    word = out.name("w")
    if kind == ("uniform", F64):
        out.put(depth, f"{word} = {y} if {i} & 1 else {x}")
        out.put(depth, f"{made} = {_uniform64(word)}")
        return made
    out.put(depth, f"{word} = {y} if {i} & 2 else {x}")
    if kind == ("uniform", F32):
        out.put(depth, f"{word} = {word} >> (40 if {i} & 1 else 8)")
        out.put(depth, f"{made} = {_uniform32(word, 0)}")
        return made
    one, other = _normal32(out, depth, word, f"({word} >> 32)")
    out.put(depth, f"{made} = {other} if {i} & 1 else {one}")
    return made


def _philox(out: Text, depth: int, block: str, state: str) -> tuple[str, str]:
    """The two words of a block: see `tlang.emit.random`."""
    k0, k1, c0, c1, c2, c3, p0, p1 = (out.name("r") for _ in range(8))
    x, y = out.name("w"), out.name("w")
    for line in (
        f"{k0} = {state}[0]",
        f"{k1} = {k0} >> 32",
        f"{c0} = np.int64({block})",
        f"{c1} = {c0} >> 32",
        f"{c2} = {state}[1]",
        f"{c3} = {c2} >> 32",
        "for _ in range(10):",
        f"    {p0} = ({c0} & {_LOW}) * 0xD2511F53",
        f"    {p1} = ({c2} & {_LOW}) * 0xCD9E8D57",
        f"    {c0} = ({p1} >> 32) ^ {c1} ^ {k0}",
        f"    {c1} = {p1}",
        f"    {c2} = ({p0} >> 32) ^ {c3} ^ {k1}",
        f"    {c3} = {p0}",
        f"    {k0} = {k0} + 0x9E3779B9",
        f"    {k1} = {k1} + 0xBB67AE85",
        f"{x} = ({c0} & {_LOW}) | ({c1} << 32)",
        f"{y} = ({c2} & {_LOW}) | ({c3} << 32)",
    ):
        out.put(depth, line)
    return x, y


def _uniform64(word: str) -> str:
    return f"np.float64(({word} >> 11) & 0x1FFFFFFFFFFFFF) * np.float64(2.0**-53)"


def _uniform32(word: str, shift: int) -> str:
    moved = f"({word} >> {shift})" if shift else word
    return f"np.float32({moved} & 0xFFFFFF) * np.float32(2.0**-24)"


def _normal64(out: Text, depth: int, x: str, y: str) -> tuple[str, str]:
    """The pair of Box and Muller; the angle is rounded before its sine is taken, as everywhere."""
    radius, angle = out.name("r"), out.name("r")
    out.put(depth, f"{radius} = math.sqrt(np.float64(-2.0) * math.log(np.float64(1.0) - {_uniform64(x)}))")
    out.put(depth, f"{angle} = np.float64(6.283185307179586) * ({_uniform64(y)})")
    return f"{radius} * math.cos({angle})", f"{radius} * math.sin({angle})"


def _normal32(out: Text, depth: int, x: str, y: str) -> tuple[str, str]:
    """The same pair in f32: u1 is 1 - v / 2^32, and the angle q eighths of two turns and what is left."""
    v, ln, radius, turn, q, angle, z, s, c, odd, even = (out.name("r") for _ in range(11))
    small, one = f"np.float32({2.0**-32!r})", "np.float32(1.0)"
    for line in (
        f"{v} = {_LOW} - ({x} & {_LOW})",
        f"if {v} < 0x80000000:",
        f"    {ln} = math.log1p(-np.float32({v}) * {small})",
        "else:",
        f"    {ln} = math.log(np.float32(0x100000000 - {v}) * {small})",
        f"{radius} = math.sqrt(np.float32(-2.0) * {ln})",
        f"{turn} = {y} & {_LOW}",
        f"{q} = ({turn} + 0x20000000) >> 30",
        f"{angle} = np.float32({turn} - ({q} << 30)) * np.float32({6.283185307179586 * 2.0**-32!r})",
        f"{z} = {angle} * {angle}",
        f"{s} = {angle} + {angle} * ({z} * {_polynomial(_SINE, z)})",
        f"{c} = {one} - {z} * np.float32(0.5) + {z} * {z} * {_polynomial(_COSINE, z)}",
        f"{odd} = {s} if {q} & 1 else {c}",
        f"{even} = {c} if {q} & 1 else {s}",
        f"{radius} = -{radius} if {q} & 2 else {radius}",
    ):
        out.put(depth, line)
    return f"{radius} * ({odd} * (np.float32(-1.0) if {q} & 1 else {one}))", f"{radius} * {even}"


def _polynomial(factors: tuple[float, float, float], z: str) -> str:
    a, b, c = (f"np.float32({x!r})" for x in factors)
    return f"(({a} * {z} + {b}) * {z} + {c})"


def _integer(out: Text, depth: int, node: Node, x: str, y: str) -> str:
    """`low + floor(x (high - low) / 2^128)`: the long multiplication of `tlang.emit.random`."""
    first, second = node.attr("bounds")
    width = second - first
    f0, f1 = width & 0xFFFFFFFF, (width >> 32) & 0xFFFFFFFF
    low = f"np.int64({(first + 2**63) % 2**64 - 2**63})"
    if width == 2**64:
        return typed(node.dtype, f"{low} + {y}")
    w1, w2, w3, t, s = (out.name("r") for _ in range(5))
    for line in (
        f"{w1} = ({x} >> 32) & {_LOW}",
        f"{w2} = {y} & {_LOW}",
        f"{w3} = ({y} >> 32) & {_LOW}",
        f"{t} = {w1} * {f0} + (((({x} & {_LOW}) * {f0}) >> 32) & {_LOW})",
        f"{s} = ({x} & {_LOW}) * {f1} + ({t} & {_LOW})",
        f"{t} = {w2} * {f0} + (({t} >> 32) & {_LOW})",
        f"{s} = {w1} * {f1} + (({s} >> 32) & {_LOW}) + ({t} & {_LOW})",
        f"{t} = {w3} * {f0} + (({t} >> 32) & {_LOW})",
        f"{s} = {w2} * {f1} + (({s} >> 32) & {_LOW}) + ({t} & {_LOW})",
        f"{t} = {w3} * {f1} + (({t} >> 32) & {_LOW}) + (({s} >> 32) & {_LOW})",
    ):
        out.put(depth, line)
    return typed(node.dtype, f"{low} + {t}")
