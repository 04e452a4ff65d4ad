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

Random numbers are FULL where a nest goes through them in the order of memory: each thread draws some, and
uses them before it draws more. All others are arrays, which a :class:`Fill` draws.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tlang.graph.node import Node, rebuild, toposort
from tlang.plan.fit import domain_of, fit_map, fit_placed, fit_reduce, is_of_rows, may_draw, reading
from tlang.plan.own import own_views
from tlang.plan.steps import (
    LARGEST,
    LEAVES,
    Alone,
    Fill,
    Gemm,
    Labels,
    Nest,
    Own,
    Place,
    Role,
    Step,
    bases_of,
    inputs_of,
    is_cheap,
    is_drawn,
    is_placed,
    tables_of,
    why_not,
)
from tlang.plan.views import Access, access
from tlang.types import F32, F64, ONE, Dim


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
    roots: Sequence[Node],
    state: Sequence[Node] | None = None,
    reads: Iterable[Node] = (),
    parallel: bool = False,
) -> list[Step]:
    """The steps that compute the roots, in an order in which they can run.

    `state` are those roots that a loop needs in every iteration (all, if it is None); what only the others
    need is in late steps. `reads` are leaves that name sizes. With `parallel` the rows of nests are done at
    the same time.
    """
    return _Fusion(roots, roots if state is None else state, reads, parallel).steps()


class _Fusion:
    """The nests under construction. A step has a number; `before[k]` are the bits of all that run before
    it.
    """

    def __init__(
        self, roots: Sequence[Node], state: Sequence[Node], reads: Iterable[Node], parallel: bool
    ) -> None:
        self.parallel = parallel
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
        self._settle_draws()
        self._keep()
        return self._ordered()

    def _computed(self, roots: Iterable[Node]) -> set[Node]:
        """The nodes whose values the roots need: of a view that a nest sees through it is the base."""
        wanted: set[Node] = set(roots)
        for node in reversed(self.order):
            if node not in wanted or node.op.name in LEAVES:
                continue
            if (views := self._own(node)) is not None:
                wanted |= {v.base for v in views}
                continue
            native = self._native(node)
            for i, x in enumerate(node.inputs):
                if not native:
                    wanted.add(x)
                elif i not in node.op.shape_only:
                    wanted.add(access(x).base)
        return wanted

    def _native(self, node: Node) -> bool:
        return not why_not(node, self.known) or self._gemm(node) is not None

    def _own(self, node: Node) -> tuple[Access, ...] | None:
        """What an operation with kernels of its own reads."""
        if not self.parallel or self._gemm(node) is not None:
            return None
        return own_views(node, self.known)

    # ------------------------------------------------------------ placing

    def _place(self, node: Node) -> None:
        """Finds a step for a node. What is computed of leaves alone floats until something needs it."""
        late = node not in self.lean
        gemm = self._gemm(node)
        if gemm is not None:
            self._add(Gemm(node, *gemm, late), [self._land(v.base) for v in gemm])
        elif (views := self._own(node)) is not None:
            self._add(Own(node, views, late), [self._land(v.base) for v in views])
        elif why_not(node, self.known):
            self._add(Alone(node, late), [self._land(x) for x in node.inputs])
        elif node.op.reduce:
            if not is_drawn(base := access(node.inputs[0]).base):
                self._land(base)
            self._place_in_nest(node, late)
        elif is_drawn(node):
            self.floating.add(node)
            self.above[node] = 1 << self.number[node]
        elif node.op.tables:
            for x in tables_of(node):
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
        bases = bases_of(node)
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
        for b in bases_of(node):
            bits |= self.above.get(b, 0)
        return bits.bit_count()

    def _land(self, node: Node, avoid: int = 0) -> Node:
        """Gives a node that floats a place of its own; it must not wait for the steps of the bits `avoid`."""
        if node in self.floating and node not in self.home:
            if is_drawn(node):
                self._fill(node)
            else:
                self._place_in_nest(node, node not in self.lean, avoid)
        return node

    def _is_filled(self, node: Node) -> bool:
        """Whether a draw is an array."""
        return node in self.home and isinstance(self.all[self.home[node]], Fill)

    def _fill(self, node: Node) -> int:
        """A step that draws an array, the home of a draw."""
        return self._add(Fill(node, node not in self.lean), node.inputs)

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

    def _nest(self, node: Node, late: bool) -> Nest:
        """An empty nest for a node to begin."""
        return Nest(domain_of(node, self.parallel), late, self.parallel)

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
        if is_drawn(node):
            at = self._fill(node)
            for reader in self.readers.get(node, ()):
                self._wait(reader, at)
            return at
        nest = self._nest(node, node not in self.lean)
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
            nest = self._nest(node, late)
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
        for x in [*(x for x, _, _ in place.reads), *tables_of(node)]:
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
            if user.op.reduce:  # what it needs has a place, but for a draw
                drawn = [labels for x, _, labels in place.reads if is_drawn(x)]
                if not drawn:
                    continue
                own = drawn[0]
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
            reads = reading(nest, base.shape, placed, base.operands, many=True)
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
        if is_drawn(node) and [k for k in labels if k is not None] != list(range(len(nest.domain))):
            return False
        home = self.home.get(node)
        if home is None or bool((self.before[home] | 1 << home) & avoid):
            return True
        return is_cheap(node) and not self._draws(node)

    def _draws(self, node: Node) -> bool:
        """Whether a nest draws for what floats: then its value, and not the numbers, is kept for others."""
        seen: set[Node] = set()
        todo = [node]
        while todo:
            n = todo.pop()
            if n in self.floating and n not in seen:
                seen.add(n)
                if is_drawn(n) and n in self.home and not self._is_filled(n):
                    return True
                todo += bases_of(n)
        return False

    def _candidates(self, node: Node, late: bool) -> list[int]:
        """Nests that a node might join: of its inputs, of others that read them, of the same sizes."""
        if is_placed(node):
            return []
        bases = bases_of(node)
        tables = {self.home[b] for b in tables_of(node) if b in self.home}
        found = sorted({self.home[b] for b in bases if b in self.home}, reverse=True)
        found += [k for b in bases for k in self.readers.get(b, ())[-3:]]
        found += self.domains.get((late, domain_of(node, self.parallel)), ())[-4:]
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
            return fit_reduce(nest, node, many)
        return fit_placed(nest, node, many) if is_placed(node) else fit_map(nest, node, many)

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
        moved = [n for n in nest.nodes if n not in needed and is_of_rows(nest, n)]
        if not moved or (nest.split > 1 and any(nest.roles[n] is Role.AFTER for n in moved)):
            return
        rest = Nest(nest.domain[: nest.split], nest.late, self.parallel)
        number = self._add(rest, ())
        above = set(moved)
        for n in reversed(nest.nodes):  # what floats is computed in both
            if n in above:
                above |= {b for b in bases_of(n) if b in self.floating and b in nest.labels}
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
        nest.tables = dict.fromkeys(b for n in nest.nodes for b in tables_of(n))

    def _settle_draws(self) -> None:
        """A draw stays in its nest if that alone needs the numbers, and can use them as they come.

        All others are arrays: so nothing is drawn twice.
        """
        read = {*self.roots, *(x for step in self.all for x in inputs_of(step))}
        members: dict[Node, list[Nest]] = {}
        for nest in self.all:
            if isinstance(nest, Nest):
                for n in filter(is_drawn, nest.nodes):
                    members.setdefault(n, []).append(nest)
        for node, nests in members.items():
            if len(nests) == 1 and node not in read and (self.parallel or may_draw(nests[0])):
                continue
            if not self._is_filled(node):
                self._fill(node)
            for nest in nests:
                nest.read(node)

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
