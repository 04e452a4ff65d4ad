"""The GPU: whether there is one that can be used, its memory, and kernels on it.

What runs here runs alike on a device and in numba-cuda's simulator (`NUMBA_ENABLE_CUDASIM=1`), where
memory is NumPy's and a thread is a thread of Python. All work is done in the order in which it was asked
for, on one stream; only `synchronize` and `download` wait for it.
"""

from __future__ import annotations

import ctypes
import math
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any

import numpy as np

from tlang.errors import TlangError, error
from tlang.run import cudacompile, cudadriver
from tlang.run.cudacompile import Signature, to_cubin, to_ptx
from tlang.run.cudadriver import DriverError

__all__ = ["Array", "Device", "DriverError", "Graph", "Kernel", "Launch", "State", "to_cubin", "to_ptx"]

#: Bytes of page-locked memory through which arrays are copied to the device, in each of two parts.
_STAGE = 8 * 2**20
#: An event that says only that it was reached.
_NO_TIMING = 2
#: The oldest version of GPUs that CUDA 13 makes code for.
_OLDEST = (7, 5)


class State(Enum):
    """Whether kernels can run, and if not, the first thing that is missing; a value is a code of messages."""

    READY = ""
    SIMULATED = "simulated"
    NO_DRIVER = "R171"
    NO_DEVICE = "R172"
    NO_EXTRA = "R173"
    NO_LIBRARIES = "R174"
    OLD_DRIVER = "R175"


@cache
def find_state() -> tuple[State, str]:
    """The state of this computer, and details of it, such as versions."""
    if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1":
        if cudacompile.installed():
            return State.SIMULATED, "NUMBA_ENABLE_CUDASIM is 1: kernels run as Python"
        return State.NO_EXTRA, "NUMBA_ENABLE_CUDASIM is 1, and numba-cuda is not installed"
    if cudadriver.library() is None:
        return State.NO_DRIVER, "libcuda is not found"
    try:
        cudadriver.call("cuInit", 0)
        count, driver = cudadriver.number_from("cuDeviceGetCount"), cudadriver.version()
    except DriverError as e:
        no_device = e.status == cudadriver.NO_DEVICE
        return (State.NO_DEVICE, "the driver sees no GPU") if no_device else (State.NO_DRIVER, str(e))
    shown = f"driver of CUDA {driver[0]}.{driver[1]}"
    if count == 0:
        return State.NO_DEVICE, f"{shown} sees no GPU"
    if not cudacompile.installed():
        return State.NO_EXTRA, f"{shown}, numba-cuda is not installed"
    if missing := cudacompile.missing_libraries():
        return State.NO_LIBRARIES, f"{shown}, {', '.join(missing)} not found"
    libraries = cudacompile.toolkit()
    shown += f", libraries of CUDA {libraries[0]}.{libraries[1]}"
    if driver[0] < libraries[0]:
        return State.OLD_DRIVER, shown
    has = tuple(cudadriver.attribute(0, which) for which in (cudadriver.MAJOR, cudadriver.MINOR))
    if libraries[0] >= 13 and has < _OLDEST:
        return State.NO_DEVICE, f"{shown}, which need a GPU of version 7.5; this one has {has[0]}.{has[1]}"
    return State.READY, shown


def require() -> None:
    """Does nothing if kernels can run here; else raises the error that says what is missing."""
    state, found = find_state()
    if state is State.NO_DRIVER:
        raise error("R171", found=found)
    if state is State.NO_DEVICE:
        raise error("R172", found=found)
    if state is State.NO_EXTRA:
        raise error("R173", found=found)
    if state is State.NO_LIBRARIES:
        raise error("R174", found=found)
    if state is State.OLD_DRIVER:
        raise error("R175", found=found)


@cache
def simulated() -> bool:
    """Whether kernels run in the simulator. Raises the error of :func:`require` if they do not run at all."""
    require()
    return find_state()[0] is State.SIMULATED


def threads() -> int:
    """How many threads a block should have."""
    return 8 if simulated() else 256


def most_blocks() -> int:
    """How many blocks a grid should have at most."""
    return 4 if simulated() else 1024


# ---------------------------------------------------------------- the device


@dataclass(frozen=True)
class Device:
    """A GPU: name, version of its instructions, number of multiprocessors, memory in bytes."""

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    memory: int


class _Copier:
    """Copies to the device on a stream of its own, beside the work on another.

    It goes through two parts of page-locked memory, one of which is filled while the other is read.
    """

    def __init__(self, work: int) -> None:
        self.work = work
        self.lock = threading.Lock()
        self.stream = cudadriver.address_from("cuStreamCreate", 0)
        self.reached = cudadriver.address_from("cuEventCreate", _NO_TIMING)
        self.read = [cudadriver.address_from("cuEventCreate", _NO_TIMING) for _ in range(2)]
        self.places = [cudadriver.address_from("cuMemHostAlloc", _STAGE, 0) for _ in range(2)]
        self.parts = [np.ctypeslib.as_array((ctypes.c_uint8 * _STAGE).from_address(p)) for p in self.places]
        self.current, self.used = 0, 0

    def wait(self) -> None:
        """Lets copies begin only when the work that was asked for before is done."""
        with self.lock:
            self._follow(self.stream, self.work)

    def write(self, address: int, data: np.ndarray[Any, Any]) -> None:
        """Copies bytes to an address; work that is asked for later finds them there."""
        with self.lock:
            done = 0
            while done < len(data):
                if self.used == _STAGE:
                    cudadriver.call("cuEventRecord", self.read[self.current], self.stream)
                    self.current, self.used = 1 - self.current, 0
                    cudadriver.call("cuEventSynchronize", self.read[self.current])
                count = min(len(data) - done, _STAGE - self.used)
                self.parts[self.current][self.used : self.used + count] = data[done : done + count]
                place = self.places[self.current] + self.used
                cudadriver.call("cuMemcpyHtoDAsync_v2", address + done, place, count, self.stream)
                self.used, done = self.used + count, done + count
            self._follow(self.work, self.stream)

    def _follow(self, later: int, earlier: int) -> None:
        """What is asked of one stream from now on waits for what has been asked of another."""
        cudadriver.call("cuEventRecord", self.reached, earlier)
        cudadriver.call("cuStreamWaitEvent", later, self.reached, 0)


class _Context:
    """The first device of this process: its streams, and page-locked memory to copy through."""

    def __init__(self) -> None:
        require()
        self.number = cudadriver.number_from("cuDeviceGet", 0)
        self.handle = cudadriver.address_from("cuDevicePrimaryCtxRetain", self.number)
        self.thread = threading.local()
        self.enter()
        self.stream = cudadriver.address_from("cuStreamCreate", 0)
        self.copier = _Copier(self.stream)
        #: Memory that may be freed only when a recording has ended; None while there is no recording.
        self.late: list[int] | None = None
        self.has_pools = bool(cudadriver.attribute(self.number, cudadriver.MEMORY_POOLS))
        if self.has_pools:  # memory that is free stays with the process: it is taken again at once
            pool = cudadriver.address_from("cuDeviceGetDefaultMemPool", self.number)
            most = ctypes.c_uint64(2**64 - 1)
            cudadriver.call("cuMemPoolSetAttribute", pool, cudadriver.RELEASE_THRESHOLD, ctypes.byref(most))

    def enter(self) -> None:
        """Makes the context that of this thread."""
        if not hasattr(self.thread, "entered"):
            cudadriver.call("cuCtxSetCurrent", self.handle)
            self.thread.entered = True

    def free(self, address: int) -> None:
        """Frees memory."""
        with suppress(Exception):  # the driver may have ended before
            self.enter()
            if self.has_pools:
                cudadriver.call("cuMemFreeAsync", address, self.stream)
            else:
                cudadriver.call("cuMemFree_v2", address)


_MADE: list[_Context] = []
_LOCK = threading.Lock()


def _context() -> _Context:
    """The context of the device, entered by this thread."""
    if not _MADE:
        with _LOCK:
            if not _MADE:
                _MADE.append(_Context())
    _MADE[0].enter()
    return _MADE[0]


@cache
def device() -> Device:
    """The device that kernels run on."""
    if simulated():
        return Device("simulator", (9, 0), 1, 2**30)
    number = _context().number
    name = ctypes.create_string_buffer(256)
    cudadriver.call("cuDeviceGetName", name, len(name), number)
    size = ctypes.c_size_t()
    cudadriver.call("cuDeviceTotalMem_v2", ctypes.byref(size), number)
    return Device(
        name.value.decode(),
        (cudadriver.attribute(number, cudadriver.MAJOR), cudadriver.attribute(number, cudadriver.MINOR)),
        cudadriver.attribute(number, cudadriver.MULTIPROCESSORS),
        size.value,
    )


def enter() -> None:
    """Makes the device that of this thread: to be called before a library that works on it."""
    if not simulated():
        _context()


def stream() -> int:
    """The handle of the stream that all work is done on; 0 in the simulator."""
    return 0 if simulated() else _context().stream


def synchronize() -> None:
    """Waits until all work is done."""
    if not simulated():
        cudadriver.call("cuStreamSynchronize", _context().stream)


# ---------------------------------------------------------------- memory


class _Memory:
    """Memory on the device; it is freed when nothing refers to it any more, after the work with it."""

    def __init__(self, size: int, stream: int) -> None:
        self.context = _context()
        try:
            if self.context.has_pools:
                self.address = cudadriver.address_from("cuMemAllocAsync", size, stream)
            else:
                self.address = cudadriver.address_from("cuMemAlloc_v2", size)
        except DriverError as e:
            if e.status == cudadriver.OUT_OF_MEMORY:
                raise _too_large(size) from e
            raise

    def __del__(self) -> None:
        if not hasattr(self, "address"):
            return
        if self.context.late is not None:
            self.context.late.append(self.address)
        else:
            self.context.free(self.address)


def _too_large(size: int) -> TlangError:
    name, memory = device().name, device().memory
    hint = f"{size / 2**20:.0f} MiB are asked for; {name} has {memory / 2**20:.0f} MiB in all."
    return error("R121", hint=hint)


@dataclass(frozen=True, slots=True, eq=False)
class Array:
    """Elements that lie one behind the other on the device.

    `owner` keeps the memory: that of this module or what was given to :func:`wrap`. In the simulator
    `host` holds the elements.
    """

    address: int
    count: int
    dtype: np.dtype[Any]
    owner: Any
    host: np.ndarray[Any, Any] | None = None

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self.count * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """The array for other libraries, which wait for what this module still does with it."""
        return {
            "shape": (self.count,),
            "typestr": self.dtype.str,
            "data": (self.address if self.count else 0, False),
            "version": 3,
            "stream": stream() or None,
        }


def empty(count: int, dtype: Any) -> Array:
    """An array whose elements are not set. Raises R121 if the device's memory does not suffice."""
    kind = np.dtype(dtype)
    if simulated():
        return _on_host(np.empty(count, kind))
    owner = _Memory(max(1, count * kind.itemsize), _context().stream)
    return Array(owner.address, count, kind, owner)


def _on_host(elements: np.ndarray[Any, Any]) -> Array:
    return Array(elements.ctypes.data, len(elements), elements.dtype, elements, elements)


def upload(array: np.ndarray[Any, Any]) -> Array:
    """The elements of an array of NumPy, in C order, on the device.

    The array has been read when this returns. The copy goes on beside work that was asked for before.
    """
    flat = np.ascontiguousarray(array).reshape(-1)
    if simulated():
        return _on_host(flat.copy())
    copier = _context().copier
    owner = _Memory(max(1, flat.nbytes), copier.stream)
    copier.write(owner.address, flat.view(np.uint8))
    return Array(owner.address, flat.size, flat.dtype, owner)


def write(target: Array, array: np.ndarray[Any, Any]) -> None:
    """Sets the elements of an array on the device, whose dtype is the same, to those of one of NumPy."""
    flat = np.ascontiguousarray(array).reshape(-1)
    assert (target.count, target.dtype) == (flat.size, flat.dtype)
    if target.host is not None:
        target.host[:] = flat
    else:
        copier = _context().copier
        copier.wait()
        copier.write(target.address, flat.view(np.uint8))


def download(array: Array, shape: Sequence[int]) -> np.ndarray[Any, Any]:
    """The elements as an array of NumPy of that shape, when the work on them is done."""
    out = np.empty(tuple(shape), array.dtype)
    assert out.size == array.count
    if array.host is not None:
        out.reshape(-1)[:] = array.host
    elif array.size:
        context = _context()
        cudadriver.call("cuMemcpyDtoHAsync_v2", out.ctypes.data, array.address, array.size, context.stream)
        cudadriver.call("cuStreamSynchronize", context.stream)
    return out


def copy(target: Array, source: Array) -> None:
    """Copies elements on the device; both arrays have as many, of one dtype, and do not overlap."""
    assert (target.count, target.dtype) == (source.count, source.dtype)
    if target.host is not None:
        target.host[:] = source.host
    elif target.size:
        stream = _context().stream
        cudadriver.call("cuMemcpyDtoDAsync_v2", target.address, source.address, target.size, stream)


def clear(array: Array) -> None:
    """Sets every byte of an array to 0."""
    if array.host is not None:
        array.host[:] = 0
    elif array.size:
        cudadriver.call("cuMemsetD8Async", array.address, 0, array.size, _context().stream)


def part(array: Array, start: int, count: int) -> Array:
    """Some of the elements, in the same memory."""
    assert 0 <= start <= start + count <= array.count
    host = None if array.host is None else array.host[start : start + count]
    return Array(array.address + start * array.dtype.itemsize, count, array.dtype, array.owner, host)


def cast(array: Array, dtype: Any) -> Array:
    """The same bytes as elements of another dtype; they must begin where such an element may lie."""
    kind = np.dtype(dtype)
    count, rest = divmod(array.size, kind.itemsize)
    assert rest == 0
    assert array.address % kind.alignment == 0 or not count
    host = None if array.host is None else array.host.view(kind)
    return Array(array.address, count, kind, array.owner, host)


def wrap(given: Any) -> Array:
    """An array of another library, by its `__cuda_array_interface__`, once that library is done with it.

    In the simulator the addresses are those of the host. Raises ValueError for elements that do not lie
    one behind the other in C order.
    """
    face = given.__cuda_array_interface__
    kind, shape = np.dtype(face["typestr"]), tuple(face["shape"])
    count, address = math.prod(shape), face["data"][0]
    dense = [kind.itemsize * math.prod(shape[i + 1 :]) for i in range(len(shape))]
    strides = face.get("strides") or dense
    if count and any(n > 1 and have != want for n, have, want in zip(shape, strides, dense, strict=True)):
        raise ValueError("the elements of the array do not lie one behind the other")
    if face.get("mask") is not None:
        raise ValueError("the array has a mask")
    if simulated():
        place = (ctypes.c_uint8 * (count * kind.itemsize)).from_address(address or 0)
        return Array(address, count, kind, given, np.frombuffer(place, kind) if count else np.empty(0, kind))
    _context()
    if (theirs := face.get("stream")) is not None:
        cudadriver.call("cuStreamSynchronize", theirs)
    return Array(address, count, kind, given)


# ---------------------------------------------------------------- kernels


class Kernel:
    """A kernel that is compiled and can be launched."""

    def __init__(self, text: str, name: str, signature: Signature) -> None:
        self.name = name
        #: The dtypes of the parameters that are arrays; None for a size.
        self.dtypes = [np.dtype(kind[:-1]) if kind.endswith("*") else None for kind in signature]
        if simulated():
            self._run = cudacompile.simulated(text, name)
            return
        code = cudacompile.cubin(text, name, signature, device().capability)
        _context()
        self._module = cudadriver.address_from("cuModuleLoadData", code)
        self._function = cudadriver.address_from("cuModuleGetFunction", self._module, name.encode())

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
        context, start = _context(), cudadriver.library().cuLaunchKernel
        fixed = (kernel._function, *sizes, 0, context.stream, self._places, None)

        def call() -> None:
            context.enter()
            if status := start(*fixed):
                raise DriverError(f"launch of {kernel.name}", status)

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
        graph = _recorded(_context(), work)
        self._graph = cudadriver.address_from("cuGraphInstantiateWithFlags", graph, 0)
        cudadriver.call("cuGraphDestroy", graph)

    def __call__(self) -> None:
        """Does the work."""
        if simulated():
            self._work()
        else:
            cudadriver.call("cuGraphLaunch", self._graph, _context().stream)

    def __del__(self) -> None:
        if hasattr(self, "_graph"):
            with suppress(Exception):
                cudadriver.call("cuGraphExecDestroy", self._graph)


def _recorded(context: _Context, work: Callable[[], None]) -> int:
    """The graph of what `work` asks of the stream, which is not done."""
    cudadriver.call("cuStreamBeginCapture_v2", context.stream, cudadriver.THREAD_LOCAL)
    context.late = []
    graph = ctypes.c_void_p()
    try:
        work()
    finally:
        status = cudadriver.library().cuStreamEndCapture(context.stream, ctypes.byref(graph))
        late, context.late = context.late, None
        for address in late:
            context.free(address)
    if status:
        raise DriverError("cuStreamEndCapture", status)
    return graph.value or 0
