"""The syntax tree: frozen dataclasses with spans, one for each rule of `grammar/tlang.lark`.

Nothing here has behaviour. Trees may be very deep (a sum of 100,000 terms is a left spine), so
whoever walks one does it without Python recursion.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from tlang.source import Source, Span

# ---------------------------------------------------------------- expressions


@dataclass(frozen=True, slots=True, eq=False)
class Name:
    """A name: of a value, an operation, a dimension, or the file behind an import's alias."""

    id: str
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Number:
    """A literal; `value` is an int or a float, as written (`1.` and `1e3` are floats)."""

    value: int | float
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Bool:
    """`True` or `False` (`true` and `false` are accepted)."""

    value: bool
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class NoneLit:
    """`None`: a new axis in an index, or "not given" as an argument."""

    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class String:
    """A string literal, with its escapes resolved."""

    value: str
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Unary:
    """`-x`, `+x`, `~x` or `not x`."""

    op: str
    operand: Expr
    span: Span
    op_span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Binary:
    """`left op right` for arithmetic, `@`, bitwise operators, `and` and `or`."""

    op: str
    left: Expr
    right: Expr
    span: Span
    op_span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Compare:
    """`first op second op ...`: n operators between n + 1 operands, chained as in Python."""

    ops: tuple[str, ...]
    operands: tuple[Expr, ...]
    span: Span
    op_spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Arg:
    """An argument, or an item of a tuple; `name` is None for a positional one."""

    name: Name | None
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Call:
    """`func(args)`."""

    func: Expr
    args: tuple[Arg, ...]
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Slice:
    """`start : stop : step` in an index, each part optional."""

    start: Expr | None
    stop: Expr | None
    step: Expr | None
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class EllipsisLit:
    """`...` in an index."""

    span: Span


Subscript: TypeAlias = "Expr | Slice | EllipsisLit"


@dataclass(frozen=True, slots=True, eq=False)
class Index:
    """`base[subs]`."""

    base: Expr
    subs: tuple[Subscript, ...]
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Field:
    """`base.name`."""

    base: Expr
    name: Name
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class ListLit:
    """`[a, b, ...]`."""

    items: tuple[Expr, ...]
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Comprehension:
    """`value for i, j`: in `[ ]` a tensor with an axis for each index, in a call (`bare`) what it reduces."""

    value: Expr
    names: tuple[Name, ...]
    bare: bool
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class TupleLit:
    """`()`, `(a,)`, `(a, b)` or `(n = a, ...)`: outputs of a function, or an argument such as axes."""

    items: tuple[Arg, ...]
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Binding:
    """`target = value` of a `given`; the target is a name or `alias.name`."""

    target: Name | Field
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """`expr given a = 1, b = 2`."""

    expr: Expr
    bindings: tuple[Binding, ...]
    span: Span


Expr: TypeAlias = (
    "Name | Number | Bool | NoneLit | String | Unary | Binary | Compare | Call | Index | Field"
    " | ListLit | Comprehension | TupleLit | Given"
)


@dataclass(frozen=True, slots=True, eq=False)
class TypeExpr:
    """`f64`, `f64[n, m + 1]`, `dmatrix`; `dims` is None without brackets.

    A dimension is an expression of names, integers, `+`, `-` and `*`; `_` is the name `_`.
    """

    name: str
    dims: tuple[Expr, ...] | None
    span: Span


# ---------------------------------------------------------------- declarations


@dataclass(frozen=True, slots=True, eq=False)
class TensorDecl:
    """`tensor x, y: f64[n]`."""

    names: tuple[Name, ...]
    type: TypeExpr
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class SharedDecl:
    """`shared w, v: f64[n] = init`, or `~ dist(...)` with `draw`; the type may be left out."""

    names: tuple[Name, ...]
    type: TypeExpr | None
    init: Expr
    draw: bool
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class StreamDecl:
    """`stream s = philox(234)`."""

    name: Name
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class RandomDecl:
    """`random r: f64[n] ~ s.normal(0, 1)`."""

    name: Name
    type: TypeExpr
    dist: Expr
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Param:
    """A parameter, with its own type and default where it has them.

    The parser has already spread a type over the untyped names before it: `x, y: f64` gives two
    parameters with that type, the span of the type shared.
    """

    name: Name
    type: TypeExpr | None
    default: Expr | None
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Equation:
    """`a = expr`, `a, b = expr` or `a: f64[n] = expr` (one target)."""

    targets: tuple[Name, ...]
    type: TypeExpr | None
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """`s(x, k = 2) = expr`: an equation with parameters; defaults are expressions."""

    name: Name
    params: tuple[Param, ...]
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A target of `set` or `update`: `w`, `layers.w`, `r.state`, `w[i, :]` (`subs` not None)."""

    target: Name | Field
    subs: tuple[Subscript, ...] | None
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """`update place = value`."""

    place: Place
    value: Expr
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class GivenClause:
    """`given a = e, b = e`."""

    bindings: tuple[Binding, ...]
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Hold:
    """`hold r, q`; `names` is None for `hold all`."""

    names: tuple[Name | Field, ...] | None
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Swap:
    """`swap a = b, c = d`."""

    pairs: tuple[tuple[Name | Field, Name | Field], ...]
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Drop:
    """`drop w, b`; `names` is None for `drop updates`."""

    names: tuple[Name | Field, ...] | None
    span: Span


Clause: TypeAlias = Equation | Template | Update | GivenClause | Hold | Swap | Drop


@dataclass(frozen=True, slots=True, eq=False)
class FunctionDecl:
    """`function f(params) = body where { clauses }`; `body` is None where it is left out."""

    name: Name
    params: tuple[Param, ...]
    body: Expr | None
    clauses: tuple[Clause, ...]
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class CopyDecl:
    """`function g = copy f where { clauses }`."""

    name: Name
    source: Name | Field
    clauses: tuple[Clause, ...]
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Import:
    """`import "layers.tl" as layers`."""

    path: String
    name: Name
    span: Span


# ---------------------------------------------------------------- commands


@dataclass(frozen=True, slots=True, eq=False)
class SetTarget:
    """A target of `set`, with its type if it is declared there; the name `_` discards."""

    place: Place
    type: TypeExpr | None


@dataclass(frozen=True, slots=True, eq=False)
class Set:
    """`set a, b: f64[n] = expr`, or `~ dist(...)` with `draw`."""

    targets: tuple[SetTarget, ...]
    value: Expr
    draw: bool
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Check:
    """`check expr, "message"`."""

    value: Expr
    message: str | None
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Repeat:
    """`repeat count as name { body }`."""

    count: Expr
    name: Name | None
    body: tuple[Command, ...]
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Range:
    """`a..b` after `in`: from a to b - 1."""

    start: Expr
    stop: Expr
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class For:
    """`for names in iterable { body }`; the iterable is a range or a call of `batches`."""

    names: tuple[Name, ...]
    iterable: Range | Expr
    body: tuple[Command, ...]
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """`bench expr`."""

    value: Expr
    span: Span


@dataclass(frozen=True, slots=True, eq=False)
class ExprStmt:
    """A bare expression: `print(...)`, `save(...)`, a call, or a value to echo."""

    value: Expr
    span: Span


Command: TypeAlias = "Set | Check | Repeat | For | Bench | ExprStmt"
Declaration: TypeAlias = (
    TensorDecl | SharedDecl | StreamDecl | RandomDecl | FunctionDecl | CopyDecl | Import | Equation | Template
)
Statement: TypeAlias = "Declaration | Command"


@dataclass(frozen=True, slots=True, eq=False)
class Program:
    """The statements of one source, in order."""

    source: Source
    statements: tuple[Statement, ...]
