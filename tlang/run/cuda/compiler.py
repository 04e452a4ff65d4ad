"""Kernels from text to code for the GPU, by numba-cuda and NVIDIA's linker; and numba-cuda's simulator.

This is the only module that imports numba-cuda. A text begins with the imports of `math`, `numpy` and
`numba.cuda` and defines one function. None of it needs a driver or a device: code for any GPU is made
anywhere.
"""

from __future__ import annotations

import hashlib
import json
import linecache
import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any, TypeAlias

from tlang import __version__
from tlang.errors import StateError, error
from tlang.run.cache import Cache
from tlang.run.cuda import simulator
from tlang.run.objects import ObjectCode

#: The parameters of a kernel: `"int64"` for a size, `"float32*"` for an array.
Signature: TypeAlias = tuple[str, ...]
#: The version of a GPU's instructions, such as (9, 0).
Capability: TypeAlias = tuple[int, int]

#: To be raised when the code that is made of a text changes.
_FORMAT = 1
_LIBRARIES = ("nvvm", "nvrtc", "nvJitLink")


class CompileError(StateError):
    """A text that does not compile, R177."""

    @classmethod
    def of(cls, what: str) -> CompileError:
        """The error with a reason."""
        return cls(*error("R177", what=what).diagnostics)


def installed() -> bool:
    """Whether numba-cuda is: numba alone is not enough."""
    return find_spec("numba_cuda") is not None


def missing_libraries() -> list[str]:
    """Which of NVIDIA's libraries cannot be found: the compiler and the linker."""
    try:
        from cuda.bindings import nvjitlink  # noqa: F401
        from cuda.pathfinder import load_nvidia_dynamic_lib
    except ImportError:
        return list(_LIBRARIES)
    missing = []
    for name in _LIBRARIES:
        try:
            load_nvidia_dynamic_lib(name)
        except (OSError, RuntimeError):
            missing.append(name)
    return missing


@cache
def toolkit() -> tuple[int, int]:
    """The version of CUDA that kernels are linked by: a driver must be of that major version at least."""
    from cuda.bindings import nvjitlink

    major, minor = nvjitlink.version()
    return int(major), int(minor)


def to_ptx(text: str, name: str, signature: Signature, cc: Capability = (9, 0)) -> str:
    """The kernel in the portable assembly of NVIDIA; its entry is `name`.

    Raises :class:`CompileError` if the text does not compile.
    """
    from numba import cuda, types

    function = load(text)[name]
    try:
        with _plain_indices():
            ptx, _ = cuda.compile_ptx(function, types.void(*map(_numba_type, signature)), cc=cc)
    except Exception as e:  # numba lets errors of any kind through
        raise CompileError.of(f"cannot compile {name}: {e}") from e
    found = re.search(r"\.visible \.entry (\w+)\(", ptx)
    assert found, "PTX without an entry"
    return str(ptx).replace(found[1], name)


@contextmanager
def _plain_indices() -> Iterator[None]:
    """Without numba's question, at every access, whether an index counts from the end: none does.

    Others may compile too: they wait for numba's lock.
    """
    from numba.cuda.core.compiler_lock import global_compiler_lock
    from numba.cuda.np import arrayobj

    def plain(context: Any, builder: Any, kind: Any, index: Any, size: Any) -> Any:
        from numba import types

        return context.cast(builder, index, kind, types.intp)

    with global_compiler_lock:
        usual, arrayobj.fix_integer_index = arrayobj.fix_integer_index, plain
        try:
            yield
        finally:
            arrayobj.fix_integer_index = usual


def to_cubin(text: str, name: str, signature: Signature, cc: Capability = (9, 0)) -> tuple[bytes, str]:
    """The kernel as code for one version of GPUs, and what the linker says of its registers and memory.

    Raises :class:`CompileError` if the text does not compile or link.
    """
    return linked(to_ptx(text, name, signature, cc), name, cc)


def linked(ptx: str, name: str, cc: Capability) -> tuple[bytes, str]:
    """The code of portable assembly, and what the linker says. Raises :class:`CompileError`."""
    from cuda.bindings import nvjitlink

    given = ptx.encode()
    options = [f"-arch=sm_{cc[0]}{cc[1]}", "-verbose"]
    try:
        linker = nvjitlink.create(len(options), options)
    except nvjitlink.nvJitLinkError as e:
        raise CompileError.of(f"cannot link {name} for {options[0]}: {e}") from e
    try:
        nvjitlink.add_data(linker, nvjitlink.InputType.PTX, given, len(given), name)
        nvjitlink.complete(linker)
        code = bytearray(nvjitlink.get_linked_cubin_size(linker))
        nvjitlink.get_linked_cubin(linker, code)
        log = bytearray(nvjitlink.get_info_log_size(linker))
        nvjitlink.get_info_log(linker, log)
    except nvjitlink.nvJitLinkError as e:
        log = bytearray(nvjitlink.get_error_log_size(linker))
        nvjitlink.get_error_log(linker, log)
        raise CompileError.of(f"cannot link {name}: {e}: {_decoded(log)}") from e
    finally:
        nvjitlink.destroy(linker)
    return bytes(code), _decoded(log)


def _decoded(log: bytearray) -> str:
    return log.decode(errors="replace").strip("\0").strip()


def cubin(text: str, name: str, signature: Signature, cc: Capability) -> bytes:
    """The kernel as code for one version of GPUs, from the cache of compiled kernels or newly made."""
    kept, place = Cache(), _key(text, name, signature, cc)
    if (found := kept.get(place)) is None:
        found = ObjectCode({name: ", ".join(signature)}, to_cubin(text, name, signature, cc)[0])
        kept.put(place, found)
    return found.code


def _key(text: str, name: str, signature: Signature, cc: Capability) -> str:
    made_from = ["cuda", text, name, signature, cc, _circumstances()]
    return hashlib.sha256(json.dumps(made_from).encode()).hexdigest()


@cache
def _circumstances() -> list[object]:
    versions: list[str | None] = []
    for package in ("numba-cuda", "numba", "nvidia-nvvm"):
        try:
            versions.append(version(package))
        except PackageNotFoundError:
            versions.append(None)
    return [_FORMAT, __version__, versions, toolkit()]


def load(text: str) -> dict[str, Any]:
    """The names that a module text defines. Python and numba find its lines under a name of its own."""
    file = f"<tlang {hashlib.sha256(text.encode()).hexdigest()[:16]}>"
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)
    space: dict[str, Any] = {"__name__": "tlang_kernel"}
    exec(compile(text, file, "exec"), space)
    return space


#: In the simulator a thread is a thread of Python, and NumPy's warnings are set for each.
_QUIET = """

def quiet(*args):
    with np.errstate(all="ignore"):
        {name}(*args)
"""


class _Elements:
    """An array as a kernel in the simulator sees it: a negative index fails, which a device would take."""

    __slots__ = ("_array",)

    def __init__(self, array: Any) -> None:
        self._array = array

    def __getitem__(self, index: int) -> Any:
        if index < 0:
            raise IndexError(f"index {index} is negative")
        return self._array[index]

    def __setitem__(self, index: int, value: Any) -> None:
        if index < 0:
            raise IndexError(f"index {index} is negative")
        self._array[index] = value


def simulated(text: str, name: str) -> Callable[..., None]:
    """The kernel in numba-cuda's simulator: called with grid and block, then NumPy's arrays and sizes."""
    import numpy as np
    from numba import cuda
    from numba.cuda.simulator import kernelapi

    kernelapi.FakeCUDAShared.array = _shared_array
    kernelapi.FakeCUDAModule.cbrt = _cbrt  # its own has no root of a negative number
    space = load(text + _QUIET.format(name=name))
    space["math"] = simulator.MATH
    sys.setswitchinterval(1e-4)  # threads that wait for each other change places often
    run = cuda.jit(space["quiet"])

    def launch(grid: tuple[int, ...], block: tuple[int, ...], *args: Any) -> None:
        run[grid, block](*(_Elements(a) if isinstance(a, np.ndarray) else a for a in args))

    return launch


def _cbrt(self: Any, x: Any) -> Any:
    import numpy as np

    return np.cbrt(x)


_SHARED = threading.Lock()


def _shared_array(self: Any, shape: int, dtype: Any) -> Any:
    """The simulator's shared array of a line, for numba-cuda's own: there two threads may get two arrays."""
    import numpy as np

    caller = sys._getframe(1)
    place = caller.f_code.co_filename, caller.f_lineno
    with _SHARED:
        if place not in self._allocations:
            self._allocations[place] = _Elements(np.empty(shape, dtype))
        return self._allocations[place]


def _numba_type(kind: str) -> Any:
    from numba import types

    name = kind.removesuffix("*")
    scalar = types.boolean if name == "bool" else getattr(types, name)
    return types.Array(scalar, 1, "C") if kind.endswith("*") else scalar
