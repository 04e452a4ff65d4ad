"""tlang from Python: modules, functions, shared values and streams."""

from __future__ import annotations

import os
from collections import namedtuple
from collections.abc import Mapping
from typing import Any

import numpy as np

from tlang.elaborate.commands import Commands
from tlang.elaborate.scope import FunctionDef, RandomDef, SharedDef, StreamDef, UnitDef
from tlang.elaborate.values import convert_number
from tlang.errors import did_you_mean, error
from tlang.graph.node import Function
from tlang.interpret import on_host
from tlang.run import BACKENDS, rng
from tlang.run.checkpoint import state_from_array
from tlang.run.files import read_source
from tlang.run.session import Session
from tlang.run.text import format_one
from tlang.source import Source
from tlang.syntax.parse import parse, parse_expression
from tlang.types import FROM_NUMPY, DType, Tensor, can_cast_safely

#: The usual calls after which a function prepares for more calls like the last one, which takes some
#: milliseconds: ever rarer, since other sizes at every call would cost more than they save.
FAST_BUILDS = frozenset(8 << k for k in range(8))


def compile(
    text: str,
    backend: str = "auto",
    unused: str = "error",
    seed: int = 0,
    run: bool = True,
    threads: int = 1,
    check_finite: bool = False,
    device_arrays: bool = False,
) -> Module:
    """A module from program text.

    `backend` is what computes calls: "numpy", "cpu" (compiled kernels), "cuda" (kernels on a GPU, with
    the extra of that name), or "auto": NumPy at once, and kernels for the processor, which another thread
    compiles, when there is enough work for them. With `device_arrays` what functions give stays on the
    GPU: NumPy takes it as it is, and libraries of the GPU by `__cuda_array_interface__`; so do functions.
    `unused` ("error", "warn", "ignore") is the policy for unused parameters, `seed` that of the default
    stream. With `run=False` commands are checked but skipped; a shared value whose initial value needed
    one raises until it is set. `threads` is how many compiled loops and calls may use; the bits are the
    same. With `check_finite` the interpreter computes, and an operation that makes a NaN or an infinity
    of finite numbers is an error. Raises `TlangError` for a wrong program.
    """
    return _module(Source("<text>", text), backend, unused, seed, run, threads, check_finite, device_arrays)


def load(
    path: str | os.PathLike[str],
    backend: str = "auto",
    unused: str = "error",
    seed: int = 0,
    run: bool = True,
    threads: int = 1,
    check_finite: bool = False,
    device_arrays: bool = False,
) -> Module:
    """A module from a file; see `compile`."""
    name = os.fspath(path)
    return _module(read_source(name, name), backend, unused, seed, run, threads, check_finite, device_arrays)


def _module(
    source: Source,
    backend: str,
    unused: str,
    seed: int,
    run: bool,
    threads: int,
    check_finite: bool,
    device_arrays: bool,
) -> Module:
    _choice("backend", backend, BACKENDS)
    _choice("unused", unused, ("error", "warn", "ignore"))
    if threads not in range(1, 257):
        raise error("A112", name="threads", value=threads, choices="1 to 256")
    session = Session(source, seed=seed, unused=unused, backend=backend)
    session.backends.use_threads(threads)
    session.backends.device_arrays = device_arrays
    if check_finite:
        session.backends.check_finite()
    commands = session.declare(parse(source))
    for c in commands:
        if run:
            session.command(c)
        else:
            session.try_initialise(c)
    return Module(session)


def _choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise error("A112", name=name, value=value, choices=", ".join(choices))


class Module:
    """A compiled program: its functions, shared values and streams are attributes.

    `m["name"]` reaches a name of the program that the interface hides (`run`, `eval`, `repeat`).
    """

    def __init__(self, session: Session, names: Mapping[str, Any] | None = None) -> None:
        self._session = session
        self._names = names if names is not None else session.unit.scope.names
        self._handles: dict[Any, Any] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = self[name]
        if isinstance(found, FunctionHandle):
            self.__dict__[name] = found  # the next time Python finds it at once
        return found

    def __getitem__(self, name: str) -> Any:
        found = self._names.get(name)
        if found in self._handles:
            return self._handles[found]
        handle: Any = None
        match found:
            case FunctionDef():
                handle = FunctionHandle(self._session, found)
            case SharedDef():
                handle = SharedHandle(self._session, found)
            case RandomDef() | StreamDef():
                handle = StreamHandle(self._session, found)
            case UnitDef(unit=unit):
                handle = Module(self._session, unit.scope.names)
            case None if name in self._session.unit.values:
                return _copied(self._session.store.value_of(name))
            case None:
                near = did_you_mean(name, self._names)
                raise error("A110", name=name, hint=f"did you mean `{near}`?" if near else None)
            case _:
                raise error("A111", name=name, hint=f"evaluate it: m.eval({name!r})")
        self._handles[found] = handle
        return handle

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._names]

    def eval(self, text: str) -> Any:
        """The value of an expression, such as `"z given x = 1, y = 2"`; calls in it change state."""
        session = self._session
        source = Source("<eval>", text, session.unit.source.path, session.unit.source.stem)
        e = Commands(session.program).expression(parse_expression(source))
        try:
            items = session.evaluator.evaluate(e)
        finally:
            session.evaluator.forget_command()
        return _result(items, e.fields, "Record")

    def run(self, text: str) -> None:
        """Runs lines of tlang in this program: declarations and commands."""
        session = self._session
        source = Source("<run>", text, session.unit.source.path, session.unit.source.stem)
        for name in [k for k, v in self.__dict__.items() if isinstance(v, FunctionHandle)]:
            del self.__dict__[name]  # it may mean something else from here on
        session.run(session.declare(parse(source)))

    def repeat(self, count: int, function: str, *args: Any, **kwargs: Any) -> Any:
        """Calls a function `count` times with the same arguments; returns what the last call gave."""
        handle = self[function]
        if not isinstance(handle, FunctionHandle):
            raise error("A113", name=function)
        if count < 0:
            raise error("R152", count=count)
        return handle.repeat(count, args, kwargs)


class FunctionHandle:
    """A function of a program: call it with numbers, nested lists or arrays."""

    def __init__(self, session: Session, definition: FunctionDef) -> None:
        self._session = session
        self._definition = definition
        self.__name__ = definition.name
        self._fast: Any = None
        self._calls = 0

    @property
    def _function(self) -> Function:
        return self._session.program.function(self._definition)

    @property
    def signature(self) -> str:
        """Parameters and outputs with their types."""
        function = self._function
        params = []
        for p in function.params:
            default = (
                f" = {_default_text(self._session.evaluator.default(p))}" if p.default is not None else ""
            )
            params.append(f"{p.name}: {p.node.type}{default}")
        draft = self._session.program.draft(self._definition)
        kinds = [str(n.type) for n in draft.outputs]
        if function.fields is None:
            result = f" -> {kinds[0]}"
        elif function.fields:
            named = ", ".join(f"{n}: {k}" for n, k in zip(function.fields, kinds, strict=True))
            result = f" -> ({named})"
        else:
            result = ""
        return f"{function.name}({', '.join(params)}){result}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """One call; several outputs come as a named tuple. Arrays alias nothing of the program."""
        if self._fast is not None and not kwargs:
            result = self._fast(*args)
            if result is not NotImplemented:
                return result
        return self.repeat(1, args, kwargs)

    def repeat(self, count: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """`count` calls with the same arguments; returns what the last one gave, None for no call."""
        function = self._function
        taken = self._session.backends.taken
        args, kwargs = tuple(map(taken, args)), {name: taken(v) for name, v in kwargs.items()}
        values = bind_arguments(function, args, kwargs)
        results = self._session.loops.repeat(function, values, count)
        self._calls += 1
        if self._calls in FAST_BUILDS:
            self._fast = self._session.backends.fast(function, values)
        if results is None or not function.outputs:
            return None
        if not self._session.backends.device_arrays:
            results = tuple(_copied(v) if hasattr(v, "host") else v for v in results)
        if function.fields is None:
            return results[0]
        return namedtuple(function.name, function.fields, rename=True)(*results)

    def copy(
        self,
        *,
        drop_updates: bool = False,
        swap: Mapping[str, str] | None = None,
        drop: tuple[str, ...] | list[str] = (),
        hold: tuple[str, ...] | list[str] | str = (),
        given: Mapping[str, str] | None = None,
    ) -> FunctionHandle:
        """A copy, as `copy f where { ... }`: names are those of the program, givens are expressions."""
        clauses = ["drop updates"] if drop_updates else []
        clauses += [f"drop {', '.join(drop)}"] if drop else []
        clauses += [f"swap {', '.join(f'{a} = {b}' for a, b in swap.items())}"] if swap else []
        clauses += [f"given {', '.join(f'{a} = {e}' for a, e in given.items())}"] if given else []
        held = hold if isinstance(hold, str) else ", ".join(hold)
        clauses += [f"hold {held}"] if held else []
        session = self._session
        name = f"_copy{len(session.unit.scope.names)}"
        text = f"function {name} = copy {self.__name__}" + (
            f" where {{ {'; '.join(clauses)} }}" if clauses else ""
        )
        source = Source("<copy>", text, session.unit.source.path, session.unit.source.stem)
        session.declare(parse(source))
        found = session.unit.scope.names[name]
        assert isinstance(found, FunctionDef)
        return FunctionHandle(session, found)

    def __repr__(self) -> str:
        return f"<tlang function {self.signature}>"


class SharedHandle:
    """A shared value: reading and writing copy."""

    def __init__(self, session: Session, definition: SharedDef) -> None:
        self._session = session
        self._definition = definition

    @property
    def value(self) -> Any:
        """The value, as an array (or NumPy scalar) of its own."""
        return _copied(self._session.store.shared_value(self._definition.key, self._definition.span))

    @value.setter
    def value(self, value: Any) -> None:
        found = self._definition
        kind = self._session.program.shared_type(found, found.span)
        self._session.store.store_shared(found, _copied(convert_argument(value, kind, found.name)))

    def get_value(self) -> Any:
        """The value, copied (Theano's name)."""
        return self.value

    def set_value(self, value: Any) -> None:
        """Stores a value (Theano's name)."""
        self.value = value

    def __repr__(self) -> str:
        kind = self._session.program.shared_type(self._definition, self._definition.span)
        return f"<tlang shared {self._definition.name}: {kind}>"


class StreamHandle:
    """A stream or a random variable: `seed` reseeds; a variable has a `state` too."""

    def __init__(self, session: Session, definition: RandomDef | StreamDef) -> None:
        self._session = session
        self._definition = definition

    @property
    def state(self) -> rng.State:
        """The state of the variable, which can be stored and given back."""
        if isinstance(self._definition, StreamDef):
            raise error("F172", name=self._definition.name)
        return self._session.store.streams.state(self._definition.key)

    @state.setter
    def state(self, state: Any) -> None:
        if isinstance(self._definition, StreamDef):
            raise error("F172", name=self._definition.name)
        if isinstance(state, np.ndarray):  # as a file has it
            state = state_from_array(state)
        if not isinstance(state, rng.PhiloxState | rng.Mt19937State):
            raise error("F174", name=f"{self._definition.name}.state")
        self._session.store.streams.assign(self._definition.key, state, None)

    @property
    def seed(self) -> int:
        """The seed of the stream."""
        return self._session.store.streams.seed_of(self._definition)

    @seed.setter
    def seed(self, seed: int) -> None:
        self._session.store.streams.reseed(self._definition, int(seed), None)

    def __repr__(self) -> str:
        return f"<tlang stream {self._definition.name}>"


# ---------------------------------------------------------------- values


def _result(items: Any, fields: tuple[str, ...] | None, name: str) -> Any:
    if fields is None:
        return _copied(items[0])
    return namedtuple(name, fields, rename=True)(*map(_copied, items))


def _copied(value: Any) -> Any:
    """An array of its own, a NumPy scalar, or a state, which never changes."""
    if isinstance(value, tuple) and hasattr(value, "_make"):  # a record
        return value._make(map(_copied, value))
    value = on_host(value)
    return np.array(value)[()] if isinstance(value, np.ndarray | np.generic) else value


def _default_text(value: Any) -> str:
    text = format_one(value)
    return text[:-2] if text.endswith(".0") else text


def bind_arguments(function: Function, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call from Python, by name, converted to the parameters' types."""
    what, params = f"`{function.name}`", {p.name: p for p in function.params}
    names = list(params)
    shown = ", ".join(f"`{n}`" for n in names) or "none"
    if len(args) > len(names):
        raise error("F102", what=what, count=len(names), names=shown)
    given = dict(zip(names, args, strict=False))
    for name, value in kwargs.items():
        if name not in params:
            near = did_you_mean(name, names)
            raise error(
                "F103",
                what=what,
                name=name,
                hint=f"did you mean `{near}`?" if near else f"its parameters are {shown}",
            )
        if name in given:
            raise error("F104", what=what, name=name)
        given[name] = value
    missing = [f"`{n}`" for n, p in params.items() if n not in given and p.default is None]
    if missing:
        raise error("F106", what=what, names=", ".join(missing))
    return {name: convert_argument(value, params[name].node.type, name) for name, value in given.items()}


def convert_argument(value: Any, kind: Tensor, name: str) -> Any:
    """A value from Python as an array of a type's dtype and rank: the array itself where it is one.

    Numbers and nested lists are converted if every value is exactly representable (integers to
    floats always, floats round); arrays and NumPy scalars by NumPy's "safe" casting.
    """
    if isinstance(value, bool | int | float | complex):
        result = np.array(convert_number(value, kind.dtype, None), dtype=kind.dtype.numpy_name)[()]
    elif isinstance(value, list | tuple):
        result = _from_list(value, kind.dtype, name)
    else:
        if not isinstance(value, np.ndarray | np.generic) and not hasattr(value, "__array__"):
            raise error("A101", name=name, found=type(value).__name__)
        on_device = hasattr(value, "host") and value.dtype == kind.dtype.numpy_name
        array = value if on_device else np.asarray(value)
        source = FROM_NUMPY.get(array.dtype.name)
        if source is None:
            raise error("A101", name=name, found=f"an array of {array.dtype}")
        if not can_cast_safely(source, kind.dtype):
            raise error(
                "T106",
                found=source,
                wanted=kind.dtype,
                hint=f"cast `{name}` first: `.astype({kind.dtype.numpy_name!r})`",
            )
        result = array if on_device else array.astype(kind.dtype.numpy_name, copy=False)[()]
    if np.ndim(result) != kind.rank:
        shape = (
            f"{kind.dtype}[{', '.join(map(str, np.shape(result)))}]" if np.ndim(result) else str(kind.dtype)
        )
        raise error("T107", what=f"`{name}`", wanted=kind, found=shape)
    return result


def _from_list(value: list[Any] | tuple[Any, ...], dtype: DType, name: str) -> Any:
    try:
        array = np.array(value)
    except ValueError:
        raise error("A102", name=name) from None
    if array.dtype.kind in "iufc" and dtype.is_inexact and (array.dtype.kind != "c" or dtype.kind == "c"):
        return array.astype(dtype.numpy_name)
    if array.size == 0:
        return array.astype(dtype.numpy_name)
    if array.dtype.kind not in "biufO":
        raise error("A101", name=name, found=f"a list of {array.dtype}")
    if array.dtype.kind == "O" and not all(isinstance(v, int | float) for v in array.flat):
        raise error("A101", name=name, found="a list of other things than numbers")
    flat = [convert_number(v, dtype, None) for v in array.ravel().tolist()]
    return np.array(flat, dtype=dtype.numpy_name).reshape(array.shape)
