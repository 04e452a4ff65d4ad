"""The messages of elaboration: operands with their types, whence a size comes, what would fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tlang.elaborate.scope import Def, Scope
from tlang.elaborate.values import BUILTINS, short
from tlang.errors import Diagnostic, Label, TlangError, diagnostic, did_you_mean, error
from tlang.graph.node import Graph, Node
from tlang.source import Span
from tlang.syntax import ast
from tlang.types import ONE, Dim, Mismatch

if TYPE_CHECKING:
    from tlang.elaborate.program import Program


class Reporter:
    """A graph in the making, with what messages about it need."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.graph = Graph()
        self.warnings: list[Diagnostic] = []

    def describe(self, inputs: Sequence[Node], operands: Sequence[ast.Expr]) -> list[str]:
        """A line for each operand: its text and its type."""
        texts = [short(o.span.text) for o in operands]
        width = max(map(len, texts), default=0)
        return [f"{t:<{width}} : {self.type_text(x)}" for t, x in zip(texts, inputs, strict=False)]

    def type_text(self, x: Node) -> str:
        """A node's type, with sizes solved as far as they are by now and names for constants."""
        return x.type.with_shape(
            d if d.alias else self.graph.solver.resolve(d) for d in x.type.shape
        ).declared()

    def mismatch(
        self, e: Mismatch, inputs: Sequence[Node], span: Span, scope: Scope, operands: Sequence[ast.Expr]
    ) -> TlangError:
        """The error for two sizes that differ: each operand's type, which dimension, and whence its size."""
        roles = (
            ("left", "right")
            if len(operands) == 2
            else ("", "")
            if len(operands) < 2
            else tuple(f"{i + 1}." for i in range(len(operands)))
        )
        rows = []
        labels = []
        for index, words, dim in e.sides:
            text, kind = "", ""
            if 0 <= index < len(inputs):
                words = "first dimension" if words == "dimension -2" and inputs[index].rank == 2 else words
                kind = self.type_text(inputs[index])
                text = short(operands[index].span.text) if index < len(operands) else ""
                if index < len(operands):
                    found = self.declaration(operands[index], scope)
                    if found is not None and found.span is not None and found.span.source is span.source:
                        labels.append(Label(found.span, f"`{found.name}` is declared here"))
            role = roles[index] if 0 <= index < len(roles) else ""
            rows.append(
                (
                    role,
                    f"{text} : {kind}" if text else kind,
                    words,
                    dim.alias or str(self.graph.solver.resolve(dim)),
                    self.origin(dim, scope),
                )
            )
        widths = [max(len(r[k]) for r in rows) for k in range(4)]
        notes = ["  ".join(f"{r[k]:<{widths[k]}}" for k in range(4) if widths[k]) + f"  {r[4]}" for r in rows]
        hint = e.hint or self.shape_hint(e.code, inputs, operands)
        return error(e.code, span, labels=dict.fromkeys([*labels, *scope.uses()]), notes=notes, hint=hint)

    def declaration(self, e: ast.Expr, scope: Scope) -> Def | None:
        """The definition that a bare name refers to."""
        return scope.find(e.id) if isinstance(e, ast.Name) else None

    def origin(self, dim: Dim, scope: Scope) -> str:
        """Where a size comes from, for a message."""
        if dim.alias:
            found = scope.unit.scope.names.get(dim.alias)
            where = f", line {found.span.line}" if found is not None and found.span is not None else ""
            return f"(= {dim.const}{where})"
        dim = self.graph.solver.resolve(dim)
        if dim.is_const:
            return "(a constant)" if dim.const != 1 else "(written 1, which stretches)"
        return "(any size)" if all(s.rigid for s in dim.symbols()) else "(known when it runs)"

    def shape_hint(self, code: str, inputs: Sequence[Node], operands: Sequence[ast.Expr]) -> str | None:
        """A correction of a product or a sum that would fit, if there is an obvious one."""
        if len(operands) != 2 or len(inputs) != 2:
            return None
        (a, b), (x, y) = inputs, (short(o.span.text) for o in operands)
        x, y = (t if t.isidentifier() else f"({t})" for t in (x, y))
        if code == "T102" and a.rank <= 2 and b.rank <= 2:
            fits = []
            if b.shape[-1] == a.shape[0]:
                fits.append(f"`{y} @ {x}`")
            if a.rank == 2 and a.shape[0] == b.shape[0]:
                fits.append(f"`{x}.T @ {y}`")
            if b.rank == 2 and a.shape[-1] == b.shape[1]:
                fits.append(f"`{x} @ {y}.T`")
            return f"did you mean {' or '.join(fits)}?" if fits else None
        if code == "T101" and a.rank != b.rank and a.rank and b.rank:
            (wide, small, name) = (a, b, y) if a.rank > b.rank else (b, a, x)
            if small.rank == 1 and wide.shape[0] == small.shape[0]:
                return f"shapes are aligned at the right; a column is `{name}[:, None]`"
        return None

    def warn_of_stretching(self, made: Node, inputs: Sequence[Node], span: Span) -> None:
        """A warning where both operands stretch: often a missing transpose."""
        a, b = (x.shape for x in inputs)
        if len(a) == len(b) == 0 or a == b:
            return
        rank = max(len(a), len(b))
        left, right = ((None,) * (rank - len(s)) + s for s in (a, b))
        stretched = [
            any(p in (None, ONE) and q not in (None, ONE) for p, q in zip(u, v, strict=True))
            for u, v in ((left, right), (right, left))
        ]
        if all(stretched):
            kinds = [self.type_text(x) for x in inputs]
            self.warnings.append(
                diagnostic(
                    "T190",
                    span,
                    severity="warning",
                    left=kinds[0],
                    right=kinds[1],
                    result=self.type_text(made),
                )
            )

    def warn_of_doubling(self, made: Node, inputs: Sequence[Node], span: Span) -> None:
        """A warning where an f32 operand makes an operation in f64: it takes twice the memory and time."""
        if made.dtype.name not in ("f64", "c128"):
            return
        single = {"f32", "c64"}
        if any(x.dtype.name in single and not x.type.weak for x in inputs):
            kinds = " and ".join(self.type_text(x) for x in inputs)
            wide = next((x for x in inputs if x.dtype.name not in single), None)
            found = wide.type.dtype if wide is not None else made.dtype
            hint = f"cast the {found} operand: `f32(...)`, or the f32 one: `f64(...)`"
            self.warnings.append(diagnostic("T191", span, severity="warning", types=kinds, hint=hint))

    def unknown(self, e: ast.Name, scope: Scope) -> TlangError:
        """The error for a name that nothing defines, or that a line further down sets."""
        if scope.is_command() and e.id in scope.unit.set_names:
            return error("R151", e.span, name=e.id, labels=[Label(scope.unit.set_names[e.id], "set here")])
        near = did_you_mean(e.id, [*scope.visible(), *scope.unit.values, *scope.unit.dims, *BUILTINS])
        hint = (
            f"did you mean `{near}`?"
            if near
            else f"declare it: `tensor {e.id}: f64`, or define it: `{e.id} = ...`"
        )
        return error("N101", e.span, name=e.id, labels=scope.uses(), hint=hint)
