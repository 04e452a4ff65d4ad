"""Updates in place: which new values may be written over the old ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tlang.graph.node import Node
from tlang.plan.steps import Nest, Role, Step, inputs_of
from tlang.plan.views import access


def may_replace(steps: Sequence[Step], old: Node, new: Node, is_repeated: Callable[[Nest], bool]) -> bool:
    """Whether a step may write `new` over `old`, which it reads.

    No later step may need the old value, nothing may fail from then on, and the step itself must read an
    element no more once it has written it. `is_repeated` says of a nest whether parts of it may run twice.
    """
    at = next(k for k, step in enumerate(steps) if new in step.outputs)
    step = steps[at]
    if not isinstance(step, Nest) or step.late or new.type.shape != old.type.shape or new.dtype != old.dtype:
        return False
    if any(old in inputs_of(later) or _fails(later) for later in steps[at + 1 :]):
        return False
    reads = [(view, labels) for (base, view), labels in step.reads.items() if base is old]
    if step.roles[new] is Role.PLACED:  # nothing is written where a place is wrong
        tables = [b for n in step.nodes if n is not new for x in n.tables for b in [access(x).base]]
        return not reads and old not in tables and old in step.tables
    if _fails(step) or any(_fails(before) for before in steps[:at]) or is_repeated(step):
        return False
    if step.roles[new] is not Role.FULL or old in step.tables or any(step.stages.values()):
        return False
    return bool(reads) and all(v.plain and labels == step.labels[new] for v, labels in reads)


def _fails(step: Step) -> bool:
    """Whether a step may find that the interpreter would report an error."""
    return isinstance(step, Nest) and any(n.op.fails for n in step.nodes)
