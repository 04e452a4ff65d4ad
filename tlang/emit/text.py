"""A text of kernels under construction: its lines, and the names in them.

Names are local to a step: `p0` is the first array of its text, `z0` the first size, and the function is told
in which slots of the table they are. So steps that do the same have the same text, and it is compiled once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from tlang.emit import random
from tlang.emit.functions import Names
from tlang.graph.node import Node
from tlang.types import BOOL, F32, F64, Dim, DType, Symbol

#: The work of a chunk, in elements times their cost: so much is worth a thread's attention.
GRAIN = 32768
#: The most chunks of a nest, and the fewest rows of one whose chunks each have a row of sums.
MOST_CHUNKS, FEWEST_ROWS = 64, 64
#: What calls a function costs about so many times an addition.
CALL_COST = 8
#: And so much a random number.
DRAW_COST = 16
#: Rows that are done together where several share what they read or add to.
BLOCK = 4
#: So many random numbers a thread draws before it uses them: they stay in the first cache.
DRAWN = 1024

#: Slots of the table before the sizes: two words for the threads to wait for each other, one that is not 0
#: when the interpreter would have reported an error, and the address of a table for times.
HEADER, STATUS, TICKS = 4, 2, 3

#: Functions that texts may need.
PRELUDE = {
    "greater": """\
@njit
def greater(a, b):
    return b if b > a or b != b else a
""",
    "lesser": """\
@njit
def lesser(a, b):
    return b if b < a or b != b else a
""",
    "added": """\
@njit(fastmath={"reassoc", "contract", "nsz"})
def added(a, b):
    return a + b
""",
    "chunks": f"""\
@apart
def chunks(n, work, fewest):
    parts = max(1, min({MOST_CHUNKS}, n // fewest, work // {GRAIN}))
    c = ((n + parts - 1) // parts + 7) // 8 * 8
    return c, max(1, (n + c - 1) // c)
""",
    "place": """\
@njit
def place(i, n):
    j = i + n if i < 0 else i
    return j if j >= 0 and j < n else 0
""",
    "count": """\
@njit
def now(clock):
    clock_gettime(clock)
    words = int64_at(clock)
    return 1000000000 * words[0] + words[1]


@apart
def count(ticks, calls, tid, slot, clock):
    if tid == 0:
        t = int64_at(ticks)
        t[slot] = now(ticks + 8 * clock) - t[slot]
        t[slot + 1] = t[slot + 1] + calls
""",
    "wait": """\
@njit
def wait(table, nt):
    if nt > 1:
        barrier(int64_at(table), nt)
""",
}


def chunk(n: int, work: int, fewest: int) -> int:
    """The length of the chunks of a loop of `n`: the same as in the code."""
    parts = max(1, min(MOST_CHUNKS, n // fewest, work // GRAIN))
    return ((n + parts - 1) // parts + 7) // 8 * 8


@dataclass(frozen=True, slots=True)
class Chunks:
    """The outermost loop of a nest: its length, the cost of all its elements, the fewest elements of a
    chunk.
    """

    length: tuple[Dim, ...]
    domain: tuple[Dim, ...]
    cost: int
    fewest: int


@dataclass(frozen=True, slots=True, eq=False)
class Temporary:
    """Memory that the code needs beside the values of nodes: `dims` elements for each of `chunks`.

    Without `chunks` it is so many for each thread and each of `rows`, those of a block.
    """

    dtype: DType
    dims: tuple[Dim, ...]
    chunks: Chunks | None = None
    rows: int = BLOCK


@dataclass(slots=True)
class Text:
    """The lines of the step that is written now, its names, and what all steps have in common."""

    lines: list[str] = field(default_factory=list)
    names: Names = field(default_factory=Names)
    prelude: dict[str, None] = field(default_factory=dict)
    symbols: dict[Symbol, None] = field(default_factory=dict)
    arrays: dict[Node | Temporary, None] = field(default_factory=dict)
    dims: dict[Dim, str] = field(default_factory=dict)
    sizes: dict[Symbol, str] = field(default_factory=dict)
    pointers: dict[Node | Temporary, str] = field(default_factory=dict)
    addresses: dict[Node | Temporary, str] = field(default_factory=dict)
    constants: dict[str, str] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)
    lifts: bool = False
    timed: bool = False
    steps: dict[Temporary, int] = field(default_factory=dict)
    draws: dict[tuple[str, str], None] = field(default_factory=dict)
    count: int = 0
    uses_blas: bool = False
    work: list[tuple[tuple[Dim, ...], int]] = field(default_factory=list)

    def put(self, depth: int, line: str) -> None:
        """A line at a depth of blocks."""
        self.lines.append("    " * depth + line)

    def shared(self, kind: str, text: str) -> str:
        """The name of a function with parameters and body `text`, one for all that are the same."""
        return self.functions.setdefault(text, f"{kind}_{len(self.functions)}")

    def need(self, name: str) -> str:
        """A function of the prelude."""
        self.prelude[name] = None
        return name

    def name(self, letter: str) -> str:
        """A fresh variable."""
        self.count += 1
        return f"{letter}{self.count}"

    def dim(self, dim: Dim) -> str:
        """A size: a number, or the variable that has it."""
        if dim.is_const:
            return str(dim.const)
        for symbol in dim.symbols():
            self.sizes.setdefault(symbol, f"z{len(self.sizes)}")
        return self.dims.setdefault(dim, f"d{len(self.dims)}")

    def product(self, dims: Iterable[Dim]) -> str:
        """A product of sizes."""
        const, parts = 1, []
        for d in dims:
            if d.is_const:
                const *= d.const
            else:
                parts.append(self.dim(d))
        return " * ".join([*parts, *([str(const)] if const != 1 or not parts else [])])

    def array(self, array: Node | Temporary) -> str:
        """The variable that points to an array."""
        return self.pointers.setdefault(array, f"p{len(self.pointers)}")

    def address(self, array: Node | Temporary) -> str:
        """The variable that has the address of an array."""
        return self.addresses.setdefault(array, f"a{len(self.addresses)}")

    def fill(self, node: Node, target: str, first: str, count: str) -> str:
        """The call that writes numbers of a random stream, from element `first` on, to an address."""
        pair = node.attr("distribution"), node.dtype.numpy_name
        self.draws[pair] = None
        words = self.array(node.inputs[0])
        given = [target, first, count, f"{words}[0]", f"{words}[1]", *map(_word, node.attr("bounds"))]
        return f"{random.name(*pair)}({', '.join(given)})"

    def constant(self, node: Node) -> str:
        """A constant: its text, or among many steps a parameter, so that more of them are the same."""
        text = constant_text(node)
        if not self.lifts or node.dtype not in (F32, F64):
            return text
        return self.constants.setdefault(text, f"c{len(self.constants)}")


def np_size(dtype: DType) -> int:
    """The bytes of an element of a number."""
    return int("".join(filter(str.isdigit, dtype.numpy_name))) // 8


def _word(value: int) -> str:
    """An integer as a 64-bit word with a sign."""
    return str((value + 2**63) % 2**64 - 2**63)


def form(node: Node) -> str:
    """The scalar form of a node as text."""
    found = node.op.scalar
    text = found if isinstance(found, str) or found is None else found(node)
    return text or ""


def accumulator(node: Node) -> DType:
    """The dtype in which a reduction accumulates."""
    row = node.op.reduce
    assert row is not None
    return F64 if row.wide and node.dtype is F32 else node.dtype


def typed(dtype: DType, text: str) -> str:
    """A value converted to a dtype."""
    return f"bool({text})" if dtype is BOOL else f"np.{dtype.numpy_name}({text})"


def stored(dtype: DType, text: str) -> str:
    """A value as it lies in memory."""
    return f"np.uint8({text})" if dtype is BOOL else text


def loaded(dtype: DType, text: str) -> str:
    """What lies in memory as a value."""
    return f"({text} != 0)" if dtype is BOOL else text


def constant_text(node: Node) -> str:
    """A constant as a typed literal."""
    value = node.value
    if node.dtype.is_inexact:
        value = float(value)
        shown = "np.nan" if value != value else repr(value).replace("inf", "np.inf")
        shown = f"({shown})" if value < 0 else shown
        return shown if node.dtype is F64 else typed(node.dtype, shown)
    return typed(node.dtype, repr(value))
