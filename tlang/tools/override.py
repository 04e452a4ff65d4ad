"""`--set name=value`: another right side for a name of the program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tlang.source import Source
from tlang.syntax import ast
from tlang.syntax.parse import parse_expression


def override(tree: ast.Program, pairs: Sequence[str]) -> ast.Program:
    """The program with the value of each `name=value` put into its equation, shared value or `set`.

    Raises ValueError, with what to say to the user, for a pair that fits nothing.
    """
    for pair in pairs:
        name, equals, text = pair.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier():
            raise ValueError(f"{pair}: write NAME=VALUE")
        value = parse_expression(Source(f"--set {name}", text.strip(), tree.source.path, tree.source.stem))
        statements = [_replaced(s, name, value) for s in tree.statements]
        if all(a is b for a, b in zip(statements, tree.statements, strict=True)):
            raise ValueError(f"{name}: the program has no equation, shared value or `set` of that name")
        tree = ast.Program(tree.source, tuple(statements))
    return tree


def _replaced(s: ast.Statement, name: str, value: ast.Expr) -> ast.Statement:
    match s:
        case ast.Equation(targets=(target,)) if target.id == name:
            return replace(s, value=value)
        case ast.SharedDecl(names=(target,)) if target.id == name:
            return replace(s, init=value, draw=False)
        case ast.Set(targets=(target,)) if target.place.span.text == name:
            return replace(s, value=value, draw=False)
    return s
