"""Object code of generated kernels: Numba compiles it, and llvmlite alone loads it again.

A module text is plain Python. It is executed in a namespace with `math`, `np`, `njit` and, for every
dtype, a function such as `float64_at(address)` that makes a pointer of an address, to be indexed from 0
without checks of bounds. Helper functions are decorated with `@njit`, or with `@apart` if they are not to be
inlined. Entries are not: they take int64
(addresses, sizes) and float64, return int64, and are called with the conventions of C.

Kernels allocate nothing and never see a Python object, so that their code needs no part of Numba when it
runs; nor do they raise exceptions.
"""

from __future__ import annotations

import contextlib
import ctypes
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from tlang.run.intrinsics import externals

#: A dtype and what lies in memory for it, by the names that Numba gives to types.
_POINTEES = {
    "bool": "uint8",
    **{name: name for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")},
    "float32": "float32",
    "float64": "float64",
}
#: The types that may pass into an entry: Numba's name, LLVM's name, ctypes' type.
_PASSED = {"int64": ("i64", ctypes.c_int64), "float64": ("double", ctypes.c_double)}
_PREFIX = "tlang_"
#: The module of generated functions, as it is called in the names that Numba gives to them.
_MODULE = "tlang_kernels"


class ObjectError(Exception):
    """A text that does not compile, or object code that cannot be loaded."""


@dataclass(frozen=True)
class ObjectCode:
    """A relocatable object file, and the entries in it: names with Numba signatures.

    The symbol of an entry is its name with `tlang_` before it.
    """

    signatures: Mapping[str, str]
    code: bytes


def compile_text(text: str, signatures: Mapping[str, str], fastmath: Collection[str] = ()) -> ObjectCode:
    """Compiles entries of a module text, with Numba, to one object file for this computer.

    `signatures` maps the entries to texts such as `"int64(int64, float64)"`; `fastmath` are LLVM's flags,
    such as `"contract"`, for entries and helpers. Raises :class:`ObjectError` with Numba's reason.
    """
    passed = {name: _passed(signature) for name, signature in signatures.items()}
    try:
        return ObjectCode(dict(signatures), _compile(text, passed, frozenset(fastmath)))
    except Exception as e:  # whatever Numba raises for a text that it cannot compile
        raise ObjectError(f"cannot compile: {type(e).__name__}: {e}") from e


def load_object(code: ObjectCode, symbols: Mapping[str, int] | None = None) -> dict[str, Callable[..., int]]:
    """Loads object code into the process: its entries by name, as functions of ctypes.

    `symbols` gives the addresses of external functions that this process does not export. Numba is not
    imported. Raises :class:`ObjectError` if a symbol is missing or the object is not one of this computer.
    """
    import llvmlite.binding as llvm

    types = {name: _passed(signature) for name, signature in code.signatures.items()}
    linked = llvm.JITLibraryBuilder().add_object_img(code.code).add_current_process()
    for name in types:
        linked.export_symbol(_PREFIX + name)
    for name, address in (symbols or {}).items():
        linked.import_symbol(name, address)
    with _LOCK:
        try:
            library = linked.link(_engine(), f"tlang{len(_LOADED)}")
        except RuntimeError as e:
            raise ObjectError(f"cannot load: {e}") from e
        finally:
            _LOADED.append(None)  # a name serves once, whether linking succeeds or not
        _LOADED[-1] = library
    return {name: _convention(given)(library[_PREFIX + name]) for name, given in types.items()}


def assemble(text: str, symbol: str) -> int:
    """The address of a function that is written in the text of LLVM, once it is in the process.

    Raises :class:`ObjectError` for a text that is wrong.
    """
    import llvmlite.binding as llvm

    _start()
    try:
        code = host_machine().emit_object(llvm.parse_assembly(text))
        linked = llvm.JITLibraryBuilder().add_object_img(code)
        linked.export_symbol(symbol)
        with _LOCK:
            library = linked.link(_engine(), f"tlang{len(_LOADED)}")
            _LOADED.append(library)
    except RuntimeError as e:
        raise ObjectError(f"cannot assemble: {e}") from e
    address: int = library[symbol]
    return address


#: What has been loaded: it stays to the end of the process, since functions are called by address.
_LOADED: list[Any] = []
_LOCK = threading.Lock()


def _passed(signature: str) -> list[str]:
    """The types of the parameters of an entry."""
    found = re.fullmatch(r"int64\((.*)\)", signature.replace(" ", ""))
    given = found[1].split(",") if found and found[1] else []
    if found is None or not set(given) <= _PASSED.keys():
        raise ObjectError(f"not the signature of an entry: {signature}")
    return given


def _convention(given: list[str]) -> Any:
    parameters: Any = [_PASSED[t][1] for t in given]
    return ctypes.CFUNCTYPE(ctypes.c_int64, *parameters)


@cache
def _engine() -> Any:
    """The linker of this process. Unlike LLVM's older one, it survives symbols that are missing."""
    import llvmlite.binding as llvm

    _start()
    return llvm.create_lljit_compiler(suppress_errors=True)


@cache
def _start() -> None:
    import llvmlite.binding as llvm

    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()


# ---------------------------------------------------------------- compiling


def _compile(text: str, passed: Mapping[str, list[str]], fastmath: frozenset[str]) -> bytes:
    module, machine = optimised(text, passed, fastmath)
    code: bytes = machine.emit_object(module)
    return code


def optimised(text: str, passed: Mapping[str, list[str]], fastmath: frozenset[str]) -> tuple[Any, Any]:
    """LLVM's module of a text, optimised, and the machine that makes object code or assembly of it."""
    import llvmlite.binding as llvm
    from numba.core import types
    from numba.core.compiler import compile_extra
    from numba.core.compiler_lock import global_compiler_lock
    from numba.core.registry import cpu_target

    compile_numba: Any = compile_extra
    _start()
    namespace = _namespace(fastmath)
    exec(compile(text, "<kernels>", "exec"), namespace)
    apart = re.findall(r"^@apart\ndef (\w+)", text, re.MULTILINE)
    with global_compiler_lock, _without_engine(apart):
        library = cpu_target.target_context.codegen().create_library("tlang")
        shims = []
        for name, given in passed.items():
            made = compile_numba(
                cpu_target.typing_context,
                cpu_target.target_context,
                namespace[name],
                tuple(getattr(types, t) for t in given),
                types.int64,
                _flags(_options(fastmath)),
                {},
                library=library,
                pipeline_class=_pipeline(),
            )
            shims.append(_shim(name, given, made.fndesc.llvm_func_name))
        for shim in shims:
            library._final_module.link_in(llvm.parse_assembly(shim))
        module = library.whole()
    return module, host_machine()


def host_machine() -> Any:
    """LLVM's description of this computer, for code that may lie anywhere."""
    import llvmlite.binding as llvm

    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        opt=3,
        reloc="pic",
        codemodel="default",
    )


@contextlib.contextmanager
def _without_engine(apart: Collection[str]) -> Iterator[None]:
    """Keeps what Numba compiles away from its own linker, which takes time and aborts on missing symbols.

    The functions `apart` are not inlined: what calls them would be large, and larger functions take longer.
    """
    from numba.core import types
    from numba.core.registry import cpu_target

    kinds: Any = types
    context: Any = cpu_target.target_context
    codegen: Any = context.codegen()
    usual = codegen._library_class
    kept = {f"{_MODULE}{len(name)}{name}" for name in apart}

    class Library(usual):  # type: ignore[misc, valid-type]
        """Code that serves to be linked into other code: what all of it is made of is optimised once."""

        def finalize(self) -> None:
            self._finalized = True

        def add_ir_module(self, ir_module: Any) -> None:
            for function in ir_module.functions:
                if not function.is_declaration and any(map(function.name.__contains__, kept)):
                    function.attributes.add("noinline")
            super().add_ir_module(ir_module)

        def _get_module_for_linking(self) -> Any:
            """For code that Numba compiles for others later: with all that it calls."""
            for library in list(self._linking_libraries):
                self._final_module.link_in(library._get_module_for_linking(), preserve=True)
            self._linking_libraries: list[Any] = []
            return super()._get_module_for_linking()

        def whole(self) -> Any:
            """The optimised module of this code and of all that it calls, with our entries for symbols."""
            todo, seen = [self], {self}
            while todo:
                library = todo.pop()
                if library is not self:
                    # Numba's compiler keeps the original for other callers.
                    self._final_module.link_in(library._final_module, preserve=True)
                for other in library._linking_libraries:
                    if other not in seen:
                        seen.add(other)
                        todo.append(other)
            for function in self._final_module.functions:
                if not function.is_declaration and not function.name.startswith(_PREFIX):
                    function.linkage = "internal"
            self._optimize_final_module()
            self._final_module.verify()
            return self._final_module

        def _optimize_functions(self, ll_module: Any) -> None:
            ll_module.data_layout = self._codegen._data_layout

        def _optimize_final_module(self) -> None:
            manager, builder = self._codegen._module_pass_manager()
            manager.run(self._final_module, builder)

    codegen._library_class = Library
    # Numba's own helpers (`max` is one) would ask for their address; to be linked, a mark is enough.
    context.get_executable = lambda library, fndesc, env: _mark(fndesc, env, library)
    typing: Any = cpu_target.typing_context
    usually = typing.resolve_function_type
    known: dict[Any, Any] = {}

    def resolve(function: Any, arguments: Any, keywords: Any) -> Any:
        """The signature of a call: the same for the same types, which Numba would look for each time."""
        if isinstance(function, kinds.Dispatcher):
            arguments = [kinds.unliteral(a) for a in arguments]
        key = function, tuple(arguments), tuple(dict(keywords).items())
        if key not in known:
            known[key] = usually(function, arguments, keywords)
        return known[key]

    typing.resolve_function_type = resolve
    typing.refresh()
    context.refresh()
    try:
        yield
    finally:
        del typing.resolve_function_type, context.get_executable
        codegen._library_class = usual


def _nothing() -> None:
    pass


def _mark(fndesc: Any, env: Any, library: Any) -> Any:
    """A function object by which Numba finds what it has compiled. It is never called from Python."""
    from importlib import import_module

    address = ctypes.cast(ctypes.pythonapi.Py_GetVersion, ctypes.c_void_p).value
    make: Any = import_module("numba._dynfunc").make_function
    return make(fndesc.lookup_module(), fndesc.qualname.split(".")[-1], "", address, env, (library,))


def _shim(name: str, given: list[str], symbol: str) -> str:
    """Turns Numba's convention, a status and two places to write to, into that of C."""
    kinds = [_PASSED[t][0] for t in given]
    inner = "".join(f", {kind}" for kind in kinds)
    arguments = "".join(f", {kind} %a{k}" for k, kind in enumerate(kinds))
    return f"""
        declare i32 @"{symbol}"(ptr, ptr{inner})
        define i64 @"{_PREFIX}{name}"({arguments[2:]}) {{
            %result = alloca i64
            %exception = alloca ptr
            store i64 0, ptr %result
            %status = call i32 @"{symbol}"(ptr %result, ptr %exception{arguments})
            %value = load i64, ptr %result
            ret i64 %value
        }}
    """


def _options(fastmath: frozenset[str]) -> dict[str, Any]:
    return {
        "error_model": "numpy",
        "fastmath": set(fastmath),
        "nopython": True,
        "no_cpython_wrapper": True,
        "no_cfunc_wrapper": True,
        "_nrt": False,
    }


def _flags(options: dict[str, Any]) -> Any:
    """The flags of an entry: Numba optimises its code, and machine code is made once for all entries."""
    from numba.core.compiler import Flags
    from numba.core.registry import cpu_target

    target: Any = cpu_target
    kind: Any = Flags
    flags = kind()
    target.options.parse_as_flags(flags, options)
    return _skip_machine_code(flags)


@cache
def _pipeline() -> Any:
    """Numba's passes, less those for what generated text has not: closures, literals, `with`, objects.

    They take half of the time. Variables are not renamed for each assignment (SSA), which LLVM does well.
    """
    from numba.core import compiler_machinery, typed_passes, untyped_passes
    from numba.core.compiler import CompilerBase

    machinery: Any = compiler_machinery
    base: Any = CompilerBase

    class Pipeline(base):  # type: ignore[misc]
        """The passes that kernels need."""

        def __init__(self, typing: Any, target: Any, *rest: Any) -> None:
            typing.refresh = target.refresh = _nothing  # it takes as long as a small function
            try:
                super().__init__(typing, target, *rest)
            finally:
                del typing.refresh, target.refresh
            self.state.targetctx.__dict__.pop("refresh", None)  # a copy

        def define_pipelines(self) -> list[Any]:
            passes = machinery.PassManager("kernels")
            for module, names in (
                (untyped_passes, ("TranslateByteCode", "FixupArgs", "IRProcessing")),
                (typed_passes, ("NopythonTypeInference", "NativeLowering", "NoPythonBackend")),
            ):
                for name in names:
                    passes.add_pass(getattr(module, name), name)
            passes.finalize()
            return [passes]

    return Pipeline


def _remember(helper: Any, made: Any) -> None:
    """Makes a compiled helper known to its callers by a mark, since there is no machine code to do so."""
    from numba.core.registry import cpu_target

    target: Any = cpu_target
    mark = object()
    target.target_context.insert_user_function(mark, made.fndesc, [made.library])
    helper.overloads[tuple(made.signature.args)] = made._replace(entry_point=mark)


def _skip_machine_code(flags: Any) -> Any:
    flags.no_compile = True
    return flags


def _namespace(fastmath: frozenset[str]) -> dict[str, Any]:
    """The names that a module text finds."""
    import math

    import numba
    import numpy as np

    def njit(function: Callable[..., Any] | None = None, **options: Any) -> Any:
        options = _options(fastmath) | options
        options.pop("nopython")
        options["pipeline_class"] = _pipeline()
        if function is None:
            return lambda f: njit(f, **options)
        helper: Any = numba.njit(**options)(function)
        # The machine code of a helper alone would be thrown away, and half of the time with it.
        helper._compiler._customize_flags = _skip_machine_code
        helper.add_overload = lambda made: _remember(helper, made)
        return helper

    return {
        "__name__": _MODULE,
        "math": math,
        "np": np,
        "njit": njit,
        "apart": njit,
        **_pointers(),
        **_real_functions(),
        **externals(),
    }


@cache
def _pointers() -> dict[str, Any]:
    return {f"{dtype}_at": _pointer(pointee) for dtype, pointee in _POINTEES.items()}


def _pointer(pointee: str) -> Any:
    """The function that makes a pointer of an address."""
    from numba.core import types
    from numba.core.extending import intrinsic

    numba_types: Any = types
    kind = numba_types.CPointer(getattr(types, pointee))

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(kind))

    def at(typing_context: Any, address: Any) -> Any:
        return kind(numba_types.int64), generate

    return intrinsic(at)


@cache
def _real_functions() -> dict[str, Any]:
    """The pieces of elementary functions: what Python has no operator for, one or a few instructions each.

    All take float64 or float32. Where one argument is float32 the others are converted to it, so that a plain
    literal serves both. None of them branches or calls, so that loops over them become vector code; `fma` and
    `polynomial` are calls of the C library on a computer that has no such instruction.

    `maximum` and `minimum` are NaN if either is.
    `fma(x, y, z)` is `x * y + z`, rounded once; `polynomial(x, c)` is `c[0] + c[1] * x + ...` in Horner's way
    with it. `select(c, x, y)` is `x if c else y` without a branch. `copysign` is that of `math`.

    The others know how a number lies in memory. `n` stands for an integer added to `SHIFT`, 1.5 * 2**52 or
    1.5 * 2**23, which rounds the sum to an integer and leaves it in its lowest bits. `power(n, d)` is
    `2.0**(n + d)`, and is right where that is a normal number; `negated(x, n)` is `-x` for odd `n`.
    `split(x)` is `(m, k)`, with x = m * 2**k and m of [sqrt(1/2), sqrt(2)), for normal x > 0.
    """
    from llvmlite import ir
    from numba.core import types
    from numba.core.extending import intrinsic

    kinds: Any = types
    wide = (ir.DoubleType(), ir.IntType(64), 52, 1023, 0x3FE6A09E667F3BCD, 1.5 * 2**52)
    narrow = (ir.FloatType(), ir.IntType(32), 23, 127, 0x3F3504F3, 1.5 * 2**23)

    def real(given: Any) -> Any:
        flat = [t.dtype if isinstance(t, kinds.UniTuple) else t for t in given]
        return kinds.float32 if kinds.float32 in flat else kinds.float64

    def made(body: Callable[..., Any], arity: int, *, first: Any = None, result: int = 1) -> Any:
        """An intrinsic: `body(builder, layout, *arguments)`; the first argument may have its own type."""

        def typed(given: tuple[Any, ...]) -> Any:
            kind = real(given)
            rest = [kinds.UniTuple(kind, t.count) if isinstance(t, kinds.UniTuple) else kind for t in given]
            if first is not None:
                rest[0] = first

            def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
                layout = narrow if kind == kinds.float32 else wide
                value = body(builder, layout, *arguments)
                return context.make_tuple(builder, signature.return_type, value) if result > 1 else value

            return (kinds.UniTuple(kind, result) if result > 1 else kind)(*rest), generate

        forms: dict[int, Any] = {
            1: lambda typing_context, x: typed((x,)),
            2: lambda typing_context, x, y: typed((x, y)),
            3: lambda typing_context, x, y, z: typed((x, y, z)),
        }
        return intrinsic(forms[arity])

    def polynomial(builder: Any, layout: Any, x: Any, coefficients: Any) -> Any:
        count = coefficients.type.count
        value, *rest = [builder.extract_value(coefficients, k) for k in reversed(range(count))]
        for c in rest:
            value = builder.fma(x, value, c)
        return value

    def copysign(builder: Any, layout: Any, x: Any, y: Any) -> Any:
        kind = ir.FunctionType(x.type, [x.type, x.type])
        return builder.call(builder.module.declare_intrinsic("llvm.copysign", [x.type], kind), [x, y])

    def extreme(which: str) -> Callable[..., Any]:
        def body(builder: Any, layout: Any, x: Any, y: Any) -> Any:
            kind = ir.FunctionType(x.type, [x.type, x.type])
            return builder.call(builder.module.declare_intrinsic(f"llvm.{which}", [x.type], kind), [x, y])

        return body

    def power(builder: Any, layout: Any, n: Any, d: Any) -> Any:
        real, word, digits, bias, _, _ = layout
        d = builder.add(builder.fptosi(d, word), word(bias))
        return builder.bitcast(builder.shl(builder.add(builder.bitcast(n, word), d), word(digits)), real)

    def negated(builder: Any, layout: Any, x: Any, n: Any) -> Any:
        real, word, *_ = layout
        sign = builder.shl(builder.bitcast(n, word), word(word.width - 1))
        return builder.bitcast(builder.xor(builder.bitcast(x, word), sign), real)

    def split(builder: Any, layout: Any, x: Any) -> Any:
        real, word, digits, _, half, shift = layout
        bits = builder.bitcast(x, word)
        k = builder.ashr(builder.sub(bits, word(half)), word(digits))
        m = builder.bitcast(builder.sub(bits, builder.shl(k, word(digits))), real)
        n = builder.bitcast(builder.add(k, builder.bitcast(real(shift), word)), real)
        return m, builder.fsub(n, real(shift))

    return {
        "fma": made(lambda builder, layout, x, y, z: builder.fma(x, y, z), 3),
        "polynomial": made(polynomial, 2),
        "select": made(lambda builder, layout, c, x, y: builder.select(c, x, y), 3, first=kinds.boolean),
        "copysign": made(copysign, 2),
        "maximum": made(extreme("maximum"), 2),
        "minimum": made(extreme("minimum"), 2),
        "power": made(power, 2),
        "negated": made(negated, 2),
        "split": made(split, 1, result=2),
    }
