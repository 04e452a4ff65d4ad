"""The text of CPU code: one function for a sequence of steps, loop nests around scalar forms.

The function takes a table of int64: first the sizes of the call, then addresses of arrays. So one code serves
all sizes, and a call passes four integers. Arrays are contiguous. A nest's outermost loop runs in chunks
whose number depends on sizes alone; every thread does some of them, and what the chunks reduce to is
combined in their order, so that results do not depend on the number of threads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace

from tlang.emit import random
from tlang.emit.functions import BOUNDS, Names, helpers
from tlang.graph.node import Node
from tlang.plan.fuse import Fill, Gemm, Labels, Nest, Role, Step, is_cheap, is_literal, needed_sizes
from tlang.plan.views import Access, access, one_step
from tlang.types import BOOL, F32, F64, ONE, Dim, DType, Symbol

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

#: The arguments of an entry: the table, this thread's number, the number of threads, whether outputs are
#: wanted.
SIGNATURE = "int64(int64, int64, int64, int64)"

_PRELUDE = {
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

    Without `chunks` it is so many for each row of a block of each thread.
    """

    dtype: DType
    dims: tuple[Dim, ...]
    chunks: Chunks | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Code:
    """The text for a sequence of steps, the name of its entry, and what its table holds, in order.

    `steps` says which step a temporary belongs to, `work` for each loop nest its domain and its cost for an
    element.
    """

    text: str
    entry: str
    symbols: tuple[Symbol, ...]
    arrays: tuple[Node | Temporary, ...]
    steps: dict[Temporary, int]
    uses_blas: bool
    work: tuple[tuple[tuple[Dim, ...], int], ...] = ()


#: Slots of the table before the sizes: two words for the threads to wait for each other, one that is not 0
#: when the interpreter would have reported an error, and the address of a table for times.
HEADER, STATUS, TICKS = 4, 2, 3
#: How many calls a function has at most: the time to compile one grows faster than its length.
MOST_CALLS = 64
#: Among more steps than these some are likely to differ in their constants alone.
FEW_STEPS = 12


def code(steps: Sequence[Step], entry: str = "step", timed: bool = False) -> Code:
    """The code for steps, none of which is `Alone`; `timed` code counts times and calls in a table."""
    return _Writer(timed=timed).code(steps, entry)


@dataclass(slots=True)
class _Writer:
    """A text under construction: its functions, and the table entries that they need.

    Names are local to a step: `p0` is the first array of its text, `z0` the first size, and the function
    is told in which slots of the table they are. So steps that do the same have the same text, and it is
    compiled once.
    """

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

    def code(self, steps: Sequence[Step], entry: str) -> Code:
        """Writes a function for each kind of step, and the entry, which calls them in order."""
        calls: list[tuple[str, list[Symbol], list[Node | Temporary], list[str], bool]] = []
        self.lifts = len(steps) > FEW_STEPS
        for number, step in enumerate(steps):
            for local in (self.lines, self.dims, self.sizes, self.pointers, self.addresses, self.constants):
                local.clear()
            self.count = 0
            if isinstance(step, Nest):
                for d in must_be_positive(step):
                    self.symbols.update(dict.fromkeys(d.symbols()))
                nest = _NestWriter(self, step)
                nest.write()
                self.steps.update(dict.fromkeys(nest.temporaries.values(), number))
            elif isinstance(step, Gemm):
                self.gemm(step)
            elif isinstance(step, Fill):
                self.fill(step)
            else:
                raise AssertionError(step)
            arrays = list(dict.fromkeys([*self.pointers, *self.addresses]))
            self.arrays.update(dict.fromkeys(arrays))
            self.symbols.update(dict.fromkeys(self.sizes))
            constants = list(self.constants)
            calls.append((self.function(entry, arrays), list(self.sizes), arrays, constants, step.late))
        if self.timed:
            self.need("count")
        slot: dict[object, int] = {x: HEADER + k for k, x in enumerate([*self.symbols, *self.arrays])}
        text = "".join(_PRELUDE[name] + "\n\n" for name in self.prelude) + helpers(self.names)
        text += random.helpers(self.draws)
        text += "".join(f"@apart\ndef {name}{body}\n\n" for body, name in self.functions.items())
        text += self.entry(
            entry, [(f, [*(str(slot[x]) for x in (*s, *a)), *c], late) for f, s, a, c, late in calls]
        )
        return Code(
            text, entry, tuple(self.symbols), tuple(self.arrays), self.steps, self.uses_blas, tuple(self.work)
        )

    def function(self, entry: str, arrays: Sequence[Node | Temporary]) -> str:
        """The name of the function of a step."""
        head = ["    t = int64_at(table)"]
        head += [f"    {name} = t[u{name}]" for name in self.sizes.values()]
        for dim, name in self.dims.items():
            terms = [self.sizes[s] if k == 1 else f"{k} * {self.sizes[s]}" for s, k in dim.terms]
            head.append(f"    {name} = {' + '.join([*terms, *([str(dim.const)] if dim.const else [])])}")
        given = [f"u{name}" for name in self.sizes.values()]
        for k, array in enumerate(arrays):
            if array in self.addresses:
                head.append(f"    {self.addresses[array]} = t[u{k}]")
            if array in self.pointers:
                head.append(f"    {self.pointers[array]} = {array.dtype.numpy_name}_at(t[u{k}])")
            given.append(f"u{k}")
        given += self.constants.values()
        self.put(1, f"{self.need('wait')}(table, nt)")
        text = "\n".join([f"({', '.join(['table', 'tid', 'nt', *given])}):", *head, *self.lines]) + "\n"
        return self.shared(entry, text)

    def shared(self, kind: str, text: str) -> str:
        """The name of a function with parameters and body `text`, one for all that are the same."""
        return self.functions.setdefault(text, f"{kind}_{len(self.functions)}")

    def entry(self, name: str, calls: Sequence[tuple[str, list[str], bool]]) -> str:
        """The function that calls those of the steps; a long one is in parts, which compile faster."""
        parts: list[str] = []
        lines: list[str] = []
        late = False
        for number, (function, given, is_late) in enumerate(calls):
            if len(lines) >= MOST_CALLS and not late and not is_late:
                part = f"{name}_part{len(parts)}"
                parts.append("\n".join(["@apart", f"def {part}(table, tid, nt):", *lines]) + "\n\n\n")
                lines = []
            if is_late and not late:
                late = True
                lines += ["    if last == 0:", f"        return int64_at(table)[{STATUS}]"]
            call = f"    {function}({', '.join(['table', 'tid', 'nt', *given])})  # {number}"
            timing = f"    count(int64_at(table)[{TICKS}], {{}}, tid, {2 * number}, {2 * len(calls)})"
            lines += [timing.format(0), call, timing.format(1)] if self.timed else [call]
        whole = [f"    {name}_part{k}(table, tid, nt)" for k in range(len(parts))] + lines
        end = f"    return int64_at(table)[{STATUS}]"
        return "".join(parts) + "\n".join([f"def {name}(table, tid, nt, last):", *whole, end]) + "\n"

    def put(self, depth: int, line: str) -> None:
        """A line at a depth of blocks."""
        self.lines.append("    " * depth + line)

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

    def address(self, array: Node) -> str:
        """The variable that has the address of an array."""
        return self.addresses.setdefault(array, f"a{len(self.addresses)}")

    def constant(self, node: Node) -> str:
        """A constant: its text, or among many steps a parameter, so that more of them are the same."""
        text = _constant(node)
        if not self.lifts or node.dtype not in (F32, F64):
            return text
        return self.constants.setdefault(text, f"c{len(self.constants)}")

    def gemm(self, step: Gemm) -> None:
        """A call of BLAS, by the first thread (which has threads of its own)."""
        self.uses_blas = True
        node, (m, n) = step.node, step.node.shape
        sides = []
        for view in (step.left, step.right):
            flag = "112" if view.axes == (1, 0) else "111"
            sides.append((flag, self.address(view.base), f"max(1, {self.dim(view.base.shape[1])})"))
        inner = self.dim(step.node.inputs[0].shape[1])
        (fa, a, lda), (fb, b, ldb) = sides
        c = self.address(node)
        self.put(1, "if tid == 0:")
        self.put(
            2,
            f"cblas_{node.dtype.numpy_name}(101, {fa}, {fb}, {self.dim(m)}, {self.dim(n)}, {inner}, "
            f"np.{node.dtype.numpy_name}(1), {a}, {lda}, {b}, {ldb}, np.{node.dtype.numpy_name}(0), "
            f"{c}, max(1, {self.dim(n)}))",
        )

    def fill(self, step: Fill) -> None:
        """Random numbers: each chunk by one thread; where a draw is cut makes no difference."""
        node = step.node
        self.work.append((node.shape, DRAW_COST))
        pair = node.attr("distribution"), node.dtype.numpy_name
        self.draws[pair] = None
        (state,) = node.inputs
        size = np_size(node.dtype)
        bounds = "".join(f", {_word(b)}" for b in node.attr("bounds"))
        self.put(1, f"n = {self.product(node.shape)}")
        self.put(1, f"c, m = {self.need('chunks')}(n, n * {DRAW_COST}, 1)")
        self.put(1, "for k in range(tid, m, nt):")
        self.put(2, "lo = k * c")
        self.put(2, "hi = min(n, lo + c)")
        words = self.array(state)
        self.put(
            2,
            f"{random.name(*pair)}({self.address(node)} + {size} * lo, lo, hi - lo, "
            f"{words}[0], {words}[1]{bounds})",
        )


def np_size(dtype: DType) -> int:
    """The bytes of an element of a number."""
    return int("".join(filter(str.isdigit, dtype.numpy_name))) // 8


def _word(value: int) -> int:
    """An integer as a 64-bit word with a sign."""
    return (value + 2**63) % 2**64 - 2**63


@dataclass(frozen=True, slots=True)
class _Stream:
    """How an array is indexed: for each axis of the domain the factors of its stride; the factors of an
    offset.
    """

    strides: dict[int, tuple[int, tuple[Dim, ...]]]
    offset: str


class _NestWriter:
    """Writes one nest. Variables of row r of a block end in `_r`."""

    def __init__(self, out: _Writer, nest: Nest) -> None:
        self.out = out
        self.nest = nest
        self.streams: dict[object, _Stream] = {}
        for (base, view), labels in nest.reads.items():
            self.streams[base, view] = self.stream(base, view, labels)
        self.placed = [n for n in nest.nodes if nest.roles[n] is Role.PLACED]
        for n in nest.outputs:
            if n not in self.placed:
                self.streams[n] = self.stream(n, access_itself(n), nest.labels[n])
        indexed = [n for n in nest.nodes if "{index}" in form(n)]
        for n in indexed:
            self.streams["index", n] = _Stream({a: (1, ()) for a in nest.labels[n][-1:] if a is not None}, "")
        for n in nest.nodes:
            for axis in (k for kind, k in along(n) if kind == "axis"):
                if (a := nest.labels[n][axis]) is not None:
                    self.streams["index", n, axis] = _Stream({a: (1, ())}, "")
        self.rows, self.columns = self.loops()
        self.after = [n for n in nest.nodes if nest.roles[n] is Role.AFTER]
        self.totals: dict[Node, str] = {}
        self.temporaries: dict[Node, Temporary] = {}
        self.common: dict[object, str] = {}
        self.scopes: list[dict[object, str]] = []
        self.chunks: Chunks | None = None
        self.blocked = False
        self.bounds: list[float] = []
        self.only_checks = False
        self.row = 0  # of a block, for which elements are computed

    # ------------------------------------------------------------ places

    def stream(self, base: Node, view: Access, labels: Labels) -> _Stream:
        """The index of an element of a view in its base."""
        strides: dict[int, tuple[int, tuple[Dim, ...]]] = {}
        offset = []
        shape = base.shape
        for axis, (start, step) in enumerate(zip(view.starts, view.steps, strict=True)):
            after = _factors(shape[axis + 1 :])
            if start.terms or start.const:
                offset.append(f"{self.out.dim(start)} * {self.factor(after)}")
            for own, label in zip(view.axes, labels, strict=True):
                if own == axis and label is not None:
                    strides[label] = (after[0] * step, after[1])
        return _Stream(strides, " + ".join(offset))

    def factor(self, factors: tuple[int, tuple[Dim, ...]]) -> str:
        """A product of an integer and sizes."""
        const, dims = factors
        parts = [self.out.dim(d) for d in dims]
        return " * ".join([*([str(const)] if const != 1 or not parts else []), *parts])

    def loops(self) -> tuple[list[list[int]], list[list[int]]]:
        """The axes of the domain as loops over rows and columns; neighbours may be one in all arrays."""
        nest = self.nest
        loops: list[list[int]] = []
        for axis in range(len(nest.domain)):
            if loops and axis != nest.split and self.together(axis):
                loops[-1].append(axis)
            else:
                loops.append([axis])
        if nest.split is None:
            return loops[:-1], loops[-1:]
        return [g for g in loops if g[0] < nest.split], [g for g in loops if g[0] >= nest.split]

    def together(self, axis: int) -> bool:
        """Whether an axis and the one before it are one in all arrays."""
        size = _factors([self.nest.domain[axis]])
        for s in self.streams.values():
            before, here = s.strides.get(axis - 1), s.strides.get(axis)
            if (before is None) != (here is None):
                return False
            if before is not None and here is not None:
                both = (here[0] * size[0], tuple(sorted(here[1] + size[1], key=_dim_key)))
                if (before[0], tuple(sorted(before[1], key=_dim_key))) != both:
                    return False
        return True

    def index(self, stream: _Stream, loops: Sequence[list[int]], row: int = 0) -> str:
        """The index text at the variables of some loops; `row` is added to that of the first loop of rows."""
        parts = [stream.offset] if stream.offset else []
        for group in loops:
            factors = stream.strides.get(group[-1])
            if factors is None:
                continue
            variable = self.variable(group)
            if row and self.rows and group is self.rows[0]:
                variable = f"({variable} + {row})"
            text = self.factor(factors)
            parts.append(variable if text == "1" else f"{variable} * {text}")
        return " + ".join(parts) or "0"

    def variable(self, group: list[int]) -> str:
        """The variable of a loop."""
        return f"i{group[0]}" if group in self.rows else f"j{group[0]}"

    def size(self, group: Sequence[int]) -> str:
        """The length of a loop."""
        return self.out.product(self.nest.domain[a] for a in group)

    # ------------------------------------------------------------ the nest

    def write(self) -> None:
        """Chunks, the loops over rows inside, and what combines the chunks."""
        out, nest = self.out, self.nest
        self.plan_saves()
        loops = self.rows + self.columns
        if self.placed:
            self.write_places()
            return
        if not loops:
            out.put(1, "if tid == 0:")
            self.twice(2, self.over_rows)
            return
        self.blocked = self.shares()
        outer = loops[0]
        calls = sum(not is_cheap(n) for n in nest.nodes if n.op.scalar and nest.roles[n] is Role.FULL)
        wide = any(self.axes_of(n) for n in self.after)
        length = tuple(nest.domain[a] for a in outer)
        self.chunks = Chunks(length, nest.domain, 1 + CALL_COST * calls, FEWEST_ROWS if wide else 1)
        out.work.append((nest.domain, self.chunks.cost))
        if self.is_serial():
            out.put(1, "if tid == 0:")
            out.put(2, "lo = 0")
            out.put(2, f"hi = {self.size(outer)}")
            self.twice(2, lambda depth: self.chunk(depth, "0"))
            self.combine(2, "1")
            return
        out.need("chunks")
        total = self.size(range(len(nest.domain)))
        out.put(1, f"n = {self.size(outer)}")
        out.put(1, f"c, m = chunks(n, {total} * {self.chunks.cost}, {self.chunks.fewest})")
        out.put(1, "for k in range(tid, m, nt):")
        out.put(2, "lo = k * c")
        out.put(2, "hi = min(n, lo + c)")
        self.twice(2, lambda depth: self.chunk(depth, "k"))
        if self.after:
            out.need("wait")
            out.put(1, "wait(table, nt)")
            out.put(1, "if tid == 0:")
            self.combine(2, "m")

    def write_places(self) -> None:
        """One thread copies what is changed, looks at all places, and then puts the values there."""
        out, (node,) = self.out, self.placed
        loops = self.rows + self.columns
        base = access(node.inputs[0]).base
        out.put(1, "if tid == 0:")
        if loops:
            out.put(2, "lo = 0")
            out.put(2, f"hi = {self.size(loops[0])}")
        self.only_checks = True
        if any(n.op.fails for n in self.nest.nodes):
            self.twice(2, self.over_rows)
        self.only_checks = False
        out.put(2, f"if t[{STATUS}] == 0:")
        size, depth = out.product(node.shape), 3
        if not is_literal(base):
            out.put(3, f"if {out.address(base)} != {out.address(node)}:")
            depth = 4
        out.put(depth, f"for q in range({size}):")
        value = out.constant(base) if is_literal(base) else f"{out.array(base)}[q]"
        out.put(depth + 1, f"{out.array(node)}[q] = {value}")
        self.common = {}
        self.twice(3, self.over_rows)

    def put_in_place(self, depth: int, node: Node, stage: int, row: int) -> None:
        """An element of the values goes to its place, or is added to what is there."""
        self.row = row
        value, *places = node.operands
        given = [self.operand(depth, x, stage, row) for x in places]
        if self.only_checks:
            return
        view = replace(seen_by(node), base=node)
        at = f"{self.out.array(node)}[{self.computed(node, view, given)}]"
        new = self.operand(depth, value, stage, row)
        if node.attr("add"):
            old = self.out.name("s")
            self.out.put(depth, f"{old} = {_loaded(node.dtype, at)}")
            new = _typed(node.dtype, f"{old} + {new}" if node.dtype is not BOOL else f"{old} | {new}")
        self.out.put(depth, f"{at} = {_stored(node.dtype, new)}")

    def operand(self, depth: int, x: Node, stage: int, row: int) -> str:
        """The variable, or literal, that has an element of an input."""
        if is_literal(x):
            return self.out.constant(x)
        view = access(x)
        if is_literal(view.base):
            return self.out.constant(view.base)
        return self.element(depth, view.base, view, stage, row)

    def computed(self, node: Node, view: Access, given: Sequence[str]) -> str:
        """The index of an element of a view in its base, at the places that a node says."""
        stream = self.stream(view.base, view, tuple(range(len(view.axes))))
        parts = [stream.offset] if stream.offset else []
        for k, (kind, number) in enumerate(along(node)):
            if k in stream.strides:
                place = given[number] if kind == "input" else self.place(node, number)
                text = self.factor(stream.strides[k])
                parts.append(place if text == "1" else f"{place} * {text}")
        return " + ".join(parts) or "0"

    def place(self, node: Node, axis: int) -> str:
        """The place of an element along an axis of a node."""
        label = self.nest.labels[node][axis]
        group = next((g for g in self.rows + self.columns if label in g), None)
        if group is None:
            return "0"
        shifted = self.row and self.rows and group is self.rows[0]
        return f"({self.variable(group)} + {self.row})" if shifted else self.variable(group)

    def is_serial(self) -> bool:
        """Whether a nest is one chunk: it is small, or several rows add to one place."""
        assert self.chunks is not None
        if any(self.axes_of(n) - set(self.nest.columns) for n in self.after):
            self.chunks = replace(self.chunks, fewest=1 << 60)
            return True
        small = all(d.is_const for d in self.nest.domain)
        return small and _count(self.nest.domain) * self.chunks.cost < 2 * GRAIN

    def twice(self, depth: int, write: Callable[[int], None]) -> None:
        """Writes lines; and again, with functions that have no bounds, for elements beyond those of ours."""
        self.bounds = [b for n in self.nest.nodes for f, b in BOUNDS.items() if f"{{{f}}}" in form(n)]
        fails = any(n.op.fails for n in self.nest.nodes)
        if fails:
            self.out.put(depth, "bad = False")
        if self.bounds:
            self.out.put(depth, "far = 0.0")
        write(depth)
        if fails:
            self.out.put(depth, "if bad:")
            self.out.put(depth + 1, f"t[{STATUS}] = 1")
        if not self.bounds:
            return
        self.out.put(depth, f"if not far <= {min(self.bounds)!r}:")
        self.bounds, self.out.names.exact = [], True
        write(depth + 1)
        self.out.names.exact = False

    def chunk(self, depth: int, k: str) -> None:
        """The rows from `lo` to `hi`, and the totals of chunk `k` of them."""
        out = self.out
        for n in self.after:
            if self.axes_of(n):
                size = out.product(self.sizes_of(n))
                z = self.offset(n)
                out.put(depth, f"{z} = {k} * ({size})")
                out.put(depth, f"for j in range({size}):")
                out.put(depth + 1, f"{self.partial(n)}[{z} + j] = {_stored(accumulator(n), _start(n))}")
            else:
                self.totals[n] = out.name("s")
                out.put(depth, f"{self.totals[n]} = {_start(n)}")
        self.over_rows(depth)
        for n, total in self.totals.items():
            out.put(depth, f"{self.partial(n)}[{k}] = {_stored(accumulator(n), total)}")

    def axes_of(self, node: Node) -> set[int]:
        """The axes of the domain that a node has."""
        return {a for a in self.nest.labels[node] if a is not None}

    def shares(self) -> bool:
        """Whether rows are done in blocks: they add to the same columns, or read the same ones."""
        nest = self.nest
        if len(self.rows) != 1 or len(self.columns) != 1 or nest.split is None:
            return False
        columns = set(nest.columns)
        wide = [n for n in self.after if self.axes_of(n)]
        if any(n.op.reduce is None or not n.op.reduce.adds or self.axes_of(n) != columns for n in wide):
            return False
        adds = bool(wide)
        sums = any(n.op.reduce and n.op.reduce.adds and nest.roles[n] is Role.ROW for n in nest.nodes)
        common = any({a for a in labels if a is not None} == columns for labels in nest.reads.values())
        return adds or (sums and common)

    def over_rows(self, depth: int) -> None:
        """The loops over rows around the body; without rows the first loop of columns is chunked."""
        out = self.out
        self.load_scalars(depth)
        if not self.rows:
            self.body(depth, [0])
            return
        first = self.variable(self.rows[0])
        if self.blocked:
            out.put(depth, f"whole = lo + (hi - lo) // {BLOCK} * {BLOCK}")
            out.put(depth, f"for {first} in range(lo, whole, {BLOCK}):")
            self.body(depth + 1, list(range(BLOCK)))
            out.put(depth, f"for {first} in range(whole, hi):")
            self.body(depth + 1, [0])
            return
        out.put(depth, f"for {first} in range(lo, hi):")
        for group in self.rows[1:]:
            depth += 1
            out.put(depth, f"for {self.variable(group)} in range({self.size(group)}):")
        self.body(depth + 1, [0])

    # ------------------------------------------------------------ values

    def load_scalars(self, depth: int) -> None:
        """Inputs that are the same for all elements."""
        for (base, view), _ in self.nest.reads.items():
            stream = self.streams[base, view]
            if not stream.strides:
                name = self.out.name("x")
                self.out.put(depth, f"{name} = {self.load(base, stream, ())}")
                self.common[base, view] = name

    def load(self, base: Node, stream: _Stream, loops: Sequence[list[int]], row: int = 0) -> str:
        """An element of an array."""
        return _loaded(base.dtype, f"{self.out.array(base)}[{self.index(stream, loops, row)}]")

    def plan_saves(self) -> None:
        """What each pass over the columns is for, and which of its elements wait for a later one.

        Those wait that are dearer to compute again than to read.
        """
        nest = self.nest
        self.targets: list[list[Node]] = [[] for _ in range(max(nest.stages.values(), default=0) + 1)]
        for n in nest.nodes:
            if self.is_reduction(n):
                if nest.roles.get(access(n.inputs[0]).base) is not Role.ROW:
                    self.targets[nest.stages[n] - (nest.roles[n] is Role.ROW)].append(n)
            elif nest.roles[n] is Role.PLACED or (nest.roles[n] is Role.FULL and n in nest.outputs):
                self.targets[nest.stages[n]].append(n)
        self.to_save: dict[Node, None] = {}
        count = -1
        while count != len(self.to_save):
            count = len(self.to_save)
            for stage, targets in enumerate(self.targets):
                self.find_saves(stage, [*targets, *(n for n in self.to_save if nest.stages[n] == stage)])

    def find_saves(self, stage: int, todo: list[Node]) -> None:
        """Marks what a stage needs of earlier ones and should not compute again."""
        nest = self.nest
        seen: set[Node] = set()
        while todo:
            n = todo.pop()
            if n in seen:
                continue
            seen.add(n)
            for x in n.operands:
                b = access(x).base
                if nest.roles.get(b) is not Role.FULL:
                    continue
                if nest.stages[b] < stage and (b in self.to_save or not is_cheap(b)):
                    self.to_save[b] = None
                else:
                    todo.append(b)

    def body(self, depth: int, block: list[int]) -> None:
        """What is done for a row, or for a block of rows: its stages one after the other."""
        nest, out = self.nest, self.out
        value: list[dict[object, str]] = [dict(self.common) for _ in block]
        rows = {a for g in self.rows for a in g}
        for what in nest.reads:
            stream = self.streams[what]
            if stream.strides and set(stream.strides) <= rows:
                for r in block:
                    name = out.name("x")
                    out.put(depth, f"{name} = {self.load(what[0], stream, self.rows, r)}")
                    value[r][what] = name
        for stage, targets in enumerate(self.targets):
            for n in nest.nodes:
                if nest.stages[n] != stage or nest.roles[n] is Role.FULL:
                    continue
                if nest.roles[n] is Role.ROW and not n.op.reduce:
                    for r in block:
                        self.row = r
                        self.compute(depth, n, value[r])
                        if n in nest.outputs:
                            self.store(depth, n, value[r][n], self.rows, r)
                elif nest.roles[n] is Role.AFTER:
                    base = access(n.inputs[0]).base
                    if nest.roles.get(base) is Role.ROW:
                        for r in block:
                            self.add_row(depth, n, self.converted(n, value[r][base]), r)
            self.stage(depth, block, stage, targets, value)

    def stage(
        self, depth: int, block: list[int], stage: int, targets: list[Node], value: list[dict[object, str]]
    ) -> None:
        """One pass over the columns of a row, or of a block of rows."""
        nest, out = self.nest, self.out
        saves = [n for n in self.to_save if nest.stages[n] == stage and n not in targets]
        if not targets and not saves:
            return
        sums: dict[tuple[Node, int], str] = {}
        for n in targets:
            if self.is_reduction(n) and not self.sums_columns(n):
                for r in block:
                    if n in self.totals and not self.rows:
                        sums[n, r] = self.totals[n]
                    else:
                        sums[n, r] = out.name("s")
                        out.put(depth, f"{sums[n, r]} = {_start(n)}")
        inner = depth
        for k, group in enumerate(self.columns):
            bounds = self.size(group) if self.rows or k else "lo, hi"
            out.put(inner, f"for {self.variable(group)} in range({bounds}):")
            inner += 1
        self.scopes = [dict(v) for v in value]
        for n in [*saves, *targets]:
            if n in self.placed:
                self.put_in_place(inner, n, stage, 0)
                continue
            if not self.is_reduction(n):
                for r in block:
                    self.keep(inner, n, self.element(inner, n, None, stage, r), r)
                continue
            view = access(n.inputs[0])
            items = [self.converted(n, self.element(inner, view.base, view, stage, r)) for r in block]
            if self.sums_columns(n):
                self.add_columns(inner, n, items)
            else:
                for r in block:
                    out.put(inner, f"{sums[n, r]} = {self.combined(n, sums[n, r], items[r], any_order=True)}")
        for (n, r), total in sums.items():
            if nest.roles[n] is Role.ROW:
                value[r][n] = total
                if accumulator(n) is not n.dtype:
                    value[r][n] = out.name("v")
                    out.put(depth, f"{value[r][n]} = {_typed(n.dtype, total)}")
                if n in nest.outputs:
                    self.store(depth, n, value[r][n], self.rows, r)
            elif self.rows:
                self.add_row(depth, n, total, r)

    def is_reduction(self, node: Node) -> bool:
        """Whether a node is a total of several elements (of an axis of size 1 it is the element)."""
        return node.op.reduce is not None and self.nest.roles[node] is not Role.FULL

    def sums_columns(self, node: Node) -> bool:
        """Whether a reduction over rows has an element for each column."""
        return bool(self.nest.roles[node] is Role.AFTER and self.axes_of(node) & set(self.nest.columns))

    def element(self, depth: int, node: Node, view: Access | None, stage: int, row: int) -> str:
        """The variable that has an element of a node, or of an input, in a pass over the columns."""
        nest, out = self.nest, self.out
        scope = self.scopes[row]
        if node not in nest.labels:
            assert view is not None
            what = (node, view)
            if what not in scope:
                stream = self.streams[what]
                name = out.name("x")
                out.put(depth, f"{name} = {self.load(node, stream, self.rows + self.columns, row)}")
                scope[what] = name
                if not set(stream.strides) & {a for g in self.rows for a in g}:
                    for other in self.scopes:
                        other[what] = name
            return scope[what]
        todo: list[tuple[Node, bool]] = [(node, False)]
        while todo:
            n, ready = todo.pop()
            if n in scope:
                continue
            if n in self.to_save and nest.stages[n] < stage:
                scope[n] = out.name("x")
                out.put(depth, f"{scope[n]} = {self.saved(n, row)}")
            elif ready:
                self.row = row
                for x in n.operands:
                    v = access(x)
                    if v.base not in nest.labels and not is_literal(x):
                        self.element(depth, v.base, v, stage, row)
                self.compute(depth, n, scope)
            else:
                todo.append((n, True))
                todo += [(b, False) for x in n.operands if (b := access(x).base) in nest.labels]
        return scope[node]

    def compute(self, depth: int, node: Node, scope: dict[object, str]) -> None:
        """A node from its inputs, all of which have variables."""
        inputs = []
        for i, x in enumerate(node.inputs):
            view = access(x)
            if i in node.op.shape_only | node.op.tables:
                inputs.append("")
            elif is_literal(x):
                inputs.append(self.out.constant(x))
            else:
                inputs.append(scope[view.base] if view.base in self.nest.labels else scope[view.base, view])
        if node.op.extent is not None:
            text = self.out.dim(node.op.extent(node))
        elif node.op.reduce:
            text = inputs[0]
        else:
            index = self.place(node, -1) if self.nest.labels[node] else "0"
            if node.op.fails:
                condition = self.scalar(node, node.op.fails, inputs, "0")
                self.out.put(depth, f"bad = bad or {condition}")
            text = self.scalar(node, form(node), inputs, index)
            if self.bounds and any(f"{{{f}}}" in form(node) for f in BOUNDS):
                self.out.put(depth, f"far = maximum(far, {_typed(F64, f'abs({inputs[0]})')})")
        name = self.out.name("v")
        self.out.put(depth, f"{name} = {text if _keeps_dtype(node) else _typed(node.dtype, text)}")
        scope[node] = name

    def scalar(self, node: Node, text: str, inputs: Sequence[str], index: str) -> str:
        """A form of an operation with its inputs' elements."""
        names = self.out.names
        names.dtype = node.inputs[0].dtype if node.inputs else node.dtype
        names["zero"] = _typed(names.dtype, "0")
        names["index"] = index
        if "{place}" in text:
            names["place"] = self.out.need("place")
        if "{element}" in text:
            view = access(node.tables[0])
            if is_literal(view.base):
                names["element"] = self.out.constant(view.base)
            else:
                at = f"{self.out.array(view.base)}[{self.computed(node, view, inputs[1:])}]"
                names["element"] = _loaded(view.base.dtype, at)
        for k, x in enumerate(inputs):
            text = text.replace(f"{{{k}}}", x)
        return text.format_map(names)

    # ------------------------------------------------------------ stores and totals

    def store(self, depth: int, node: Node, value: str, loops: Sequence[list[int]], row: int) -> None:
        """An element of an output."""
        place = self.index(self.streams[node], loops, row)
        self.out.put(depth, f"{self.out.array(node)}[{place}] = {_stored(node.dtype, value)}")

    def keep(self, depth: int, node: Node, value: str, row: int) -> None:
        """An element that is an output, or waits for a later stage."""
        if node in self.nest.outputs:
            self.store(depth, node, value, self.rows + self.columns, row)
        else:
            self.out.put(depth, f"{self.scratch(node, row)} = {_stored(node.dtype, value)}")

    def saved(self, node: Node, row: int) -> str:
        """An element that an earlier stage has kept."""
        if node in self.nest.outputs:
            return self.load(node, self.streams[node], self.rows + self.columns, row)
        return _loaded(node.dtype, self.scratch(node, row))

    def scratch(self, node: Node, row: int) -> str:
        """The place of an element in the scratch memory of this thread: room for a block of rows."""
        if node not in self.temporaries:
            dims = tuple(self.nest.domain[a] for g in self.columns for a in g)
            self.temporaries[node] = Temporary(node.dtype, dims)
        place = ""
        for group in self.columns:
            v = self.variable(group)
            place = f"({place}) * {self.size(group)} + {v}" if place else v
        size = self.out.product(self.temporaries[node].dims)
        return f"{self.out.array(self.temporaries[node])}[(tid * {BLOCK} + {row}) * {size} + {place or '0'}]"

    def sizes_of(self, node: Node) -> list[Dim]:
        """The sizes of a node that are not 1."""
        return [d for d in node.shape if d != ONE]

    def partial(self, node: Node) -> str:
        """The array where the chunks leave their totals."""
        if node not in self.temporaries:
            made = Temporary(accumulator(node), tuple(self.sizes_of(node)), self.chunks)
            self.temporaries[node] = made
        return self.out.array(self.temporaries[node])

    def offset(self, node: Node) -> str:
        """The variable that has where a chunk's totals begin."""
        return f"o{self.after.index(node)}"

    def total_at(self, node: Node, row: int) -> str:
        """The place of a total that is one of many, in the partial totals of a chunk."""
        stream = self.stream(node, access_itself(node), self.nest.labels[node])
        place = self.index(stream, self.rows + self.columns, row)
        return f"{self.partial(node)}[{self.offset(node)} + {place}]"

    def converted(self, node: Node, item: str) -> str:
        """An element in the dtype in which a reduction accumulates."""
        kind = accumulator(node)
        return item if node.inputs[0].dtype is kind else _typed(kind, item)

    def combined(self, node: Node, total: str, item: str, any_order: bool = False) -> str:
        """A total with one more element; of a sum of floats the compiler may choose the order."""
        row, kind = node.op.reduce, accumulator(node)
        assert row is not None
        if any_order and row.adds and kind.kind == "f":
            return f"{self.out.need('added')}({total}, {item})"
        text = row.combine.replace("{0}", total).replace("{1}", item)
        for name, vector in (("greater", "maximum"), ("lesser", "minimum")):
            if f"{{{name}}}" in text:
                text = text.replace(f"{{{name}}}", vector if kind.kind == "f" else self.out.need(name))
        return _typed(kind, text)

    def add_columns(self, depth: int, node: Node, items: list[str]) -> None:
        """Elements of a column, one for each row of a block, go into the total of the column."""
        kind = accumulator(node)
        item = items[0]
        if len(items) == BLOCK:
            item = f"(({items[0]} + {items[1]}) + ({items[2]} + {items[3]}))"
        at, name = self.total_at(node, 0), self.out.name("s")
        self.out.put(depth, f"{name} = {_loaded(kind, at)}")
        self.out.put(depth, f"{at} = {_stored(kind, self.combined(node, name, item))}")

    def add_row(self, depth: int, node: Node, item: str, row: int) -> None:
        """A row's value goes into the total of all rows, or of those with the same place."""
        kind = accumulator(node)
        if node in self.totals:
            total = self.totals[node]
            self.out.put(depth, f"{total} = {self.combined(node, total, item)}")
            return
        at, name = self.total_at(node, row), self.out.name("s")
        self.out.put(depth, f"{name} = {_loaded(kind, at)}")
        self.out.put(depth, f"{at} = {_stored(kind, self.combined(node, name, item))}")

    def combine(self, depth: int, count: str) -> None:
        """The totals of the chunks, in their order, become the results."""
        for n in self.after:
            kind = accumulator(n)
            total = _loaded(kind, "part[j]")
            item = self.combined(n, total, _loaded(kind, "part[k * size + j]"))
            text = "\n".join(
                [
                    "(part, count, size, result):",
                    "    for k in range(1, count):",
                    "        for j in range(size):",
                    f"            part[j] = {_stored(kind, item)}",
                    "    for j in range(size):",
                    f"        result[j] = {_stored(n.dtype, _typed(n.dtype, total))}",
                    "",
                ]
            )
            size = self.out.product(self.sizes_of(n))
            combine = self.out.shared("combine", text)
            self.out.put(depth, f"{combine}({self.partial(n)}, {count}, {size}, {self.out.array(n)})")


def form(node: Node) -> str:
    """The scalar form of a node as text."""
    found = node.op.scalar
    text = found if isinstance(found, str) or found is None else found(node)
    return text or ""


def _keeps_dtype(node: Node) -> bool:
    """Whether the scalar form of floats gives their dtype without a conversion."""
    if node.dtype not in (F32, F64) or not node.inputs or any(x.dtype is not node.dtype for x in node.inputs):
        return False
    return bool(re.fullmatch(r"[-+*/{}0-9 ]+|\{\w+\}\(\{0\}(, \{1\})?\)", form(node))) and "{" in form(node)


def along(node: Node) -> tuple[tuple[str, int], ...]:
    """Where the places of a node's table are, for each axis of it: in an input, or along an axis."""
    return node.attr("along") if node.op.tables else ()


def seen_by(node: Node) -> Access:
    """The view of a node, or of its table, in which its places are."""
    table = node.tables[0]
    (view,) = (x for i, x in enumerate(node.inputs) if i in node.op.shape_only)
    found = access_itself(table) if view is table else one_step(view)
    assert found is not None
    return found


def runs_twice(nest: Nest) -> bool:
    """Whether chunks of a nest may run again, with functions that have no bounds."""
    return any(f"{{{f}}}" in form(n) for n in nest.nodes for f in BOUNDS)


def must_be_positive(step: Step) -> list[Dim]:
    """The sizes that must not be negative for a step to make sense."""
    if not isinstance(step, Nest):
        return []
    found = [d for _, view in step.reads for d in view.positive]
    found += [d for n in step.nodes for x in n.tables for d in access(x).positive]
    found += [d for n in step.nodes if step.roles[n] is Role.PLACED for d in seen_by(n).positive]
    found += [d - ONE for n in step.nodes for d in needed_sizes(n)]
    return list(dict.fromkeys(found))


def access_itself(node: Node) -> Access:
    """A node read as it is."""
    return Access(node, tuple(range(node.rank)), (Dim(0),) * node.rank, (1,) * node.rank)


def accumulator(node: Node) -> DType:
    """The dtype in which a reduction accumulates."""
    row = node.op.reduce
    assert row is not None
    return F64 if row.wide and node.dtype is F32 else node.dtype


def _factors(dims: Sequence[Dim]) -> tuple[int, tuple[Dim, ...]]:
    const, rest = 1, []
    for d in dims:
        if d.is_const:
            const *= d.const
        else:
            rest.append(d)
    return const, tuple(sorted(rest, key=_dim_key))


def _dim_key(dim: Dim) -> tuple[int, tuple[tuple[Symbol, int], ...]]:
    return dim.const, dim.terms


def _count(dims: Sequence[Dim]) -> int:
    total = 1
    for d in dims:
        total *= d.const
    return total


def _start(node: Node) -> str:
    """What a total begins with."""
    row = node.op.reduce
    assert row is not None
    kind = accumulator(node)
    if row.start in ("least", "greatest"):
        least = row.start == "least"
        if kind is BOOL:
            return str(not least)
        if kind.kind == "f":
            return _typed(kind, "-np.inf" if least else "np.inf")
        return _typed(kind, str(kind.integer_range()[0 if least else 1]))
    return _typed(kind, row.start)


def _typed(dtype: DType, text: str) -> str:
    return f"bool({text})" if dtype is BOOL else f"np.{dtype.numpy_name}({text})"


def _stored(dtype: DType, text: str) -> str:
    """A value as it lies in memory."""
    return f"np.uint8({text})" if dtype is BOOL else text


def _loaded(dtype: DType, text: str) -> str:
    """What lies in memory as a value."""
    return f"({text} != 0)" if dtype is BOOL else text


def _constant(node: Node) -> str:
    """A constant as a typed literal."""
    value = node.value
    if node.dtype.is_inexact:
        value = float(value)
        shown = "np.nan" if value != value else repr(value).replace("inf", "np.inf")
        shown = f"({shown})" if value < 0 else shown
        return shown if node.dtype is F64 else _typed(node.dtype, shown)
    return _typed(node.dtype, repr(value))
