"""A formula of one element as a formula of all: indices become axes.

`vectorise` takes a node that depends on index variables (`bound` leaves, scalar integers) and gives the
tensor of its values for all of them, in ordinary operations: `a[i, k]` is `a` with its axes in another order,
and a sum of products over an axis that both have is a matrix product. What has no rule here is left to a
recurrence that carries nothing.

A node that depends on the variables has in its new form the axes of those, in their order, before its own. A
variable that it does not depend on has no axis there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tlang.graph.node import OPS, Node, toposort
from tlang.graph.ops.elementwise import real
from tlang.graph.ops.rules import elementwise, normal_axes, normal_axis, numeric, predicate, size_of
from tlang.graph.recurrence import open_scan
from tlang.source import Span
from tlang.types import I64, ONE, Dim, Tensor

_ALL = ("slice", None, None, 1)
_NEW = ("new",)
_ELEMENTWISE = (elementwise, numeric, predicate, real)


class NoRule(Exception):
    """A node has no form for all elements."""


@dataclass(frozen=True, slots=True, eq=False)
class _Many:
    """A node for all values of some variables: their numbers, ascending, are its first axes."""

    node: Node
    labels: tuple[int, ...] = ()

    @property
    def rank(self) -> int:
        """The number of its own axes."""
        return self.node.rank - len(self.labels)


def vectorise(root: Node, variables: Sequence[Node], sizes: Sequence[tuple[Node, int]]) -> Node:
    """The tensor whose first axes are those of the variables.

    `sizes` says for each of them which axis of which node it runs along.
    """
    try:
        return _Vectoriser(variables, sizes).whole(root)
    except NoRule:
        return _step_by_step(root, variables, sizes)


def for_all(root: Node, sequences: Mapping[Node, Node]) -> Node:
    """A node that depends on elements of sequences, for all elements: raises `NoRule` where that cannot be.

    `sequences` has the sequence of each element, all of one length; its axis is the first of the result.
    """
    first = next(iter(sequences.values()))
    return _Vectoriser((), [(first, 0)], {x: _Many(s, (0,)) for x, s in sequences.items()}).whole(root)


def _step_by_step(root: Node, variables: Sequence[Node], sizes: Sequence[tuple[Node, int]]) -> Node:
    """The same by recurrences that carry nothing, one inside the other."""
    for variable, (x, axis) in reversed(list(zip(variables, sizes, strict=True))):
        numbers = _numbers(x, axis)
        scan = open_scan(
            root.graph, root.span, (), [numbers], (), [variable], (), [root], length=numbers.shape[0]
        )
        root = scan.part("output", 0)
    return root


def _numbers(x: Node, axis: int) -> Node:
    """0, 1, ... along an axis of a node."""
    graph, dim = x.graph, x.shape[axis]
    zero, one = (graph.const(k, Tensor(I64), x.span) for k in (0, 1))
    named = not dim.is_const and all(s.rigid for s in dim.symbols())
    stop = graph.make(OPS["dim"], (), x.span, dim=dim) if named else size_of(x, axis)
    return graph.make(OPS["arange"], [zero, stop, one], x.span, size=dim)


class _Vectoriser:
    """The new forms of the nodes that depend on the variables."""

    def __init__(
        self,
        variables: Sequence[Node],
        sizes: Sequence[tuple[Node, int]],
        known: Mapping[Node, _Many] | None = None,
    ) -> None:
        self.variables = {v: k for k, v in enumerate(variables)}
        self.sizes = sizes
        self.made: dict[Node, _Many] = dict(known or {})
        self.rules: dict[str, Callable[[Node], _Many]] = {
            "index": self.index,
            "matmul": self.matmul,
            "transpose": self.transpose,
            "expand_dims": self.expand_dims,
            "stack": self.stack,
            "size": self.size,
            "named": lambda node: self.of(node.inputs[0]),
            "cast": self.one_by_one,
            "stop_gradient": self.one_by_one,
        }

    def whole(self, root: Node) -> Node:
        """The root with the axes of all variables."""
        for node in toposort([root]):
            if node in self.made:
                continue
            if node in self.variables:
                k = self.variables[node]
                self.made[node] = _Many(self.numbers(k), (k,))
            elif any(x in self.made for x in node.inputs):
                self.made[node] = self.rule(node)(node)
        return self.spread(self.of(root), tuple(range(len(self.sizes))))

    def of(self, node: Node) -> _Many:
        """The new form of a node, itself if it does not depend on the variables."""
        return self.made.get(node) or _Many(node)

    def numbers(self, k: int) -> Node:
        """The values of a variable."""
        x, axis = self.sizes[k]
        if any(n in self.variables for n in toposort([x])):
            x = self.of(x).node
            axis += x.rank - self.sizes[k][0].rank
        return _numbers(x, axis)

    def rule(self, node: Node) -> Callable[[Node], _Many]:
        """How a node becomes one of all elements."""
        op = node.op
        if op.name in self.rules:
            return self.rules[op.name]
        if op.convert and (op.type in _ELEMENTWISE or (op.scalar is not None and not op.tables)):
            return self.one_by_one
        names = {name for name, _ in node.attrs}
        if len(node.inputs) == 1 and "axis" in names:
            if "keepdims" in names:
                return self.reduction
            if node.shape == node.inputs[0].shape:
                return self.along
        raise NoRule

    # ------------------------------------------------------------ axes

    def aligned(self, x: _Many, labels: Sequence[int], rank: int) -> Node:
        """A form with an axis, maybe of size 1, for each of `labels`, and `rank` axes of its own."""
        if not x.labels and x.rank <= rank:
            return x.node
        entries = [_ALL if k in x.labels else _NEW for k in labels]
        entries += [_NEW] * (rank - x.rank) + [_ALL] * x.rank
        first = next((i for i, e in enumerate(entries) if e == _ALL), len(entries))
        return _indexed(x.node, entries[first:])  # axes in front are stretched as it is

    def spread(self, x: _Many, labels: tuple[int, ...]) -> Node:
        """A form with all axes of `labels`, in full size."""
        if x.labels == labels:
            return x.node
        node = self.aligned(x, labels, x.rank)
        dims = [self.sizes[k][0].shape[self.sizes[k][1]] for k in labels]
        if any(not s.rigid for d in dims for s in d.symbols()):
            raise NoRule
        shape = (*dims, *x.node.shape[len(x.labels) :])
        return node.graph.make(OPS["broadcast_to"], [node], node.span, shape=shape, runtime=())

    def union(self, parts: Sequence[_Many]) -> tuple[int, ...]:
        """The variables that some forms depend on."""
        return tuple(sorted({k for x in parts for k in x.labels}))

    # ------------------------------------------------------------ rules

    def one_by_one(self, node: Node) -> _Many:
        parts = [self.of(x) for x in node.inputs]
        labels = self.union(parts)
        inputs = [self.aligned(x, labels, node.rank) for x in parts]
        return _Many(node.graph.make(node.op, inputs, node.span, **dict(node.attrs)), labels)

    def reduction(self, node: Node) -> _Many:
        x = self.of(node.inputs[0])
        if node.op.name == "sum" and (product := self.product(node)) is not None:
            return product
        axes = normal_axes(node.attr("axis"), x.rank)
        shifted: Any = tuple(a + len(x.labels) for a in axes)
        if node.op.name.startswith("arg"):
            if len(axes) != 1:
                raise NoRule
            shifted = shifted[0]
        elif not axes:
            raise NoRule
        attrs = dict(node.attrs) | {"axis": shifted}
        return _Many(node.graph.make(node.op, [x.node], node.span, **attrs), x.labels)

    def along(self, node: Node) -> _Many:
        x = self.of(node.inputs[0])
        axis = node.attr("axis")
        if axis is None:
            raise NoRule
        axes = normal_axes(axis, x.rank)
        moved: Any = tuple(a + len(x.labels) for a in axes)
        attrs = dict(node.attrs) | {"axis": moved[0] if isinstance(axis, int) else moved}
        return _Many(node.graph.make(node.op, [x.node], node.span, **attrs), x.labels)

    def size(self, node: Node) -> _Many:
        x = self.of(node.inputs[0])
        axis = normal_axis(node.attr("axis"), x.rank) + len(x.labels)
        return _Many(size_of(x.node, axis))

    def transpose(self, node: Node) -> _Many:
        x = self.of(node.inputs[0])
        count, axes = len(x.labels), node.attr("axes")
        own = range(x.rank)[::-1] if axes is None else [normal_axis(a, x.rank) for a in axes]
        return _Many(_transposed(x.node, [*range(count), *(a + count for a in own)]), x.labels)

    def expand_dims(self, node: Node) -> _Many:
        x = self.of(node.inputs[0])
        axes = normal_axes(node.attr("axis"), node.rank)
        moved = tuple(a + len(x.labels) for a in axes)
        return _Many(x.node.apply("expand_dims", axis=moved), x.labels)

    def stack(self, node: Node) -> _Many:
        parts = [self.of(x) for x in node.inputs]
        labels = self.union(parts)
        inputs = [self.spread(x, labels) for x in parts]
        axis = normal_axis(node.attr("axis"), node.rank) + len(labels)
        return _Many(node.graph.make(node.op, inputs, node.span, axis=axis), labels)

    def matmul(self, node: Node) -> _Many:
        """A product for each element: stacks of matrices, vectors as matrices of one row or column."""
        a, b = (self.of(x) for x in node.inputs)
        if a.rank > 2 or b.rank > 2:
            raise NoRule
        if not b.labels:
            return _Many(node.graph.make(node.op, [a.node, b.node], node.span), a.labels)
        if a.rank == b.rank == 1:
            return self.contracted(a, b, node)
        labels = self.union([a, b])
        left = self.aligned(_row(a) if a.rank == 1 else a, labels, 2)
        right = self.aligned(_column(b) if b.rank == 1 else b, labels, 2)
        made = left.graph.make(node.op, [left, right], node.span)
        gone = [made.rank - 2] * (a.rank == 1) + [made.rank - 1] * (b.rank == 1)
        return _Many(_without(made, gone), labels)

    # ------------------------------------------------------------ sums of products

    def product(self, node: Node) -> _Many | None:
        """A sum of products over one axis that both factors have, as a product of matrices."""
        inner = node.inputs[0]
        while inner.op.name == "named":
            inner = inner.inputs[0]
        if inner.op.name != "mul" or inner.dtype.kind not in "fc" or inner.rank != 1 or node.attr("keepdims"):
            return None
        a, b = (self.of(x) for x in inner.inputs)
        if a.rank != 1 or b.rank != 1 or ONE in (a.node.shape[-1], b.node.shape[-1]):
            return None
        try:
            return self.contracted(a, b, inner)
        except NoRule:
            return None

    def contracted(self, a: _Many, b: _Many, node: Node) -> _Many:
        """The sums over the one own axis of both forms: of axes that both have, stacks of products."""
        both = [k for k in a.labels if k in b.labels]
        left = [k for k in a.labels if k not in both]
        right = [k for k in b.labels if k not in both]
        if len(right) > 1 and (len(left) <= 1 or both):
            a, b, left, right = b, a, right, left
        if len(right) > 1 or (both and len(left) > 1):
            raise NoRule
        x = _transposed(a.node, [a.labels.index(k) for k in [*both, *left]] + [a.node.rank - 1])
        y = _transposed(
            b.node, [*(b.labels.index(k) for k in both), b.node.rank - 1, *(b.labels.index(k) for k in right)]
        )
        gone = []
        if both:  # stacks: a vector is a matrix of one row or column
            if not left:
                x = x.apply("expand_dims", axis=-2)
            if not right:
                y = y.apply("expand_dims", axis=-1)
            gone = [len(both)] * (not left) + [len(both) + 1] * (not right)
        made = _without(x.graph.make(OPS["matmul"], [x, y], node.span), gone)
        order = [*both, *left, *right]
        labels = tuple(sorted(order))
        return _Many(_transposed(made, [order.index(k) for k in labels]), labels)

    # ------------------------------------------------------------ indices

    def index(self, node: Node) -> _Many:
        """`x[i, ...]`: an axis moved to the front, or elements gathered."""
        x, count = self.of(node.inputs[0]), len(self.of(node.inputs[0]).labels)
        spec = list(node.attr("spec"))
        spec += [_ALL] * (x.rank - sum(e[0] != "new" for e in spec))
        fixed: list[Any] = [_ALL] * count
        inputs: list[Node] = [x.node]
        moving: list[tuple[int, Node]] = []
        at = count
        for entry in spec:
            if entry[0] == "slice":
                bounds = []
                for b in entry[1:3]:
                    if isinstance(b, tuple):
                        if node.inputs[b[1]] in self.made:
                            raise NoRule
                        inputs.append(node.inputs[b[1]])
                        b = ("input", len(inputs) - 1)
                    bounds.append(b)
                fixed.append(("slice", *bounds, entry[3]))
                at += 1
            elif entry[0] == "input" and node.inputs[entry[1]] in self.made:
                if node.inputs[entry[1]].rank:
                    raise NoRule
                moving.append((at, node.inputs[entry[1]]))
                fixed.append(_ALL)
                at += 1
            elif entry[0] == "input":
                if node.inputs[entry[1]].rank:
                    raise NoRule
                inputs.append(node.inputs[entry[1]])
                fixed.append(("input", len(inputs) - 1))
            else:
                fixed.append(entry)
                at += entry[0] == "new"
        plain = all(e == _ALL for e in fixed)
        y = x.node if plain else node.graph.make(node.op, inputs, node.span, spec=tuple(fixed))
        return self.moved(y, x.labels, moving, node.span) if moving else _Many(y, x.labels)

    def moved(
        self, y: Node, labels: tuple[int, ...], moving: Sequence[tuple[int, Node]], span: Span | None
    ) -> _Many:
        """Axes at places given by computed indices: of a variable alone, the axis itself."""
        numbers = [self.variables.get(i) for _, i in moving]
        axes = [at for at, _ in moving]
        rest = [a for a in range(len(labels), y.rank) if a not in axes]
        alone = None not in numbers and len({*numbers, *labels}) == len(numbers) + len(labels)
        if alone:
            where = dict(zip(labels, range(len(labels)), strict=True))
            where.update((k, at) for k, at in zip(numbers, axes, strict=True) if k is not None)
            order = tuple(sorted(where))
            return _Many(_transposed(y, [*(where[k] for k in order), *rest]), order)
        given = [*(_Many(self.numbers(k), (k,)) for k in labels), *(self.of(i) for _, i in moving)]
        union = self.union(given)
        y = _transposed(y, [*range(len(labels)), *axes, *rest])
        arrays = [self.aligned(g, union, 0) for g in given]
        spec = tuple(("input", k + 1) for k in range(len(arrays)))
        return _Many(y.graph.make(OPS["index"], [y, *arrays], span, spec=spec), union)


def _row(x: _Many) -> _Many:
    return _Many(x.node.apply("expand_dims", axis=-2), x.labels)


def _column(x: _Many) -> _Many:
    return _Many(x.node.apply("expand_dims", axis=-1), x.labels)


def _indexed(x: Node, entries: Sequence[Any]) -> Node:
    """An index of new axes and whole ones."""
    if all(e == _ALL for e in entries):
        return x
    return x.graph.make(OPS["index"], [x], x.span, spec=tuple(entries))


def _transposed(x: Node, axes: Sequence[int]) -> Node:
    if list(axes) == list(range(x.rank)):
        return x
    return x.graph.make(OPS["transpose"], [x], x.span, axes=tuple(axes))


def _without(x: Node, axes: Sequence[int]) -> Node:
    """A node without axes of size 1."""
    return x.apply("squeeze", axis=tuple(axes)) if axes else x


def unified(a: Node, axis_a: int, b: Node, axis_b: int) -> bool:
    """Whether two axes have one size, which may make them so."""
    found: tuple[Dim, Dim] = a.shape[axis_a], b.shape[axis_b]
    return a.graph.solver.unify(*found)
