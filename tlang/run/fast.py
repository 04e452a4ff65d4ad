"""Calls from Python in a hurry: machine code for a function called again with arguments like the last ones.

`fast_call` is for a function with one piece of code, after usual calls have checked everything. What it
makes is a function of C to Python (`METH_FASTCALL`). It only asks whether the arguments are of the same types
and shapes; where they are not, it does nothing and gives `NotImplemented`, and the usual call answers.

It is written here as a text of LLVM: guards, then the addresses of arrays into the code's table, the call of
the code, and the results. Objects are read where CPython and NumPy have kept their parts for many years (the
first is CPython's stable interface, the second NumPy's since 1.7); `_is_known` looks whether they still do.
"""

from __future__ import annotations

import ctypes
import itertools
import math
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import numpy as np

from tlang.emit.text import STATUS
from tlang.graph.node import Function
from tlang.interpret import Tape
from tlang.run.build import Unfit, address, aligned
from tlang.run.fastplan import CallPlan, Result, plan_call
from tlang.run.objects import ObjectError, assemble
from tlang.run.store import Store

Array = Any
#: Where objects keep what: the type of any, the value of a scalar, and parts of an array.
TYPE, VALUE, DATA, RANK, SHAPE, DTYPE, ARRAY_FLAGS = 8, 16, 16, 24, 32, 56, 64
#: An array in rows without gaps, and aligned.
CARRAY = 0x101
#: The references to a shared array while only the store has it: its own and that of the call.
OWN_REFERENCES = 2
#: Results of so many bytes begin at a multiple of `ALIGNMENT`; for less it costs more than it gains.
ALIGNED = 1 << 18
#: Of CPython: `Py_tp_alloc`, the slot of a type that makes an object of it.
_ALLOCATE = 47
_METH_FASTCALL = 0x80


class _Method(ctypes.Structure):
    """`PyMethodDef`."""

    _fields_ = [
        ("name", ctypes.c_char_p),
        ("code", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    ]


#: What functions of C need to the end of the process.
_METHODS: list[_Method] = []


def fast_call(store: Store, tape: Tape, epoch: Array, function: Function, values: Mapping[str, Array]) -> Any:
    """A function of C for arguments like `values`. Raises `Unfit` where only the usual call serves.

    When `epoch` has another number than now, the function may be another one: the usual call answers.
    """
    if not _is_known():
        raise Unfit
    plan = plan_call(store, tape, function, values)
    text = _Text()
    _write(text, plan, epoch)
    symbol = f"tlang_call{len(_METHODS)}"
    try:
        start = assemble(text.whole(symbol), symbol)
    except ObjectError:
        raise Unfit from None
    _METHODS.append(_Method(function.name.encode(), start, _METH_FASTCALL, None))
    make = ctypes.pythonapi.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.c_void_p]
    return make(ctypes.addressof(_METHODS[-1]), (plan, text.held), None)


@cache
def _is_known() -> bool:
    """Whether objects lie in memory as the code expects, and Python has one lock for all."""
    if (
        sys.implementation.name != "cpython"
        or sys.byteorder != "little"
        or ctypes.sizeof(ctypes.c_void_p) != 8
    ):
        return False
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        return False

    def at(x: Any, offset: int, kind: Any = ctypes.c_int64) -> Any:
        return kind.from_address(id(x) + offset).value

    one = np.zeros((2, 3))
    other = np.zeros((3, 2), np.int64).T
    shape = (ctypes.c_int64 * 2).from_address(at(one, SHAPE))
    return (
        [at(x, TYPE) for x in (1.5, one)] == [id(float), id(np.ndarray)]
        and [at(x, VALUE, ctypes.c_double) for x in (1.5, np.float64(2.5))] == [1.5, 2.5]
        and at(np.float32(1.5), VALUE, ctypes.c_float) == 1.5
        and [at(np.int64(7), VALUE), at(np.int32(7), VALUE, ctypes.c_int32)] == [7, 7]
        and [at(one, DATA), at(one, RANK, ctypes.c_int32), *shape] == [address(one), 2, 2, 3]
        and [at(one, DTYPE), at(other, DTYPE)] == [id(np.dtype(np.float64)), id(np.dtype(np.int64))]
        and [at(x, ARRAY_FLAGS, ctypes.c_int32) & CARRAY for x in (one, other)] == [CARRAY, 0x100]
    )


class _Text:
    """The text of a function `ptr (ptr self, ptr args, i64 n)` as it is written.

    It has three ends: `miss` gives `NotImplemented`, `failed` an exception that is set already, and `give`.
    References that it owns are given back at its end.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.held: list[Any] = []
        self._owned = 0
        self._numbers = itertools.count()

    def whole(self, symbol: str) -> str:
        """The function."""
        owned = [f"%owned{k}" for k in range(self._owned)]
        end, self.lines = self.lines, []
        for slot in owned:
            self.call("Py_DecRef", f"ptr {self.let(f'load ptr, ptr {slot}')}", result="void")
        release, self.lines = self.lines, []
        self.call("Py_IncRef", self.thing(NotImplemented), result="void")
        missed, self.lines = self.lines, []
        self.call("PyErr_Clear", result="void")
        clear, self.lines = self.lines, []
        return "\n".join(
            [
                f"define ptr @{symbol}(ptr %self, ptr %args, i64 %n) {{",
                "start:",
                "%result = alloca ptr",
                f"store {self.thing(NotImplemented)}, ptr %result",
                *[f"{slot} = alloca ptr\nstore ptr null, ptr {slot}" for slot in owned],
                *end,
                "failed:",
                "store ptr null, ptr %result",
                "br label %end",
                "long:",  # an integer without end
                *clear,
                "br label %miss",
                "miss:",
                *missed,
                "br label %end",
                "end:",
                *release,
                "store i64 0, ptr %busy",
                "%given = load ptr, ptr %result",
                "ret ptr %given",
                "away:",
                *missed,
                f"ret {self.thing(NotImplemented)}",
                "}",
            ]
        )

    def let(self, value: str) -> str:
        """A name for the value of an instruction."""
        name = f"%v{next(self._numbers)}"
        self.lines.append(f"{name} = {value}")
        return name

    def address(self, place: int) -> str:
        """A place in memory as an operand."""
        return f"ptr inttoptr (i64 {place} to ptr)"

    def thing(self, x: Any) -> str:
        """An object of Python as an operand, which lives as long as the function."""
        self.held.append(x)
        return self.address(id(x))

    def bare(self, x: Any) -> str:
        """An object of Python as the second operand of a comparison."""
        return self.thing(x).removeprefix("ptr ")

    def label(self) -> str:
        """A name for a place in the text."""
        return f"l{next(self._numbers)}"

    def cell(self, array: Array, at: int = 0) -> str:
        """An element of an array as an operand."""
        self.held.append(array)
        return self.address(address(array) + at * array.itemsize)

    def load(self, kind: str, base: str, offset: int = 0) -> str:
        """What lies behind a pointer."""
        return self.let(f"load {kind}, ptr {self.let(f'getelementptr i8, ptr {base}, i64 {offset}')}")

    def store(self, value: str, place: str) -> None:
        """Writes a value with its type to a place."""
        self.lines.append(f"store {value}, {place}")

    def call(self, name: str, *args: str, result: str = "ptr") -> str:
        """A call of a function of C to Python."""
        found = ctypes.cast(getattr(ctypes.pythonapi, name), ctypes.c_void_p).value
        return self.call_at(found, *args, result=result)

    def call_at(self, place: int | None, *args: str, result: str = "ptr") -> str:
        """A call of what lies at an address."""
        kinds = ", ".join([a.split()[0] for a in args])
        text = f"call {result} ({kinds}) inttoptr (i64 {place} to ptr)({', '.join(args)})"
        if result == "void":
            self.lines.append(text)
            return ""
        return self.let(text)

    def need(self, condition: str, otherwise: str = "miss") -> None:
        """Goes on if a condition holds."""
        label = self.label()
        self.lines += [f"br i1 {condition}, label %{label}, label %{otherwise}", f"{label}:"]

    def equal(self, kind: str, x: str, y: object, otherwise: str = "miss") -> None:
        """Goes on if two values are equal."""
        self.need(self.let(f"icmp eq {kind} {x}, {y}"), otherwise)

    def made(self, x: str) -> str:
        """An object that a call has given, which is owned; without one there is an exception."""
        slot = f"%owned{self._owned}"
        self._owned += 1
        self.lines.append(f"store ptr {x}, ptr {slot}")
        self.need(self.let(f"icmp ne ptr {x}, null"), "failed")
        return x

    def borrowed(self, x: str) -> str:
        """An object that somebody else owns, from now on owned here too."""
        self.call("Py_IncRef", f"ptr {x}", result="void")
        return self.made(x)

    def choose(self, condition: str, yes: Callable[[], str], no: Callable[[], str]) -> str:
        """A pointer made in one of two ways."""
        a, b, end = self.label(), self.label(), self.label()
        self.lines += [f"br i1 {condition}, label %{a}, label %{b}", f"{a}:"]
        first = yes()
        self.lines += [f"br label %{a}x", f"{a}x:", f"br label %{end}", f"{b}:"]
        second = no()
        self.lines += [f"br label %{b}x", f"{b}x:", f"br label %{end}", f"{end}:"]
        return self.let(f"phi ptr [{first}, %{a}x], [{second}, %{b}x]")


def _write(text: _Text, plan: CallPlan, epoch: Array) -> None:
    """The steps of a call."""
    table = plan.frame.table
    busy = np.zeros(1, np.int64)
    text.lines.append(f"%busy = getelementptr i8, {text.cell(busy)}, i64 0")
    text.equal("i64", "%n", plan.count, "away")
    text.equal("i64", text.let(f"load i64, {text.cell(epoch)}"), int(epoch[0]), "away")
    text.equal("i64", text.let("load i64, ptr %busy"), 0, "away")
    text.store("i64 1", "ptr %busy")
    for s in plan.scalars:
        _take_scalar(text, text.load("ptr", "%args", 8 * s.at), s.dtype, s.cell)
    for t in plan.tensors:
        x = text.load("ptr", "%args", 8 * t.at)
        _is_array(text, x, t.dtype, t.shape)
        if t.slot is not None:
            text.store(f"ptr {text.load('ptr', x, DATA)}", text.cell(table, t.slot))
    state: dict[str, str] = {}
    shared = ""
    if plan.state or plan.updates:
        name = text.thing(sys.intern("shared"))
        shared = text.made(text.call("PyObject_GetAttr", text.thing(plan.store), name))
    for v in plan.state:
        x = text.call("PyDict_GetItem", f"ptr {shared}", text.thing(v.name))
        text.need(text.let(f"icmp ne ptr {x}, null"))
        state[v.name] = text.borrowed(x)
        if v.shape:
            _is_array(text, x, v.dtype, v.shape)
        if v.slot is not None:
            text.store(f"ptr {text.load('ptr', x, DATA)}", text.cell(table, v.slot))
        elif not v.shape:
            _is_type(text, x, v.dtype.type)
            if v.cell is not None:
                text.store(f"{_word(v.dtype)} {text.load(_word(v.dtype), x, VALUE)}", text.cell(v.cell))
    results = [_room(text, r, state, table) for r in plan.results]
    thread = text.call("PyEval_SaveThread") if plan.long else ""
    entry = ctypes.cast(plan.entry, ctypes.c_void_p).value
    status = text.call_at(entry, f"i64 {plan.frame.address}", "i64 0", "i64 1", "i64 1", result="i64")
    if plan.long:
        text.call("PyEval_RestoreThread", f"ptr {thread}", result="void")
    text.store("i64 0", text.cell(table, STATUS))
    text.equal("i64", status, 0)
    results = [x or _scalar(text, r) for x, r in zip(results, plan.results, strict=True)]
    for key, x in zip(plan.updates, results[plan.outputs :], strict=True):
        done = text.call("PyDict_SetItem", f"ptr {shared}", text.thing(key), f"ptr {x}", result="i32")
        text.equal("i32", done, 0, "failed")
    result = _together(text, plan, results[: plan.outputs])
    text.call("Py_IncRef", result, result="void")
    text.store(result, "ptr %result")
    text.lines.append("br label %end")


def _take_scalar(text: _Text, x: str, dtype: Any, cell: Array | None) -> None:
    """The value of an argument, if it is of a type that passes without a question, to a cell."""
    if dtype.name not in ("float64", "float32", "int64"):
        raise Unfit
    word = {"float64": "double", "float32": "float", "int64": "i64"}[dtype.name]

    def stored() -> str:
        return text.load(word, x, VALUE)

    def rounded(value: str) -> str:
        return value if word == "double" else text.let(f"fptrunc double {value} to {word}")

    def real() -> str:
        return rounded(text.load("double", x, VALUE))

    def whole() -> str:
        value = text.call("PyLong_AsLongLong", f"ptr {x}", result="i64")
        text.need(text.let(f"icmp eq ptr {text.call('PyErr_Occurred')}, null"), "long")
        return value if word == "i64" else rounded(text.let(f"sitofp i64 {value} to double"))

    ways: dict[Any, Callable[[], str]] = {dtype.type: stored, int: whole}
    if dtype.kind == "f":
        ways[float] = real
    kind, end = text.load("ptr", x, TYPE), text.label()
    for known, way in ways.items():
        other = text.label()
        text.need(text.let(f"icmp eq ptr {kind}, {text.bare(known)}"), other)
        value = way()
        if cell is not None:
            text.store(f"{word} {value}", text.cell(cell))
        text.lines += [f"br label %{end}", f"{other}:"]
    text.lines += ["br label %miss", f"{end}:"]


def _is_type(text: _Text, x: str, kind: type) -> None:
    text.equal("ptr", text.load("ptr", x, TYPE), text.bare(kind))


def _is_array(text: _Text, x: str, dtype: Any, shape: Sequence[int]) -> None:
    """Goes on if an object is an array of a dtype and a shape, in rows without gaps."""
    _is_type(text, x, np.ndarray)
    text.equal("ptr", text.load("ptr", x, DTYPE), text.bare(dtype))
    text.equal("i32", text.load("i32", x, RANK), len(shape))
    sizes = text.load("ptr", x, SHAPE)
    for axis, size in enumerate(shape):
        text.equal("i64", text.load("i64", sizes, 8 * axis), size)
    flags = text.load("i32", x, ARRAY_FLAGS)
    text.equal("i32", text.let(f"and i32 {flags}, {CARRAY}"), CARRAY)


def _room(text: _Text, r: Result, state: Mapping[str, str], table: Array) -> str:
    """The object of a result before the code runs: an array to be written, or an old value."""
    if r.state is not None:
        old = state[r.state]
        is_scalar = text.let(f"icmp ne ptr {text.load('ptr', old, TYPE)}, {text.bare(np.ndarray)}")
        copy = text.thing(np.array)

        def same() -> str:
            text.call("Py_IncRef", f"ptr {old}", result="void")
            return old

        def copied() -> str:
            return text.call("PyObject_CallFunctionObjArgs", copy, f"ptr {old}", "ptr null")

        return text.made(text.choose(is_scalar, same, copied))
    if r.cell is not None:
        return ""
    new = text.thing(partial(aligned, r.shape, r.dtype))

    def fresh() -> str:
        return text.call("PyObject_CallNoArgs", new)

    if math.prod(r.shape) * r.dtype.itemsize < ALIGNED:
        new = text.thing(partial(np.empty, r.shape, r.dtype))
    if r.replaced is None:
        result = text.made(fresh())
    else:
        old_array = state[r.replaced]

        def again() -> str:
            text.call("Py_IncRef", f"ptr {old_array}", result="void")
            return old_array

        own = text.let(f"icmp eq i32 {text.load('i32', old_array)}, {OWN_REFERENCES}")
        result = text.made(text.choose(own, again, fresh))
    text.store(f"ptr {text.load('ptr', result, DATA)}", text.cell(table, r.slot))
    return result


def _word(dtype: Any) -> str:
    """LLVM's type of as many bits as a number has."""
    if dtype.itemsize > 8:
        raise Unfit
    return f"i{8 * dtype.itemsize}"


def _scalar(text: _Text, r: Result) -> str:
    """A NumPy scalar of a cell."""
    word = _word(r.dtype)
    value = text.let(f"load {word}, {text.cell(r.cell)}")
    if r.dtype.kind == "b":
        true, false = (text.thing(np.bool_(x)) for x in (True, False))
        return text.borrowed(
            text.let(f"select i1 {text.let(f'icmp ne i8 {value}, 0')}, {true}, {false}"),
        )
    slot = ctypes.pythonapi.PyType_GetSlot
    slot.restype, slot.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_int]
    make = slot(r.dtype.type, _ALLOCATE)
    x = text.made(text.call_at(make, text.thing(r.dtype.type), "i64 0"))
    text.store(f"{word} {value}", f"ptr {text.let(f'getelementptr i8, ptr {x}, i64 {VALUE}')}")
    return x


def _together(text: _Text, plan: CallPlan, outputs: Sequence[str]) -> str:
    """What the caller gets: the only output, a named tuple, or None."""
    if plan.record is None:
        return f"ptr {outputs[0]}"
    if not outputs:
        return text.thing(None)
    items = text.made(text.call("PyTuple_New", f"i64 {len(outputs)}"))
    for k, x in enumerate(outputs):
        text.call("Py_IncRef", f"ptr {x}", result="void")
        done = text.call("PyTuple_SetItem", f"ptr {items}", f"i64 {k}", f"ptr {x}", result="i32")
        text.equal("i32", done, 0, "failed")
    make = text.thing(partial(tuple.__new__, plan.record))
    return f"ptr {text.made(text.call('PyObject_CallFunctionObjArgs', make, f'ptr {items}', 'ptr null'))}"
