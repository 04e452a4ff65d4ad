"""`tlang streams`: which function advances which stream, and how far each call moves it. Nothing runs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from math import prod

from tlang.elaborate.program import AT, Program
from tlang.elaborate.scope import FunctionDef, Unit
from tlang.elaborate.streams import stream_seed
from tlang.elaborate.values import Dynamic
from tlang.errors import TlangError, join_errors
from tlang.graph.node import Node, is_const, toposort
from tlang.source import Source
from tlang.syntax import ast
from tlang.syntax.parse import parse
from tlang.tools.check import FileHost
from tlang.types import F32, Dim

#: Elements that a block of Philox makes, in f64 or integers, and in f32.
_PER_BLOCK = {
    "uniform": (2, 4),
    "normal": (2, 4),
    "lognormal": (2, 4),
    "exponential": (2, 4),
    "bernoulli": (2, 2),
    "integers": (1, 1),
    "random_integers": (1, 1),
    "categorical": (2, 2),
    "permutation": (2, 2),
    "shuffle": (2, 2),
    "shuffle_row_elements": (2, 2),
    "choice": (1, 1),
    "choice without replacement": (2, 2),
}
#: Blocks that an element takes at least, of distributions that may need more.
_AT_LEAST = {"gamma": 2, "beta": 4, "dirichlet": 2, "poisson": 1, "binomial": 1, "multinomial": 1}
#: Distributions of which every element takes two words of mt19937.
_TWO_WORDS = frozenset({"uniform", "exponential", "categorical"})


@dataclass(frozen=True, slots=True)
class Move:
    """What a call of a function does to the state of a variable.

    `variable` is what is drawn, `state` whose state it takes (another's after a `swap`); `moves` says how
    far, in words.
    """

    function: str
    variable: str
    type: str
    distribution: str
    state: str
    stream: str
    held: bool
    moves: str


def streams(source: Source, seed: int = 0, unused: str = "error") -> list[Move]:
    """The moves of all functions of a program, and of its lines that draw by `~`. Raises its errors."""
    program = Program(Unit(source), FileHost(), unused)
    collected = program.add(parse(source), program.main)
    errors = list(collected.errors)
    for unit in program.all_units():
        errors += program.check_definitions(unit)
    if errors:
        raise join_errors(errors)
    found: list[Move] = []
    for unit in program.all_units():
        for d in unit.scope.names.values():
            if isinstance(d, FunctionDef):
                found += _moves_of(program, d, seed)
    return found + [m for c in collected.commands for m in _drawn(c, seed)]


def _moves_of(program: Program, found: FunctionDef, seed: int) -> Iterator[Move]:
    try:
        roots = program.draft(found).roots()
    except (Dynamic, TlangError):  # its types are those of a file
        yield Move(found.key, "", "", "", "", "", False, "known only when the program has loaded its data")
        return
    for node in toposort(roots):
        if node.op.name == "draw":
            generator, stream = _stream(program, node.attr("state"), seed)
            name = node.attr("distribution")
            moves = "held" if node.attr("held") else _distance(node, generator)
            yield Move(
                found.key,
                node.attr("variable"),
                str(node.type),
                "choice" if name.startswith("choice") else name,
                node.attr("state"),
                stream,
                node.attr("held"),
                moves,
            )


def _stream(program: Program, key: str, seed: int) -> tuple[str, str]:
    """The generator of a state, and its stream as it is declared."""
    stream = program.stream_of_state(key)
    if stream is not None:
        generator, own = stream_seed(stream)
        return generator, f"{stream.key} = {generator}({own})"
    return "philox", f"philox({seed})"


def _drawn(c: ast.Command | ast.SharedDecl, seed: int) -> Iterator[Move]:
    """The draws of `shared w ~ ...` and `set x ~ ...`, each a variable of the default stream."""
    match c:
        case ast.Set(draw=True, targets=targets, value=e, span=span):
            names = [t.place.target.span.text for t in targets]
        case ast.SharedDecl(draw=True, names=declared, init=e, span=span):
            names = [n.id for n in declared]
        case ast.Repeat(body=body) | ast.For(body=body):
            for inner in body:
                yield from _drawn(inner, seed)
            return
        case _:
            return
    shown = e.func.id if isinstance(e, ast.Call) and isinstance(e.func, ast.Name) else e.span.text
    line = span.text.split()[0]
    for name in names:
        yield Move(line, name, "", shown, name, f"philox({seed})", False, "counter + 1")


# ---------------------------------------------------------------- how far


def _distance(node: Node, generator: str) -> str:
    """How far a draw moves its state."""
    name, count = node.attr("distribution"), _elements(node)
    if generator == "mt19937":
        if name in _TWO_WORDS or (name == "choice" and len(node.inputs) == 2):
            return f"{_times(count, 2)} words"
        return "as many words as its method takes"
    if name in _AT_LEAST:
        return f"counter + 1, at least {_counted(_times(count, _AT_LEAST[name]), 'block')}"
    per_block = _PER_BLOCK[name][node.dtype is F32]
    if name == "choice" and len(node.inputs) == 2:
        per_block = 2
    return f"counter + 1, {_counted(_divided(count, per_block), 'block')}"


def _elements(node: Node) -> Sequence[Dim | str]:
    """The numbers whose product is how many elements of a standard form a draw needs."""
    match node.attr("distribution"):
        case "shuffle":
            return node.shape[:1]
        case "choice without replacement":
            items = node.inputs[0]
            if items.rank:
                return items.shape
            return [Dim(items.value) if is_const(items) else "items"]
    return node.shape


def _product(count: Sequence[Dim | str]) -> tuple[int, list[str]]:
    """The constant and the other factors of a product."""
    constant = prod(d.const for d in count if isinstance(d, Dim) and d.is_const)
    rest = [d for d in count if not (isinstance(d, Dim) and d.is_const)]
    return constant, [f"({d})" if isinstance(d, Dim) and " " in str(d) else str(d) for d in rest]


def _times(count: Sequence[Dim | str], factor: int) -> str:
    constant, rest = _product(count)
    constant *= factor
    return " ".join([*([str(constant)] if constant != 1 or not rest else []), *rest])


def _divided(count: Sequence[Dim | str], divisor: int) -> str:
    constant, rest = _product(count)
    if not rest:
        return str(-(-constant // divisor))
    if constant % divisor == 0:
        return _times([Dim(constant // divisor), *rest], 1)
    return f"ceil({_times(count, 1)} / {divisor})"


def _counted(count: str, noun: str) -> str:
    return f"{count} {noun}" if count == "1" else f"{count} {noun}s"


# ---------------------------------------------------------------- showing


def report(moves: Sequence[Move]) -> str:
    """The moves as text, by function."""
    lines: list[str] = []
    before = ""
    rows = [
        (
            f"{m.variable}: {m.type}" if m.type else m.variable,
            m.distribution,
            m.stream + ("" if m.state.partition(AT)[0] == m.variable else f", the state of {m.state}"),
            m.moves,
        )
        for m in moves
    ]
    widths = [max((len(r[k]) for r in rows), default=0) for k in range(3)]
    for m, row in zip(moves, rows, strict=True):
        head = m.function if m.function in ("set", "shared") else f"function {m.function}"
        if head != before:
            lines += ["", head] if lines else [head]
            before = head
        cells = [cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)]
        lines.append(f"  {'  '.join([*cells, row[3]]).rstrip()}" if m.variable else f"  {m.moves}")
    return "\n".join(lines) if lines else "no function draws"


def to_json(moves: Sequence[Move]) -> list[dict[str, object]]:
    """The moves as data."""
    return [asdict(m) for m in moves]
