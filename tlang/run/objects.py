"""Object code of generated kernels: made by LLVM of their lowered text, and loaded into the process.

A module text is plain Python of the kind that :mod:`tlang.emit.llvm` describes. Entries take int64
(addresses, sizes) and float64, return int64, and are called with the conventions of C. Kernels allocate
nothing, never see a Python object and raise no exceptions.
"""

from __future__ import annotations

import ctypes
import platform
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

from tlang.emit.kinds import LowerError
from tlang.emit.llvm import PREFIX, lowered, parameters

_CTYPES: dict[str, Any] = {"int64": ctypes.c_int64, "float64": ctypes.c_double}
#: LLVM's level of optimisation: the third takes half as long again, and no kernel is faster for it.
_LEVEL = 2


class ObjectError(Exception):
    """A text that does not compile, or object code that cannot be loaded."""


@dataclass(frozen=True)
class ObjectCode:
    """A relocatable object file, and the entries in it: names with the texts of their signatures.

    The symbol of an entry is its name with `tlang_` before it.
    """

    signatures: Mapping[str, str]
    code: bytes


def compile_text(text: str, signatures: Mapping[str, str], fastmath: Collection[str] = ()) -> ObjectCode:
    """Compiles entries of a module text to one object file for this computer.

    `signatures` maps the entries to texts such as `"int64(int64, float64)"`; `fastmath` are LLVM's flags,
    such as `"contract"`, for entries and helpers. Raises :class:`ObjectError` with the reason.
    """
    try:
        module, machine = optimised(text, signatures, fastmath)
        with _quickly():
            return ObjectCode(dict(signatures), machine.emit_object(module))
    except (LowerError, SyntaxError, RuntimeError) as e:
        raise ObjectError(f"cannot compile: {e}") from e


@contextmanager
def _quickly() -> Iterator[None]:
    """Without the reduction of strength in loops: it takes half of the time, and kernels gain nothing.

    The option is one of the process, in which others may use LLVM too.
    """
    import llvmlite.binding as llvm

    with _LOCK:
        llvm.set_option("tlang", "-disable-lsr=true")
        try:
            yield
        finally:
            llvm.set_option("tlang", "-disable-lsr=false")


def optimised(text: str, signatures: Mapping[str, str], fastmath: Collection[str] = ()) -> tuple[Any, Any]:
    """LLVM's module of a text, optimised, and the machine that makes object code or assembly of it."""
    import llvmlite.binding as llvm

    _start()
    machine = host_machine()
    module = llvm.parse_assembly(lowered(text, signatures, fastmath) + _computer())
    module.triple, module.data_layout = llvm.get_process_triple(), str(machine.target_data)
    module.verify()
    options = llvm.create_pipeline_tuning_options(_LEVEL)
    options.loop_vectorization, options.slp_vectorization = True, False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    return module, machine


@cache
def _computer() -> str:
    """What texts need of this computer: a rest while a thread waits, and a steady clock."""
    x86 = platform.machine() in ("x86_64", "AMD64")
    return f"""
define internal void @tlang_pause() alwaysinline {{
  {"call void @llvm.x86.sse2.pause()" if x86 else ""}
  ret void
}}
{"declare void @llvm.x86.sse2.pause()" if x86 else ""}
define internal void @tlang_clock(i64 %place) {{
  %result = call i32 @clock_gettime(i32 {time.CLOCK_MONOTONIC}, i64 %place)
  ret void
}}
declare i32 @clock_gettime(i32, i64)
"""


def load_object(code: ObjectCode, symbols: Mapping[str, int] | None = None) -> dict[str, Callable[..., int]]:
    """Loads object code into the process: its entries by name, as functions of ctypes.

    `symbols` gives the addresses of external functions that this process does not export. Raises
    :class:`ObjectError` if a symbol is missing or the object is not one of this computer.
    """
    import llvmlite.binding as llvm

    types = {name: parameters(signature) for name, signature in code.signatures.items()}
    linked = llvm.JITLibraryBuilder().add_object_img(code.code).add_current_process()
    for name in types:
        linked.export_symbol(PREFIX + name)
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
    return {name: _convention(given)(library[PREFIX + name]) for name, given in types.items()}


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


def _convention(given: list[str]) -> Any:
    return ctypes.CFUNCTYPE(ctypes.c_int64, *[_CTYPES[t] for t in given])


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


#: Processors that lower their clock for vectors of 512 bits.
_LOWER_CLOCK = ("skylake-avx512", "cascadelake", "cooperlake")


def host_machine() -> Any:
    """LLVM's description of this computer, for code that may lie anywhere.

    Vectors are as wide as registers: LLVM itself takes half of them on all of Intel's servers.
    """
    import llvmlite.binding as llvm

    features = llvm.get_host_cpu_features()
    wide = features.get("avx512f") and llvm.get_host_cpu_name() not in _LOWER_CLOCK
    return llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine(
        cpu=llvm.get_host_cpu_name(),
        features=features.flatten() + (",-prefer-256-bit" if wide else ""),
        opt=3,
        reloc="pic",
        codemodel="default",
    )
