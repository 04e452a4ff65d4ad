"""The statements of kernels as instructions and blocks."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from tlang.emit.expressions import Expressions
from tlang.emit.kinds import BOOL, I64, Kind, LowerError, Value, llvm


class Statements:
    """Writes the statements of one function; `result` is the kind of what it gives, None for nothing."""

    def __init__(self, expressions: Expressions) -> None:
        self.expressions = expressions
        self.code = expressions.code
        self.names = expressions.names
        self.result: Kind | None = None
        self._returns = False

    def body(self, statements: Sequence[ast.stmt]) -> None:
        """Some statements, one after the other."""
        for statement in statements:
            if self.code.ended:  # what follows a `return` is never reached
                return
            self._statement(statement)

    def _statement(self, node: ast.stmt) -> None:
        value_of = self.expressions.value
        match node:
            case ast.Assign(targets=[target], value=value):
                self._assign(target, value_of(value))
            case ast.AugAssign(target=ast.Name(id=name), op=op, value=value):
                self.names.bind(
                    name,
                    self.expressions.arithmetic(op, self.names.named(name), value_of(value)),
                )
            case ast.Expr(value=ast.Call() as call):
                self.expressions.call(call)
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                pass
            case ast.For(target=ast.Name(id=name), iter=ast.Call(func=ast.Name(id="range"), args=bounds)):
                self._loop(name, [value_of(b) for b in bounds], node.body)
            case ast.While(test=test):
                self._repeat(test, node.body)
            case ast.If(test=test):
                self._choose(test, node.body, node.orelse)
            case ast.Return(value=value):
                self._give(None if value is None else value_of(value))
            case _:
                raise LowerError(f"not a statement of kernels: {ast.unparse(node)}")

    def _assign(self, target: ast.expr, value: Value) -> None:
        match target:
            case ast.Name(id=name):
                self.names.bind(name, value)
            case ast.Tuple(elts=targets) if len(value.parts) == len(targets):
                for t, part in zip(targets, value.parts, strict=True):
                    self._assign(t, part)
            case ast.Subscript(value=pointer, slice=index):
                place, kind = self.expressions.place(pointer, index)
                self.code.put(f"store {self.code.operand(self.code.convert(value, kind))}, ptr {place}")
            case _:
                raise LowerError(f"cannot assign to {ast.unparse(target)}")

    def _loop(self, name: str, bounds: list[Value], body: Sequence[ast.stmt]) -> None:
        """`for name in range(...)`, with a step above 0."""
        given = [self.code.convert(b, I64).text for b in bounds]
        start, stop, step = {1: ("0", *given, "1"), 2: (*given, "1"), 3: tuple(given)}[len(given)]
        head, inside, after, end = self.code.labels("head", "body", "next", "end")
        before = self.code.block
        self.code.go(head)
        self.code.begin(head)
        at = f"%{name}.{self.code.number()}"
        self.code.put(f"{at} = phi i64 [{start}, %{before}], [{at}.next, %{after}]")
        self.code.branch(self.code.let(BOOL, f"icmp slt i64 {at}, {stop}"), inside, end)
        self.code.begin(inside)
        self.names.bind(name, Value(I64, at))
        self.body(body)
        self.code.go(after)
        self.code.begin(after)
        self.code.put(f"{at}.next = add nsw i64 {at}, {step}")
        self.code.go(head)
        self.code.begin(end)

    def _repeat(self, test: ast.expr, body: Sequence[ast.stmt]) -> None:
        head, inside, end = self.code.labels("while", "do", "done")
        self.code.go(head)
        self.code.begin(head)
        self.code.branch(self.expressions.value(test), inside, end)
        self.code.begin(inside)
        self.body(body)
        self.code.go(head)
        self.code.begin(end)

    def _choose(self, test: ast.expr, yes: Sequence[ast.stmt], no: Sequence[ast.stmt]) -> None:
        then, other, end = self.code.labels("then", "else", "fi")
        self.code.branch(self.expressions.value(test), then, other if no else end)
        reached = not no
        self.code.begin(then)
        self.body(yes)
        reached |= not self.code.ended
        self.code.go(end)
        if no:
            self.code.begin(other)
            self.body(no)
            reached |= not self.code.ended
            self.code.go(end)
        if reached:
            self.code.begin(end)

    def _give(self, value: Value | None) -> None:
        """A `return`: all of a function give values of the same kind."""
        if self._returns and (value is None) != (self.result is None):
            raise LowerError("a function gives a value here and none there")
        self.code.ended = self._returns = True
        if value is None:
            self.code.put("ret void")
            return
        if self.result is None:
            self.result = value.kind
        if not value.parts:
            value = self.code.convert(value, self.result)
            self.code.put(f"ret {self.code.operand(value)}")
            return
        if value.kind != self.result:
            raise LowerError("a function gives tuples of several kinds")
        whole = "poison"
        for k, part in enumerate(value.parts):
            whole = self.code.let(
                value.kind, f"insertvalue {llvm(value.kind)} {whole}, {self.code.operand(part)}, {k}"
            ).text
        self.code.put(f"ret {llvm(value.kind)} {whole}")
