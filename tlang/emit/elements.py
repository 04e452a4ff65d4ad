"""The elements of a loop nest: where they lie in memory, and the text that computes one from others.

What loops are around them is the business of a backend: :class:`tlang.emit.nest.NestWriter` for the CPU,
:class:`tlang.emit.cuda.nests.Writer` for CUDA.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from tlang.emit.text import Text, accumulator, form, loaded, stored, typed
from tlang.graph.node import Node
from tlang.plan.steps import Labels, Nest, Role, along, is_drawn, is_literal
from tlang.plan.views import Access, access, access_itself
from tlang.types import BOOL, F32, F64, ONE, Dim, DType, Symbol


@dataclass(frozen=True, slots=True)
class Stream:
    """How an array is indexed: for each axis of the domain the factors of its stride; the factors of an
    offset.
    """

    strides: dict[int, tuple[int, tuple[Dim, ...]]]
    offset: str


class Elements(ABC):
    """The elements of a nest, in the text `out`.

    `targets` are what each pass over the columns is for; of `to_save` the elements wait for a later pass.
    `scopes` has for each row of a block the variables that there are.
    """

    def __init__(self, out: Text, nest: Nest) -> None:
        self.out = out
        self.nest = nest
        self.streams: dict[object, Stream] = {}
        for (base, view), labels in nest.reads.items():
            self.streams[base, view] = self.stream(base, view, labels)
        self.placed = [n for n in nest.nodes if nest.roles[n] is Role.PLACED]
        for n in nest.outputs:
            if n not in self.placed:
                self.streams[n] = self.stream(n, access_itself(n), nest.labels[n])
        indexed = [n for n in nest.nodes if "{index}" in form(n)]
        for n in indexed:
            self.streams["index", n] = Stream({a: (1, ()) for a in nest.labels[n][-1:] if a is not None}, "")
        for n in nest.nodes:
            for axis in (k for kind, k in along(n) if kind == "axis"):
                if (a := nest.labels[n][axis]) is not None:
                    self.streams["index", n, axis] = Stream({a: (1, ())}, "")
        self.draws = [n for n in nest.nodes if is_drawn(n)]
        for n in self.draws:
            self.streams.setdefault(n, self.stream(n, access_itself(n), nest.labels[n]))
        self.rows, self.columns = self.loops()
        self.after = [n for n in nest.nodes if nest.roles[n] is Role.AFTER]
        self.common: dict[object, str] = {}
        self.scopes: list[dict[object, str]] = []
        self.targets = self.find_targets()
        self.to_save: dict[Node, None] = {}
        self.row = 0  # of a block, for which elements are computed

    # ------------------------------------------------------------ places

    def stream(self, base: Node, view: Access, labels: Labels) -> Stream:
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
        return Stream(strides, " + ".join(offset))

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

    def index(self, stream: Stream, loops: Sequence[list[int]], row: int = 0) -> str:
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

    def axes_of(self, node: Node) -> set[int]:
        """The axes of the domain that a node has."""
        return {a for a in self.nest.labels[node] if a is not None}

    def sizes_of(self, node: Node) -> list[Dim]:
        """The sizes of a node that are not 1."""
        return [d for d in node.shape if d != ONE]

    def is_reduction(self, node: Node) -> bool:
        """Whether a node is a total of several elements (of an axis of size 1 it is the element)."""
        return node.op.reduce is not None and self.nest.roles[node] is not Role.FULL

    def sums_columns(self, node: Node) -> bool:
        """Whether a reduction over rows has an element for each column."""
        return bool(self.nest.roles[node] is Role.AFTER and self.axes_of(node) & set(self.nest.columns))

    def find_targets(self) -> list[list[Node]]:
        """What each pass over the columns is for."""
        nest = self.nest
        targets: list[list[Node]] = [[] for _ in range(max(nest.stages.values(), default=0) + 1)]
        for n in nest.nodes:
            if self.is_reduction(n):
                if nest.roles.get(access(n.inputs[0]).base) is not Role.ROW:
                    targets[nest.stages[n] - (nest.roles[n] is Role.ROW)].append(n)
            elif nest.roles[n] is Role.PLACED or (nest.roles[n] is Role.FULL and n in nest.outputs):
                targets[nest.stages[n]].append(n)
        return targets

    # ------------------------------------------------------------ values

    def load_scalars(self, depth: int) -> None:
        """Inputs that are the same for all elements."""
        for (base, view), _ in self.nest.reads.items():
            stream = self.streams[base, view]
            if not stream.strides:
                name = self.out.name("x")
                self.out.put(depth, f"{name} = {self.load(base, stream, ())}")
                self.common[base, view] = name

    def load(self, base: Node, stream: Stream, loops: Sequence[list[int]], row: int = 0) -> str:
        """An element of an array."""
        return loaded(base.dtype, f"{self.out.array(base)}[{self.index(stream, loops, row)}]")

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
                if self.is_common(stream):
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

    def is_common(self, stream: Stream) -> bool:
        """Whether the elements of an array are the same for all rows of a block."""
        return not set(stream.strides) & {a for g in self.rows for a in g}

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
                self.failing(depth, condition)
            text = self.scalar(node, form(node), inputs, index)
            self.watch(depth, node, inputs)
        name = self.out.name("v")
        self.out.put(depth, f"{name} = {text if _keeps_dtype(node) else typed(node.dtype, text)}")
        scope[node] = name

    @abstractmethod
    def failing(self, depth: int, condition: str) -> None:
        """What is done where an element makes a call an error."""

    @abstractmethod
    def drawn(self, node: Node) -> str:
        """The element of a random stream's numbers."""

    @abstractmethod
    def watch(self, depth: int, node: Node, inputs: Sequence[str]) -> None:
        """What else is done with an element's inputs."""

    def scalar(self, node: Node, text: str, inputs: Sequence[str], index: str) -> str:
        """A form of an operation with its inputs' elements."""
        names = self.out.names
        names.dtype = node.inputs[0].dtype if node.inputs else node.dtype
        names["zero"] = typed(names.dtype, "0")
        names["index"] = index
        if is_drawn(node):
            names["drawn"] = self.drawn(node)
        if "{place}" in text:
            names["place"] = self.out.need("place")
        if "{element}" in text:
            view = access(node.tables[0])
            if is_literal(view.base):
                names["element"] = self.out.constant(view.base)
            else:
                at = f"{self.out.array(view.base)}[{self.computed(node, view, inputs[1:])}]"
                names["element"] = loaded(view.base.dtype, at)
        for k, x in enumerate(inputs):
            text = text.replace(f"{{{k}}}", x)
        return text.format_map(names)

    def store(self, depth: int, node: Node, value: str, loops: Sequence[list[int]], row: int) -> None:
        """An element of an output."""
        place = self.index(self.streams[node], loops, row)
        self.out.put(depth, f"{self.out.array(node)}[{place}] = {stored(node.dtype, value)}")

    def saved(self, node: Node, row: int) -> str:
        """An element that an earlier stage has kept: an output is in its array."""
        assert node in self.nest.outputs, node
        return self.load(node, self.streams[node], self.rows + self.columns, row)

    def converted(self, node: Node, item: str) -> str:
        """An element in the dtype in which a reduction accumulates."""
        kind = accumulator(node)
        return item if node.inputs[0].dtype is kind else typed(kind, item)


def _keeps_dtype(node: Node) -> bool:
    """Whether the scalar form of floats gives their dtype without a conversion."""
    if node.dtype not in (F32, F64) or not node.inputs or any(x.dtype is not node.dtype for x in node.inputs):
        return False
    return bool(re.fullmatch(r"[-+*/{}0-9 ]+|\{\w+\}\(\{0\}(, \{1\})?\)", form(node))) and "{" in form(node)


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


def start_of(node: Node, kind: DType | None = None) -> str:
    """What a total begins with."""
    row = node.op.reduce
    assert row is not None
    kind = kind or accumulator(node)
    if row.start in ("least", "greatest"):
        least = row.start == "least"
        if kind is BOOL:
            return str(not least)
        if kind.kind == "f":
            return typed(kind, "-np.inf" if least else "np.inf")
        return typed(kind, str(kind.integer_range()[0 if least else 1]))
    return typed(kind, row.start)
