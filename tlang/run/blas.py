"""BLAS for compiled code: the one that NumPy brings, by the address of its functions."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from functools import cache
from typing import Any

#: What generated code calls, the letter of the dtype in BLAS, and the names that NumPy's BLAS has for it.
_GEMM = {"tlang_dgemm": "d", "tlang_sgemm": "s"}


@cache
def symbols() -> Mapping[str, int]:
    """The addresses of `cblas_?gemm` with 64-bit integers; empty where NumPy has another BLAS."""
    found = {}
    for name, letter in _GEMM.items():
        for symbol in (f"scipy_cblas_{letter}gemm64_", f"cblas_{letter}gemm64_"):
            function = _function(symbol)
            if function is not None:
                found[name] = ctypes.cast(function, ctypes.c_void_p).value or 0
                break
    return found if len(found) == len(_GEMM) else {}


def set_threads(count: int) -> None:
    """How many threads products of matrices may use from now on, in all of this process."""
    for symbol in ("scipy_openblas_set_num_threads64_", "openblas_set_num_threads64_"):
        if (function := _function(symbol)) is not None:
            function.argtypes, function.restype = [ctypes.c_int], None
            function(count)
            return


def _function(symbol: str) -> Any:
    return getattr(_library(), symbol, None)


@cache
def _library() -> Any:
    """NumPy's extension module, through which the libraries that it is linked with are seen."""
    from importlib import import_module

    return ctypes.CDLL(import_module("numpy._core._multiarray_umath").__file__)
