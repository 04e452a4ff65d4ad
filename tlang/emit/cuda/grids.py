"""How many rows and columns a kernel has, and the blocks and threads that do them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tlang.types import Dim

#: The threads of a block at most, and so the elements of its shared memory.
THREADS = 256
#: Threads that go together, and how many columns of a row a thread of a team should have.
WARP, SOME = 32, 8


@dataclass(frozen=True, slots=True)
class Grid:
    """How many rows and columns a kernel has, and who does them.

    `team`: the threads along x do a row together, so that the grid has one block along x. `narrow`: elements
    that are neighbours in memory are of different rows, so that a thread had better have a row of its own.
    `lanes` elements of a row are done by a thread at a time.
    """

    rows: tuple[Dim, ...]
    columns: tuple[Dim, ...]
    team: bool = False
    narrow: bool = False
    lanes: int = 1


#: That of a kernel with one element.
ONE_ELEMENT = Grid((), ())


@dataclass(frozen=True, slots=True)
class Limits:
    """The most threads of a block, a power of two, and the most blocks of a grid."""

    threads: int = THREADS
    blocks: int = 1024


def shape_of(
    grid: Grid, size: Callable[[Dim], int], limits: Limits
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The blocks along x and y, and the threads of a block along x and y: they depend on sizes alone."""
    rows, columns = (count_of(dims, size) for dims in (grid.rows, grid.columns))
    if grid.narrow and rows >= 8 * limits.threads:
        across = 1
    elif grid.team:  # a warp, or so many that each thread has some columns
        across = min(limits.threads, max(min(WARP, _power(columns)), _power(-(-columns // SOME))))
    else:
        across = min(limits.threads, _power(-(-columns // grid.lanes)))
    down = min(limits.threads // across, _power(rows))
    if grid.team:
        return (1, min(limits.blocks, max(1, -(-rows // down)))), (across, down)
    wide = min(limits.blocks, max(1, -(-columns // (across * grid.lanes))))
    high = min(max(1, limits.blocks // wide), max(1, -(-rows // down)))
    return (wide, high), (across, down)


def count_of(dims: Sequence[Dim], size: Callable[[Dim], int]) -> int:
    """How many elements there are along all of some axes."""
    total = 1
    for d in dims:
        total *= size(d)
    return total


def _power(n: int) -> int:
    """The least power of two that is `n` or more."""
    return 1 << max(0, n - 1).bit_length()
