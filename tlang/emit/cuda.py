"""The text of CUDA kernels: for each step one or more, each a module of its own, with the grid to run on.

A kernel gets sizes and flat arrays; the elements are those of the CPU (`tlang.emit.elements`), around them
are other loops. A nest without rows of stages is one grid-stride loop. Where rows pass through stages, a team
of threads does a row: those along x its columns, those along y other rows. Totals of a block meet in shared
memory, and a second kernel combines those of all blocks, in an order that sizes alone decide: results do not
depend on the device. Nothing is kept between the stages of a row: to compute is cheaper than to write.

An error of an element (`fails`) sets the first word of `status`; what the call gives is then of no use.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from tlang.emit.elements import Elements, Stream, start_of
from tlang.emit.functions import Names
from tlang.emit.inline import Inliner, expression
from tlang.emit.philox import elements_of, per_block, words_of
from tlang.emit.text import Temporary, Text, loaded, stored, typed
from tlang.graph.node import Node
from tlang.plan.steps import Fill, Gemm, Nest, Own, Role, Step, inputs_of, is_literal
from tlang.plan.views import Access, access, access_itself, seen_by
from tlang.types import BOOL, Dim, DType, Symbol

#: The threads of a block at most, and so the elements of its shared memory.
THREADS = 256
#: Threads that go together, and how many columns of a row a thread of a team should have.
WARP, SOME = 32, 8
#: How many elements a thread has under way in a flat loop without rows; nests of more nodes have one.
LANES, FEW_NODES = 4, 24
#: So many updates of places at most are made in their order; of more, floats are added as they come.
ORDERED = 1 << 14
#: What can be added to a place by several threads at once.
_ATOMIC = frozenset({"int32", "int64", "uint32", "uint64", "float32", "float64"})
_HEAD = "import math\nimport numpy as np\nfrom numba import cuda\n\n\n"
#: A kernel by which an integer in memory is one more.
ADVANCE = _HEAD + "def kernel(p0, k):\n    p0[k] = p0[k] + 1\n"


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


@dataclass(frozen=True, slots=True, eq=False)
class Partial(Temporary):
    """What the blocks of a kernel leave (`each`: its rows of threads): `dims` elements of each."""

    grid: Grid = Grid((), ())
    each: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Count:
    """The number of parts of a partial result."""

    of: Partial


STATUS = "status"
#: An argument: a size, a number of parts, an array, or the status.
Arg: TypeAlias = "Symbol | Count | Node | Temporary | str"


@dataclass(frozen=True, slots=True, eq=False)
class Launch:
    """A kernel: its text (the function is `kernel`), its arguments, its grid.

    With `most` it is one for at most so many `updates`, with `least` for more.
    """

    text: str
    args: tuple[Arg, ...]
    grid: Grid
    updates: tuple[Dim, ...] = ()
    most: int | None = None
    least: int | None = None

    def serves(self, size: Callable[[Dim], int]) -> bool:
        """Whether it is the one for these sizes."""
        count = _count(self.updates, size)
        return not (self.most is not None and count > self.most) and (
            self.least is None or count > self.least
        )


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """Calls of BLAS."""

    step: Gemm | Own


@dataclass(frozen=True, slots=True, eq=False)
class Copy:
    """All elements of an array to another of the same size."""

    source: Node
    target: Node


Action: TypeAlias = Launch | Product | Copy


def arrays_of(action: Action) -> list[Node | Temporary]:
    """The arrays that an action touches."""
    if isinstance(action, Launch):
        return [a for a in action.args if isinstance(a, Node | Temporary)]
    if isinstance(action, Product):
        return [*inputs_of(action.step), action.step.node]
    return [action.source, action.target]


def dims_of(action: Action) -> list[Dim]:
    """The sizes that decide what an action does, beside those of its arrays."""
    if isinstance(action, Product) and isinstance(action.step, Own):
        views, given = action.step.views, action.step.node.inputs
        return [d for s in (*(v.starts for v in views), *(x.shape for x in given)) for d in s]
    if not isinstance(action, Launch):
        return []
    grids = [action.grid, *(a.of.grid for a in action.args if isinstance(a, Count))]
    sizes = [Dim(0, ((s, 1),)) for s in action.args if isinstance(s, Symbol)]
    return [*sizes, *action.updates, *(d for g in grids for d in (*g.rows, *g.columns))]


def kernels(step: Step) -> list[Action]:
    """What a step does on a device, in order."""
    if isinstance(step, Nest):
        return _Nest(step).actions()
    if isinstance(step, Gemm):
        return [Product(step)]
    if isinstance(step, Own):
        from tlang.emit.cudaown import own_kernels

        return own_kernels(step)
    assert isinstance(step, Fill), step
    return [_fill(step)]


class KernelText(Text):
    """The text of one kernel under construction."""

    def __init__(self) -> None:
        super().__init__(names=_Names())
        self.checks = False
        self.others: dict[Arg, str] = {}

    def argument(self, arg: Count) -> str:
        """The name of a further argument."""
        return self.others.setdefault(arg, f"n{len(self.others)}")

    def launch(self, grid: Grid) -> Launch:
        """The kernel, with its head."""
        params = [*self.sizes.values(), *self.others.values(), *self.pointers.values()]
        args: list[Arg] = [*self.sizes, *self.others, *self.pointers]
        if self.checks:
            params.append(STATUS)
            args.append(STATUS)
        head = [f"def kernel({', '.join(params)}):"]
        for dim, name in self.dims.items():
            terms = [self.sizes[s] if k == 1 else f"{k} * {self.sizes[s]}" for s, k in dim.terms]
            head.append(f"    {name} = {' + '.join([*terms, *([str(dim.const)] if dim.const else [])])}")
        return Launch(_HEAD + "\n".join([*head, *_counted(self.lines)]) + "\n", tuple(args), grid)


def _counted(lines: Sequence[str]) -> list[str]:
    """Lines with `while` for each `for` with a start and an end, which takes fewer registers."""
    out: list[str] = []
    ends: list[tuple[int, str]] = []
    for line in (*lines, ""):
        depth = len(line) - len(line.lstrip()) if line else 0
        while ends and depth <= ends[-1][0]:
            out.append(ends.pop()[1])
        found = _RANGE.fullmatch(line)
        if found is None:
            out.append(line)
            continue
        indent, name, start, stop, step = found.groups()
        out += [f"{indent}{name} = {start}", f"{indent}while {name} < {stop}:"]
        ends.append((depth, f"{indent}    {name} = {name} + {step or 1}"))
    return out[:-1]


_RANGE = re.compile(r"( *)for (\w+) in range\(([^,]+), (.+?)(?:, ([^,]+))?\):")


class _Names(Names):
    """Names of forms stay what they are: the inliner knows them."""

    def __missing__(self, name: str) -> str:
        return name


class _Nest:
    """The kernels of one nest."""

    def __init__(self, nest: Nest) -> None:
        self.nest = nest

    def actions(self) -> list[Action]:
        """What a nest does, in order."""
        placed = [n for n in self.nest.nodes if self.nest.roles[n] is Role.PLACED]
        if placed:
            return self.places(*placed)
        writer = _Rows(self.nest) if self.nest.split is not None else _Flat(self.nest)
        main = writer.write()
        return [main, *(_combine(n, part) for n, part in writer.partials.items())]

    def places(self, node: Node) -> list[Action]:
        """All places are looked at, what is changed is copied, and then the values go there."""
        out: list[Action] = []
        if any(n.op.fails for n in self.nest.nodes) or len(self.nest.outputs) > 1:
            out.append(_Others(self.nest).write())
        base = access(node.inputs[0]).base
        out.append(_filled(node, base) if is_literal(base) else Copy(base, node))
        exact = node.dtype.kind != "f"
        if not node.attr("add") or node.dtype.numpy_name not in _ATOMIC:
            return [*out, _Ordered(self.nest).write()]
        if exact:
            return [*out, _Atomic(self.nest).write()]
        return [*out, _Ordered(self.nest).write(most=ORDERED), _Atomic(self.nest).write(least=ORDERED)]


class _Writer(Elements):
    """What all kernels of nests have in common."""

    out: KernelText

    def __init__(self, nest: Nest) -> None:
        super().__init__(KernelText(), nest)
        self.inliner = Inliner(lambda line: self.out.put(self.depth, line), self.out.name)
        self.depth = 1
        self.lane = 0
        self.partials: dict[Node, Partial] = {}
        self.totals: dict[Node, str] = {}
        self.shared: dict[DType, str] = {}
        rows = tuple(nest.domain[a] for g in self.rows for a in g)
        columns = tuple(nest.domain[a] for g in self.columns for a in g)
        self.grid = Grid(rows, columns)

    # ------------------------------------------------------------ elements

    def variable(self, group: list[int]) -> str:
        """The variable of a loop; lanes have columns of their own."""
        name = super().variable(group)
        return f"{name}_{self.lane}" if self.lane and group in self.columns else name

    def is_common(self, stream: Stream) -> bool:
        """Whether an element is the same for all lanes."""
        return not stream.strides

    def element(self, depth: int, node: Node, view: Access | None, stage: int, row: int) -> str:
        """The variable that has an element of a node, or of an input."""
        self.lane = row
        return super().element(depth, node, view, stage, row)

    def compute(self, depth: int, node: Node, scope: dict[object, str]) -> None:
        """A node from its inputs, all of which have variables."""
        self.depth = depth
        super().compute(depth, node, scope)

    def drawn(self, node: Node) -> str:
        """A random number: that of its place in the draw."""
        place = self.index(self.streams[node], self.groups)
        return elements_of(self.out, self.depth, node, place, self.out.array(node.inputs[0]))

    @property
    def groups(self) -> list[list[int]]:
        """All loops."""
        return self.rows + self.columns

    def scalar(self, node: Node, text: str, inputs: Sequence[str], index: str) -> str:
        """A form of an operation with its inputs' elements: with typed literals, its functions inlined."""
        dtype = node.inputs[0].dtype if node.inputs else node.dtype
        if dtype.is_integer:
            index = typed(dtype, index)
        made = super().scalar(node, text, inputs, index)
        return self.inliner.expression(made, dtype)

    def failing(self, depth: int, condition: str) -> None:
        """An element that makes the call an error."""
        self.out.checks = True
        self.out.put(depth, f"if {condition}:")
        self.out.put(depth + 1, f"{STATUS}[0] = 1")

    def converted(self, node: Node, item: str) -> str:
        """An element in the dtype of its total."""
        return item if node.inputs[0].dtype is node.dtype else typed(node.dtype, item)

    # ------------------------------------------------------------ loops

    def decompose(self, depth: int, flat: str, groups: Sequence[list[int]]) -> None:
        """The variables of loops from the number of an element of all of them."""
        for k, group in enumerate(groups):
            rest = self.out.product(self.nest.domain[a] for g in groups[k + 1 :] for a in g)
            text = flat if rest == "1" else f"{flat} // ({rest})"
            if k:
                text = f"{text} % ({self.size(group)})" if rest == "1" else f"({text}) % ({self.size(group)})"
            if text != self.variable(group):
                self.out.put(depth, f"{self.variable(group)} = {text}")

    def total(self, dims: Sequence[Dim]) -> str:
        """How many rows or columns there are."""
        return self.out.product(dims)

    def row_values(self, depth: int) -> dict[object, str]:
        """What is known of a row before its columns: elements that only its number decides."""
        value = dict(self.common)
        rows = {a for g in self.rows for a in g}
        for what in self.nest.reads:
            stream = self.streams[what]
            if stream.strides and set(stream.strides) <= rows:
                name = self.out.name("x")
                self.out.put(depth, f"{name} = {self.load(what[0], stream, self.rows)}")
                value[what] = name
        return value

    def begin_totals(self) -> None:
        """The totals of a thread over all its rows."""
        for n in self.after:
            if not self.axes_of(n):
                self.totals[n] = self.out.name("s")
                self.out.put(1, f"{self.totals[n]} = {start_of(n, n.dtype)}")

    def end_totals(self) -> None:
        """The totals of a block go where those of all blocks meet."""
        if not self.totals:
            return
        out = self.out
        out.put(1, "t = cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x")
        for n, total in self.totals.items():
            self.partials[n] = Partial(n.dtype, (), grid=self.grid)
            found = self.meet(1, n, total, "t", "cuda.blockDim.x * cuda.blockDim.y", "t", "0")
            out.put(1, "if t == 0:")
            place = "cuda.blockIdx.y * cuda.gridDim.x + cuda.blockIdx.x"
            out.put(2, f"{out.array(self.partials[n])}[{place}] = {stored(n.dtype, found)}")

    def meet(self, depth: int, node: Node, mine: str, t: str, count: str, lane: str, first: str) -> str:
        """The total of what several threads have: `count` of them, this one is `lane`.

        `t` is this thread's place in shared memory, that of the first of them is `first`.
        """
        out, dtype = self.out, node.dtype
        if dtype not in self.shared:
            self.shared[dtype] = f"w_{dtype.numpy_name}"
            kind = "uint8" if dtype is BOOL else dtype.numpy_name
            out.lines.insert(0, f"    {self.shared[dtype]} = cuda.shared.array({THREADS}, np.{kind})")
        w = self.shared[dtype]
        out.put(depth, f"{w}[{t}] = {stored(dtype, mine)}")
        out.put(depth, "cuda.syncthreads()")
        out.put(depth, f"h = ({count}) >> 1")
        out.put(depth, "while h > 0:")
        out.put(depth + 1, f"if {lane} < h:")
        one, other = out.name("s"), out.name("s")
        out.put(depth + 2, f"{one} = {loaded(dtype, f'{w}[{t}]')}")
        out.put(depth + 2, f"{other} = {loaded(dtype, f'{w}[{t} + h]')}")
        out.put(depth + 2, f"{w}[{t}] = {stored(dtype, _combined(node, one, other))}")
        out.put(depth + 1, "cuda.syncthreads()")
        out.put(depth + 1, "h = h >> 1")
        found = out.name("v")
        out.put(depth, f"{found} = {loaded(dtype, f'{w}[{first}]')}")
        out.put(depth, "cuda.syncthreads()")
        return found


class _Flat(_Writer):
    """A nest without stages: rows along y, columns along x, each thread on its own."""

    def write(self) -> Launch:
        """The kernel."""
        out, nest = self.out, self.nest
        self.begin_totals()
        self.load_scalars(1)
        targets = self.targets[0]
        if not self.groups:
            self.scopes = [dict(self.common)]
            out.put(1, "if cuda.grid(1) == 0:")
            self.elements(2, targets, 1)
        elif not self.rows and len(nest.nodes) <= FEW_NODES and not any(n.op.fails for n in nest.nodes):
            self.grid = replace(self.grid, lanes=LANES)
            self.over_lanes(targets)
        else:
            depth = 1
            if self.rows:
                out.put(1, "first = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y")
                out.put(1, f"for q in range(first, {self.total(self.grid.rows)}, {_STEP_Y}):")
                self.decompose(2, "q", self.rows)
                depth = 2
            self.scopes = [self.row_values(depth)]
            (group,) = self.columns
            out.put(depth, f"for {self.variable(group)} in range({_X}, {self.size(group)}, {_STEP_X}):")
            self.elements(depth + 1, targets, 1)
        self.end_totals()
        return out.launch(self.grid)

    def over_lanes(self, targets: Sequence[Node]) -> None:
        """One loop, several elements at a time: what they read is on its way before the first is computed."""
        out = self.out
        (group,) = self.columns
        j, n = self.variable(group), self.size(group)
        out.put(1, f"{j} = {_X}")
        out.put(1, f"step = {_STEP_X}")
        out.put(1, f"while {j} + {LANES - 1} * step < {n}:")
        for lane in range(1, LANES):
            out.put(2, f"{j}_{lane} = {j} + {lane} * step")
        self.scopes = [dict(self.common) for _ in range(LANES)]
        for base, view in self.nest.reads:
            for lane in range(LANES):
                self.element(2, base, view, 0, lane)
        self.elements(2, targets, LANES)
        self.lane = 0
        out.put(2, f"{j} = {j} + {LANES} * step")
        out.put(1, f"while {j} < {n}:")
        self.scopes = [dict(self.common)]
        self.elements(2, targets, 1)
        out.put(2, f"{j} = {j} + step")

    def elements(self, depth: int, targets: Sequence[Node], lanes: int) -> None:
        """The outputs of elements, and what they add to totals."""
        for n in targets:
            for lane in range(lanes):
                if self.is_reduction(n):
                    view = access(n.inputs[0])
                    item = self.converted(n, self.element(depth, view.base, view, 0, lane))
                    total = self.totals[n]
                    self.out.put(depth, f"{total} = {_combined(n, total, item)}")
                else:
                    value = self.element(depth, n, None, 0, lane)
                    self.store(depth, n, value, self.groups, 0)


_X = "cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x"
_STEP_X = "cuda.gridDim.x * cuda.blockDim.x"
_STEP_Y = "cuda.gridDim.y * cuda.blockDim.y"


class _Rows(_Writer):
    """A nest whose rows pass through stages: a team of threads along x does a row."""

    def write(self) -> Launch:
        """The kernel."""
        out, nest = self.out, self.nest
        contiguous = {
            s.strides[len(nest.domain) - 1]
            for s in self.streams.values()
            if s.strides.get(len(nest.domain) - 1)
        }
        narrow = bool(self.columns) and bool(contiguous) and (1, ()) not in contiguous
        self.grid = replace(self.grid, team=True, narrow=narrow)
        self.wide = [n for n in self.after if self.axes_of(n)]
        for n in self.wide:
            dims = tuple(self.sizes_of(n))
            self.partials[n] = Partial(n.dtype, dims, grid=self.grid, each=True)
        self.begin_totals()
        self.load_scalars(1)
        out.put(1, "x = cuda.threadIdx.x")
        out.put(1, "y = cuda.threadIdx.y")
        self.clear()
        rows = self.total(self.grid.rows)
        out.put(1, f"for top in range(cuda.blockIdx.y * cuda.blockDim.y, {rows}, {_STEP_Y}):")
        out.put(2, f"on = top + y < {rows}")
        out.put(2, f"q = top + y if on else {rows} - 1")
        self.decompose(2, "q", self.rows)
        value = self.row_values(2)
        for stage, targets in enumerate(self.targets):
            self.of_rows(2, stage, value)
            if targets:
                self.scopes = [dict(value)]
                self.columns_of(2, stage, targets, value)
        self.end_totals()
        launch = out.launch(self.grid)
        return launch

    def clear(self) -> None:
        """The totals of columns begin; each row of threads has its own."""
        if not self.wide:
            return
        depth = self.begin_columns(1)
        for n in self.wide:
            self.out.put(depth, f"{self.total_at(n)} = {stored(n.dtype, start_of(n, n.dtype))}")

    def begin_columns(self, depth: int) -> int:
        """The loop of a team over the columns; the depth inside."""
        out = self.out
        if not self.columns:
            out.put(depth, "if x == 0:")
            return depth + 1
        flat = self.variable(self.columns[0]) if len(self.columns) == 1 else "c"
        out.put(depth, f"for {flat} in range(x, {self.total(self.grid.columns)}, cuda.blockDim.x):")
        self.decompose(depth + 1, flat, self.columns)
        return depth + 1

    def total_at(self, node: Node) -> str:
        """The place of a column's total, among those of this row of threads."""
        stream = self.stream(node, access_itself(node), self.nest.labels[node])
        size = self.out.product(self.partials[node].dims)
        team = "(cuda.blockIdx.y * cuda.blockDim.y + y)"
        return (
            f"{self.out.array(self.partials[node])}[{team} * ({size}) + {self.index(stream, self.columns)}]"
        )

    def of_rows(self, depth: int, stage: int, value: dict[object, str]) -> None:
        """What is computed once a row; all threads of a team know it."""
        nest, out = self.nest, self.out
        for n in nest.nodes:
            if nest.stages[n] != stage or nest.roles[n] is Role.FULL:
                continue
            if nest.roles[n] is Role.ROW and not n.op.reduce:
                self.compute(depth, n, value)
                self.keep_row(depth, n, value)
            elif nest.roles[n] is Role.AFTER:
                base = access(n.inputs[0]).base
                if nest.roles.get(base) is Role.ROW:
                    total = self.totals[n]
                    out.put(depth, "if on and x == 0:")
                    item = self.converted(n, value[base])
                    out.put(depth + 1, f"{total} = {_combined(n, total, item)}")

    def keep_row(self, depth: int, node: Node, value: dict[object, str]) -> None:
        """The value of a row that is an output."""
        if node in self.nest.outputs:
            self.out.put(depth, "if on and x == 0:")
            self.store(depth + 1, node, value[node], self.rows, 0)

    def columns_of(self, depth: int, stage: int, targets: Sequence[Node], value: dict[object, str]) -> None:
        """One pass over the columns of a row."""
        nest, out = self.nest, self.out
        mine = {}
        for n in targets:
            if self.is_reduction(n) and nest.roles[n] is Role.ROW:
                mine[n] = out.name("s")
                out.put(depth, f"{mine[n]} = {start_of(n, n.dtype)}")
        out.put(depth, "if on:")
        inner = self.begin_columns(depth + 1)
        for n in targets:
            if not self.is_reduction(n):
                self.store(inner, n, self.element(inner, n, None, stage, 0), self.groups, 0)
                continue
            view = access(n.inputs[0])
            item = self.converted(n, self.element(inner, view.base, view, stage, 0))
            if n in self.wide:
                at, old = self.total_at(n), out.name("s")
                out.put(inner, f"{old} = {loaded(n.dtype, at)}")
                out.put(inner, f"{at} = {stored(n.dtype, _combined(n, old, item))}")
            else:
                total = mine[n] if n in mine else self.totals[n]
                out.put(inner, f"{total} = {_combined(n, total, item)}")
        if mine:
            out.put(depth, "t = y * cuda.blockDim.x + x")
        for n, total in mine.items():
            value[n] = self.meet(depth, n, total, "t", "cuda.blockDim.x", "x", "y * cuda.blockDim.x")
            self.keep_row(depth, n, value)


class _Places(_Writer):
    """A nest whose values go to computed places."""

    def place_of(self, depth: int, node: Node) -> str:
        """Where a value goes."""
        given = [self.at(depth, x) for x in node.operands[1:]]
        seen = seen_by(node)
        assert seen is not None
        return self.computed(node, replace(seen, base=node), given)

    def at(self, depth: int, x: Node) -> str:
        """The variable, or literal, that has an element of an input."""
        return self.operand(depth, x, 0, 0)

    def loops_in_order(self, depth: int) -> int:
        """All elements, one after the other; the depth inside."""
        self.load_scalars(depth)
        self.scopes = [dict(self.common)]
        for group in self.groups:
            self.out.put(depth, f"for {self.variable(group)} in range({self.size(group)}):")
            depth += 1
        return depth

    def loops_at_once(self, depth: int) -> int:
        """All elements, each by one thread; the depth inside."""
        self.load_scalars(depth)
        self.scopes = [dict(self.common)]
        if not self.groups:
            self.out.put(depth, "if cuda.grid(1) == 0:")
            return depth + 1
        self.grid = Grid((), tuple(self.nest.domain))
        count = self.total(self.nest.domain)
        self.out.put(depth, f"for q in range(cuda.grid(1), {count}, cuda.gridsize(1)):")
        self.decompose(depth + 1, "q", self.groups)
        return depth + 1


class _Others(_Places):
    """Looks at all places, and computes what else the nest gives."""

    def write(self) -> Launch:
        """The kernel."""
        depth = self.loops_at_once(1)
        (node,) = self.placed
        self.place_of(depth, node)
        for n in self.nest.outputs:
            if n is not node:
                self.store(depth, n, self.element(depth, n, None, 0, 0), self.groups, 0)
        return self.out.launch(self.grid)


class _Ordered(_Places):
    """Every thread has some of the places, and makes the updates of those in their order."""

    def write(self, most: int | None = None) -> Launch:
        """The kernel."""
        out = self.out
        (node,) = self.placed
        guard = _guard(out, self.nest)
        depth = self.loops_in_order(guard)
        at = out.name("a")
        out.put(depth, f"{at} = {self.place_of(depth, node)}")
        out.put(depth, f"if {at} % cuda.gridsize(1) == cuda.grid(1):")
        new = self.at(depth + 1, node.operands[0])
        p = out.array(node)
        if node.attr("add"):
            old = out.name("s")
            out.put(depth + 1, f"{old} = {loaded(node.dtype, f'{p}[{at}]')}")
            new = f"{old} | {new}" if node.dtype is BOOL else typed(node.dtype, f"{old} + {new}")
        out.put(depth + 1, f"{p}[{at}] = {stored(node.dtype, new)}")
        grid = Grid((), tuple(node.shape))
        return replace(out.launch(grid), updates=self.nest.domain, most=most)


class _Atomic(_Places):
    """Every thread has some of the values, and adds them to their places."""

    def write(self, least: int | None = None) -> Launch:
        """The kernel."""
        out = self.out
        (node,) = self.placed
        depth = self.loops_at_once(_guard(out, self.nest))
        at = self.place_of(depth, node)
        out.put(depth, f"cuda.atomic.add({out.array(node)}, {at}, {self.at(depth, node.operands[0])})")
        return replace(out.launch(self.grid), updates=self.nest.domain, least=least)


def _guard(out: KernelText, nest: Nest) -> int:
    """Nothing is put anywhere where a place was wrong; the depth inside."""
    if not any(n.op.fails for n in nest.nodes):
        return 1
    out.checks = True
    out.put(1, f"if {STATUS}[0] == 0:")
    return 2


def _combined(node: Node, total: str, item: str) -> str:
    """A total with one more element."""
    row = node.op.reduce
    assert row is not None
    text = row.combine.replace("{0}", total).replace("{1}", item)
    text = text.replace("{greater}", "greater").replace("{lesser}", "lesser")
    return typed(node.dtype, expression(text, node.dtype))


def _combine(node: Node, part: Partial) -> Launch:
    """The parts of a total become it: threads along x have places, those along y parts."""
    out = KernelText()
    dtype = node.dtype
    kind = "uint8" if dtype is BOOL else dtype.numpy_name
    parts, n, count = out.array(part), out.product(part.dims), out.argument(Count(part))
    for depth, line in (
        (1, f"w = cuda.shared.array({THREADS}, np.{kind})"),
        (1, "x = cuda.threadIdx.x"),
        (1, "y = cuda.threadIdx.y"),
        (1, "t = y * cuda.blockDim.x + x"),
        (1, f"for top in range(cuda.blockIdx.x * cuda.blockDim.x, {n}, {_STEP_X}):"),
        (2, "j = top + x"),
        (2, f"s = {start_of(node, dtype)}"),
        (2, f"if j < {n}:"),
        (3, f"for k in range(y, {count}, cuda.blockDim.y):"),
        (4, f"v = {loaded(dtype, f'{parts}[k * ({n}) + j]')}"),
        (4, f"s = {_combined(node, 's', 'v')}"),
        (2, f"w[t] = {stored(dtype, 's')}"),
        (2, "cuda.syncthreads()"),
        (2, "h = cuda.blockDim.y >> 1"),
        (2, "while h > 0:"),
        (3, "if y < h:"),
        (4, f"a = {loaded(dtype, 'w[t]')}"),
        (4, f"b = {loaded(dtype, 'w[t + h * cuda.blockDim.x]')}"),
        (4, f"w[t] = {stored(dtype, _combined(node, 'a', 'b'))}"),
        (3, "cuda.syncthreads()"),
        (3, "h = h >> 1"),
        (2, f"if y == 0 and j < {n}:"),
        (3, f"{out.array(node)}[j] = w[x]"),
        (2, "cuda.syncthreads()"),
    ):
        out.put(depth, line)
    return out.launch(Grid((Dim(THREADS),), part.dims))


def _filled(node: Node, value: Node) -> Launch:
    """A literal at all places of an array."""
    out = KernelText()
    n = out.product(node.shape)
    out.put(1, f"for i in range(cuda.grid(1), {n}, cuda.gridsize(1)):")
    out.put(2, f"{out.array(node)}[i] = {stored(node.dtype, out.constant(value))}")
    return out.launch(Grid((), tuple(node.shape)))


def _fill(step: Fill) -> Launch:
    """Random numbers: each thread makes those of some blocks of the generator."""
    out = KernelText()
    node = step.node
    (state,) = node.inputs
    each = per_block(node)
    n, words, p = out.product(node.shape), out.array(state), out.array(node)
    out.put(1, f"for b in range(cuda.grid(1), ({n} + {each - 1}) // {each}, cuda.gridsize(1)):")
    numbers = words_of(out, 2, node, "b", words)
    for k, number in enumerate(numbers):
        if each == 1:
            out.put(2, f"{p}[b] = {number}")
        else:
            out.put(2, f"if {each} * b + {k} < {n}:")
            out.put(3, f"{p}[{each} * b + {k}] = {number}")
    return out.launch(Grid((), (*node.shape,)))


# ---------------------------------------------------------------- grids


@dataclass(frozen=True, slots=True)
class Limits:
    """The most threads of a block, a power of two, and the most blocks of a grid."""

    threads: int = THREADS
    blocks: int = 1024


def shape_of(
    grid: Grid, size: Callable[[Dim], int], limits: Limits
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The blocks along x and y, and the threads of a block along x and y: they depend on sizes alone."""
    rows, columns = (_count(dims, size) for dims in (grid.rows, grid.columns))
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


def parts_of(part: Partial, size: Callable[[Dim], int], limits: Limits) -> int:
    """How many parts a partial result has."""
    (wide, high), (_, down) = shape_of(part.grid, size, limits)
    return high * down if part.each else wide * high


def _count(dims: Sequence[Dim], size: Callable[[Dim], int]) -> int:
    total = 1
    for d in dims:
        total *= size(d)
    return total


def _power(n: int) -> int:
    """The least power of two that is `n` or more."""
    return 1 << max(0, n - 1).bit_length()
