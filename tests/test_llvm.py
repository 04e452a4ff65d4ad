"""The texts of kernels as LLVM: what they compute is what Python computes of the same text."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tlang.emit.kinds import LowerError
from tlang.emit.llvm import lowered
from tlang.run.objects import compile_text, load_object

INTEGERS = [0, 1, -1, 2, 3, -3, 7, 8, -8, 100, -101, 2**40, -(2**40)]
FLOATS = [0.0, -0.0, 1.0, -1.5, 2.5, 1e300, -1e-300, math.inf, -math.inf, math.nan]


def compiled(text: str, *signature: str) -> Callable[..., int]:
    """The entry `f` of a text."""
    signatures = {"f": f"int64({', '.join(signature)})"}
    return load_object(compile_text(text, signatures))["f"]


def in_python(text: str) -> Any:
    """`f` as Python runs the same text, on lists in the place of pointers."""

    def njit(function: Any = None, **_options: Any) -> Any:
        return function or (lambda f: f)

    space: dict[str, Any] = {"math": math, "np": np, "njit": njit, "apart": njit}
    space |= {f"{t}_at": lambda x: x for t in ("int64", "float64", "bool")}
    exec(text, space)
    return space["f"]


WHOLE = {
    "floor division": "return x // y if y != 0 else 0",
    "rest": "return x % y if y != 0 else 0",
    "by constants": "return x // 8 + 3 * (x % 8) + x // 4 * 4 - y // 7 + y % 7 + y // -3 + y % -3",
    "bits": "return ((x & y) | (x ^ 5)) + ((y & 0xFFFFFFFF) >> 3) + ((x & 7) << 2) + ~y",
    "comparisons": "return (x < y) + 2 * (x <= y) + 4 * (x == y) + 8 * (x != y) + 16 * (x > y) - (x >= y)",
    "logic": "return 1 if (x > 0 and y > 0) or not (x < y or x == 3) else 0",
    "a part that is not needed": "return 10 if y == 0 or x // y > 2 else 20",
    "abs, min, max": "return abs(x) + min(x, y, 3) - max(x, y) + max(y, -2)",
    "names that change": "x = x + 1\n    y = x * y\n    x = y - x\n    return x",
    "tuples": "a, b = y, x\n    a, b = b + 1, a\n    return a * 1000 + b",
    "literals": "return 3 - 5 + 2 * 7 - -4 + x",
}
LOOPS = {
    "a sum": "s = 0\n    for i in range(n):\n        s += i * i\n    return s",
    "bounds": "s = 0\n    for i in range(2, n):\n        s = 2 * s + i\n    return s",
    "a step": "s = 0\n    for i in range(1, n, 3):\n        s += i\n    return s",
    "loops in loops": """s = 0
    for i in range(n):
        t = 0
        for j in range(i):
            t += j
        s += t * i
    return s""",
    "while": "k = 0\n    while k * k < n:\n        k = k + 1\n    return k",
    "leaving": "for i in range(n):\n        if i * i > 10:\n            return i\n    return -1",
    "branches": """s = 0
    for i in range(n):
        if i % 3 == 0:
            s += i
        elif i % 3 == 1:
            s -= 1
        else:
            s = s * 2
    return s""",
    "one name for two loops": """s = 0
    for i in range(n):
        s += i
    for i in range(2, n):
        s += 3 * i
    return s""",
    "the variable of a loop changes": """s = 0
    for i in range(n):
        i = i * 2
        s += i
    return s""",
    "memory": """s = 0
    for i in range(n):
        if flags[i]:
            s += 1
        flags[i] = i % 2 == 0
        out[i] = i / 2 - x[i]
    return s""",
}
REAL = {
    "arithmetic": "x * y + x / (y * y + 1.0) - x",
    "literals of integers": "(2 * x + 1) / 4 - y / 3",
    "comparisons": "1.0 * (x < y) + 2 * (x <= y) + 4 * (x == y) + 8 * (x != y) + 16 * (x > y) - (x >= y)",
    "signs": "-x if x < y else -(-y)",
    "kinds of numbers": "1 if math.isnan(x) else 2.0 if math.isinf(y) else 3 if math.isfinite(x) else 4.0",
    "abs": "abs(x) - abs(y)",
    "integers and floats": "x if y > 0.5 else 3",
    "a function": "g(x) * g(y)",
    "two results": "both(x, y)[0] if False else two(x, y)",
    "the C library": "math.atan2(x, y) + math.hypot(x, y) + math.erf(x)",
}
HELPERS = """
@njit
def g(t):
    u = t * 0.5
    return u * u if u > 0.0 else -u


@njit(fastmath=set())
def both(a, b):
    return a + b, a - b


@apart
def two(a, b):
    p, q = both(a, b)
    return p * 2.0 - q


"""


@pytest.mark.parametrize("body", WHOLE.values(), ids=WHOLE)
def test_integers(body: str) -> None:
    text = f"def f(x, y):\n    {body}\n"
    f, wanted = compiled(text, "int64", "int64"), in_python(text)
    for x in INTEGERS:
        for y in INTEGERS:
            w = (int(wanted(x, y)) + 2**63) % 2**64 - 2**63
            assert f(x, y) == w, (x, y)


@pytest.mark.parametrize("body", LOOPS.values(), ids=LOOPS)
def test_statements(body: str) -> None:
    text = f"""
def f(n, x, flags, out):
    x = float64_at(x)
    flags = bool_at(flags)
    out = float64_at(out)
    {body}
"""
    f, wanted = compiled(text, *["int64"] * 4), in_python(text)
    for n in (0, 1, 2, 3, 10):
        found, other = ([np.linspace(0, 1, 10), np.array([True, False] * 5), np.zeros(10)] for _ in range(2))
        result = f(n, *(a.ctypes.data for a in found))
        assert result == wanted(n, *other)
        for a, b in zip(found, other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("expression", REAL.values(), ids=REAL)
def test_real_numbers(expression: str) -> None:
    expression = expression.replace("both(x, y)[0] if False else ", "")
    text = f"{HELPERS}def f(x, y, out):\n    float64_at(out)[0] = {expression}\n    return 0\n"
    out = np.zeros(1)
    f, wanted = compiled(text, "float64", "float64", "int64"), in_python(text)
    for x in FLOATS:
        for y in FLOATS:
            with np.errstate(all="ignore"):
                f(x, y, out.ctypes.data)
                other = [0.0]
                try:
                    wanted(x, y, other)
                except ZeroDivisionError:
                    continue
            np.testing.assert_allclose(out, other, rtol=1e-15)


@pytest.mark.parametrize(
    "dtype", ["int8", "int16", "int32", "uint8", "uint16", "uint32", "uint64", "float32"]
)
def test_dtypes(dtype: str) -> None:
    """Narrow numbers compute with 64 bits, and wrap where they are stored or converted."""
    text = f"""
def f(x, y, out, n):
    x = {dtype}_at(x)
    y = {dtype}_at(y)
    out = {dtype}_at(out)
    for i in range(n):
        out[i] = np.{dtype}(x[i] * y[i] + np.{dtype}(3))
    return 0
"""
    rng = np.random.default_rng(1)
    x, y = (rng.integers(0, 120, 1000).astype(dtype) for _ in range(2))
    out = np.zeros_like(x)
    compiled(text, *["int64"] * 4)(x.ctypes.data, y.ctypes.data, out.ctypes.data, 1000)
    np.testing.assert_array_equal(out, x * y + np.dtype(dtype).type(3))


def test_float32_stays_narrow() -> None:
    text = """
def f(x):
    x = float32_at(x)
    x[0] = math.sqrt(x[0] * x[1]) + np.float32(0.1)
    return 0
"""
    made = lowered(text, {"f": "int64(int64)"})
    assert "fpext" not in made
    assert "llvm.sqrt.f32" in made
    x = np.array([2.0, 3.0], np.float32)
    compiled(text, "int64")(x.ctypes.data)
    assert x[0] == np.sqrt(np.float32(6)) + np.float32(0.1)


def test_flags() -> None:
    """Those of the text, and those of a function where it names its own."""
    text = f"{HELPERS}def f(x):\n    x = float64_at(x)\n    x[0] = two(x[0], x[1]) * 2.0\n    return 0\n"
    made = lowered(text, {"f": "int64(int64)"}, {"contract", "arcp"})
    assert "fmul arcp contract double" in made
    assert "fadd double" in made
    assert made.count("noinline") == 1


def test_the_least_integer() -> None:
    """Where Python's result has no place the code wraps; it never traps."""
    least = -(2**63)
    divide = compiled("def f(x, y):\n    return x // y\n", "int64", "int64")
    rest = compiled("def f(x, y):\n    return x % y\n", "int64", "int64")
    assert (divide(least, -1), rest(least, -1)) == (least, 0)
    assert (divide(5, 0), rest(5, 0)) == (0, 0)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("return unknown(x)", "`unknown` is no function of kernels"),
        ("return y", "`y` has no value"),
        ("return x.real", "not an expression of kernels: x.real"),
        ("import math", "not a statement of kernels: import math"),
        ("x[0] = 1\n    return 0", "x is no pointer"),
        ("return 1.5", "`f` gives float64 and not int64"),
        ("x = x + 1", "`f` gives nothing and not int64"),
        ("if x > 0:\n        return 1", "`tlang_f` may end without a result"),
        ("s = 0\n    if x > 0:\n        s = 1.5\n    return x", "`s` is float64 after it was int64"),
        ("return 'a'", "not an expression of kernels: 'a'"),
        ("return 7.0 // 2.0", "no floor division of floats"),
        ("return x ** 2", "`**` is for literals"),
    ],
)
def test_what_is_not_of_the_language(body: str, reason: str) -> None:
    with pytest.raises(LowerError) as caught:
        lowered(f"def f(x):\n    {body}\n", {"f": "int64(int64)"})
    assert reason in str(caught.value)
