"""A plan for people."""

from __future__ import annotations

from collections.abc import Sequence

from tlang.graph.node import Node
from tlang.plan.steps import (
    LEAVES,
    Fill,
    Gemm,
    Nest,
    Own,
    Step,
    is_drawn,
    why_not,
)


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
                name = f"draw {n.attr('distribution')}" if is_drawn(n) else n.op.name
                lines.append(f"    {name}: {n.type}  ({step.roles[n].value}{stage}{kept})")
        elif isinstance(step, Gemm):
            sides = " @ ".join(
                _called(v.base) + (".T" if v.axes == (1, 0) else "") for v in (step.left, step.right)
            )
            lines.append(f"{number}: gemm {sides}: {step.node.type}{late}")
        elif isinstance(step, Fill):
            lines.append(f"{number}: draw {step.node.attr('distribution')}: {step.node.type}{late}")
        elif isinstance(step, Own):
            lines.append(f"{number}: {step.node.op.name}: {step.node.type}{late}")
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
