"""The device, its memory, and the stream on which all work is done."""

from __future__ import annotations

import ctypes
import math
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from tlang.errors import TlangError, error
from tlang.run.cuda import libcuda
from tlang.run.cuda.libcuda import DriverError
from tlang.run.cuda.states import require, simulated

#: Bytes of page-locked memory through which arrays are copied to the device, in each of two parts.
_STAGE = 8 * 2**20
#: An event that says only that it was reached.
_NO_TIMING = 2


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
        self.stream = libcuda.address_from("cuStreamCreate", 0)
        self.reached = libcuda.address_from("cuEventCreate", _NO_TIMING)
        self.read = [libcuda.address_from("cuEventCreate", _NO_TIMING) for _ in range(2)]
        self.places = [libcuda.address_from("cuMemHostAlloc", _STAGE, 0) for _ in range(2)]
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
                    libcuda.call("cuEventRecord", self.read[self.current], self.stream)
                    self.current, self.used = 1 - self.current, 0
                    libcuda.call("cuEventSynchronize", self.read[self.current])
                count = min(len(data) - done, _STAGE - self.used)
                self.parts[self.current][self.used : self.used + count] = data[done : done + count]
                place = self.places[self.current] + self.used
                libcuda.call("cuMemcpyHtoDAsync_v2", address + done, place, count, self.stream)
                self.used, done = self.used + count, done + count
            self._follow(self.work, self.stream)

    def _follow(self, later: int, earlier: int) -> None:
        """What is asked of one stream from now on waits for what has been asked of another."""
        libcuda.call("cuEventRecord", self.reached, earlier)
        libcuda.call("cuStreamWaitEvent", later, self.reached, 0)


class Context:
    """The first device of this process: its streams, and page-locked memory to copy through."""

    def __init__(self) -> None:
        require()
        self.number = libcuda.number_from("cuDeviceGet", 0)
        self.handle = libcuda.address_from("cuDevicePrimaryCtxRetain", self.number)
        self.thread = threading.local()
        self.enter()
        self.stream = libcuda.address_from("cuStreamCreate", 0)
        self.copier = _Copier(self.stream)
        #: Memory that may be freed only when a recording has ended; None while there is no recording.
        self.late: list[int] | None = None
        self.has_pools = bool(libcuda.attribute(self.number, libcuda.MEMORY_POOLS))
        if self.has_pools:  # memory that is free stays with the process: it is taken again at once
            pool = libcuda.address_from("cuDeviceGetDefaultMemPool", self.number)
            most = ctypes.c_uint64(2**64 - 1)
            libcuda.call("cuMemPoolSetAttribute", pool, libcuda.RELEASE_THRESHOLD, ctypes.byref(most))

    def enter(self) -> None:
        """Makes the context that of this thread."""
        if not hasattr(self.thread, "entered"):
            libcuda.call("cuCtxSetCurrent", self.handle)
            self.thread.entered = True

    def free(self, address: int) -> None:
        """Frees memory."""
        with suppress(Exception):  # the driver may have ended before
            self.enter()
            if self.has_pools:
                libcuda.call("cuMemFreeAsync", address, self.stream)
            else:
                libcuda.call("cuMemFree_v2", address)


_MADE: list[Context] = []
_LOCK = threading.Lock()


def context() -> Context:
    """The context of the device, entered by this thread."""
    if not _MADE:
        with _LOCK:
            if not _MADE:
                _MADE.append(Context())
    _MADE[0].enter()
    return _MADE[0]


@cache
def device() -> Device:
    """The device that kernels run on."""
    if simulated():
        return Device("simulator", (9, 0), 1, 2**30)
    number = context().number
    name = ctypes.create_string_buffer(256)
    libcuda.call("cuDeviceGetName", name, len(name), number)
    size = ctypes.c_size_t()
    libcuda.call("cuDeviceTotalMem_v2", ctypes.byref(size), number)
    return Device(
        name.value.decode(),
        (libcuda.attribute(number, libcuda.MAJOR), libcuda.attribute(number, libcuda.MINOR)),
        libcuda.attribute(number, libcuda.MULTIPROCESSORS),
        size.value,
    )


def enter() -> None:
    """Makes the device that of this thread: to be called before a library that works on it."""
    if not simulated():
        context()


def stream() -> int:
    """The handle of the stream that all work is done on; 0 in the simulator."""
    return 0 if simulated() else context().stream


def synchronize() -> None:
    """Waits until all work is done."""
    if not simulated():
        libcuda.call("cuStreamSynchronize", context().stream)


# ---------------------------------------------------------------- memory


class _Memory:
    """Memory on the device; it is freed when nothing refers to it any more, after the work with it."""

    def __init__(self, size: int, stream: int) -> None:
        self.context = context()
        try:
            if self.context.has_pools:
                self.address = libcuda.address_from("cuMemAllocAsync", size, stream)
            else:
                self.address = libcuda.address_from("cuMemAlloc_v2", size)
        except DriverError as e:
            if e.status == libcuda.OUT_OF_MEMORY:
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
    owner = _Memory(max(1, count * kind.itemsize), context().stream)
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
    copier = context().copier
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
        copier = context().copier
        copier.wait()
        copier.write(target.address, flat.view(np.uint8))


def download(array: Array, shape: Sequence[int]) -> np.ndarray[Any, Any]:
    """The elements as an array of NumPy of that shape, when the work on them is done."""
    out = np.empty(tuple(shape), array.dtype)
    assert out.size == array.count
    if array.host is not None:
        out.reshape(-1)[:] = array.host
    elif array.size:
        stream = context().stream
        libcuda.call("cuMemcpyDtoHAsync_v2", out.ctypes.data, array.address, array.size, stream)
        libcuda.call("cuStreamSynchronize", stream)
    return out


def copy(target: Array, source: Array) -> None:
    """Copies elements on the device; both arrays have as many, of one dtype, and do not overlap."""
    assert (target.count, target.dtype) == (source.count, source.dtype)
    if target.host is not None:
        target.host[:] = source.host
    elif target.size:
        stream = context().stream
        libcuda.call("cuMemcpyDtoDAsync_v2", target.address, source.address, target.size, stream)


def clear(array: Array) -> None:
    """Sets every byte of an array to 0."""
    if array.host is not None:
        array.host[:] = 0
    elif array.size:
        libcuda.call("cuMemsetD8Async", array.address, 0, array.size, context().stream)


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
    context()
    if (theirs := face.get("stream")) is not None:
        libcuda.call("cuStreamSynchronize", theirs)
    return Array(address, count, kind, given)
