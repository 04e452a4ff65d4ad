"""The text of a loop nest: rows and columns, the stages of a row, totals, and places that are written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from tlang.emit.elements import Elements, start_of
from tlang.emit.functions import BOUNDS
from tlang.emit.text import (
    BLOCK,
    CALL_COST,
    DRAW_COST,
    DRAWN,
    FEWEST_ROWS,
    GRAIN,
    STATUS,
    Chunks,
    Temporary,
    Text,
    accumulator,
    form,
    loaded,
    np_size,
    stored,
    typed,
)
from tlang.graph.node import Node
from tlang.plan.steps import Nest, Role, is_cheap, is_drawn, is_literal
from tlang.plan.views import access, access_itself, seen_by
from tlang.types import BOOL, F64, Dim

#: Draws begin at multiples of this, as the functions that fill want it.
ALIGNED = 4


@dataclass(slots=True)
class _Drawn:
    """The numbers of a random stream that a thread has at hand: the variables `first` and `end` of a range.

    They are in `memory`. `shift` leads from the place of an element in the innermost loop to its place there.
    """

    memory: Temporary
    first: str
    end: str
    shift: str = ""


class NestWriter(Elements):
    """Writes one nest as CPU code."""

    def __init__(self, out: Text, nest: Nest) -> None:
        super().__init__(out, nest)
        self.totals: dict[Node, str] = {}
        self.temporaries: dict[Node, Temporary] = {}
        self.chunks: Chunks | None = None
        self.blocked = False
        self.bounds: list[float] = []
        self.only_checks = False
        self.drawn_at: dict[Node, _Drawn] = {}

    @property
    def memory(self) -> list[Temporary]:
        """What the nest needs beside the values of nodes, when it has been written."""
        return [*self.temporaries.values(), *(d.memory for d in self.drawn_at.values())]

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
        self.begin_draws()
        self.blocked = self.shares()
        outer = loops[0]
        full = [n for n in nest.nodes if n.op.scalar and nest.roles[n] is Role.FULL]
        calls = sum(not is_cheap(n) and not is_drawn(n) for n in full)
        cost = 1 + CALL_COST * calls + DRAW_COST * len(self.draws)
        wide = any(self.axes_of(n) for n in self.after)
        length = tuple(nest.domain[a] for a in outer)
        self.chunks = Chunks(length, nest.domain, cost, FEWEST_ROWS if wide else 1)
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
        seen = seen_by(node)
        assert seen is not None
        view = replace(seen, base=node)
        at = f"{self.out.array(node)}[{self.computed(node, view, given)}]"
        new = self.operand(depth, value, stage, row)
        if node.attr("add"):
            old = self.out.name("s")
            self.out.put(depth, f"{old} = {loaded(node.dtype, at)}")
            new = typed(node.dtype, f"{old} + {new}" if node.dtype is not BOOL else f"{old} | {new}")
        self.out.put(depth, f"{at} = {stored(node.dtype, new)}")

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
                out.put(depth + 1, f"{self.partial(n)}[{z} + j] = {stored(accumulator(n), start_of(n))}")
            else:
                self.totals[n] = out.name("s")
                out.put(depth, f"{self.totals[n]} = {start_of(n)}")
        self.over_rows(depth)
        for n, total in self.totals.items():
            out.put(depth, f"{self.partial(n)}[{k}] = {stored(accumulator(n), total)}")

    def shares(self) -> bool:
        """Whether rows are done in blocks: they add to the same columns, or read the same ones.

        Random numbers are drawn in the order of memory.
        """
        nest = self.nest
        if self.draws or len(self.rows) != 1 or len(self.columns) != 1 or nest.split is None:
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
        if self.draws:
            row = [a for group in (self.rows + self.columns)[1:] for a in group]
            out.put(depth, f"end = hi * {self.size(row)}" if row else "end = hi")
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

    def plan_saves(self) -> None:
        """Which elements wait for a later pass: those that are dearer to compute again than to read."""
        nest = self.nest
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
                        out.put(depth, f"{sums[n, r]} = {start_of(n)}")
        inner = depth
        drawn = self.drawn_in(stage, [*saves, *targets])
        for k, group in enumerate(self.columns):
            start, stop = ("0", self.size(group)) if self.rows or k else ("lo", "hi")
            if drawn and k == len(self.columns) - 1:
                inner, start, stop = self.draw(inner, drawn, start, stop)
            bounds = stop if start == "0" else f"{start}, {stop}"
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
        if drawn:
            out.put(inner - 1, f"{start} = {stop}")
        for (n, r), total in sums.items():
            if nest.roles[n] is Role.ROW:
                value[r][n] = total
                if accumulator(n) is not n.dtype:
                    value[r][n] = out.name("v")
                    out.put(depth, f"{value[r][n]} = {typed(n.dtype, total)}")
                if n in nest.outputs:
                    self.store(depth, n, value[r][n], self.rows, r)
            elif self.rows:
                self.add_row(depth, n, total, r)

    def begin_draws(self) -> None:
        """No random numbers are at hand yet."""
        for n in self.draws:
            memory = Temporary(n.dtype, (Dim(DRAWN),), rows=1)
            drawn = _Drawn(memory, self.out.name("f"), self.out.name("e"))
            self.drawn_at[n] = drawn
            self.out.put(1, f"{drawn.first} = 0")
            self.out.put(1, f"{drawn.end} = 0")

    def drawn_in(self, stage: int, todo: list[Node]) -> list[Node]:
        """The random numbers that a pass over the columns uses."""
        nest = self.nest
        seen: set[Node] = set()
        todo = [access(n.inputs[0]).base if self.is_reduction(n) else n for n in todo]
        while todo:
            n = todo.pop()
            if (
                n not in seen
                and nest.roles.get(n) is Role.FULL
                and not (n in self.to_save and nest.stages[n] < stage)
            ):
                seen.add(n)
                todo += [access(x).base for x in n.operands]
        return [n for n in self.draws if n in seen]

    def draw(self, depth: int, drawn: list[Node], start: str, stop: str) -> tuple[int, str, str]:
        """Divides the innermost loop into parts whose random numbers are at hand; draws what is not.

        Gives the depth of the loop in it and its bounds, of which the first is a variable.
        """
        out = self.out
        row, at, to, place = map(out.name, "rbtq")
        stream = self.streams[drawn[0]]
        out.put(depth, f"{row} = {self.index(stream, (self.rows + self.columns)[:-1])}")
        out.put(depth, f"{at} = {start}")
        out.put(depth, f"while {at} < {stop}:")
        out.put(depth + 1, f"{to} = {stop}")
        out.put(depth + 1, f"{place} = {row} + {at}")
        for n in drawn:
            d = self.drawn_at[n]
            d.shift = out.name("w")
            memory = f"tid * {DRAWN}"
            out.put(depth + 1, f"if {place} < {d.first} or {place} >= {d.end}:")
            out.put(depth + 2, f"{d.first} = {place} // {ALIGNED} * {ALIGNED}")
            out.put(depth + 2, f"{d.end} = min({d.first} + {DRAWN}, end)")
            target = f"{out.address(d.memory)} + {np_size(n.dtype)} * {memory}"
            out.put(depth + 2, out.fill(n, target, d.first, f"{d.end} - {d.first}"))
            out.put(depth + 1, f"{to} = min({to}, {d.end} - {row})")
            out.put(depth + 1, f"{d.shift} = {memory} + {row} - {d.first}")
        return depth + 1, at, to

    def drawn(self, node: Node) -> str:
        """The element of a random stream's numbers, of those at hand."""
        d = self.drawn_at[node]
        return f"{self.out.array(d.memory)}[{d.shift} + {self.variable(self.columns[-1])}]"

    def keep(self, depth: int, node: Node, value: str, row: int) -> None:
        """An element that is an output, or waits for a later stage."""
        if node in self.nest.outputs:
            self.store(depth, node, value, self.rows + self.columns, row)
        else:
            self.out.put(depth, f"{self.scratch(node, row)} = {stored(node.dtype, value)}")

    def saved(self, node: Node, row: int) -> str:
        """An element that an earlier stage has kept."""
        if node in self.nest.outputs:
            return super().saved(node, row)
        return loaded(node.dtype, self.scratch(node, row))

    def failing(self, depth: int, condition: str) -> None:
        """The chunk goes on; the call will be one of the interpreter."""
        self.out.put(depth, f"bad = bad or {condition}")

    def watch(self, depth: int, node: Node, inputs: Sequence[str]) -> None:
        """The largest number that goes into a function with a bound."""
        if self.bounds and any(f"{{{f}}}" in form(node) for f in BOUNDS):
            self.out.put(depth, f"far = maximum(far, {typed(F64, f'abs({inputs[0]})')})")

    def scratch(self, node: Node, row: int) -> str:
        """The place of an element in the scratch memory of this thread: room for a block of rows."""
        rows = BLOCK if self.blocked else 1
        if node not in self.temporaries:
            dims = tuple(self.nest.domain[a] for g in self.columns for a in g)
            self.temporaries[node] = Temporary(node.dtype, dims, rows=rows)
        place = ""
        for group in self.columns:
            v = self.variable(group)
            place = f"({place}) * {self.size(group)} + {v}" if place else v
        size = self.out.product(self.temporaries[node].dims)
        return f"{self.out.array(self.temporaries[node])}[(tid * {rows} + {row}) * {size} + {place or '0'}]"

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
        return typed(kind, text)

    def add_columns(self, depth: int, node: Node, items: list[str]) -> None:
        """Elements of a column, one for each row of a block, go into the total of the column."""
        kind = accumulator(node)
        item = items[0]
        if len(items) == BLOCK:
            item = f"(({items[0]} + {items[1]}) + ({items[2]} + {items[3]}))"
        at, name = self.total_at(node, 0), self.out.name("s")
        self.out.put(depth, f"{name} = {loaded(kind, at)}")
        self.out.put(depth, f"{at} = {stored(kind, self.combined(node, name, item))}")

    def add_row(self, depth: int, node: Node, item: str, row: int) -> None:
        """A row's value goes into the total of all rows, or of those with the same place."""
        kind = accumulator(node)
        if node in self.totals:
            total = self.totals[node]
            self.out.put(depth, f"{total} = {self.combined(node, total, item)}")
            return
        at, name = self.total_at(node, row), self.out.name("s")
        self.out.put(depth, f"{name} = {loaded(kind, at)}")
        self.out.put(depth, f"{at} = {stored(kind, self.combined(node, name, item))}")

    def combine(self, depth: int, count: str) -> None:
        """The totals of the chunks, in their order, become the results."""
        for n in self.after:
            kind = accumulator(n)
            total = loaded(kind, "part[j]")
            item = self.combined(n, total, loaded(kind, "part[k * size + j]"))
            text = "\n".join(
                [
                    "(part, count, size, result):",
                    "    for k in range(1, count):",
                    "        for j in range(size):",
                    f"            part[j] = {stored(kind, item)}",
                    "    for j in range(size):",
                    f"        result[j] = {stored(n.dtype, typed(n.dtype, total))}",
                    "",
                ]
            )
            size = self.out.product(self.sizes_of(n))
            combine = self.out.shared("combine", text)
            self.out.put(depth, f"{combine}({self.partial(n)}, {count}, {size}, {self.out.array(n)})")


def _count(dims: Sequence[Dim]) -> int:
    total = 1
    for d in dims:
        total *= d.const
    return total


def runs_twice(nest: Nest) -> bool:
    """Whether chunks of a nest may run again, with functions that have no bounds."""
    return any(f"{{{f}}}" in form(n) for n in nest.nodes for f in BOUNDS)
