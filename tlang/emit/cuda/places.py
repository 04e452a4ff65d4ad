"""Kernels that put values at computed places: in their order, or as they come."""

from __future__ import annotations

from dataclasses import replace

from tlang.emit.cuda.actions import STATUS, Launch
from tlang.emit.cuda.grids import Grid
from tlang.emit.cuda.nests import Writer
from tlang.emit.cuda.text import KernelText
from tlang.emit.text import loaded, stored, typed
from tlang.graph.node import Node
from tlang.plan.steps import Nest
from tlang.plan.views import seen_by
from tlang.types import BOOL


class _Places(Writer):
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


class Others(_Places):
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


class Ordered(_Places):
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


class Atomic(_Places):
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
