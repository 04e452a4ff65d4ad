"""What the prompt can say of names and expressions without running anything."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tlang.elaborate.commands import Commands
from tlang.elaborate.drafts import Draft
from tlang.elaborate.evaluations import CommandElaborator
from tlang.elaborate.scope import (
    KIND,
    FunctionDef,
    RandomDef,
    RecordType,
    SharedDef,
    StreamDef,
    TemplateDef,
    TensorDef,
    UnitDef,
    ValueDef,
)
from tlang.elaborate.values import Dynamic, Record, StateRef, Text
from tlang.errors import TlangError
from tlang.graph.node import Node
from tlang.source import Source
from tlang.syntax import ast
from tlang.syntax.parse import parse

if TYPE_CHECKING:
    from tlang.run.session import Session

#: A longer text is not examined at every key.
LONGEST = 2000


def type_of_text(session: Session, text: str) -> str:
    """The type of the value of the last statement of a text, with errors raised."""
    statements = parse(Source("<type>", text)).statements
    match statements[-1] if statements else None:
        case ast.ExprStmt(value=e) | ast.Equation(value=e) | ast.Set(value=e, draw=False):
            return type_of(session, e)
        case ast.Check(value=e) | ast.Bench(value=e):
            return type_of(session, e)
    return ""


def type_of(session: Session, e: ast.Expr) -> str:
    """The type of an expression, or what else it is; a load is unknown before the run."""
    said: str = session.without_files(lambda: _described(session, e))
    return said


def _described(session: Session, e: ast.Expr) -> str:
    el = CommandElaborator(session.program)
    try:
        return _text(session, el, el.evaluate(e, Commands(session.program).scope()))
    except Dynamic:
        return "known when it runs"


def _text(session: Session, el: CommandElaborator, value: Any) -> str:
    match value:
        case Node():
            return el.type_text(value)
        case Record(fields=fields, items=items):
            shown = (f"{n}: {_text(session, el, x)}" for n, x in zip(fields, items, strict=True))
            return f"({', '.join(shown)})"
        case Text():
            return "text"
        case StateRef():
            return "state"
        case FunctionDef() | TemplateDef() | StreamDef() | RandomDef() | UnitDef():
            return meaning(session, value)
    return ""


def signature(draft: Draft, name: str) -> str:
    """Parameters and outputs of a function with their types."""
    params = ", ".join(
        f"{p.name}: {p.node.type.declared()}" + (" = ..." if p.default is not None else "")
        for p in draft.params
    )
    result = _outputs(draft)
    return f"{name}({params})" + (f" -> {result}" if result else "")


def _outputs(draft: Draft) -> str:
    kinds = [x.type.declared() for x in draft.outputs]
    if draft.fields is None:
        return kinds[0]
    return f"({', '.join(f'{n}: {k}' for n, k in zip(draft.fields, kinds, strict=True))})" if kinds else ""


def meaning(session: Session, found: Any) -> str:
    """What a definition is, on one line: its type, or its signature."""
    program = session.program
    try:
        match found:
            case FunctionDef(name=name):
                return signature(program.draft(found), name)
            case TemplateDef(name=name, decl=decl):
                return f"{name}({', '.join(p.name.id for p in decl.params)})"
            case StreamDef(decl=decl):
                return decl.value.span.text
            case UnitDef(unit=unit):
                return unit.source.name
            case RandomDef(type=kind, decl=decl):
                return f"{kind.declared()} ~ {decl.dist.span.text}"
            case TensorDef(type=kind):
                return kind.declared()
            case SharedDef(span=span):
                return program.shared_type(found, span).declared()
            case ValueDef(type=RecordType(fields=fields, types=types)):
                shown = (f"{n}: {_declared(t)}" for n, t in zip(fields, types, strict=True))
                return f"({', '.join(shown)})"
            case ValueDef(type=kind):
                return _declared(kind)
        return type_of(session, ast.Name(found.name, found.span))
    except (TlangError, Dynamic):
        return ""


def _declared(kind: Any) -> str:
    return kind.declared() if hasattr(kind, "declared") else str(kind or "")


def definitions(session: Session) -> dict[str, Any]:
    """All names of the program and the values made by `set`, by name."""
    values = {n: v for n, v in session.unit.values.items() if n != "_"}
    return {**session.unit.scope.names, **values}


def kind_of(found: Any) -> str:
    """What a definition is called."""
    return "value" if isinstance(found, ValueDef) else KIND[type(found)]
