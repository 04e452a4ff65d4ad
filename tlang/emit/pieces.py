"""The functions that every text of kernels finds, as LLVM.

A piece is a function of a translation under way and of its arguments; it writes what is needed there and
gives the result. For real arguments that are float32 or float64: where one is float32 the others are
converted to it, so that a plain literal serves both. None of the pieces for real numbers branches or calls,
so that loops over them become vector code (`fma` is a call of the C library on a computer without such an
instruction).

`maximum(x, y)` and `minimum(x, y)` are NaN if either is. `fma(x, y, z)` is `x * y + z`, rounded once;
`polynomial(x, c)` is `c[0] + c[1] * x + ...` in Horner's way with it. `select(c, x, y)` is `x if c else y`
without a branch. `copysign` is that of `math`.

The others know how a number lies in memory. `n` stands for an integer added to 1.5 * 2**52 or 1.5 * 2**23,
which rounds the sum to an integer and leaves it in its lowest bits. `power(n, d)` is `2.0**(n + d)`, and is
right where that is a normal number; `negated(x, n)` is `-x` for odd `n`. `split(x)` is `(m, k)`, with
x = m * 2**k and m of [sqrt(1/2), sqrt(2)), for normal x > 0.

`barrier(p, n)` returns when `n` threads have called it: `p[0]` counts them, `p[1]` the times.
`invoke(entry, table, tid, nt, last)` calls compiled code by its address, `clock_gettime(p)` puts the seconds
and nanoseconds of a steady clock into the two words at the address `p`, and `cblas_float64(...)` is
`cblas_dgemm`, with addresses in the place of pointers. What they and `barrier` need of the computer,
`tlang_clock`, `tlang_pause` and `tlang_dgemm`, is not defined in a text: whoever loads it has it.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tlang.emit.instructions import Instructions
from tlang.emit.kinds import (
    BOOL,
    F32,
    F64,
    I32,
    I64,
    LLVM,
    Kind,
    LowerError,
    Pointer,
    Value,
    constant,
    is_float,
    is_signed,
    llvm,
)


def division(symbol: str, kind: str, floor: bool) -> str:
    """The function of floor division of integers, or of its rest: 0 by 0, no trap for the least by -1."""
    t = llvm(kind)
    if not is_signed(kind):
        name = "udiv" if floor else "urem"
        body = [f"%r = {name} {t} %x, %y", f"ret {t} %r"]
    else:
        changed, usual = ("%less", "%q") if floor else ("%more", "%r")
        body = [
            f"%minus = icmp eq {t} %y, -1",
            "br i1 %minus, label %negative, label %usual",
            "negative:",
            f"%negated = sub {t} 0, %x",
            f"ret {t} {'%negated' if floor else '0'}",
            "usual:",
            f"%q = sdiv {t} %x, %y",
            f"%r = srem {t} %x, %y",
            f"%differ = xor {t} %r, %y",
            f"%opposed = icmp slt {t} %differ, 0",
            f"%left = icmp ne {t} %r, 0",
            "%adjust = and i1 %opposed, %left",
            f"%less = sub {t} %q, 1",
            f"%more = add {t} %r, %y",
            f"%result = select i1 %adjust, {t} {changed}, {t} {usual}",
            f"ret {t} %result",
        ]
    lines = [
        f"%none = icmp eq {t} %y, 0",
        "br i1 %none, label %zero, label %some",
        "zero:",
        f"ret {t} 0",
        "some:",
        *body,
    ]
    head = f"define internal {t} @{symbol}({t} %x, {t} %y) nounwind {{"
    return "\n".join([head, *(x if x.endswith(":") else "  " + x for x in lines), "}"])


# ---------------------------------------------------------------- real numbers


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a real number lies in memory: its word, digits after the point, the bias of exponents, the bits of
    sqrt(1/2), and the number whose last digit is 1.
    """

    word: str
    digits: int
    bias: int
    half: int
    shift: float


_LAYOUTS = {
    F64: _Layout("int64", 52, 1023, 0x3FE6A09E667F3BCD, 1.5 * 2**52),
    F32: _Layout("int32", 23, 127, 0x3F3504F3, 1.5 * 2**23),
}
_SUFFIX = {F64: "f64", F32: "f32"}


def _alike(f: Instructions, args: Sequence[Value]) -> list[Value]:
    """Real arguments of one kind."""
    flat = [k for a in args for k in (a.parts or (a,))]
    kind = F32 if any(a.kind == F32 for a in flat) else F64
    made = []
    for a in args:
        parts = tuple(f.convert(p, kind) for p in a.parts)
        made.append(Value(tuple(p.kind for p in parts), "", parts=parts) if parts else f.convert(a, kind))
    return made


def _wanted(found: Value | None) -> Value:
    assert found is not None
    return found


def _intrinsic(name: str) -> Callable[[Instructions, Sequence[Value]], Value]:
    """A function of LLVM's own of real numbers."""

    def piece(f: Instructions, args: Sequence[Value]) -> Value:
        given = _alike(f, args)
        kind = str(given[0].kind)
        return _wanted(f.external(f"llvm.{name}.{_SUFFIX[kind]}", kind, given))

    return piece


def _library(name: str) -> Callable[[Instructions, Sequence[Value]], Value]:
    """A function of the C library of real numbers."""

    def piece(f: Instructions, args: Sequence[Value]) -> Value:
        given = _alike(f, args)
        kind = str(given[0].kind)
        return _wanted(f.external(name + ("f" if kind == F32 else ""), kind, given))

    return piece


def _polynomial(f: Instructions, args: Sequence[Value]) -> Value:
    x, c = _alike(f, args)
    *rest, value = c.parts
    for part in reversed(rest):
        value = PIECES["fma"](f, [x, value, part]) or value
    return value


def _select(f: Instructions, args: Sequence[Value]) -> Value:
    condition = f.convert(args[0], BOOL)
    x, y = _alike(f, args[1:])
    return f.let(x.kind, f"select i1 {condition.text}, {f.operand(x)}, {f.operand(y)}")


def _bits(f: Instructions, x: Value) -> Value:
    word = _LAYOUTS[str(x.kind)].word
    return f.let(word, f"bitcast {f.operand(x)} to {LLVM[word]}")


def _number(f: Instructions, bits: Value, kind: Kind) -> Value:
    return f.let(kind, f"bitcast {f.operand(bits)} to {llvm(kind)}")


def _power(f: Instructions, args: Sequence[Value]) -> Value:
    n, d = _alike(f, args)
    at = _LAYOUTS[str(n.kind)]
    word = LLVM[at.word]
    d = f.convert(d, at.word)
    d = f.let(at.word, f"add {word} {d.text}, {at.bias}")
    e = f.let(at.word, f"add {word} {_bits(f, n).text}, {d.text}")
    return _number(f, f.let(at.word, f"shl {word} {e.text}, {at.digits}"), n.kind)


def _negated(f: Instructions, args: Sequence[Value]) -> Value:
    x, n = _alike(f, args)
    at = _LAYOUTS[str(n.kind)]
    word = LLVM[at.word]
    sign = f.let(at.word, f"shl {word} {_bits(f, n).text}, {int(word[1:]) - 1}")
    return _number(f, f.let(at.word, f"xor {word} {_bits(f, x).text}, {sign.text}"), x.kind)


def _split(f: Instructions, args: Sequence[Value]) -> Value:
    (x,) = _alike(f, args)
    kind = str(x.kind)
    at = _LAYOUTS[kind]
    word, bits = LLVM[at.word], _bits(f, x)
    k = f.let(at.word, f"sub {word} {bits.text}, {at.half}")
    k = f.let(at.word, f"ashr {word} {k.text}, {at.digits}")
    e = f.let(at.word, f"shl {word} {k.text}, {at.digits}")
    m = _number(f, f.let(at.word, f"sub {word} {bits.text}, {e.text}"), kind)
    shift = constant(kind, at.shift)
    known = struct.unpack("<q" if kind == F64 else "<i", struct.pack("<d" if kind == F64 else "<f", at.shift))
    n = _number(f, f.let(at.word, f"add {word} {k.text}, {known[0]}"), kind)
    k = f.let(kind, f"fsub {llvm(kind)} {n.text}, {shift.text}")
    return Value((kind, kind), "", parts=(m, k))


def _abs(f: Instructions, args: Sequence[Value]) -> Value:
    (x,) = args
    kind = str(x.kind)
    if is_float(kind):
        return _intrinsic("fabs")(f, args)
    if not is_signed(kind):
        return x
    word = LLVM[kind]
    return _wanted(f.external(f"llvm.abs.{word}", kind, [x, constant(BOOL, False)]))


def _finite(f: Instructions, args: Sequence[Value]) -> Value:
    return _magnitude(f, args, "olt")


def _infinite(f: Instructions, args: Sequence[Value]) -> Value:
    return _magnitude(f, args, "oeq")


def _magnitude(f: Instructions, args: Sequence[Value], how: str) -> Value:
    """How the magnitude of a number compares to infinity."""
    (x,) = [f.as_real(a) for a in args]
    size = _intrinsic("fabs")(f, [x])
    return f.let(BOOL, f"fcmp {how} {f.operand(size)}, {constant(size.kind, float('inf')).text}")


def _nan(f: Instructions, args: Sequence[Value]) -> Value:
    (x,) = [f.as_real(a) for a in args]
    return f.let(BOOL, f"fcmp uno {f.operand(x)}, {x.text}")


# ---------------------------------------------------------------- integers, threads, other code


def _extreme(name: str) -> Callable[[Instructions, Sequence[Value]], Value]:
    """The least or the greatest of integers."""

    def piece(f: Instructions, args: Sequence[Value]) -> Value:
        found, *rest = args
        for other in rest:
            x, y = f.common(found, other)
            if is_float(str(x.kind)):
                raise LowerError("of floats there are `maximum` and `minimum`")
            letter = "s" if is_signed(str(x.kind)) else "u"
            found = _wanted(f.external(f"llvm.{letter}{name}.{llvm(x.kind)}", x.kind, [x, y]))
        return found

    return piece


#: So often a waiting thread looks; then it sleeps for a while, so that others come to run.
_SPINS = 8192
_BARRIER = f"""\
define internal void @barrier(ptr %counter, i64 %threads) nounwind noinline {{
entry:
  %turn = getelementptr i64, ptr %counter, i64 1
  %before = load atomic i64, ptr %turn acquire, align 8
  %arrived = atomicrmw add ptr %counter, i64 1 acq_rel
  %all = add i64 %arrived, 1
  %last = icmp eq i64 %all, %threads
  br i1 %last, label %release, label %spin
release:
  store atomic i64 0, ptr %counter monotonic, align 8
  %next = add i64 %before, 1
  store atomic i64 %next, ptr %turn release, align 8
  ret void
spin:
  %count = phi i64 [0, %entry], [%more, %again], [{_SPINS}, %rest]
  %now = load atomic i64, ptr %turn acquire, align 8
  %over = icmp ne i64 %now, %before
  br i1 %over, label %done, label %again
again:
  call void @tlang_pause()
  %more = add i64 %count, 1
  %long = icmp sgt i64 %more, {_SPINS}
  br i1 %long, label %rest, label %spin
rest:
  %slept = call i32 @usleep(i32 20)
  br label %spin
done:
  ret void
}}
declare i32 @usleep(i32)"""


def _barrier(f: Instructions, args: Sequence[Value]) -> None:
    f.declare("barrier", _BARRIER)
    f.called("barrier", None, args)


def _invoke(f: Instructions, args: Sequence[Value]) -> Value:
    entry, *rest = [f.convert(a, I64) for a in args]
    code = f.let(Pointer(I64), f"inttoptr {f.operand(entry)} to ptr")
    return f.let(I64, f"call i64 {code.text}({', '.join(f.operand(a) for a in rest)})")


def _clock(f: Instructions, args: Sequence[Value]) -> None:
    f.called("tlang_clock", None, [f.convert(args[0], I64)])


def _gemm(kind: str) -> Callable[[Instructions, Sequence[Value]], None]:
    """`cblas_?gemm`: three words of 32 bits, sizes, and real numbers among addresses."""
    kinds = [I32] * 3 + [I64] * 3 + [kind, I64, I64, I64, I64, kind, I64, I64]
    symbol = {F64: "tlang_dgemm", F32: "tlang_sgemm"}[kind]

    def piece(f: Instructions, args: Sequence[Value]) -> None:
        f.external(symbol, None, [f.convert(a, k) for a, k in zip(args, kinds, strict=True)])

    return piece


#: Functions of the C library by Python's names for them.
_LIBRARY = {
    **{name: name for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "exp", "expm1", "log", "log1p")},
    **{name: name for name in ("log2", "log10", "erf", "erfc", "lgamma", "pow", "hypot")},
    "gamma": "tgamma",
    **{f"a{name}": f"a{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh", "tan2")},
}
#: What every text finds, by the name that it uses.
PIECES: Mapping[str, Callable[[Instructions, Sequence[Value]], Value | None]] = {
    **{f"math.{name}": _library(symbol) for name, symbol in _LIBRARY.items()},
    "np.cbrt": _library("cbrt"),
    "math.sqrt": _intrinsic("sqrt"),
    **{f"np.{name}": _intrinsic(name) for name in ("rint", "floor", "ceil", "trunc")},
    **{name: _intrinsic(name) for name in ("fma", "copysign", "maximum", "minimum")},
    "math.isfinite": _finite,
    "math.isinf": _infinite,
    "math.isnan": _nan,
    "polynomial": _polynomial,
    "select": _select,
    "power": _power,
    "negated": _negated,
    "split": _split,
    "abs": _abs,
    "max": _extreme("max"),
    "min": _extreme("min"),
    "barrier": _barrier,
    "invoke": _invoke,
    "clock_gettime": _clock,
    "cblas_float64": _gemm(F64),
    "cblas_float32": _gemm(F32),
}
