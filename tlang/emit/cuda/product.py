"""The text of the CUDA kernel for products of matrices, for where there is no cuBLAS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Tiles:
    """How the kernel divides a product: a block has `rows` x `columns` threads, a thread computes `each` x
    `each` elements, and `depth` elements of every row and column are in shared memory at a time.
    """

    rows: int = 16
    columns: int = 16
    each: int = 4
    depth: int = 16


#: How many steps of the innermost loop are written out; it divides the depth of tiles.
_UNROLLED = 4
#: The parameters of the kernel before the arrays: sizes, steps between rows and between matrices.
SIZES = ("m", "n", "k", "lda", "ldb", "ldc", "batch", "sa", "sb", "sc")


@cache
def tiled_text(dtype: str, transpose_a: bool, transpose_b: bool, tiles: Tiles) -> str:
    """The text of the kernel `product`, for given flags and tiles.

    A block computes one tile of c after the other. Its threads read along what lies together in memory, and
    the arrays in shared memory have a column more than they hold, so that no two threads need one bank.
    """
    high, wide = tiles.rows * tiles.each, tiles.columns * tiles.each
    threads = tiles.rows * tiles.columns
    each = range(tiles.each)
    number = f"np.{dtype}"
    lines = [
        "import math",
        "import numpy as np",
        "from numba import cuda",
        "",
        "",
        f"def product({', '.join(SIZES)}, a, b, c):",
        f"    left = cuda.shared.array({tiles.depth * (high + 1)}, {number})",
        f"    right = cuda.shared.array({tiles.depth * (wide + 1)}, {number})",
        "    x = cuda.threadIdx.x",
        "    y = cuda.threadIdx.y",
        f"    thread = y * {tiles.columns} + x",
        f"    across = (n + {wide - 1}) // {wide}",
        f"    tiles = (m + {high - 1}) // {high} * across",
        "    tile = np.int64(cuda.blockIdx.x)",
        "    while tile < tiles * batch:",
        "        z = tile // tiles",
        f"        row = (tile - z * tiles) // across * {high}",
        f"        column = (tile - z * tiles) % across * {wide}",
        *(f"        c{i}_{j} = {number}(0)" for i in each for j in each),
        "        start = 0",
        "        while start < k:",
        *_reading("left", "a", "sa", "lda", "row", "m", high, transpose_a, threads, tiles.depth, number),
        *_reading(
            "right", "b", "sb", "ldb", "column", "n", wide, not transpose_b, threads, tiles.depth, number
        ),
        "            cuda.syncthreads()",
        "            above = y",
        "            beside = x",
        f"            while above < {tiles.depth * (high + 1)}:",
        *(line for d in range(_UNROLLED) for line in _multiplying(d * (high + 1), d * (wide + 1), tiles)),
        f"                above += {_UNROLLED * (high + 1)}",
        f"                beside += {_UNROLLED * (wide + 1)}",
        "            cuda.syncthreads()",
        f"            start += {tiles.depth}",
    ]
    for i in each:
        lines.append(f"        i = row + y + {i * tiles.rows}")
        lines.append("        if i < m:")
        for j in each:
            lines.append(f"            j = column + x + {j * tiles.columns}")
            lines.append("            if j < n:")
            lines.append(f"                c[z * sc + i * ldc + j] = c{i}_{j}")
    lines.append("        tile += cuda.gridDim.x")
    return "\n".join(lines) + "\n"


def _multiplying(above: int, beside: int, tiles: Tiles) -> Iterator[str]:
    """The lines that add what a column of the left tile and a row of the right one give, from places on."""
    for i in range(tiles.each):
        yield f"                a{i} = left[above + {above + i * tiles.rows}]"
    for j in range(tiles.each):
        yield f"                b{j} = right[beside + {beside + j * tiles.columns}]"
    for i in range(tiles.each):
        for j in range(tiles.each):
            yield f"                c{i}_{j} += a{i} * b{j}"


def _power(number: int) -> int:
    """The exponent of a power of two."""
    assert number & (number - 1) == 0
    return number.bit_length() - 1


def _reading(
    target: str,
    source: str,
    stride: str,
    step: str,
    first: str,
    end: str,
    length: int,
    stored_by_depth: bool,
    threads: int,
    depth: int,
    number: str,
) -> list[str]:
    """The lines that fill a tile in shared memory: `depth` x `length` elements, 0 beyond the matrix.

    `stored_by_depth`: a row as it is stored runs over the length, not the depth.
    """
    lines = ["            e = thread", f"            while e < {length * depth}:"]
    if stored_by_depth:
        lines += [f"                d = e >> {_power(length)}", f"                i = e & {length - 1}"]
        place = f"z * {stride} + (start + d) * {step} + {first} + i"
    else:
        lines += [f"                i = e >> {_power(depth)}", f"                d = e & {depth - 1}"]
        place = f"z * {stride} + ({first} + i) * {step} + start + d"
    return [
        *lines,
        f"                value = {number}(0)",
        f"                if start + d < k and {first} + i < {end}:",
        f"                    value = {source}[{place}]",
        f"                {target}[d * {length + 1} + i] = value",
        f"                e += {threads}",
    ]
