"""The driver of CUDA, by ctypes: the functions of `libcuda` that tlang calls, and their errors.

Nothing here needs a package: the driver is part of the system, and its interface is the same since years.
"""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any

from tlang.errors import StateError, error

#: Results of the driver that mean something to callers.
OUT_OF_MEMORY, NO_DEVICE = 2, 100
#: Attributes of a device.
MULTIPROCESSORS, MAJOR, MINOR, MEMORY_POOLS = 16, 75, 76, 115
#: The attribute of a pool of memory that says how much of it is kept, in bytes, when it is not in use.
RELEASE_THRESHOLD = 4
#: How a stream is captured: what other threads do is no concern of it.
THREAD_LOCAL = 1

_INT, _UINT, _SIZE, _ADDRESS, _TEXT = (
    ctypes.c_int,
    ctypes.c_uint,
    ctypes.c_size_t,
    ctypes.c_void_p,
    ctypes.c_char_p,
)
#: The parameters of each function; handles, places of results and addresses on the device are addresses.
_PARAMETERS: dict[str, list[Any]] = {
    "cuInit": [_UINT],
    "cuDriverGetVersion": [_ADDRESS],
    "cuGetErrorName": [_INT, _ADDRESS],
    "cuDeviceGetCount": [_ADDRESS],
    "cuDeviceGet": [_ADDRESS, _INT],
    "cuDeviceGetName": [_TEXT, _INT, _INT],
    "cuDeviceGetAttribute": [_ADDRESS, _INT, _INT],
    "cuDeviceTotalMem_v2": [_ADDRESS, _INT],
    "cuDeviceGetDefaultMemPool": [_ADDRESS, _INT],
    "cuMemPoolSetAttribute": [_ADDRESS, _INT, _ADDRESS],
    "cuDevicePrimaryCtxRetain": [_ADDRESS, _INT],
    "cuCtxSetCurrent": [_ADDRESS],
    "cuStreamCreate": [_ADDRESS, _UINT],
    "cuStreamSynchronize": [_ADDRESS],
    "cuStreamWaitEvent": [_ADDRESS, _ADDRESS, _UINT],
    "cuEventCreate": [_ADDRESS, _UINT],
    "cuEventRecord": [_ADDRESS, _ADDRESS],
    "cuEventSynchronize": [_ADDRESS],
    "cuMemAlloc_v2": [_ADDRESS, _SIZE],
    "cuMemFree_v2": [_ADDRESS],
    "cuMemAllocAsync": [_ADDRESS, _SIZE, _ADDRESS],
    "cuMemFreeAsync": [_ADDRESS, _ADDRESS],
    "cuMemHostAlloc": [_ADDRESS, _SIZE, _UINT],
    "cuMemcpyHtoDAsync_v2": [_ADDRESS, _ADDRESS, _SIZE, _ADDRESS],
    "cuMemcpyDtoHAsync_v2": [_ADDRESS, _ADDRESS, _SIZE, _ADDRESS],
    "cuMemcpyDtoDAsync_v2": [_ADDRESS, _ADDRESS, _SIZE, _ADDRESS],
    "cuMemsetD8Async": [_ADDRESS, ctypes.c_ubyte, _SIZE, _ADDRESS],
    "cuModuleLoadData": [_ADDRESS, _TEXT],
    "cuModuleGetFunction": [_ADDRESS, _ADDRESS, _TEXT],
    "cuLaunchKernel": [_ADDRESS, *[_UINT] * 7, _ADDRESS, _ADDRESS, _ADDRESS],
    "cuStreamBeginCapture_v2": [_ADDRESS, _INT],
    "cuStreamEndCapture": [_ADDRESS, _ADDRESS],
    "cuGraphInstantiateWithFlags": [_ADDRESS, _ADDRESS, ctypes.c_ulonglong],
    "cuGraphLaunch": [_ADDRESS, _ADDRESS],
    "cuGraphExecDestroy": [_ADDRESS],
    "cuGraphDestroy": [_ADDRESS],
}


class DriverError(StateError):
    """A call of the driver that failed, R176: the driver's number of the error, and what it says."""

    status, what = 0, ""

    @classmethod
    def of(cls, function: str, status: int) -> DriverError:
        """The error of a function."""
        what = f"{function}: {error_name(status)} ({status})"
        made = cls(*error("R176", what=what).diagnostics)
        made.status, made.what = status, what
        return made


@cache
def library() -> Any:
    """The driver, its functions typed; None where there is none."""
    try:
        found = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None
    for function, parameters in _PARAMETERS.items():
        if (typed := getattr(found, function, None)) is not None:  # an old driver may lack some
            typed.argtypes, typed.restype = parameters, ctypes.c_int
    return found


def call(function: str, *args: Any) -> None:
    """Calls a function of the driver. Raises :class:`DriverError`."""
    if status := getattr(library(), function)(*args):
        raise DriverError.of(function, status)


def address_from(function: str, *args: Any) -> int:
    """A handle or an address that a function of the driver writes to the place of its first parameter."""
    place = ctypes.c_void_p()
    call(function, ctypes.byref(place), *args)
    return place.value or 0


def number_from(function: str, *args: Any) -> int:
    """An integer that a function of the driver writes to the place of its first parameter."""
    place = ctypes.c_int()
    call(function, ctypes.byref(place), *args)
    return place.value


def attribute(device: int, which: int) -> int:
    """An attribute of a device."""
    return number_from("cuDeviceGetAttribute", which, device)


def error_name(status: int) -> str:
    """The driver's name of an error."""
    name = ctypes.c_char_p()
    library().cuGetErrorName(status, ctypes.byref(name))
    return (name.value or b"an unknown error").decode()


def version() -> tuple[int, int]:
    """The newest CUDA that the driver can run."""
    number = number_from("cuDriverGetVersion")
    return number // 1000, number % 1000 // 10
