"""Kernels of loop nests: a thread for elements where rows have no stages, a team of threads for a row.

Totals of a block meet in shared memory, and a second kernel combines those of all blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tlang.emit.cuda.actions import STATUS, Count, Launch, Partial
from tlang.emit.cuda.grids import THREADS, Grid
from tlang.emit.cuda.inline import Inliner, expression
from tlang.emit.cuda.philox import elements_of
from tlang.emit.cuda.text import STEP_X, STEP_Y, KernelText, X
from tlang.emit.elements import Elements, Stream, start_of
from tlang.emit.text import loaded, stored, typed
from tlang.graph.node import Node
from tlang.plan.steps import Nest, Role
from tlang.plan.views import Access, access, access_itself
from tlang.types import BOOL, Dim, DType

#: How many elements a thread has under way in a flat loop without rows; nests of more nodes have one.
LANES, FEW_NODES = 4, 24


class Writer(Elements):
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

    def watch(self, depth: int, node: Node, inputs: Sequence[str]) -> None:
        """Nothing: the functions of a device have no bounds."""

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
        out.put(depth + 2, f"{w}[{t}] = {stored(dtype, combined(node, one, other))}")
        out.put(depth + 1, "cuda.syncthreads()")
        out.put(depth + 1, "h = h >> 1")
        found = out.name("v")
        out.put(depth, f"{found} = {loaded(dtype, f'{w}[{first}]')}")
        out.put(depth, "cuda.syncthreads()")
        return found


class Flat(Writer):
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
                out.put(1, f"for q in range(first, {self.total(self.grid.rows)}, {STEP_Y}):")
                self.decompose(2, "q", self.rows)
                depth = 2
            self.scopes = [self.row_values(depth)]
            (group,) = self.columns
            out.put(depth, f"for {self.variable(group)} in range({X}, {self.size(group)}, {STEP_X}):")
            self.elements(depth + 1, targets, 1)
        self.end_totals()
        return out.launch(self.grid)

    def over_lanes(self, targets: Sequence[Node]) -> None:
        """One loop, several elements at a time: what they read is on its way before the first is computed."""
        out = self.out
        (group,) = self.columns
        j, n = self.variable(group), self.size(group)
        out.put(1, f"{j} = {X}")
        out.put(1, f"step = {STEP_X}")
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
                    self.out.put(depth, f"{total} = {combined(n, total, item)}")
                else:
                    value = self.element(depth, n, None, 0, lane)
                    self.store(depth, n, value, self.groups, 0)


class Rows(Writer):
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
        out.put(1, f"for top in range(cuda.blockIdx.y * cuda.blockDim.y, {rows}, {STEP_Y}):")
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
                    out.put(depth + 1, f"{total} = {combined(n, total, item)}")

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
                out.put(inner, f"{at} = {stored(n.dtype, combined(n, old, item))}")
            else:
                total = mine[n] if n in mine else self.totals[n]
                out.put(inner, f"{total} = {combined(n, total, item)}")
        if mine:
            out.put(depth, "t = y * cuda.blockDim.x + x")
        for n, total in mine.items():
            value[n] = self.meet(depth, n, total, "t", "cuda.blockDim.x", "x", "y * cuda.blockDim.x")
            self.keep_row(depth, n, value)


def combined(node: Node, total: str, item: str) -> str:
    """A total with one more element."""
    row = node.op.reduce
    assert row is not None
    text = row.combine.replace("{0}", total).replace("{1}", item)
    text = text.replace("{greater}", "greater").replace("{lesser}", "lesser")
    return typed(node.dtype, expression(text, node.dtype))


def combine(node: Node, part: Partial) -> Launch:
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
        (1, f"for top in range(cuda.blockIdx.x * cuda.blockDim.x, {n}, {STEP_X}):"),
        (2, "j = top + x"),
        (2, f"s = {start_of(node, dtype)}"),
        (2, f"if j < {n}:"),
        (3, f"for k in range(y, {count}, cuda.blockDim.y):"),
        (4, f"v = {loaded(dtype, f'{parts}[k * ({n}) + j]')}"),
        (4, f"s = {combined(node, 's', 'v')}"),
        (2, f"w[t] = {stored(dtype, 's')}"),
        (2, "cuda.syncthreads()"),
        (2, "h = cuda.blockDim.y >> 1"),
        (2, "while h > 0:"),
        (3, "if y < h:"),
        (4, f"a = {loaded(dtype, 'w[t]')}"),
        (4, f"b = {loaded(dtype, 'w[t + h * cuda.blockDim.x]')}"),
        (4, f"w[t] = {stored(dtype, combined(node, 'a', 'b'))}"),
        (3, "cuda.syncthreads()"),
        (3, "h = h >> 1"),
        (2, f"if y == 0 and j < {n}:"),
        (3, f"{out.array(node)}[j] = w[x]"),
        (2, "cuda.syncthreads()"),
    ):
        out.put(depth, line)
    return out.launch(Grid((Dim(THREADS),), part.dims))
