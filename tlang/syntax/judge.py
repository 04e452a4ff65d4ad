"""Judges what the grammar leaves general, when the tree is built.

The targets of equations, the statements in the wrong block, the order of arguments, numbers and
escapes: everywhere the finished node allows a better message than the token at which an exact
grammar would have stopped.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from tlang.errors import Diagnostic, Label, diagnostic
from tlang.source import Span
from tlang.syntax import ast
from tlang.syntax.layout import Token


@dataclass(frozen=True, slots=True, eq=False)
class TypedTarget:
    """`target: type` on the left of an equation, until the equation is known."""

    target: ast.Expr
    type: ast.TypeExpr
    span: Span


Target: TypeAlias = "ast.Expr | TypedTarget"

# ---------------------------------------------------------------- equations


def equation(
    targets: Sequence[Target], value: ast.Expr, span: Span
) -> tuple[ast.Equation | ast.Template, list[Diagnostic]]:
    """The node of `targets = value`, and what is wrong with the targets."""
    if len(targets) == 1 and isinstance(targets[0], ast.Call):
        template = _template(targets[0], value, span)
        if template is not None:
            return template, []
    names: list[ast.Name] = []
    type_: ast.TypeExpr | None = None
    found: list[Diagnostic] = []
    for target in targets:
        inner = target
        if isinstance(target, TypedTarget):
            inner, type_ = target.target, target.type
        if not isinstance(inner, ast.Name):
            assert not isinstance(inner, TypedTarget)
            found.append(_wrong_target(inner, target, value))
        elif isinstance(target, TypedTarget) and len(targets) > 1:
            hint = f"leave out `: {_text(target.type)}`; the types follow from the right side"
            found.append(diagnostic("S033", target.type.span, where="one of several targets", hint=hint))
        else:
            names.append(inner)
    return ast.Equation(tuple(names), type_, value, span), found


def _template(target: ast.Call, value: ast.Expr, span: Span) -> ast.Template | None:
    """`name(params) = value`, if the target reads like that."""
    if not isinstance(target.func, ast.Name):
        return None
    params: list[ast.Param] = []
    for arg in target.args:
        if arg.name is not None:
            params.append(ast.Param(arg.name, None, arg.value, arg.span))
        elif isinstance(arg.value, ast.Name):
            params.append(ast.Param(arg.value, None, None, arg.span))
        else:
            return None
    return ast.Template(target.func, tuple(params), value, span)


def _wrong_target(inner: ast.Expr, target: Target, value: ast.Expr) -> Diagnostic:
    left, right = _text(inner), _text(value)
    match inner:
        case ast.Index():
            what = "an element"
            hint = f"write `set {left} = {right}`, or inside a function `update {left} = {right}`"
        case ast.Field():
            what = "a field"
            hint = f"write `set {left} = {right}`"
        case ast.Call() if isinstance(target, TypedTarget) and isinstance(inner.func, ast.Name):
            what = "a template with a type"
            hint = f"write `{left} = {right}`, or `function {inner.func.id}(...) = ...` with typed parameters"
        case ast.Call() if isinstance(inner.func, ast.Name):
            what = "the value of a call"
            hint = f"the parameters of a template are names, as in `{inner.func.id}(x) = ...`; "
            hint += f"to compare write `check {left} == {right}`"
        case ast.TupleLit() | ast.ListLit() if inner.items:
            what = "a list of names in brackets"
            hint = f"write `{left[1:-1].rstrip(', ')} = {right}`"
        case ast.Number() | ast.Bool() | ast.String() | ast.NoneLit():
            what = f"`{left}`, which is a constant"
            hint = f"to compare write `{left} == {right}`"
        case _:
            what = "a formula"
            hint = f"to compare write `check {left} == {right}`; to define a name, put it alone on the left"
    return diagnostic("S017", inner.span, what=what, hint=hint)


# ---------------------------------------------------------------- blocks

_KINDS: dict[type[object], tuple[str, str]] = {
    ast.TensorDecl: ("a declaration", "`tensor`"),
    ast.SharedDecl: ("a declaration", "`shared`"),
    ast.StreamDecl: ("a declaration", "`stream`"),
    ast.RandomDecl: ("a declaration", "`random`"),
    ast.FunctionDecl: ("a declaration", "`function`"),
    ast.CopyDecl: ("a declaration", "`function`"),
    ast.Import: ("a declaration", "`import`"),
    ast.Equation: ("a declaration", "an equation"),
    ast.Template: ("a declaration", "a template"),
    ast.Update: ("a clause", "`update`"),
    ast.GivenClause: ("a clause", "`given`"),
    ast.Hold: ("a clause", "`hold`"),
    ast.Swap: ("a clause", "`swap`"),
    ast.Drop: ("a clause", "`drop`"),
    ast.Set: ("a command", "`set`"),
    ast.Check: ("a command", "`check`"),
    ast.Repeat: ("a command", "`repeat`"),
    ast.For: ("a command", "`for`"),
    ast.Bench: ("a command", "`bench`"),
    ast.ExprStmt: ("a command", "a bare expression"),
}


def top_level(items: Sequence[ast.Statement | ast.Clause]) -> list[Diagnostic]:
    """Clauses outside of any function."""
    return [_clause_outside(x) for x in items if _KINDS[type(x)][0] == "a clause"]


def loop_body(items: Sequence[ast.Statement | ast.Clause]) -> list[Diagnostic]:
    """Whatever is no command in the body of a loop."""
    found: list[Diagnostic] = []
    for item in items:
        sort, name = _KINDS[type(item)]
        if sort == "a clause":
            found.append(_clause_outside(item))
        elif sort == "a declaration":
            hint = "move it to top level, before the loop"
            if isinstance(item, ast.Equation):
                hint = f"to compute a value in each round write `set {_text(item)}`"
            found.append(diagnostic("S018", _head(item), what=name, hint=hint))
    return found


def clauses(items: Sequence[ast.Statement | ast.Clause]) -> list[Diagnostic]:
    """Whatever is no clause in the `where` of a function."""
    found: list[Diagnostic] = []
    for item in items:
        sort, name = _KINDS[type(item)]
        if sort == "a clause" or isinstance(item, ast.Equation | ast.Template):
            continue
        hint = "move it out of the function, to top level"
        if isinstance(item, ast.Set):
            place = item.targets[0].place
            hint = f"a local formula is an equation, `{_text(place)} = {_text(item.value)}`; "
            hint += f"a shared value is changed by `update {_text(place)} = {_text(item.value)}`"
        elif isinstance(item, ast.ExprStmt):
            hint = "what a function gives back stands before `where`, as in `function f(x) = outputs`"
        found.append(diagnostic("S019", _head(item), what=name, hint=hint))
    return found


def _clause_outside(item: ast.Statement | ast.Clause) -> Diagnostic:
    word = _KINDS[type(item)][1].strip("`")
    hint = f"write it in the function's `where {{ {_text(item)} }}`"
    if isinstance(item, ast.Update):
        hint = f"at top level write `set {_text(item.place)} = {_text(item.value)}`"
    elif isinstance(item, ast.GivenClause):
        hint = f"for one value write `expression {_text(item)}`"
    return diagnostic("S020", _head(item), word=word, hint=hint)


def function(made: ast.FunctionDecl, has_where: bool) -> list[Diagnostic]:
    """A function of which nothing says what it does."""
    if made.body is not None or has_where:
        return []
    hint = f"write `{_text(made)} = ...`"
    return [diagnostic("S022", made.span, name=made.name.id, hint=hint)]


# ---------------------------------------------------------------- arguments and items


def arguments(args: Sequence[ast.Arg]) -> list[Diagnostic]:
    """Arguments by position that come after one by name."""
    named: ast.Arg | None = None
    for arg in args:
        if arg.name is not None:
            named = arg
        elif named is not None:
            label = Label(named.span, "by name")
            hint = f"put `{_text(arg)}` before `{_text(named)}`, or give it a name too"
            return [diagnostic("S026", arg.span, labels=[label], hint=hint)]
    return []


def items(args: Sequence[ast.Arg]) -> list[Diagnostic]:
    """A tuple in which some items have names and some have none."""
    bare = next((x for x in args if x.name is None), None)
    named = next((x for x in args if x.name is not None), None)
    if bare is None or named is None:
        return []
    name = _text(bare) if isinstance(bare.value, ast.Name) else "name"
    hint = f"write `{name} = {_text(bare)}`"
    return [
        diagnostic("S027", bare.span, label="has no name", labels=[Label(named.span, "has one")], hint=hint)
    ]


# ---------------------------------------------------------------- literals


def number(token: Token, span: Span) -> tuple[int | float, list[Diagnostic]]:
    """The value of a number; Python limits how long an integer's text may be."""
    if token.type == "FLOAT":
        return float(token.text), []
    try:
        return int(token.text), []
    except ValueError:
        reason = f"it has more than {sys.get_int_max_str_digits()} digits"
        return 0, [diagnostic("S028", span, reason=reason, hint="write a float, such as 1e9")]


_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}


def string(token: Token, span: Span) -> tuple[str, list[Diagnostic]]:
    """The value of a string, and the escapes in it that mean nothing."""
    found: list[Diagnostic] = []

    def resolve(match: re.Match[str]) -> str:
        if match[1] not in _ESCAPES:
            at = span.start + 1 + match.start()
            hint = f"write `\\\\{match[1]}` for a backslash, or `/` in a path"
            found.append(diagnostic("S025", Span(span.source, at, at + 2), escape=match[0], hint=hint))
        return _ESCAPES.get(match[1], match[0])

    return _ESCAPE.sub(resolve, token.text[1:-1]), found


# ---------------------------------------------------------------- texts and places


def _text(node: ast.Statement | ast.Clause | ast.Expr | ast.Arg | ast.Place | ast.TypeExpr) -> str:
    """The source text of a node on one line, shortened if it is long."""
    text = " ".join(node.span.text.split())
    return text if len(text) <= 60 else text[:57] + "..."


def _head(node: ast.Statement | ast.Clause) -> Span:
    """The first line of a statement."""
    text = node.span.text
    return Span(node.span.source, node.span.start, node.span.start + len(text.split("\n", 1)[0]))
