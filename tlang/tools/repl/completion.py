"""What may stand at the cursor: the parser's state, merged with the names of the program.

Pure: texts and a session in, candidates out. The terminal shows them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tlang.elaborate.declared import constant
from tlang.elaborate.scope import (
    FunctionDef,
    RandomDef,
    RecordType,
    StreamDef,
    TemplateDef,
    UnitDef,
    ValueDef,
)
from tlang.elaborate.values import CONSTANTS, FORMS
from tlang.graph.ops import CALLABLE
from tlang.graph.ops.random import PUBLIC
from tlang.run import BACKENDS
from tlang.run.files import PACKAGE
from tlang.syntax.layout import CLOSING, OPENING, STATEMENT_WORDS, Token, kinds
from tlang.syntax.parse import classified, continuations, words
from tlang.tools.repl.commands import COMMANDS, OF_LINES
from tlang.tools.repl.inquire import definitions, kind_of, meaning
from tlang.types import DTYPES, THEANO_NAMES

if TYPE_CHECKING:
    from tlang.run.session import Session

#: The endings of files that `load` and `save` know, and `import`.
DATA, PROGRAMS = (".npy", ".npz", ".csv"), (".tl",)


#: The words of clauses, which stand in `where { }`, and those of declarations, which stand in no block.
CLAUSES = kinds("UPDATE GIVEN HOLD SWAP DROP")
DECLARATIONS = kinds("TENSOR SHARED STREAM RANDOM FUNCTION IMPORT")


@dataclass(frozen=True)
class Candidate:
    """A text for the place of what is begun at the cursor, and what it is."""

    text: str
    about: str = ""


def candidates(session: Session | None, text: str) -> tuple[str, list[Candidate]]:
    """What is begun at the end of a text, and what it may become."""
    if text.lstrip().startswith(":"):
        return _command(session, text.lstrip()[1:])
    found = list(classified(text))
    last = found[-1] if found else None
    if last is not None and last.type == "COMMENT":
        return "", []
    if last is not None and last.type == "UNCLOSED":
        return _files(last.text[1:], _endings(found[:-1]))
    begun = last.text if last is not None and _is_word(last) else ""
    before = text[: len(text) - len(begun)]
    if begun and begun[0].isdigit():
        return "", []
    options = {c.text: c for c in _options(session, before) if c.text.startswith(begun) and c.text != begun}
    return begun, sorted(options.values(), key=lambda c: c.text)


def _is_word(token: Token) -> bool:
    return token.text[0].isalpha() or token.text[0] == "_"


# ---------------------------------------------------------------- by the parser's state


def _options(session: Session | None, before: str) -> Iterator[Candidate]:
    tokens, follow = continuations(before)
    tokens = [t for t in tokens if t.type != "$END"]
    last = tokens[-1].type if tokens else ""
    if last == "DOT":
        yield from _fields(session, tokens)
        return
    unfit = _unfit(tokens) if "TENSOR" in follow else frozenset()
    yield from (Candidate(w, "word") for w, kind in words().items() if kind in follow and kind not in unfit)
    if not session:
        return
    if "type_expr" in follow:
        yield from (Candidate(name, "dtype") for name in DTYPES)
        yield from (Candidate(name, "Theano's name") for name in THEANO_NAMES)
    elif "sum_dim" in follow or "prod_dim" in follow or "atom_dim" in follow:
        yield from _dims(session)
    elif "atom" in follow:
        if last == "TILDE":
            yield from (Candidate(name, "distribution") for name in PUBLIC)
            yield from _names(session, (StreamDef,))
        yield from _keywords(session, tokens)
        yield from _names(session)
        yield from _builtins()
    elif "path" in follow:
        yield from _names(session)


def _unfit(tokens: list[Token]) -> frozenset[str]:
    """The words that cannot begin a statement here: the grammar admits all of them in every block."""
    braces: list[str] = [""]
    for k, token in enumerate(tokens):
        if token.type == "LBRACE":
            braces.append(tokens[k - 1].type if k else "")
        elif token.type == "RBRACE" and len(braces) > 1:
            braces.pop()
    if braces[-1] == "WHERE":
        return STATEMENT_WORDS - CLAUSES
    return CLAUSES | (DECLARATIONS if len(braces) > 1 else frozenset())


def _names(session: Session, of: tuple[type, ...] = ()) -> Iterator[Candidate]:
    for name, found in definitions(session).items():
        if not of or isinstance(found, of):
            yield Candidate(name, meaning(session, found) or kind_of(found))
    if not of:
        yield from (Candidate(name, "the size of a dimension") for name in session.unit.dims)


def _dims(session: Session) -> Iterator[Candidate]:
    yield from (Candidate(name, "dimension") for name in session.unit.dims)
    for name in session.unit.scope.names:
        if constant(session.unit, name) is not None:
            yield Candidate(name, str(constant(session.unit, name)))


def _builtins() -> Iterator[Candidate]:
    yield from (Candidate(name, row.doc) for name, row in CALLABLE.items())
    yield from (Candidate(name, "dtype, casts") for name in DTYPES)
    yield from (Candidate(name, f"{value:.6g}") for name, value in CONSTANTS.items())
    yield from (Candidate(name, "") for name in FORMS)


def _fields(session: Session | None, tokens: list[Token]) -> Iterator[Candidate]:
    """What follows a dot."""
    base = tokens[-2].text if len(tokens) > 1 else ""
    found = definitions(session).get(base) if session else None
    match found:
        case UnitDef(unit=unit):
            assert session is not None
            yield from (Candidate(n, meaning(session, d)) for n, d in unit.scope.names.items())
        case RandomDef():
            yield from (Candidate("state", "generator, key and counter"), Candidate("seed", "restarts it"))
        case StreamDef():
            yield Candidate("seed", "restarts all of its variables")
            yield from (Candidate(name, "distribution") for name in PUBLIC)
        case ValueDef(type=RecordType(fields=fields)):
            yield from (Candidate(name) for name in fields)
        case _:
            yield Candidate("T", "the axes in reverse order")


def _keywords(session: Session, tokens: list[Token]) -> Iterator[Candidate]:
    """The parameters of what the innermost bracket calls, where an argument begins."""
    if not tokens or tokens[-1].type not in ("LPAR", "COMMA"):
        return
    depth = 0
    for k in range(len(tokens) - 1, 0, -1):
        depth += (tokens[k].type in CLOSING) - (tokens[k].type in OPENING)
        if depth < 0:
            if tokens[k].type == "LPAR" and tokens[k - 1].type == "NAME":
                yield from _parameters(session, tokens[k - 1].text)
            return


def _parameters(session: Session, name: str) -> Iterator[Candidate]:
    found = definitions(session).get(name)
    match found:
        case FunctionDef(decl=decl) if hasattr(decl, "params"):
            names: Iterable[str] = (p.name.id for p in decl.params)
        case TemplateDef(decl=template):
            names = (p.name.id for p in template.params)
        case None if name in CALLABLE:
            names = (p.split("=")[0].strip(" *") for p in CALLABLE[name].signature.split(",") if "=" in p)
        case _:
            names = ("size",) if name == "batches" else ()
    yield from (Candidate(f"{n} = ", f"of {name}") for n in names)


# ---------------------------------------------------------------- files and commands


def _endings(before: list[Token]) -> tuple[str, ...]:
    """The endings of the files that a string means; none where it means no file."""
    kept = [t for t in before if t.type != "BLANK"]
    if kept and kept[-1].type == "IMPORT":
        return PROGRAMS
    if len(kept) > 1 and kept[-1].type == "LPAR" and kept[-2].text in ("load", "save"):
        return DATA
    return ()


def _files(begun: str, endings: tuple[str, ...]) -> tuple[str, list[Candidate]]:
    if not endings:
        return begun, []
    folder, _, start = begun.rpartition("/")
    if endings == PROGRAMS and folder == "std":
        folder = str(PACKAGE / "std")
    try:
        entries = sorted(os.scandir(folder or ("/" if begun.startswith("/") else ".")), key=lambda e: e.name)
    except OSError:
        return begun, []
    head = begun[: len(begun) - len(start)]
    out = [Candidate("std/", "programs of tlang")] if endings == PROGRAMS and "std/".startswith(begun) else []
    for entry in entries:
        if entry.name.startswith(start) and (start or not entry.name.startswith(".")):
            if entry.is_dir():
                out.append(Candidate(f"{head}{entry.name}/", "folder"))
            elif entry.name.endswith(endings):
                out.append(Candidate(head + entry.name, "file"))
    return begun, out


def _command(session: Session | None, text: str) -> tuple[str, list[Candidate]]:
    """A command of the prompt, or its argument."""
    word, space, rest = text.partition(" ")
    if not space:
        return word, [Candidate(r.name, r.help) for r in COMMANDS if r.name.startswith(word)]
    rest = rest.lstrip()
    if word in OF_LINES:
        return candidates(session, rest)
    if word in ("load", "save"):
        return _files(rest, PROGRAMS)
    options: Iterable[Any] = ()
    if word == "backend":
        options = map(Candidate, BACKENDS)
    elif word == "help":
        options = (Candidate(r.name, r.help) for r in COMMANDS)
    elif word == "explain":
        from tlang.tools.explain import subjects

        options = (Candidate(name, about) for name, about in subjects())
    elif session and word in ("show", "names"):
        options = _names(session)
    elif session and word in ("graph", "plan", "code"):
        options = _names(session, (FunctionDef,))
    return rest, [c for c in options if c.text.startswith(rest)]
