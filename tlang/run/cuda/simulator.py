"""The functions of `math` in numba-cuda's simulator: NumPy's, which give what a device gives.

Those of Python raise an error where a device gives an infinity or NaN, and take every float for one of f64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

#: Functions that NumPy has under the same name, and those that it has under another.
_SAME = (
    *("exp", "expm1", "exp2", "log", "log1p", "log2", "log10", "sqrt", "sin", "cos", "tan", "sinh", "cosh"),
    *("tanh", "copysign", "hypot", "fmod", "isnan", "isinf", "isfinite", "floor", "ceil", "trunc"),
)
_OTHER = {
    **{f"a{name}": f"arc{name}" for name in ("sin", "cos", "tan", "sinh", "cosh", "tanh")},
    "atan2": "arctan2",
    "pow": "power",
}
_OUTSIDE = {"erf": math.nan, "erfc": math.nan, "lgamma": math.inf, "gamma": math.nan}


def _one(name: str) -> Callable[[Any], Any]:
    """A function of Python's for what NumPy does not have."""
    function: Callable[[float], float] = getattr(math, name)

    def meaning(x: Any) -> Any:
        try:
            return type(x)(function(float(x)))
        except (ValueError, OverflowError):
            return type(x)(_OUTSIDE[name])

    return meaning


MATH = SimpleNamespace(
    **{name: getattr(np, name) for name in _SAME},
    **{name: getattr(np, other) for name, other in _OTHER.items()},
    **{name: _one(name) for name in _OUTSIDE},
)
