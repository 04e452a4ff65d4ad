"""The names of a function: one that is assigned once is a value, any other a place on the stack."""

from __future__ import annotations

import ast

from tlang.emit.instructions import Instructions
from tlang.emit.kinds import F32, F64, I64, Kind, LowerError, Value, llvm


class Names:
    """What the names of a function stand for; `places` are the instructions that make places for them."""

    def __init__(self, code: Instructions, function: ast.FunctionDef) -> None:
        self.code = code
        self.places: list[str] = []
        self._values: dict[str, Value] = {}
        self._stacked: dict[str, tuple[str, Kind]] = {}
        self._changing = _changing(function)

    def bind(self, name: str, value: Value) -> None:
        """A name gets a value."""
        if name not in self._changing:
            self._values[name] = value
            return
        if value.parts:
            raise LowerError(f"`{name}` is a tuple, and is assigned more than once")
        if name not in self._stacked:
            place = f"%{name}.place"
            self.places.append(f"  {place} = alloca {llvm(value.kind)}")
            self._stacked[name] = place, value.kind
        place, kind = self._stacked[name]
        code = self.code
        if kind != value.kind and (kind, value.kind) not in ((F64, I64), (F64, F32)):
            raise LowerError(f"`{name}` is {value.kind} after it was {kind}")
        code.put(f"store {code.operand(code.convert(value, kind))}, ptr {place}")

    def named(self, name: str) -> Value:
        """The value of a name."""
        if name in self._stacked:
            place, kind = self._stacked[name]
            return self.code.let(kind, f"load {llvm(kind)}, ptr {place}")
        if name in self._values:
            return self._values[name]
        raise LowerError(f"`{name}` has no value")


def _changing(function: ast.FunctionDef) -> set[str]:
    """The names that are assigned in more than one sequence of statements: where the value is made depends.

    The variable of a `for` is assigned in its body.
    """
    where: dict[str, set[int]] = {x.arg: {0} for x in function.args.args}
    todo: list[list[ast.stmt]] = [function.body]
    for number, statements in enumerate(todo):
        for node in statements:
            match node:
                case ast.Assign(targets=[target]) | ast.AugAssign(target=target):
                    names = [x.id for x in ast.walk(target) if isinstance(x, ast.Name)]
                    stored = isinstance(target, ast.Name | ast.Tuple)
                    for name in names if stored else ():
                        where.setdefault(name, set()).add(number)
                case ast.For(target=ast.Name(id=name), body=body):
                    where.setdefault(name, set())
                    todo.append([ast.Assign(targets=[node.target], value=node.iter), *body])
                case ast.While(body=body):
                    todo.append(body)
                case ast.If(body=body, orelse=orelse):
                    todo += [body, orelse]
    return {name for name, places in where.items() if len(places) > 1}
