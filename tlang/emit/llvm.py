"""The text of kernels, as a text of LLVM.

Kernels are written in a small part of Python, of the kind that Numba compiles: numbers, pointers that are
indexed without checks, tuples of results, `if`, `while`, `for i in range(...)`, and functions. What a value
is follows from the arguments of an entry, so one walk over a function both types and translates it; one that
is called with other types is translated again. Types and promotion are Numba's: integers compute with
64 bits, float32 stays what it is beside float32, and a store converts to what lies in memory; but a plain
literal adapts, as in NumPy. (Numba itself takes 0.2 s to import and ten times as long for a text, most of it
for what kernels do not have.)

A name that is assigned once is a value of LLVM, any other a place on the stack, which LLVM makes a value of.

A translation is built of `kinds.py`, what values are; `instructions.py`, what all of it is written with;
`names.py`; `pieces.py`, the functions that every text finds; `expressions.py` and `statements.py`. Here is
what is made of them: functions, and the text of a module.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping
from functools import cache

from tlang.emit.expressions import Expressions
from tlang.emit.instructions import Instructions
from tlang.emit.kinds import F64, I64, Kind, LowerError, Value, llvm
from tlang.emit.names import Names
from tlang.emit.statements import Statements

#: The symbol of an entry is its name with this before it.
PREFIX = "tlang_"
#: A function of a text, with what decorates it.
_DEFINITION = re.compile(r"^(?:@.*\n)*def (\w+).*\n(?:(?:[ \t].*)?\n)*", re.MULTILINE)


def lowered(text: str, signatures: Mapping[str, str], fastmath: Collection[str] = ()) -> str:
    """The text of LLVM for the entries of a module text, with all that they call.

    `signatures` maps entries to texts such as `"int64(int64, float64)"`; `fastmath` are LLVM's flags for all
    functions that name none of their own. Raises :class:`LowerError` for a text that is not of the language.
    """
    return _Module(text, fastmath).lowered(signatures)


def parameters(signature: str) -> list[str]:
    """The types of the parameters of an entry, each int64 or float64; its result is int64."""
    found = re.fullmatch(r"int64\((.*)\)", signature.replace(" ", ""))
    given = found[1].split(",") if found and found[1] else []
    if found is None or not set(given) <= {I64, F64}:
        raise LowerError(f"not the signature of an entry: {signature}")
    return given


@cache
def _parsed(text: str) -> ast.FunctionDef:
    """The tree of a function: many texts have the same helpers."""
    (function,) = ast.parse(text).body
    assert isinstance(function, ast.FunctionDef)
    return function


class _Module:
    """A text of LLVM under construction."""

    def __init__(self, text: str, fastmath: Collection[str]) -> None:
        self.fastmath = fastmath
        self.texts = {found[1]: found[0] for found in _DEFINITION.finditer(text + "\n")}
        self.made: dict[tuple[str, tuple[Kind, ...]], tuple[str, Kind | None]] = {}
        self.functions: list[str] = []
        self.declared: dict[str, str] = {}

    def lowered(self, signatures: Mapping[str, str]) -> str:
        for name, signature in signatures.items():
            if name not in self.texts:
                raise LowerError(f"there is no function `{name}`")
            result = self._translate(name, PREFIX + name, tuple(parameters(signature)), entry=True)
            if result != I64:
                raise LowerError(f"`{name}` gives {result or 'nothing'} and not int64")
        return "\n".join([*self.functions, *self.declared.values()])

    def function(self, name: str, kinds: tuple[Kind, ...]) -> tuple[str, Kind | None] | None:
        """The symbol of a function for arguments of some kinds, and the kind of its result."""
        if name not in self.texts:
            return None
        if (name, kinds) not in self.made:
            symbol = f"{name}.{len(self.made)}"
            self.made[name, kinds] = symbol, self._translate(name, symbol, kinds)
        return self.made[name, kinds]

    def _translate(self, name: str, symbol: str, kinds: tuple[Kind, ...], entry: bool = False) -> Kind | None:
        """Adds the definition of a function for arguments of some kinds; returns the kind of its result."""
        tree = _parsed(self.texts[name])
        flags, attributes = _marks(tree, self.fastmath)
        code = Instructions(flags, self.declared)
        names = Names(code, tree)
        statements = Statements(Expressions(code, names, self.function))
        given = []
        for parameter, kind in zip(tree.args.args, kinds, strict=True):
            given.append(f"{llvm(kind)} %{parameter.arg}")
            names.bind(parameter.arg, Value(kind, f"%{parameter.arg}"))
        statements.body(tree.body)
        result = statements.result
        if not code.ended:
            if result is not None:
                raise LowerError(f"`{symbol}` may end without a result")
            code.put("ret void")
        shown = "void" if result is None else llvm(result)
        head = f"define {'' if entry else 'internal '}{shown} @{symbol}({', '.join(given)})"
        self.functions.append(
            "\n".join([f"{head} {' '.join(attributes)} {{", "entry:", *names.places, *code.lines, "}"])
        )
        return result


def _marks(function: ast.FunctionDef, fastmath: Collection[str]) -> tuple[str, list[str]]:
    """The flags of a function's operations on floats, and its attributes: what decorates it says them."""
    flags, attributes = _flags(fastmath), ["nounwind"]
    for mark in function.decorator_list:
        name = mark.func if isinstance(mark, ast.Call) else mark
        if isinstance(name, ast.Name) and name.id == "apart":
            attributes.append("noinline")
        for option in mark.keywords if isinstance(mark, ast.Call) else ():
            if option.arg == "fastmath":
                names = [x for x in ast.walk(option.value) if isinstance(x, ast.Constant)]
                flags = _flags([str(x.value) for x in names])
            elif option.arg == "forceinline":
                attributes.append("alwaysinline")
    return flags, attributes


def _flags(names: Collection[str]) -> str:
    return "".join(f"{name} " for name in sorted(names))
