"""The steps of a plan: loop nests, products, draws, and what NumPy does; and which operation can be which."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from tlang.graph.node import LEAVES as GIVEN
from tlang.graph.node import Node
from tlang.graph.ops.rules import normal_axes
from tlang.plan.views import Access, access, seen_by
from tlang.types import ONE, Dim, Symbol

#: A kernel's text and its time to compile grow with its nodes: more than these are divided.
LARGEST = 128
#: What one loop reads and writes at most: every array takes registers and an address stream.
STREAMS = 24
#: How many stages a row passes through at most.
STAGES = 6
#: Operations that are not computed: their values are given.
LEAVES = GIVEN | {"const"}

#: For each axis of a node the axis of the domain that it is; None for an axis of size 1.
Labels: TypeAlias = tuple[int | None, ...]


class Role(Enum):
    """How often a node of a nest is computed."""

    FULL = "full"
    ROW = "row"
    AFTER = "after"
    PLACED = "placed"


@dataclass(slots=True, eq=False)
class Nest:
    """A loop nest over `domain`: its nodes in order, with their labels, roles and stages.

    The stage of a row's value is the first in which it is known. `reads` has for each input from outside the
    labels of its axes, `outputs` the nodes whose values are kept; `tables` are inputs from which elements at
    computed places come. A `late` nest serves outputs alone, not state. In a `parallel` one no two rows add
    to the same place: reductions over rows are over all of them.
    """

    domain: tuple[Dim, ...]
    late: bool = False
    parallel: bool = False
    split: int | None = None
    nodes: list[Node] = field(default_factory=list)
    labels: dict[Node, Labels] = field(default_factory=dict)
    roles: dict[Node, Role] = field(default_factory=dict)
    stages: dict[Node, int] = field(default_factory=dict)
    reads: dict[tuple[Node, Access], Labels] = field(default_factory=dict)
    tables: dict[Node, None] = field(default_factory=dict)
    outputs: tuple[Node, ...] = ()

    @property
    def rows(self) -> tuple[int, ...]:
        """The axes of the domain that are rows."""
        return tuple(range(self.split or 0))

    @property
    def columns(self) -> tuple[int, ...]:
        """The axes of the domain along which a row runs."""
        return tuple(range(self.split or 0, len(self.domain)))

    def put(self, node: Node, place: Place) -> None:
        """Makes a node a member."""
        self.nodes.append(node)
        self.labels[node] = place.labels
        self.roles[node] = place.role
        self.stages[node] = place.stage
        self.split = place.split
        for x, view, labels in place.reads:
            self.reads.setdefault((x, view), labels)
        self.tables.update(dict.fromkeys(tables_of(node)))

    def read(self, node: Node) -> None:
        """Makes a member an input, which another step computes."""
        labels = self.labels[node]
        self.nodes.remove(node)
        for table in (self.labels, self.roles, self.stages):
            table.pop(node)
        for x in (x for n in self.nodes for x in n.operands):
            if (view := access(x)).base is node:
                own = [
                    None if a is None or d == ONE else labels[a]
                    for a, d in zip(view.axes, x.shape, strict=True)
                ]
                self.reads.setdefault((node, view), tuple(own))
        self.tables = dict.fromkeys(b for n in self.nodes for b in tables_of(n))


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a node would be in a nest."""

    labels: Labels
    role: Role
    stage: int
    split: int | None
    reads: tuple[tuple[Node, Access, Labels], ...]


@dataclass(frozen=True, slots=True, eq=False)
class _OneValue:
    """A step that computes one node, whose value is kept."""

    node: Node

    @property
    def outputs(self) -> tuple[Node, ...]:
        """The one value that is kept."""
        return (self.node,)


@dataclass(frozen=True, slots=True, eq=False)
class Gemm(_OneValue):
    """A product of two matrices by BLAS; `left` and `right` are read as they are, or transposed."""

    left: Access
    right: Access
    late: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Alone(_OneValue):
    """An operation that NumPy does."""

    late: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Fill(_OneValue):
    """Numbers of a random stream, as an array."""

    late: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Own(_OneValue):
    """An operation with kernels of its own, where there are many threads; `views` are what it reads."""

    views: tuple[Access, ...]
    late: bool = False


Step: TypeAlias = Nest | Gemm | Fill | Own | Alone


def inputs_of(step: Step) -> list[Node]:
    """What a step reads."""
    if isinstance(step, Nest):
        return [*(b for b, _ in step.reads), *step.tables]
    if isinstance(step, Gemm):
        return [step.left.base, step.right.base]
    if isinstance(step, Own):
        return [v.base for v in step.views if not is_literal(v.base)]
    return list(step.node.inputs)


def why_not(node: Node, known: Collection[Symbol] | None = None) -> str:
    """Why a node cannot be part of a nest; "" if it can."""
    op = node.op
    if op.extent is not None:
        late = known is not None and any(s not in known for s in op.extent(node).symbols())
        return "only the run knows this size" if late else ""
    if op.scalar is None and op.reduce is None and not op.tables:
        return f"`{op.name}` is not elementwise, or has no scalar form"
    if op.scalar is not None and not isinstance(op.scalar, str) and op.scalar(node) is None:
        return f"this `{op.name}` has no scalar form"
    if op.name == "cast" and node.inputs[0].dtype.kind == "f" and node.dtype.kind in "iu":
        return "NumPy alone decides what a float out of an integer's range becomes"
    if is_placed(node) and not (is_literal((view := access(node.inputs[0])).base) or view.plain):
        return "what it changes is a view of something else"
    if is_placed(node) and seen_by(node) is None:
        return "only the run knows where its places are"
    for x in (node, *node.inputs):
        if x.dtype.kind == "c":
            return "complex numbers have no scalar form"
    if (op.dynamic or op.shape_only) and known is not None and not is_settled(node, known):
        return "only the run knows its size"
    if known is not None and not is_settled(node, known) and all(map(is_literal, bases_of(node))):
        return "only the run knows its size"  # and nothing that is read tells it
    if op.reduce is None:
        shape = placed_shape(node) if is_placed(node) else node.shape
        for x in node.operands:
            extra = len(shape) - x.rank
            if any(a not in (b, ONE) for a, b in zip(x.shape, shape[extra:], strict=True)):
                return f"the sizes of {x.type} and {node.type} are known to fit only when it runs"
    return ""


def needed_sizes(node: Node) -> list[Dim]:
    """Sizes without which an operation is an error, which the interpreter reports."""
    if node.op.reduce is not None and node.op.reduce.some:
        x = node.inputs[0]
        return [x.shape[a] for a in normal_axes(node.attr("axis"), x.rank)]
    return [
        d for x in node.tables for d, (kind, _) in zip(x.shape, along(node), strict=False) if kind == "input"
    ]


def placed_shape(node: Node) -> tuple[Dim, ...]:
    """The shape of the values that a node puts in places."""
    return tuple(map(node.graph.solver.resolve, node.attr("shape")))


def along(node: Node) -> tuple[tuple[str, int], ...]:
    """Where the places of a node's table are, for each axis of it: in an input, or along an axis."""
    return dict(node.attrs).get("along", ()) if node.op.tables else ()


def is_drawn(node: Node) -> bool:
    """Whether a node is numbers of a random stream, whose state is its table."""
    return node.op.scalar == "{drawn}"


def is_placed(node: Node) -> bool:
    """Whether a node puts its values in places."""
    return bool(node.op.tables) and node.op.scalar is None


def tables_of(node: Node) -> list[Node]:
    """What a node may need any element of."""
    return [b for x in node.tables if not is_literal(b := access(x).base)]


def is_literal(node: Node) -> bool:
    """Whether a node is a number in the text."""
    return node.op.name == "const" and not node.rank


def is_settled(node: Node, known: Collection[Symbol]) -> bool:
    """Whether all sizes of a node are known before the call."""
    return all(s in known for d in node.shape for s in d.symbols())


def is_cheap(node: Node) -> bool:
    """Whether computing a node again costs no more than reading it: no function call, no division."""
    form = node.op.scalar
    text = form if isinstance(form, str) or form is None else form(node)
    return text is not None and not any(sign in text for sign in ("}(", "/", "math.", "{element}", "{drawn}"))


def bases_of(node: Node) -> list[Node]:
    """What a node reads element by element, through views."""
    return [access(x).base for x in node.operands]
