"""Kernels on the GPU: with its memory, and its states, the layer under the CUDA backend.

What runs here runs alike on a device and in numba-cuda's simulator (`NUMBA_ENABLE_CUDASIM=1`), where
memory is NumPy's and a thread is a thread of Python. All work is done in the order in which it was asked
for, on one stream; only `synchronize` and `download` wait for it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np

from tlang.run.cuda import compiler, libcuda
from tlang.run.cuda.compiler import CompileError, Signature, to_cubin, to_ptx
from tlang.run.cuda.libcuda import DriverError
from tlang.run.cuda.memory import (
    Array,
    Context,
    Device,
    cast,
    clear,
    context,
    copy,
    device,
    download,
    empty,
    enter,
    part,
    stream,
    synchronize,
    upload,
    wrap,
    write,
)
from tlang.run.cuda.states import State, find_state, require, simulated

__all__ = [
    "State", "find_state", "require", "simulated",
    "Device", "device", "enter", "stream", "synchronize",
    "Array", "empty", "upload", "write", "download", "copy", "clear", "part", "cast", "wrap",
    "threads", "most_blocks", "kernel", "Kernel", "Launch", "Graph",
    "to_ptx", "to_cubin", "Signature", "CompileError", "DriverError",
]  # fmt: skip


def threads() -> int:
    """How many threads a block should have."""
    return 4 if simulated() else 256


def most_blocks() -> int:
    """How many blocks a grid should have at most."""
    return 3 if simulated() else 1024


class Kernel:
    """A kernel that is compiled and can be launched."""

    def __init__(self, text: str, name: str, signature: Signature) -> None:
        self.name = name
        #: The dtypes of the parameters that are arrays; None for a size.
        self.dtypes = [np.dtype(kind[:-1]) if kind.endswith("*") else None for kind in signature]
        if simulated():
            self._run = compiler.simulated(text, name)
            return
        code = compiler.cubin(text, name, signature, device().capability)
        context()
        self._module = libcuda.address_from("cuModuleLoadData", code)
        self._function = libcuda.address_from("cuModuleGetFunction", self._module, name.encode())

    def prepare(self, grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any]) -> Launch:
        """The launch with these arguments, to be done any number of times.

        `grid` and `block` are the numbers of blocks and of a block's threads, along x and y; `args` are
        integers and arrays, as the signature says.
        """
        return Launch(self, grid, block, args)

    def launch(self, grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any]) -> None:
        """Launches the kernel once."""
        Launch(self, grid, block, args)()


class Launch:
    """A kernel with its grid, block and arguments: calling it launches the kernel."""

    __slots__ = ("_args", "_call", "_places", "_words")

    def __init__(
        self, kernel: Kernel, grid: tuple[int, ...], block: tuple[int, ...], args: Sequence[Any]
    ) -> None:
        self._args = tuple(args)  # the arrays live as long as the launch
        sizes = [*grid, *[1] * (3 - len(grid)), *block, *[1] * (3 - len(block))]
        self._call: Callable[[], None]
        if 0 in sizes:
            self._call = _nothing
        elif simulated():
            self._call = self._simulate(kernel, tuple(grid), tuple(block))
        else:
            self._call = self._configure(kernel, sizes)

    def __call__(self) -> None:
        """Launches the kernel; it runs after what was asked for before."""
        self._call()

    def _simulate(self, kernel: Kernel, grid: tuple[int, ...], block: tuple[int, ...]) -> Callable[[], None]:
        _words(kernel.dtypes, self._args)  # as a device would check them
        run, args = kernel._run, [a.host if isinstance(a, Array) else int(a) for a in self._args]
        return lambda: run(grid, block, *args)

    def _configure(self, kernel: Kernel, sizes: list[int]) -> Callable[[], None]:
        """The call of the driver. Every parameter is a word of 8 bytes; the driver is told their places."""
        words = _words(kernel.dtypes, self._args)
        self._words = (ctypes.c_int64 * len(words))(*words)
        first = ctypes.addressof(self._words)
        self._places = (ctypes.c_void_p * len(words))(*range(first, first + 8 * len(words), 8))
        here, start = context(), libcuda.library().cuLaunchKernel
        fixed = (kernel._function, *sizes, 0, here.stream, self._places, None)

        def call() -> None:
            here.enter()
            if status := start(*fixed):
                raise DriverError.of(f"launch of {kernel.name}", status)

        return call


def _nothing() -> None:
    """A grid of no blocks."""


def _words(dtypes: Sequence[np.dtype[Any] | None], args: Sequence[Any]) -> list[int]:
    """The arguments as numba's kernels take them: an array is two unused words, numbers of elements and of
    bytes in each, the address, shape and stride.
    """
    words: list[int] = []
    for dtype, arg in zip(dtypes, args, strict=True):
        if dtype is None:
            words.append(int(arg))
        else:
            assert arg.dtype == dtype, f"{arg.dtype} for {dtype}"
            count, width = arg.count, dtype.itemsize
            words += (0, 0, count, width, arg.address, count, width)
    return words


@cache
def kernel(text: str, name: str, signature: Signature) -> Kernel:
    """The kernel of a module text: compiled once on a computer, loaded once in a process."""
    return Kernel(text, name, signature)


class Graph:
    """Work that was recorded, which a device does again with one call: a graph of CUDA.

    In the simulator it is done by doing again what was recorded.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        """Records launches and copies on the device; `work` may not wait, nor take or free memory."""
        self._work = work
        if simulated():
            return
        graph = _recorded(context(), work)
        self._graph = libcuda.address_from("cuGraphInstantiateWithFlags", graph, 0)
        libcuda.call("cuGraphDestroy", graph)

    def __call__(self) -> None:
        """Does the work."""
        if simulated():
            self._work()
        else:
            libcuda.call("cuGraphLaunch", self._graph, context().stream)

    def __del__(self) -> None:
        if hasattr(self, "_graph"):
            with suppress(Exception):
                libcuda.call("cuGraphExecDestroy", self._graph)


def _recorded(context: Context, work: Callable[[], None]) -> int:
    """The graph of what `work` asks of the stream, which is not done."""
    libcuda.call("cuStreamBeginCapture_v2", context.stream, libcuda.THREAD_LOCAL)
    context.late = []
    graph = ctypes.c_void_p()
    try:
        work()
    finally:
        status = libcuda.library().cuStreamEndCapture(context.stream, ctypes.byref(graph))
        late, context.late = context.late, None
        for address in late:
            context.free(address)
    if status:
        raise DriverError.of("cuStreamEndCapture", status)
    return graph.value or 0
