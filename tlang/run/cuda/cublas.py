"""Products of matrices on the device: by cuBLAS where it is found, else by a kernel of our own.

Matrices lie row by row. Products of f32 have the precision of f32: never TF32.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from tlang.emit.cuda.product import SIZES, Tiles, tiled_text
from tlang.errors import TlangError, error
from tlang.run.cuda import gpu

#: Bytes of memory that cuBLAS may use for itself, as it recommends for its newest devices.
_WORKSPACE = 32 * 2**20
_DEFAULT_MATH = 0
_INT, _ADDRESS = ctypes.c_int, ctypes.c_void_p


def _failed(function: str, status: int) -> TlangError:
    """A call of cuBLAS that failed: the function and the number of the error."""
    return error("R176", what=f"{function}: error {status} of cuBLAS")


@dataclass(frozen=True)
class Product:
    """c = op(a) op(b), where op(a) is m x k, op(b) is k x n, and op transposes where its flag says so.

    `lda`, `ldb` and `ldc` are the steps between rows as they are stored; `strides` the steps between the
    `batch` matrices of each operand, in elements, 0 for an operand that all products share.
    """

    dtype: str
    transpose_a: bool
    transpose_b: bool
    m: int
    n: int
    k: int
    lda: int
    ldb: int
    ldc: int
    batch: int = 1
    strides: tuple[int, int, int] = (0, 0, 0)


def gemm(
    dtype: Any,
    transpose_a: bool,
    transpose_b: bool,
    m: int,
    n: int,
    k: int,
    a: gpu.Array,
    lda: int,
    b: gpu.Array,
    ldb: int,
    c: gpu.Array,
    ldc: int,
    batch: int = 1,
    strides: tuple[int, int, int] = (0, 0, 0),
) -> None:
    """Sets c to op(a) op(b), of dtype f32 or f64; see :class:`Product` for the sizes."""
    name = np.dtype(dtype).name
    prepare(Product(name, transpose_a, transpose_b, m, n, k, lda, ldb, ldc, batch, strides), a, b, c)()


def prepare(product: Product, a: gpu.Array, b: gpu.Array, c: gpu.Array) -> Callable[[], None]:
    """The product of these arrays as a call, to be done any number of times."""
    assert {a.dtype.name, b.dtype.name, c.dtype.name} == {product.dtype} <= {"float32", "float64"}
    if 0 in (product.m, product.n, product.batch):
        return _nothing
    if gpu.simulated():
        return lambda: _with_numpy(product, a, b, c)
    if product.k and found():
        return _with_cublas(product, a, b, c)
    return tiled(product, a, b, c)


def _nothing() -> None:
    """A product without elements."""


def _with_numpy(p: Product, a: gpu.Array, b: gpu.Array, c: gpu.Array) -> None:
    x = _matrices(a, (p.batch, p.k, p.m) if p.transpose_a else (p.batch, p.m, p.k), p.lda, p.strides[0])
    y = _matrices(b, (p.batch, p.n, p.k) if p.transpose_b else (p.batch, p.k, p.n), p.ldb, p.strides[1])
    out = _matrices(c, (p.batch, p.m, p.n), p.ldc, p.strides[2])
    x = x.swapaxes(1, 2) if p.transpose_a else x
    y = y.swapaxes(1, 2) if p.transpose_b else y
    out[...] = x @ y


def _matrices(array: gpu.Array, shape: tuple[int, int, int], step: int, stride: int) -> Any:
    """The matrices of an operand, as a view of the memory of the simulator."""
    assert array.host is not None
    width = array.dtype.itemsize
    return np.lib.stride_tricks.as_strided(array.host, shape, (stride * width, step * width, width))


# ---------------------------------------------------------------- cuBLAS


def found() -> bool:
    """Whether there is a cuBLAS."""
    return _library() is not None


@cache
def _library() -> Any:
    """The cuBLAS of a package, else that of the system; None where there is none of CUDA 12 or later."""
    try:
        from cuda.pathfinder import load_nvidia_dynamic_lib

        name = load_nvidia_dynamic_lib("cublas").abs_path
    except (ImportError, OSError, RuntimeError):
        name = ctypes.util.find_library("cublas") or "libcublas.so"
    try:
        library = ctypes.CDLL(name)
    except OSError:
        return None
    return library if hasattr(library, "cublasSgemm_v2_64") else None


def _call(function: str, *args: Any) -> None:
    if status := getattr(_library(), function)(*args):
        raise _failed(function, status)


@cache
def _handle() -> Any:
    """The state of cuBLAS: on the stream of all work, with memory of ours, so that it can be recorded."""
    stream, handle = gpu.stream(), _ADDRESS()
    _call("cublasCreate_v2", ctypes.byref(handle))
    _call("cublasSetStream_v2", handle, _ADDRESS(stream))
    _call("cublasSetWorkspace_v2", handle, _ADDRESS(_workspace().address), ctypes.c_size_t(_WORKSPACE))
    _call("cublasSetMathMode", handle, _DEFAULT_MATH)
    return handle


@cache
def _workspace() -> gpu.Array:
    return gpu.empty(_WORKSPACE, np.uint8)


def _with_cublas(p: Product, a: gpu.Array, b: gpu.Array, c: gpu.Array) -> Callable[[], None]:
    """The call of cuBLAS. It sees what is stored by rows as the transpose, by columns, and so computes the
    transposed product of the operands in the other order.
    """
    letter, number = ("S", ctypes.c_float) if p.dtype == "float32" else ("D", ctypes.c_double)
    one, zero = ctypes.byref(number(1)), ctypes.byref(number(0))
    at_a, at_b, at_c = _ADDRESS(a.address), _ADDRESS(b.address), _ADDRESS(c.address)
    turn_a, turn_b = _INT(p.transpose_a), _INT(p.transpose_b)
    sa, sb, sc = p.strides
    args: tuple[Any, ...]
    if p.batch > 1:
        name = f"cublas{letter}gemmStridedBatched_64"
        args = (turn_b, turn_a, p.n, p.m, p.k, one, at_b, p.ldb, sb, at_a, p.lda, sa, zero, at_c, p.ldc, sc)
        args += (p.batch,)
    elif p.n == 1:
        name = f"cublas{letter}gemv_v2_64"
        stored = (p.m, p.k) if p.transpose_a else (p.k, p.m)
        step = 1 if p.transpose_b else p.ldb
        args = (_INT(not p.transpose_a), *stored, one, at_a, p.lda, at_b, step, zero, at_c, p.ldc)
    elif p.m == 1:
        name = f"cublas{letter}gemv_v2_64"
        stored = (p.k, p.n) if p.transpose_b else (p.n, p.k)
        step = p.lda if p.transpose_a else 1
        args = (turn_b, *stored, one, at_b, p.ldb, at_a, step, zero, at_c, 1)
    else:
        name = f"cublas{letter}gemm_v2_64"
        args = (turn_b, turn_a, p.n, p.m, p.k, one, at_b, p.ldb, at_a, p.lda, zero, at_c, p.ldc)
    function = getattr(_library(), name)
    typed = (_handle(), *(ctypes.c_int64(x) if isinstance(x, int) else x for x in args))

    def call(owners: tuple[Any, ...] = (a.owner, b.owner, c.owner)) -> None:
        """The arrays live as long as the call."""
        gpu.enter()
        if status := function(*typed):
            raise _failed(name, status)

    return call


# ---------------------------------------------------------------- a kernel of our own


def tiled(
    product: Product, a: gpu.Array, b: gpu.Array, c: gpu.Array, tiles: Tiles | None = None
) -> Callable[[], None]:
    """The product as a launch of our own kernel."""
    tiles = tiles or Tiles()
    p = product
    text = tiled_text(p.dtype, p.transpose_a, p.transpose_b, tiles)
    array = f"{p.dtype}*"
    kernel = gpu.kernel(text, "product", (*["int64"] * len(SIZES), array, array, array))
    high, wide = tiles.rows * tiles.each, tiles.columns * tiles.each
    count = -(-p.m // high) * -(-p.n // wide) * p.batch
    blocks = min(count, 4 if gpu.simulated() else 2**31 - 1)
    sizes = (p.m, p.n, p.k, p.lda, p.ldb, p.ldc, p.batch, *p.strides)
    return kernel.prepare((blocks, 1), (tiles.columns, tiles.rows), (*sizes, a, b, c))
