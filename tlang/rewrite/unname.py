"""Names dissolved: once gradients and givens are resolved, equal formulas may be one node."""

from __future__ import annotations

from collections.abc import Sequence

from tlang.graph.node import Node, rebuild


def unname(roots: Sequence[Node]) -> list[Node]:
    """Every `named` node replaced by its formula."""
    return rebuild(roots, lambda node, new: new[0] if node.op.name == "named" else None, roots[0].graph)
