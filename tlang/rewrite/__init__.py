"""Passes over a function's graph: each a file with one public function, each graph to equal graph.

`PASSES` is the pipeline that every function goes through before any backend sees it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tlang.graph.node import Node
from tlang.rewrite.close import close
from tlang.rewrite.lift import lift
from tlang.rewrite.simplify import simplify
from tlang.rewrite.stabilise import stabilise
from tlang.rewrite.unname import unname

Pass = Callable[[Sequence[Node]], list[Node]]

PASSES: tuple[Pass, ...] = (unname, stabilise, simplify, lift, close)


def rewrite(roots: Sequence[Node], check: Callable[[Sequence[Node]], None] | None = None) -> list[Node]:
    """All passes in order; under test `check` (such as `verify`) sees the graph after each."""
    result = list(roots)
    for step in PASSES:
        result = step(result) if result else []
        if check is not None:
            check(result)
    return result
