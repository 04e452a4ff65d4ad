"""Fusion: which operations share a loop nest.

A :class:`Nest` runs over a domain, the axes of which are divided at `split` into rows and columns. A node of
it has a role:

    FULL    an element for each row and column: elementwise operations
    ROW     one for each row: a reduction over the columns, and what is computed from it. A row passes through
            stages: what needs a row's maximum, or its product with a vector, comes in a later stage, while
            the row is still in the cache
    AFTER   a reduction over rows: it is known when the nest has run
    PLACED  its elements go to computed places, one after the other, when what was there has been copied

So softmax is one nest, and so are a matrix times a vector, a function of that, and the transposed matrix
times the result. A step depends on others; a node joins a nest only if no circle can arise.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from tlang.graph.node import LEAVES as GIVEN
from tlang.graph.node import Node, rebuild, toposort
from tlang.graph.ops.rules import normal_axes
from tlang.plan.views import Access, access
from tlang.types import F32, F64, ONE, Dim, Symbol

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
    computed places come. A `late` nest serves outputs alone, not state.
    """

    domain: tuple[Dim, ...]
    late: bool = False
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
        self.tables.update(dict.fromkeys(_tables(node)))


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """Where a node would be in a nest."""

    labels: Labels
    role: Role
    stage: int
    split: int | None
    reads: tuple[tuple[Node, Access, Labels], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Gemm:
    """A product of two matrices by BLAS; `left` and `right` are read as they are, or transposed."""

    node: Node
    left: Access
    right: Access
    late: bool = False

    @property
    def outputs(self) -> tuple[Node, ...]:
        """The one value that is kept."""
        return (self.node,)


@dataclass(frozen=True, slots=True, eq=False)
class Alone:
    """An operation that NumPy does."""

    node: Node
    late: bool = False

    @property
    def outputs(self) -> tuple[Node, ...]:
        """The one value that is kept."""
        return (self.node,)


@dataclass(frozen=True, slots=True, eq=False)
class Fill:
    """Numbers of a random stream."""

    node: Node
    late: bool = False

    @property
    def outputs(self) -> tuple[Node, ...]:
        """The one value that is kept."""
        return (self.node,)


Step: TypeAlias = Nest | Gemm | Fill | Alone


def inputs_of(step: Step) -> list[Node]:
    """What a step reads."""
    if isinstance(step, Nest):
        return [*(b for b, _ in step.reads), *step.tables]
    if isinstance(step, Gemm):
        return [step.left.base, step.right.base]
    return list(step.node.inputs)


def lower(roots: Sequence[Node]) -> list[Node]:
    """The roots in operations that kernels know: a mean is a sum and a division."""

    roots, changed = list(roots), True

    def simpler(node: Node, inputs: tuple[Node, ...]) -> Node | None:
        nonlocal changed
        made = node.op.lower(node, *inputs, **dict(node.attrs)) if node.op.lower is not None else None
        if made is None or made is node:
            return None
        changed = True
        return made

    while changed:  # what a rule makes may have one of its own
        changed = False
        if any(n.op.lower for n in toposort(roots)):
            roots = rebuild(roots, simpler, roots[0].graph)
    return roots


def fused(
    roots: Sequence[Node], state: Sequence[Node] | None = None, reads: Iterable[Node] = ()
) -> list[Step]:
    """The steps that compute the roots, in an order in which they can run.

    `state` are those roots that a loop needs in every iteration (all, if it is None); what only the others
    need is in late steps. `reads` are leaves that name sizes.
    """
    return _Fusion(roots, roots if state is None else state, reads).steps()


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
    if _is_placed(node) and not (is_literal((view := access(node.inputs[0])).base) or view.plain):
        return "what it changes is a view of something else"
    for x in (node, *node.inputs):
        if x.dtype.kind == "c":
            return "complex numbers have no scalar form"
    if (op.dynamic or op.shape_only) and known is not None and not _settled(node, known):
        return "only the run knows its size"
    if known is not None and not _settled(node, known) and all(map(is_literal, _bases(node))):
        return "only the run knows its size"  # and nothing that is read tells it
    if op.reduce is None:
        shape = _placed_shape(node) if _is_placed(node) else node.shape
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
    along = node.attr("along") if node.op.tables else ()
    return [d for x in node.tables for d, (kind, _) in zip(x.shape, along, strict=True) if kind == "input"]


def _placed_shape(node: Node) -> tuple[Dim, ...]:
    """The shape of the values that a node puts in places."""
    return tuple(map(node.graph.solver.resolve, node.attr("shape")))


def _is_placed(node: Node) -> bool:
    """Whether a node puts its values in places."""
    return bool(node.op.tables) and node.op.scalar is None


def _tables(node: Node) -> list[Node]:
    """What a node may need any element of."""
    return [b for x in node.tables if not is_literal(b := access(x).base)]


def is_literal(node: Node) -> bool:
    """Whether a node is a number in the text."""
    return node.op.name == "const" and not node.rank


def _settled(node: Node, known: Collection[Symbol]) -> bool:
    return all(s in known for d in node.shape for s in d.symbols())


def is_cheap(node: Node) -> bool:
    """Whether computing a node again costs no more than reading it: no function call, no division."""
    form = node.op.scalar
    text = form if isinstance(form, str) or form is None else form(node)
    return text is not None and not any(sign in text for sign in ("}(", "/", "math.", "{element}"))


def _bases(node: Node) -> list[Node]:
    """What a node reads element by element, through views."""
    return [access(x).base for x in node.operands]


class _Fusion:
    """The nests under construction. A step has a number; `before[k]` are the bits of all that run before
    it.
    """

    def __init__(self, roots: Sequence[Node], state: Sequence[Node], reads: Iterable[Node]) -> None:
        self.order = toposort(roots)
        self.number = {n: k for k, n in enumerate(self.order)}
        self.roots = roots
        self.known = {
            s for n in (*self.order, *reads) if n.op.name in LEAVES for d in n.shape for s in d.symbols()
        }
        self.lean = self._computed(state)
        self.all: list[Step] = []
        self.before: list[int] = []
        self.home: dict[Node, int] = {}
        self.floating: set[Node] = set()
        self.above: dict[Node, int] = {}
        self.readers: dict[Node, list[int]] = {}
        self.domains: dict[tuple[bool, tuple[Dim, ...]], list[int]] = {}
        self.apart: set[int] = set()

    def steps(self) -> list[Step]:
        """All steps in order."""
        wanted = self._computed(self.roots)
        for node in self.order:
            if node in wanted and node.op.name not in LEAVES:
                self._place(node)
        for node in self.roots:
            self._land(node)
        for at, step in enumerate(list(self.all)):
            if isinstance(step, Nest):
                self._sink(at, step)
        self._keep()
        return self._ordered()

    def _computed(self, roots: Iterable[Node]) -> set[Node]:
        """The nodes whose values the roots need: of a view that a nest sees through it is the base."""
        wanted: set[Node] = set(roots)
        for node in reversed(self.order):
            if node not in wanted or node.op.name in LEAVES:
                continue
            native = self._native(node)
            for i, x in enumerate(node.inputs):
                if not native:
                    wanted.add(x)
                elif i not in node.op.shape_only:
                    wanted.add(access(x).base)
        return wanted

    def _native(self, node: Node) -> bool:
        return not why_not(node, self.known) or self._gemm(node) is not None or self._is_fill(node)

    def _is_fill(self, node: Node) -> bool:
        return node.op.name == "unit" and _settled(node, self.known)

    # ------------------------------------------------------------ placing

    def _place(self, node: Node) -> None:
        """Finds a step for a node. What is computed of leaves alone floats until something needs it."""
        late = node not in self.lean
        gemm = self._gemm(node)
        if gemm is not None:
            self._add(Gemm(node, *gemm, late), [self._land(v.base) for v in gemm])
        elif self._is_fill(node):
            self._add(Fill(node, late), node.inputs)
        elif why_not(node, self.known):
            self._add(Alone(node, late), [self._land(x) for x in node.inputs])
        elif node.op.reduce:
            self._land(access(node.inputs[0]).base)
            self._place_in_nest(node, late)
        elif node.op.tables:
            for x in _tables(node):
                self._land(x)
            self._place_in_nest(node, late)
        elif self._may_float(node):
            self.floating.add(node)
        else:
            self._place_in_nest(node, late)

    def _may_float(self, node: Node) -> bool:
        """Whether a node needs leaves and what floats alone, all of which half a nest can compute.

        `above` are the numbers of what floats above a node, and its own, as bits.
        """
        bases = _bases(node)
        if not all(b.op.name in LEAVES or b in self.floating for b in bases):
            return False
        bits = 1 << self.number[node]
        for b in bases:
            bits |= self.above.get(b, 0)
        if bits.bit_count() > LARGEST // 2:
            return False
        self.above[node] = bits
        return True

    def _size(self, node: Node) -> int:
        """How many nodes a nest may have to compute for a node: what floats above it, and itself."""
        bits = 1 << self.number[node]
        for b in _bases(node):
            bits |= self.above.get(b, 0)
        return bits.bit_count()

    def _land(self, node: Node, avoid: int = 0) -> Node:
        """Gives a node that floats a place of its own; it must not wait for the steps of the bits `avoid`."""
        if node in self.floating and node not in self.home:
            self._place_in_nest(node, node not in self.lean, avoid)
        return node

    def _gemm(self, node: Node) -> tuple[Access, Access] | None:
        if node.op.name != "matmul" or node.dtype not in (F32, F64) or any(x.rank != 2 for x in node.inputs):
            return None
        left, right = map(access, node.inputs)
        if all(v.whole and v.base.rank == 2 and None not in v.axes for v in (left, right)):
            return left, right
        return None

    def _add(self, step: Step, needs: Iterable[Node]) -> int:
        self.all.append(step)
        self.before.append(0)
        at = len(self.all) - 1
        for x in step.outputs:
            self.home[x] = at
        for x in needs:
            self._depend(at, x)
        return at

    def _depend(self, at: int, x: Node) -> None:
        """A step needs a node's value. What floats may get another home, lest steps wait for each other."""
        other = self.home.get(x)
        if other is None or other == at:
            return
        if self.before[other] >> at & 1 or (at in self.apart and self.before[other]):
            other = self._rehome(x)
        self._wait(at, other)

    def _wait(self, at: int, other: int) -> None:
        """A step waits for another, and for all that this one waits for."""
        new = self.before[other] | 1 << other
        if new & ~self.before[at]:
            self.before[at] |= new
            for k, bits in enumerate(self.before):
                if bits >> at & 1:
                    self.before[k] |= new

    def _rehome(self, node: Node) -> int:
        """A new home for what floats: a nest that waits only for steps that wait for none."""
        assert node in self.floating, node
        nest = Nest(_domain(node), node not in self.lean)
        at = self._add(nest, ())
        self.apart.add(at)
        self.home[node] = at
        place = self._fit(nest, node)
        assert place is not None, node
        if self._pull(nest, at, node, place, -1):
            place = self._fit(nest, node, many=True)
            assert place is not None, node
        self._put(nest, at, node, place)
        for reader in self.readers.get(node, ()):
            self._wait(reader, at)
        return at

    def _place_in_nest(self, node: Node, late: bool, avoid: int = 0) -> None:
        for at in self._candidates(node, late):
            nest = self.all[at]
            assert isinstance(nest, Nest)
            if (self.before[at] | 1 << at) & avoid:
                continue
            place = self._fit(nest, node)
            if place is not None:
                break
        else:
            nest = Nest(_domain(node), late)
            at = self._add(nest, ())
            place = self._fit(nest, node)
            assert place is not None, node
            self.domains.setdefault((late, nest.domain), []).append(at)
        if self._pull(nest, at, node, place, avoid | 1 << at):
            place = self._fit(nest, node, many=True)
            assert place is not None, node
        self._put(nest, at, node, place)
        self.home[node] = at

    def _put(self, nest: Nest, at: int, node: Node, place: Place) -> None:
        nest.put(node, place)
        for x in [*(x for x, _, _ in place.reads), *_tables(node)]:
            self._depend(at, x)
            self.readers.setdefault(x, []).append(at)

    def _pull(self, nest: Nest, at: int, node: Node, place: Place, avoid: int) -> bool:
        """Computes in a nest, on the way to a node, what floats above it; the rest lands elsewhere."""
        wanted: dict[Node, Labels | None] = {}
        own_reads = {(x, view): labels for x, view, labels in place.reads}
        todo = [(node, place.labels)]
        order: list[Node] = []
        while todo:
            user, own = todo.pop()
            if user.op.reduce:
                continue
            for x in user.operands:
                view = access(x)
                base = view.base
                if base not in self.floating:
                    continue
                aligned = own[len(own) - x.rank :]
                by_axis = {a: k for a, k in zip(view.axes, aligned, strict=True) if a is not None}
                found = tuple(by_axis.get(a) if d != ONE else None for a, d in enumerate(base.shape))
                if base in nest.labels:
                    if user is not node and not (view.whole and nest.labels[base] == found):
                        wanted[user] = None  # the nest has the base along other axes
                    continue
                if base in wanted and wanted[base] in (None, found):
                    continue  # seen on another way
                fits = view.whole and self._inside(nest, base, found, avoid, len(order))
                if base in wanted and wanted[base] != found:
                    fits = False
                wanted[base] = found if fits else None
                order.append(base)
                if fits:
                    todo.append((base, found))
        inside = False
        for base in sorted(set(order), key=self.number.__getitem__):
            if base not in wanted or base in nest.labels:
                continue
            placed = wanted[base]
            if placed is None:
                self._land(base, avoid)
                continue
            reads = _reading(nest, base.shape, placed, base.operands, many=True)
            if reads is None or any(own_reads.get((x, v), found) != found for x, v, found in reads):
                self._land(base, avoid)
                continue
            whole = len([k for k in placed if k is not None]) == len(nest.domain)
            role = Role.FULL if whole else Role.ROW
            self._put(nest, at, base, Place(placed, role, 0, nest.split, reads))
            if not (nest.late and base in self.lean):  # state must not wait for what outputs need
                self.home.setdefault(base, at)
            inside = True
        return inside

    def _inside(self, nest: Nest, node: Node, labels: Labels, avoid: int, more: int) -> bool:
        """Whether a nest, with some more nodes, may compute what floats, or compute it again."""
        used = {k for k in labels if k is not None}
        if used != set(range(len(nest.domain))) and not (nest.split and used == set(nest.rows)):
            return False
        if any(node is x for x, _ in nest.reads):  # in other places, perhaps
            return False
        if len(nest.nodes) + more >= LARGEST or any(
            d != ONE and k is None for d, k in zip(node.shape, labels, strict=True)
        ):
            return False
        home = self.home.get(node)
        return home is None or is_cheap(node) or bool((self.before[home] | 1 << home) & avoid)

    def _candidates(self, node: Node, late: bool) -> list[int]:
        """Nests that a node might join: of its inputs, of others that read them, of the same sizes."""
        if _is_placed(node):
            return []
        bases = _bases(node)
        tables = {self.home[b] for b in _tables(node) if b in self.home}
        found = sorted({self.home[b] for b in bases if b in self.home}, reverse=True)
        found += [k for b in bases for k in self.readers.get(b, ())[-3:]]
        found += self.domains.get((late, _domain(node)), ())[-4:]
        size = self._size(node)
        out = []
        for at in dict.fromkeys(found):
            step = self.all[at]
            if not isinstance(step, Nest) or step.late != late or len(step.nodes) + size > LARGEST:
                continue
            if Role.PLACED in step.roles.values() or at in self.apart:
                continue
            if at in tables:
                continue
            needs = ({self.home[b] for b in bases if b in self.home} - {at}) | tables
            if not any(self.before[k] >> at & 1 for k in needs):
                out.append(at)
        return out

    def _fit(self, nest: Nest, node: Node, many: bool = False) -> Place | None:
        """Where a node would be in a nest; `many`: however many arrays are read then."""
        if node.op.reduce:
            return _fit_reduce(nest, node, many)
        return _fit_placed(nest, node, many) if _is_placed(node) else _fit_map(nest, node, many)

    # ------------------------------------------------------------ finishing

    def _sink(self, at: int, nest: Nest) -> None:
        """Values of rows that no column needs leave the nest, for a loop over the rows that is vectorised."""
        if not nest.split or nest.split == len(nest.domain):
            return
        needed: set[Node] = set()
        for n in reversed(nest.nodes):
            if nest.roles[n] is Role.FULL or n in needed or (n.op.reduce and nest.roles[n] is not Role.FULL):
                bases = {access(x).base for x in n.inputs}
                if nest.roles[n] is not Role.FULL and any(nest.roles.get(b) is Role.ROW for b in bases):
                    continue
                needed |= {b for b in bases if nest.roles.get(b) is Role.ROW}
        for n in reversed(nest.nodes):
            if n in needed:
                needed |= {b for x in n.inputs if nest.roles.get(b := access(x).base) is Role.ROW}
        moved = [n for n in nest.nodes if n not in needed and _of_rows(nest, n)]
        if not moved or (nest.split > 1 and any(nest.roles[n] is Role.AFTER for n in moved)):
            return
        rest = Nest(nest.domain[: nest.split], nest.late)
        number = self._add(rest, ())
        above = set(moved)
        for n in reversed(nest.nodes):  # what floats is computed in both
            if n in above:
                above |= {b for b in _bases(n) if b in self.floating and b in nest.labels}
        copied = [n for n in nest.nodes if n in above]
        for n in moved:
            nest.nodes.remove(n)
            for table in (nest.labels, nest.roles, nest.stages):
                table.pop(n)
            if self.home[n] == at:
                self.home[n] = number
        for n in copied:
            place = self._fit(rest, n)
            assert place is not None, n
            rest.put(n, place)
        own = {(b, v) for n in nest.nodes for x in n.inputs for v in [access(x)] for b in [v.base]}
        nest.reads = {k: labels for k, labels in nest.reads.items() if k in own}
        nest.tables = dict.fromkeys(b for n in nest.nodes for b in _tables(n))

    def _keep(self) -> None:
        """Which values of each nest are kept: those that a root, or another step, needs."""
        wanted = set(self.roots)
        self.needs: list[set[int]] = []
        for at, step in enumerate(self.all):
            bases = set(inputs_of(step))
            wanted |= bases
            needs = {self.home[b] for b in bases if b in self.home} - {at}
            assert step.late or not any(self.all[k].late for k in needs), "state waits for outputs"
            self.needs.append(needs)
        for at, step in enumerate(self.all):
            if isinstance(step, Nest):
                step.outputs = tuple(n for n in step.nodes if n in wanted and self.home[n] == at)

    def _ordered(self) -> list[Step]:
        """An order of the steps: late ones last, those of NumPy together where that is possible."""
        left = {k: set(needs) for k, needs in enumerate(self.needs)}
        users: dict[int, list[int]] = {}
        for k, needs in left.items():
            for other in needs:
                users.setdefault(other, []).append(k)
        ready = [k for k in left if not left[k]]
        out: list[Step] = []
        alone = False

        def rank(k: int) -> tuple[bool, bool, int]:
            step = self.all[k]
            if isinstance(step, Alone) and step.node.op.view and step.node in self.roots:
                return (True, True, k)
            return (step.late, isinstance(step, Alone) != alone, k)

        while ready:
            k = min(ready, key=rank)
            ready.remove(k)
            alone = isinstance(self.all[k], Alone)
            out.append(self.all[k])
            for user in users.get(k, ()):
                left[user].discard(k)
                if not left[user]:
                    ready.append(user)
        assert len(out) == len(self.all), "steps wait for each other in a circle"
        return [s for s in out if not isinstance(s, Nest) or s.outputs]


def _of_rows(nest: Nest, node: Node) -> bool:
    """Whether a node is computed of values of rows alone."""
    inputs = _bases(node)
    roles = {nest.roles[b] for b in inputs if b in nest.roles}
    if nest.roles[node] is Role.FULL or Role.FULL in roles:
        return False
    return bool(roles)


def _domain(node: Node) -> tuple[Dim, ...]:
    """The axes of a nest that a node begins: of a reduction those of its input, in the order of memory."""
    if _is_placed(node):
        return tuple(d for d in _placed_shape(node) if d != ONE)
    if not node.op.reduce:
        whole = [access(x) for x in node.operands]
        whole = [v for v in whole if sum(a is not None for a in v.axes) == node.rank]
        if whole and node.rank > 1:
            view = whole[0]
            order = sorted(range(node.rank), key=lambda k: view.axes[k] or 0)
            return tuple(node.shape[k] for k in order if node.shape[k] != ONE)
        return tuple(d for d in node.shape if d != ONE)
    view = access(node.inputs[0])
    shape = node.inputs[0].shape
    order = sorted(range(len(shape)), key=lambda k: -1 if (a := view.axes[k]) is None else a)
    return tuple(shape[k] for k in order if shape[k] != ONE)


def _seen(nest: Nest, x: Node) -> tuple[Access, Labels | None, bool]:
    """An input of a nest: its access; its labels, or None where they are free; whether it can be used."""
    view = access(x)
    base = view.base
    if base in nest.labels:
        usable = nest.roles[base] not in (Role.AFTER, Role.PLACED) and view.whole
        own = nest.labels[base]
        return view, tuple(None if a is None else own[a] for a in view.axes), usable
    for (other, seen), labels in nest.reads.items():
        if other is base and view.whole and seen.whole:
            by_axis = {a: label for a, label in zip(seen.axes, labels, strict=True) if a is not None}
            if all(a is None or a in by_axis for a in view.axes):
                return view, tuple(None if a is None else by_axis[a] for a in view.axes), True
    return view, None, True


def _align(nest: Nest, shape: Sequence[Dim], inputs: Sequence[Node], strict: bool = True) -> Labels | None:
    """Labels for axes to which the inputs are aligned from the right; None if they do not fit the nest.

    Inputs from outside that the nest reads already suggest labels, which are tried first.
    """
    labels: list[int | None] = [None] * len(shape)
    hints: list[int | None] = [None] * len(shape)
    for x in inputs:
        view, own, usable = _seen(nest, x)
        if not usable:
            return None
        if own is None:
            continue
        inside = view.base in nest.labels
        for k, label in enumerate(own, len(shape) - len(own)):
            if label is None:
                continue
            if inside:
                if labels[k] not in (None, label):
                    return None
                labels[k] = label
            elif hints[k] is None:
                hints[k] = label
    for k, size in enumerate(shape):
        if size == ONE:
            if labels[k] is not None:
                return None
            continue
        if labels[k] is None and hints[k] is not None and hints[k] not in labels:
            labels[k] = hints[k]
    for k, size in enumerate(shape):
        if size != ONE and labels[k] is None:
            free = [a for a, d in enumerate(nest.domain) if d == size and a not in labels]
            if not free:
                return None
            labels[k] = free[0]
    used = [a for a in labels if a is not None]
    if len(set(used)) != len(used):
        return None
    if any(a is not None and nest.domain[a] != d for a, d in zip(labels, shape, strict=True)):
        return None
    return tuple(labels)


def _reading(
    nest: Nest, shape: Sequence[Dim], labels: Labels, inputs: Sequence[Node], many: bool = False
) -> tuple[tuple[Node, Access, Labels], ...] | None:
    """The inputs from outside with the labels of their axes; None if there are too many, or they conflict."""
    reads = []
    for x in inputs:
        view = access(x)
        if view.base in nest.labels or is_literal(x):
            continue
        aligned = labels[len(labels) - x.rank :]
        own = tuple(
            None if a is None or d == ONE else k for a, k, d in zip(view.axes, aligned, x.shape, strict=True)
        )
        if nest.reads.get((view.base, view), own) != own:  # the same array along other axes
            return None
        reads.append((view.base, view, own))
    new = {(x, v) for x, v, _ in reads} - nest.reads.keys()
    if new and nest.nodes and not many and len(nest.reads) + len(new) > STREAMS:
        return None
    return tuple(reads)


def _fit_map(nest: Nest, node: Node, many: bool) -> Place | None:
    inputs = node.operands
    labels = _align(nest, node.shape, inputs)
    if labels is None:
        return None
    inside = [b for x in inputs if (b := access(x).base) in nest.labels]
    stage = max((nest.stages[b] for b in inside), default=0)
    used = {a for a in labels if a is not None}
    if used == set(range(len(nest.domain))):
        role = Role.FULL
    elif nest.split and used == set(nest.rows) and inside:
        role = Role.ROW
    else:
        return None
    reads = _reading(nest, node.shape, labels, inputs, many)
    return None if reads is None else Place(labels, role, stage, nest.split, reads)


def _fit_placed(nest: Nest, node: Node, many: bool) -> Place | None:
    """A nest of its own, over the values: what computes them joins it."""
    if any(role is not Role.FULL for role in nest.roles.values()):
        return None
    labels = _align(nest, _placed_shape(node), node.operands)
    if labels is None or {a for a in labels if a is not None} != set(range(len(nest.domain))):
        return None
    if nest.split is not None or [a for a in labels if a is not None] != list(range(len(nest.domain))):
        return None
    inside = [b for x in node.operands if (b := access(x).base) in nest.labels]
    if any(nest.stages[b] for b in inside):
        return None
    reads = _reading(nest, _placed_shape(node), labels, node.operands, many)
    return None if reads is None else Place(labels, Role.PLACED, 0, None, reads)


def _fit_reduce(nest: Nest, node: Node, many: bool) -> Place | None:
    x = node.inputs[0]
    base = access(x).base
    given = _align(nest, x.shape, [x])
    if given is None:
        return None
    axes = normal_axes(node.attr("axis"), x.rank)
    over = {given[a] for a in axes} - {None}
    kept = tuple(None if k in axes else a for k, a in enumerate(given))
    labels = kept if node.attr("keepdims") else tuple(a for k, a in enumerate(given) if k not in axes)
    reads = _reading(nest, x.shape, given, [x], many)
    if reads is None:
        return None
    stage, split, rank = nest.stages.get(base, 0), nest.split, len(nest.domain)
    row = nest.roles.get(base) is Role.ROW
    used = {a for a in given if a is not None}
    if not row and used != set(range(rank)):
        return None
    if row:
        if not over or used & set(nest.columns):  # a value of a row that stretches is not taken once a column
            return None
        return Place(labels, Role.AFTER, stage, split, reads)
    if not over:
        return Place(labels, Role.FULL, stage, split, reads)
    left = set(range(rank)) - {a for a in over if a is not None}
    if len(over) == rank:
        return Place(labels, Role.AFTER, stage, split, reads)
    is_prefix = left == set(range(len(left)))
    if is_prefix and split in (None, len(left)):
        if stage + 1 >= STAGES or (split is None and not _may_split(nest, len(left))):
            return None
        return Place(labels, Role.ROW, stage + 1, len(left), reads)
    if split is None:
        split = max(a for a in over if a is not None) + 1
        if not _may_split(nest, split):
            return None
    columns = set(range(split, rank))
    if over & columns and not columns <= over:
        return None
    return Place(labels, Role.AFTER, stage, split, reads)


def _may_split(nest: Nest, split: int) -> bool:
    """Whether a nest can be divided there: its reductions so far must be over all axes, or over none."""
    return all(
        nest.roles[n] is Role.FULL or not any(a is not None for a in nest.labels[n]) for n in nest.nodes
    )


# ---------------------------------------------------------------- for people


def show(steps: Sequence[Step]) -> str:
    """A plan for people: one entry for each loop nest or call, and why an operation stands alone."""
    lines: list[str] = []
    for number, step in enumerate(steps):
        late = "  (for outputs alone)" if step.late else ""
        if isinstance(step, Nest):
            sizes = [str(d) for d in step.domain]
            split = step.split or 0
            shape = " | ".join(", ".join(part) for part in (sizes[:split], sizes[split:]) if part)
            lines.append(f"{number}: nest [{shape}]{late}")
            lines += [f"    reads {_called(x)}: {x.type}" for x in dict.fromkeys(b for b, _ in step.reads)]
            for n in step.nodes:
                stage = f", stage {step.stages[n]}" if any(step.stages.values()) else ""
                kept = ", kept" if n in step.outputs else ""
                lines.append(f"    {n.op.name}: {n.type}  ({step.roles[n].value}{stage}{kept})")
        elif isinstance(step, Gemm):
            sides = " @ ".join(
                _called(v.base) + (".T" if v.axes == (1, 0) else "") for v in (step.left, step.right)
            )
            lines.append(f"{number}: gemm {sides}: {step.node.type}{late}")
        elif isinstance(step, Fill):
            lines.append(f"{number}: draw {step.node.attr('distribution')}: {step.node.type}{late}")
        else:
            reason = why_not(step.node) or "only the run knows its size"
            lines.append(f"{number}: numpy {step.node.op.name}: {step.node.type}{late}")
            lines.append(f"    {reason}")
    return "\n".join(lines)


def _called(node: Node) -> str:
    """What a plan calls a node: a leaf by its name."""
    if node.op.name in LEAVES and node.op.name != "const":
        return str(node.attr("name"))
    return node.op.name
