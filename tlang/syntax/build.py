"""Builds the tree: one method for each rule of `grammar/tlang.lark`, called as it is reduced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from tlang.errors import Diagnostic
from tlang.source import Source, Span
from tlang.syntax import ast, judge
from tlang.syntax.layout import Token

Path: TypeAlias = ast.Name | ast.Field
Type: TypeAlias = ast.TypeExpr | None


class Builder:
    """The callbacks of the grammar's rules, each with the children of its node as arguments.

    Before each call `start` and `end` say which characters the node covers. What the grammar
    admits and the language does not is put into `found`.
    """

    def __init__(self) -> None:
        self.begin(Source("<text>", ""))

    def begin(self, source: Source) -> None:
        """Makes ready for another text."""
        self.source = source
        self.start = self.end = 0
        self.found: list[Diagnostic] = []

    def _span(self) -> Span:
        return Span(self.source, self.start, self.end)

    def _place(self, token: Token) -> Span:
        return Span(self.source, token.start, token.end)

    # ------------------------------------------------------------------------ programs

    def program(self, *items: ast.Statement) -> ast.Program:
        self.found += judge.top_level(items)
        return ast.Program(self.source, items)

    def sole_expr(self, expr: ast.Expr) -> ast.Expr:
        return expr

    def block(self, *items: Any) -> tuple[Any, ...]:
        return items

    # ------------------------------------------------------------------------ declarations

    def tensor_decl(self, names: tuple[ast.Name, ...], type_: ast.TypeExpr) -> ast.TensorDecl:
        return ast.TensorDecl(names, type_, self._span())

    def shared_decl(
        self, names: tuple[ast.Name, ...], type_: Type, sign: Token, init: ast.Expr
    ) -> ast.SharedDecl:
        return ast.SharedDecl(names, type_, init, sign.type == "TILDE", self._span())

    def stream_decl(self, name: ast.Name, value: ast.Expr) -> ast.StreamDecl:
        return ast.StreamDecl(name, value, self._span())

    def random_decl(self, name: ast.Name, type_: ast.TypeExpr, dist: ast.Expr) -> ast.RandomDecl:
        return ast.RandomDecl(name, type_, dist, self._span())

    def import_(self, path: ast.String, name: ast.Name) -> ast.Import:
        return ast.Import(path, name, self._span())

    def typed_target(self, target: ast.Expr, type_: ast.TypeExpr) -> judge.TypedTarget:
        return judge.TypedTarget(target, type_, self._span())

    def equation(self, *parts: Any) -> ast.Equation | ast.Template:
        *targets, value = parts
        made, found = judge.equation(targets, value, self._span())
        self.found += found
        return made

    def function_decl(
        self,
        name: ast.Name,
        params: tuple[ast.Param, ...],
        body: ast.Expr | None,
        clauses: tuple[ast.Clause, ...] | None,
    ) -> ast.FunctionDecl:
        made = ast.FunctionDecl(name, params, body, clauses or (), self._span())
        self.found += judge.function(made, clauses is not None)
        return made

    def copy_decl(self, name: ast.Name, source: Path, clauses: tuple[ast.Clause, ...] | None) -> ast.CopyDecl:
        return ast.CopyDecl(name, source, clauses or (), self._span())

    def params(self, *params: ast.Param) -> tuple[ast.Param, ...]:
        """Spreads each type over the untyped names before it."""
        spread: list[ast.Param] = []
        type_: Type = None
        for param in reversed(params):
            type_ = param.type or type_
            spread.append(ast.Param(param.name, type_, param.default, param.span))
        return tuple(reversed(spread))

    def param(self, name: ast.Name, type_: Type, default: ast.Expr | None) -> ast.Param:
        return ast.Param(name, type_, default, self._span())

    def where(self, items: tuple[Any, ...]) -> tuple[ast.Clause, ...]:
        self.found += judge.clauses(items)
        return items

    # ------------------------------------------------------------------------ clauses

    def update(self, place: ast.Place, value: ast.Expr) -> ast.Update:
        return ast.Update(place, value, self._span())

    def given_clause(self, bindings: tuple[ast.Binding, ...]) -> ast.GivenClause:
        return ast.GivenClause(bindings, self._span())

    def hold(self, names: tuple[Path, ...]) -> ast.Hold:
        return ast.Hold(None if _is_word(names, "all") else names, self._span())

    def swap(self, *pairs: tuple[Path, Path]) -> ast.Swap:
        return ast.Swap(pairs, self._span())

    def exchange(self, old: Path, new: Path) -> tuple[Path, Path]:
        return old, new

    def drop(self, names: tuple[Path, ...]) -> ast.Drop:
        return ast.Drop(None if _is_word(names, "updates") else names, self._span())

    # ------------------------------------------------------------------------ commands

    def set_(self, *parts: Any) -> ast.Set:
        *targets, sign, value = parts
        return ast.Set(tuple(targets), value, sign.type == "TILDE", self._span())

    def set_target(self, place: ast.Place, type_: Type) -> ast.SetTarget:
        return ast.SetTarget(place, type_)

    def check(self, value: ast.Expr, message: ast.String | None) -> ast.Check:
        return ast.Check(value, message.value if message else None, self._span())

    def repeat(self, count: ast.Expr, name: ast.Name | None, body: tuple[Any, ...]) -> ast.Repeat:
        self.found += judge.loop_body(body)
        return ast.Repeat(count, name, body, self._span())

    def for_(self, names: tuple[ast.Name, ...], over: ast.Range | ast.Expr, body: tuple[Any, ...]) -> ast.For:
        self.found += judge.loop_body(body)
        return ast.For(names, over, body, self._span())

    def range_(self, start: ast.Expr, _dots: Token, stop: ast.Expr) -> ast.Range:
        return ast.Range(start, stop, self._span())

    def bench(self, value: ast.Expr) -> ast.Bench:
        return ast.Bench(value, self._span())

    def expr_stmt(self, value: ast.Expr) -> ast.ExprStmt:
        return ast.ExprStmt(value, self._span())

    # ------------------------------------------------------------------------ names and types

    def name(self, token: Token) -> ast.Name:
        return ast.Name(token.text, self._span())

    def names(self, *names: ast.Name) -> tuple[ast.Name, ...]:
        return names

    def paths(self, *paths: Path) -> tuple[Path, ...]:
        return paths

    def place(self, target: Path, subs: tuple[ast.Subscript, ...] | None) -> ast.Place:
        return ast.Place(target, subs, self._span())

    def bindings(self, *bindings: ast.Binding) -> tuple[ast.Binding, ...]:
        return bindings

    def binding(self, target: Path, value: ast.Expr) -> ast.Binding:
        return ast.Binding(target, value, self._span())

    def type_expr(self, name: ast.Name, dims: tuple[ast.Expr, ...] | None) -> ast.TypeExpr:
        return ast.TypeExpr(name.id, dims, self._span())

    def dims(self, *dims: ast.Expr) -> tuple[ast.Expr, ...]:
        return dims

    # ------------------------------------------------------------------------ expressions

    def given(self, expr: ast.Expr, bindings: tuple[ast.Binding, ...]) -> ast.Given:
        return ast.Given(expr, bindings, self._span())

    def binary(self, left: ast.Expr, op: Token, right: ast.Expr) -> ast.Binary:
        return ast.Binary(op.text, left, right, self._span(), self._place(op))

    def unary(self, op: Token, operand: ast.Expr) -> ast.Unary:
        return ast.Unary(op.text, operand, self._span(), self._place(op))

    def compare(self, *parts: Any) -> ast.Compare:
        ops: Sequence[Token] = parts[1::2]
        return ast.Compare(
            tuple(op.text for op in ops),
            parts[0::2],
            self._span(),
            tuple(self._place(op) for op in ops),
        )

    def call(self, func: ast.Expr, *args: ast.Arg) -> ast.Call:
        self.found += judge.arguments(args)
        return ast.Call(func, args, self._span())

    def call_over(self, func: ast.Expr, of: ast.Comprehension) -> ast.Call:
        of = ast.Comprehension(of.value, of.names, True, of.span)
        return ast.Call(func, (ast.Arg(None, of, of.span),), self._span())

    def comprehension(self, value: ast.Expr, names: tuple[ast.Name, ...]) -> ast.Comprehension:
        return ast.Comprehension(value, names, False, self._span())

    def index(self, base: ast.Expr, subs: tuple[ast.Subscript, ...]) -> ast.Index:
        return ast.Index(base, subs, self._span())

    def field(self, base: ast.Expr, name: ast.Name) -> ast.Field:
        return ast.Field(base, name, self._span())

    def subs(self, *subs: ast.Subscript) -> tuple[ast.Subscript, ...]:
        return subs

    def slice_(self, start: ast.Expr | None, stop: ast.Expr | None, step: ast.Expr | None) -> ast.Slice:
        return ast.Slice(start, stop, step, self._span())

    def ellipsis_lit(self, _dots: Token) -> ast.EllipsisLit:
        return ast.EllipsisLit(self._span())

    def positional(self, value: ast.Expr) -> ast.Arg:
        return ast.Arg(None, value, self._span())

    def named(self, name: ast.Name, value: ast.Expr) -> ast.Arg:
        return ast.Arg(name, value, self._span())

    def tuple_lit(self, *items: ast.Arg) -> ast.TupleLit:
        self.found += judge.items(items)
        return ast.TupleLit(items, self._span())

    def list_lit(self, *items: ast.Expr) -> ast.ListLit:
        return ast.ListLit(items, self._span())

    def number(self, token: Token) -> ast.Number:
        value, found = judge.number(token, self._span())
        self.found += found
        return ast.Number(value, self._span())

    def boolean(self, token: Token) -> ast.Bool:
        return ast.Bool(token.text in ("True", "true"), self._span())

    def none_lit(self) -> ast.NoneLit:
        return ast.NoneLit(self._span())

    def string(self, token: Token) -> ast.String:
        value, found = judge.string(token, self._span())
        self.found += found
        return ast.String(value, self._span())


def _is_word(names: tuple[Path, ...], word: str) -> bool:
    return len(names) == 1 and isinstance(names[0], ast.Name) and names[0].id == word
