"""The expressions of commands: calls become steps, in the order in which they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tlang.elaborate.drafts import Draft, Work, advances_of, check_sizes, free_tensor, key_of, strong
from tlang.elaborate.expressions import Elaborator
from tlang.elaborate.inlining import Instance
from tlang.elaborate.plans import CallStep, Evaluation
from tlang.elaborate.scope import EquationDef, FunctionDef, Scope
from tlang.elaborate.values import LeafUse, Record, StateRef, Text
from tlang.errors import Label, TlangError, error
from tlang.graph.node import Graph, Node, toposort
from tlang.rewrite import rewrite
from tlang.source import Span
from tlang.syntax import ast
from tlang.types import Dim, Tensor, fresh_symbol

if TYPE_CHECKING:
    from tlang.elaborate.program import Program


class CommandElaborator(Elaborator):
    """Elaborates one command's expressions; calls become steps, in the order in which they stand."""

    def __init__(self, program: Program) -> None:
        super().__init__(program)
        self.nodes: list[Node] = []
        self.steps: list[CallStep] = []

    def command_call(
        self, draft: Draft, args: Mapping[str, tuple[Node, Span]], e: ast.Call, scope: Scope
    ) -> Any:
        """A call as a step: its results are leaves, and state is read anew after it."""
        instance = Instance(self, draft, args, e.span, apart=True)
        positions = {}
        for name, (x, _) in args.items():
            positions[name] = len(self.nodes)
            self.nodes.append(x)
        names: list[str] = []
        leaves = []
        for out in draft.outputs:
            kind = out.type.strong().with_shape(map(instance.dim, out.type.shape))
            name = f"%{len(self.steps)}.{len(names)}"
            names.append(name)
            leaf = self.graph.leaf("value", kind, e.span, name=name)
            leaves.append(self.read(leaf, e.span, scope))
        self.steps.append(CallStep(draft.definition, positions, tuple(names), e.span))
        if draft.has_effects:
            self.version += 1
            self.cache = {k: v for k, v in self.cache.items() if not isinstance(k, EquationDef)}
            self.shared_values.clear()
        return leaves[0] if draft.fields is None else Record(draft.fields, tuple(leaves))

    def evaluation(self, values: Sequence[Any], fields: tuple[str, ...] | None, span: Span) -> Evaluation:
        """The finished evaluation of some values: free tensors refused, sizes solved, rewritten."""
        items: list[int | Text | StateRef] = []
        for v in values:
            if isinstance(v, Text | StateRef):
                items.append(v)
            else:
                items.append(len(self.nodes))
                self.nodes.append(self.as_node(v, span))
        nodes = [strong(n, span) for n in self.nodes]
        uses: dict[Any, LeafUse] = {key_of(n): use for n, use in self.leaves.items()}
        for node in toposort(nodes):
            if node.op.name == "tensor":
                use = uses.get(key_of(node))
                failure = free_tensor(node, use, "this line", use.span if use is not None else span, set())
                raise error(
                    "F170",
                    span,
                    name=str(node.attr("name")),
                    formula=f"`{use.formula}` needs it"
                    if use is not None and use.formula
                    else "it is read here",
                    labels=failure.diagnostics[0].labels[:1],
                    hint=f"write `... given {node.attr('name')} = ...`",
                )
        work = Work(self, [], nodes, {})
        work.reads = [n for n in self.leaves if n.op.name != "tensor"]
        work.map(lambda n, _: None, self.graph.solver.resolve, Graph())
        check_sizes(work, FunctionDef("this line", "", span, None, None))  # type: ignore[arg-type]
        self.program.warn(self.warnings)
        advances = advances_of(work.outputs)
        roots = rewrite(work.outputs) if work.outputs else []
        return Evaluation(
            tuple(roots), tuple(self.steps), tuple(items), fields, advances, tuple(work.reads), span
        )


def incoming(el: Elaborator, x: Node, kind: Tensor, span: Span, what: str, label: Label, free: bool) -> Node:
    """A value that comes in for a declared type: converted, of the right rank, of sizes that fit.

    With `free`, a named size of the declaration takes whatever size comes.
    """
    try:
        x = el.convert(x, kind.dtype, span)
    except TlangError as e:
        first = e.diagnostics[0]
        raise type(e)(replace(first, labels=(label,))) from None
    if free:
        rename = {s: Dim.of(fresh_symbol(s.name)) for d in kind.shape for s in d.symbols() if s.rigid}
        shape = []
        for d in kind.shape:
            total = Dim(d.const, alias=d.alias)
            for s, k in d.terms:
                total = total + rename.get(s, Dim.of(s)).scale(k)
            shape.append(total)
        kind = kind.with_shape(shape)
    el.fit(x, kind, span, what, label)
    return x
