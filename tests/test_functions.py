"""Our elementary functions against extended precision: at most 4 ulp, and NumPy's special values."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest

import tlang
from tlang.emit.functions import _OWN, BINARY, BOUNDS, Names, helpers
from tlang.run.build import FLAGS
from tlang.run.objects import compile_text, load_object, optimised
from tlang.types import F32, F64

WIDE = np.longdouble
ORACLES: dict[str, Callable[[Any], Any]] = {
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "expm1": np.expm1,
    "log2": np.log2,
    "log10": np.log10,
    "sin": np.sin,
    "cos": np.cos,
    "tan": np.tan,
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "exp2": np.exp2,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
}
PAIRS: dict[str, Callable[[Any, Any], Any]] = {"pow": np.power, "atan2": np.arctan2}
#: What NumPy lacks: mpmath has it.
SLOW: dict[str, Callable[[float], Any]] = {
    "erf": lambda x: mpmath.erf(x) if x else mpmath.mpf(0),
    "erfc": lambda x: mpmath.erfc(x) if not abs(x) > 40 else mpmath.mpf(0 if x > 0 else 2),
}
#: What others are written with.
PARTS = {
    "between",
    "reduced",
    "raised",
    "log_series",
    "sine",
    "scaled",
    "error_parts",
    "atan_ratio",
    "asin_series",
}
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -5e-324, 2.3e-308, 1.7e308, -1.7e308, 1.0, -1.0]


def loop(name: str, dtype: Any) -> str:
    """The text of a loop over a function."""
    names = Names()
    names.dtype = F64 if dtype == np.float64 else F32
    called, kind = names[name], np.dtype(dtype).name
    given = "x[i], y[i]" if name in BINARY else "x[i]"
    return helpers(names) + (
        f"def loop(a, b, n):\n    x = {kind}_at(a)\n    y = {kind}_at(b)\n"
        f"    for i in range(n):\n        y[i] = {called}({given})\n    return 0\n"
    )


def run(name: str, dtype: Any, x: Any, y: Any = None) -> Any:
    code = compile_text(loop(name, dtype), {"loop": "int64(int64, int64, int64)"}, FLAGS)
    out = np.empty_like(x) if y is None else y.copy()
    load_object(code)["loop"](x.ctypes.data, out.ctypes.data, len(x))
    return out


def compare(name: str, found: Any, wanted: Any, *given: Any) -> None:
    """At most 4 ulp, and what is not finite is the same, signs of zeros too."""
    with np.errstate(all="ignore"):
        rounded = wanted.astype(found.dtype)
        plain = np.isfinite(rounded)
        # The greatest numbers may round to infinity.
        near = np.isinf(found) & plain & (np.abs(rounded) > 0.9999999 * np.finfo(found.dtype).max)
        np.testing.assert_array_equal(found[~plain & ~np.isinf(found)], rounded[~plain & ~np.isinf(found)])
        plain &= ~near
        ulp = np.spacing(np.abs(rounded[plain])).astype(WIDE)
        error = np.abs(found[plain].astype(WIDE) - wanted[plain]) / ulp
    worst = int(np.argmax(error))
    where = ", ".join(repr(x[plain][worst]) for x in given)
    assert error[worst] <= 4, f"{name}({where}): {float(error[worst])} ulp"
    zeros = (found == 0) & (rounded == 0)
    np.testing.assert_array_equal(np.signbit(found[zeros]), np.signbit(rounded[zeros]))


needs_precision = pytest.mark.skipif(
    np.finfo(WIDE).nmant < 63, reason="no extended precision on this computer"
)


def everywhere(dtype: Any, count: int, seed: int) -> Any:
    """Numbers of all exponents."""
    bits = np.uint64 if dtype == np.float64 else np.uint32
    return np.random.default_rng(seed).integers(0, np.iinfo(bits).max, count, dtype=bits).view(dtype)


@needs_precision
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", sorted(ORACLES))
def test_error(name: str, dtype: Any) -> None:
    assert set(ORACLES) | set(PAIRS) | set(SLOW) | PARTS == set(_OWN)
    rng = np.random.default_rng(2)
    with np.errstate(all="ignore"):
        x = np.concatenate(
            [
                everywhere(dtype, 200_000, 2),
                rng.normal(size=100_000).astype(dtype),
                rng.uniform(-760, 720, 200_000).astype(dtype),
                rng.uniform(-1, 1, 100_000).astype(dtype),
                (1 + rng.normal(size=100_000) * 1e-3).astype(dtype),
                (rng.normal(size=50_000) * 10.0 ** rng.uniform(-20, 0, 50_000)).astype(dtype),
                (np.pi / 2 * rng.integers(-2000, 2000, 50_000)).astype(dtype),
                (np.pi / 2 * rng.integers(-(10**8), 10**8, 50_000)).astype(dtype),
                np.array(SPECIAL).astype(dtype),
            ]
        )
        x = x[~(np.isfinite(x) & (np.abs(x) > BOUNDS.get(name, np.inf)))]
        wanted = ORACLES[name](x.astype(WIDE))
    compare(name, run(name, dtype, x), wanted, x)


@needs_precision
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", sorted(PAIRS))
def test_error_of_functions_of_two_numbers(name: str, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    near = np.array([*SPECIAL, 2.0, -2.0, 3.0, 0.5, -0.5, 1e300, 1e-300, 1.5, -3.5, 2.0**53, 4.0])
    count = 100_000
    with np.errstate(all="ignore"):
        special = near.astype(dtype)
        pairs = [
            (everywhere(dtype, count, 4), everywhere(dtype, count, 5)),
            (np.abs(everywhere(dtype, count, 6)), rng.uniform(-2, 2, count).astype(dtype)),
            (rng.lognormal(0, 2, count).astype(dtype), rng.uniform(-100, 100, count).astype(dtype)),
            ((1 + rng.normal(size=count) * 1e-3).astype(dtype), (rng.normal(size=count) * 1e4).astype(dtype)),
            (rng.normal(size=count).astype(dtype), rng.integers(-300, 300, count).astype(dtype)),
            (rng.normal(size=count).astype(dtype), rng.normal(size=count).astype(dtype)),
            (np.repeat(special, len(special)), np.tile(special, len(special))),
        ]
        x, y = (np.concatenate(part) for part in zip(*pairs, strict=True))
        wanted = PAIRS[name](x.astype(WIDE), y.astype(WIDE))
    compare(name, run(name, dtype, x, y), wanted, x, y)


@needs_precision
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", sorted(SLOW))
def test_error_against_mpmath(name: str, dtype: Any) -> None:
    rng = np.random.default_rng(4)
    with np.errstate(all="ignore"):
        x = np.concatenate(
            [
                everywhere(dtype, 2000, 7),
                rng.uniform(-7, 28, 6000).astype(dtype),
                rng.uniform(-3, 3, 4000).astype(dtype),
                (rng.normal(size=500) * 10.0 ** rng.uniform(-20, 0, 500)).astype(dtype),
                np.array([*SPECIAL, 0.84375, 1.25, 1 / 0.35, 6.0, 26.5, 27.2]).astype(dtype),
            ]
        )
    with mpmath.workprec(80):
        wanted = np.array([wide(SLOW[name](float(v))) for v in x])
    if name == "erf":  # mpmath has one zero
        wanted = np.where(x == 0, x, wanted)
    compare(name, run(name, dtype, x), wanted, x)


def wide(number: Any) -> Any:
    """A number of mpmath in extended precision, in two parts."""
    high = float(number)
    return WIDE(high) + WIDE(float(number - high)) if np.isfinite(high) else WIDE(high)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="another assembly language")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", sorted({**ORACLES, **PAIRS, **SLOW}))
def test_loops_are_vector_code(name: str, dtype: Any) -> None:
    """Arithmetic of packed numbers, and nothing is called."""
    module, machine = optimised(loop(name, dtype), {"loop": "int64(int64, int64, int64)"}, FLAGS)
    assembly = machine.emit_assembly(module)
    assert re.search(r"\tv?f?n?(m?add|mul|sub)\w*p[ds]\t", assembly)
    assert not re.search(r"\tcall\w*\t", assembly)


@pytest.mark.parametrize("dtype", ["f64", "f32"])
@pytest.mark.parametrize("scale", [1.0, 1e7, 1e12, 1e30])
@pytest.mark.parametrize("shape", [(3, 7), (40, 3000)])
def test_arguments_beyond_the_bounds(dtype: str, scale: float, shape: tuple[int, int]) -> None:
    """A loop that meets one is run again, with the C library's functions."""
    text = f"""
        tensor x: {dtype}[n, m]
        tensor y: {dtype}[m]
        function f(x, y) = (sin(x) + 2 * cos(y), tan(x), sum(sin(x) * cos(y)), sin(sum(x, axis=1)), x[0, 0])
        function g(x) = (sin(x[0, 0]), sum(cos(x), axis=0))
    """
    kind = np.float64 if dtype == "f64" else np.float32
    rng = np.random.default_rng(3)
    x = rng.normal(size=shape).astype(kind)
    x[1, 2] *= scale
    y = x[1] + x[2]
    compiled, plain = tlang.compile(text, "cpu"), tlang.compile(text, "numpy")
    tolerance = {"rtol": 1e-9, "atol": 1e-12} if dtype == "f64" else {"rtol": 2e-5, "atol": 1e-3}
    for found, wanted in zip(compiled.f(x, y)[:3], plain.f(x, y)[:3], strict=True):
        np.testing.assert_allclose(found, wanted, **tolerance)
    for found, wanted in zip(compiled.g(x), plain.g(x), strict=True):
        np.testing.assert_allclose(found, wanted, **tolerance)
    x[1, 2] = np.inf
    assert np.isnan(compiled.f(x, y)[0]).sum() == 1
    assert np.isnan(compiled.f(x, y)[2])
