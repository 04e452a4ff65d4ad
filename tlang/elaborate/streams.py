"""Declarations of streams: their generator and seed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tlang.elaborate.arguments import bind
from tlang.elaborate.declared import integer_value
from tlang.elaborate.scope import RandomDef, StreamDef
from tlang.errors import error
from tlang.syntax import ast

if TYPE_CHECKING:
    from tlang.elaborate.program import Program


GENERATORS = ("philox", "mt19937")


def stream_seed(found: StreamDef) -> tuple[str, int]:
    """The generator and the seed of a stream's declaration."""
    value = found.decl.value
    if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):
        if value.func.id not in GENERATORS:
            raise error("F190", value.func.span, name=value.func.id)
        bound = bind(value, f"`{value.func.id}`", ("seed",), ("seed",))
        seed = integer_value(found.unit, bound["seed"].value)
        if seed is None:
            raise error("F191", bound["seed"].span)
        if not -(2**63) <= seed < 2**64:
            raise error("T124", bound["seed"].span, value=seed, dtype="u64")
        return value.func.id, seed
    raise error("F190", value.span, name=value.span.text)


def check_stream(program: Program, found: RandomDef) -> None:
    """A variable's stream must have a valid declaration."""
    stream = program.stream_of(found)
    if stream is not None:
        stream_seed(stream)
