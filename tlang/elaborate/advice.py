"""Warnings that the text alone gives: equations that nothing uses, dimensions that look misspelt.

They read the trees of whole files, not one formula, and never say a thing that may be wrong: a name that
occurs anywhere else counts as used.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from tlang.errors import Diagnostic, Label, diagnostic
from tlang.source import Source, Span
from tlang.syntax import ast


def advice(trees: Sequence[ast.Program]) -> list[Diagnostic]:
    """The warnings for the files that make one program: the main file, and what runs after it."""
    statements = [s for tree in trees for s in tree.statements]
    return [*_unused(statements), *_misspelt(statements)]


def _walk(root: Any) -> Iterator[Any]:
    """Every node of a tree, without recursion."""
    stack = [root]
    while stack:
        node = stack.pop()
        if isinstance(node, tuple):
            stack += reversed(node)
        elif dataclasses.is_dataclass(node) and not isinstance(node, Span | Source):
            yield node
            stack += [getattr(node, f.name) for f in reversed(dataclasses.fields(node))]


def _names(root: Any) -> Counter[str]:
    return Counter(n.id for n in _walk(root) if isinstance(n, ast.Name))


# ---------------------------------------------------------------- equations


def _unused(statements: Sequence[ast.Statement]) -> Iterator[Diagnostic]:
    """Equations, at top level and in functions, whose names occur nowhere but on their left sides.

    A file without functions and commands is there to be imported: nothing in it counts as unused.
    """
    if all(isinstance(s, ast.Import | ast.TensorDecl | ast.Equation | ast.Template) for s in statements):
        return
    top = [s for s in statements if isinstance(s, ast.Equation | ast.Template)]
    yield from _lonely(top, _names(tuple(statements)), "nothing in this program")
    for f in statements:
        if isinstance(f, ast.FunctionDecl):
            local = [c for c in f.clauses if isinstance(c, ast.Equation | ast.Template)]
            yield from _lonely(local, _names(f), f"nothing in `{f.name.id}`")


def _lonely(
    equations: Iterable[ast.Equation | ast.Template], used: Counter[str], where: str
) -> Iterator[Diagnostic]:
    for e in equations:
        targets = e.targets if isinstance(e, ast.Equation) else (e.name,)
        if any(used[n.id] > 1 or n.id.startswith("_") for n in targets):
            continue
        names = ", ".join(f"`{n.id}`" for n in targets)
        yield diagnostic("N190", targets[0].span, names=names, where=where, severity="warning")


# ---------------------------------------------------------------- dimensions


def _misspelt(statements: Sequence[ast.Statement]) -> Iterator[Diagnostic]:
    """Dimension names that occur once, and are one letter away from another name for a size."""
    types = [t for s in statements for t in _walk(s) if isinstance(t, ast.TypeExpr)]
    places: dict[str, Span] = {}
    for t in dict.fromkeys(types):  # a type that several parameters share is one
        for n in _walk(t.dims or ()):
            if isinstance(n, ast.Name) and n.id != "_":
                places.setdefault(n.id, n.span)
    counts = Counter(
        n.id for t in dict.fromkeys(types) for n in _walk(t.dims or ()) if isinstance(n, ast.Name)
    )
    everywhere = _names(tuple(statements))
    constants = {
        s.targets[0].id: s.targets[0].span
        for s in statements
        if isinstance(s, ast.Equation) and len(s.targets) == 1 and isinstance(s.value, ast.Number)
    }
    for name, span in places.items():
        if counts[name] > 1 or everywhere[name] > 1 or name in constants:
            continue
        others = {**constants, **{n: p for n, p in places.items() if counts[n] > 1}}
        near = next((n for n in others if n != name and is_near(name, n)), None)
        if near is not None:
            label = Label(others[near], f"`{near}`")
            hint = f"did you mean `{near}`? A size of its own could be written `_`"
            yield diagnostic(
                "T192", span, name=name, near=near, labels=[label], hint=hint, severity="warning"
            )


def is_near(a: str, b: str) -> bool:
    """Whether two names differ by one letter, by two in exchange, or by their case only.

    Names of less than three letters are too short to say, and numbers at the end are meant.
    """
    if a.lower() == b.lower():
        return True
    if min(len(a), len(b)) < 3 or a.rstrip("0123456789") == b.rstrip("0123456789"):
        return False
    a, b = sorted((a, b), key=len)
    k = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), len(a))
    if len(a) == len(b):
        return a[k + 1 :] == b[k + 1 :] or (a[k : k + 2] == b[k : k + 2][::-1] and a[k + 2 :] == b[k + 2 :])
    return a[k:] == b[k + 1 :]
