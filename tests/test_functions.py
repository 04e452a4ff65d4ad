"""Our elementary functions against extended precision: at most 4 ulp, and NumPy's special values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tlang.emit.functions import _OWN, Names, helpers
from tlang.run.build import FLAGS
from tlang.run.objects import compile_text, load_object
from tlang.types import F32, F64

pytest.importorskip("numba")
WIDE = np.longdouble
ORACLES: dict[str, Callable[[Any], Any]] = {
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
}
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 5e-324, -5e-324, 2.3e-308, 1.7e308, -1.7e308, 1.0, -1.0]


def run(name: str, dtype: Any, x: Any) -> Any:
    names = Names()
    names.dtype = F64 if dtype == np.float64 else F32
    called, kind = names[name], np.dtype(dtype).name
    text = helpers(names) + (
        f"def loop(a, b, n):\n    x = {kind}_at(a)\n    y = {kind}_at(b)\n"
        f"    for i in range(n):\n        y[i] = {called}(x[i])\n    return 0\n"
    )
    code = compile_text(text, {"loop": "int64(int64, int64, int64)"}, FLAGS)
    out = np.empty_like(x)
    load_object(code)["loop"](x.ctypes.data, out.ctypes.data, len(x))
    return out


@pytest.mark.skipif(np.finfo(WIDE).nmant < 63, reason="no extended precision on this computer")
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", sorted(ORACLES))
def test_error(name: str, dtype: Any) -> None:
    assert set(ORACLES) | {"reduced"} == set(_OWN)
    rng = np.random.default_rng(2)
    bits = np.uint64 if dtype == np.float64 else np.uint32
    every = rng.integers(0, np.iinfo(bits).max, 200_000, dtype=bits).view(dtype)
    with np.errstate(all="ignore"):
        x = np.concatenate(
            [
                every,
                rng.normal(size=100_000).astype(dtype),
                rng.uniform(-760, 720, 200_000).astype(dtype),
                (1 + rng.normal(size=100_000) * 1e-3).astype(dtype),
                (rng.normal(size=50_000) * 10.0 ** rng.uniform(-20, 0, 50_000)).astype(dtype),
                np.array(SPECIAL).astype(dtype),
            ]
        )
        wanted = ORACLES[name](x.astype(WIDE))
        rounded = wanted.astype(dtype)
        found = run(name, dtype, x)
        plain = np.isfinite(rounded)
        np.testing.assert_array_equal(found[~plain & ~np.isinf(found)], rounded[~plain & ~np.isinf(found)])
        ulp = np.spacing(np.abs(rounded[plain])).astype(WIDE)
        error = np.abs(found[plain].astype(WIDE) - wanted[plain]) / ulp
    worst = int(np.argmax(error))
    assert error[worst] <= 4, f"{name}({x[plain][worst]!r}): {float(error[worst])} ulp"
    zeros = (x == 0) & (rounded == 0)
    np.testing.assert_array_equal(np.signbit(found[zeros]), np.signbit(rounded[zeros]))
