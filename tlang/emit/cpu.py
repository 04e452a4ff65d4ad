"""The text of CPU code: one function for a sequence of steps, loop nests around scalar forms.

The function takes a table of int64: first the sizes of the call, then addresses of arrays. So one code serves
all sizes, and a call passes four integers. Arrays are contiguous. A nest's outermost loop runs in chunks
whose number depends on sizes alone; every thread does some of them, and what the chunks reduce to is
combined in their order, so that results do not depend on the number of threads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tlang.emit import random
from tlang.emit.functions import helpers
from tlang.emit.nest import NestWriter
from tlang.emit.text import DRAW_COST, HEADER, PRELUDE, STATUS, TICKS, Temporary, Text, np_size
from tlang.graph.node import Node
from tlang.plan.steps import Fill, Gemm, Nest, Own, Role, Step, needed_sizes
from tlang.plan.views import access, seen_by
from tlang.types import ONE, Dim, Symbol

#: The arguments of an entry: the table, this thread's number, the number of threads, whether outputs are
#: wanted.
SIGNATURE = "int64(int64, int64, int64, int64)"


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


#: How many calls a function has at most: the time to compile one grows faster than its length.
MOST_CALLS = 64
#: Among more steps than these some are likely to differ in their constants alone.
FEW_STEPS = 12


def code(steps: Sequence[Step], entry: str = "step", timed: bool = False) -> Code:
    """The code for steps, none of which is `Alone`; `timed` code counts times and calls in a table."""
    return _Writer(timed=timed).code(steps, entry)


class _Writer(Text):
    """Writes a function for each kind of step, and the entry, which calls them in order."""

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
                nest = NestWriter(self, step)
                nest.write()
                self.steps.update(dict.fromkeys(nest.memory, number))
            elif isinstance(step, Gemm):
                self.gemm(step)
            elif isinstance(step, Fill):
                self.draw(step)
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
        text = "".join(PRELUDE[name] + "\n\n" for name in self.prelude) + helpers(self.names)
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

    def draw(self, step: Fill) -> None:
        """Random numbers: each chunk by one thread; where a draw is cut makes no difference."""
        node = step.node
        self.work.append((node.shape, DRAW_COST))
        self.put(1, f"n = {self.product(node.shape)}")
        self.put(1, f"c, m = {self.need('chunks')}(n, n * {DRAW_COST}, 1)")
        self.put(1, "for k in range(tid, m, nt):")
        self.put(2, "lo = k * c")
        self.put(2, "hi = min(n, lo + c)")
        target = f"{self.address(node)} + {np_size(node.dtype)} * lo"
        self.put(2, self.fill(node, target, "lo", "hi - lo"))


def must_be_positive(step: Step) -> list[Dim]:
    """The sizes that must not be negative for a step to make sense."""
    if isinstance(step, Own):
        return [d for view in step.views for d in view.positive]
    if not isinstance(step, Nest):
        return []
    found = [d for _, view in step.reads for d in view.positive]
    found += [d for n in step.nodes for x in n.tables for d in access(x).positive]
    placed = [seen_by(n) for n in step.nodes if step.roles[n] is Role.PLACED]
    found += [d for view in placed if view is not None for d in view.positive]
    found += [d - ONE for n in step.nodes for d in needed_sizes(n)]
    return list(dict.fromkeys(found))
