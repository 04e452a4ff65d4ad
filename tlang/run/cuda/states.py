"""Whether kernels can run on a GPU here, and if not, what is missing."""

from __future__ import annotations

import os
from enum import Enum
from functools import cache

from tlang.errors import error
from tlang.run.cuda import compiler, libcuda
from tlang.run.cuda.libcuda import DriverError

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
        if compiler.installed():
            return State.SIMULATED, "NUMBA_ENABLE_CUDASIM is 1: kernels run as Python"
        return State.NO_EXTRA, "NUMBA_ENABLE_CUDASIM is 1, and numba-cuda is not installed"
    if libcuda.library() is None:
        return State.NO_DRIVER, "libcuda is not found"
    try:
        libcuda.call("cuInit", 0)
        count, driver = libcuda.number_from("cuDeviceGetCount"), libcuda.version()
    except DriverError as e:
        no_device = e.status == libcuda.NO_DEVICE
        return (State.NO_DEVICE, "the driver sees no GPU") if no_device else (State.NO_DRIVER, e.what)
    shown = f"driver of CUDA {driver[0]}.{driver[1]}"
    if count == 0:
        return State.NO_DEVICE, f"{shown} sees no GPU"
    if not compiler.installed():
        return State.NO_EXTRA, f"{shown}, numba-cuda is not installed"
    if missing := compiler.missing_libraries():
        return State.NO_LIBRARIES, f"{shown}, {', '.join(missing)} not found"
    libraries = compiler.toolkit()
    shown += f", libraries of CUDA {libraries[0]}.{libraries[1]}"
    if driver[0] < libraries[0]:
        return State.OLD_DRIVER, shown
    has = tuple(libcuda.attribute(0, which) for which in (libcuda.MAJOR, libcuda.MINOR))
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
