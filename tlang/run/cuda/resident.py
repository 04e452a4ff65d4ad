"""Arrays that may lie on a device: moved only when somebody needs them elsewhere."""

from __future__ import annotations

import math
import weakref
from functools import lru_cache
from typing import Any

import numpy as np

from tlang.run.cuda import gpu

Array = Any
#: A batch of an array of at most so much of the device's memory takes the whole of it there, once.
_SHARE = 4


class Resident:
    """An array on the device, on the host, or on both; its elements never change.

    NumPy's functions take it as it is (`__array__`), libraries of the GPU too (`__cuda_array_interface__`).
    """

    __slots__ = ("__weakref__", "_device", "_host", "dtype", "shape")

    def __init__(self, shape: tuple[int, ...], dtype: Any, device: gpu.Array | None, host: Array = None):
        self.shape = shape
        self.dtype = np.dtype(dtype)
        self._device = device
        self._host = host

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The memory that the elements take."""
        return self.size * int(self.dtype.itemsize)

    def __repr__(self) -> str:
        return repr(self.host())

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        array = np.asarray(self.host())
        return np.array(array, dtype, copy=copy) if copy or dtype not in (None, self.dtype) else array

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        face: dict[str, Any] = dict(self.device().__cuda_array_interface__)
        face.update(shape=self.shape, typestr=self.dtype.str)
        return face

    def host(self) -> Array:
        """The array of NumPy, or a scalar; it is not to be changed."""
        if self._host is None:
            assert self._device is not None
            self._host = gpu.download(self._device, self.shape).view(self.dtype)[()]
            if isinstance(self._host, np.ndarray):
                self._host.flags.writeable = False
        return self._host

    def device(self) -> gpu.Array:
        """The elements on the device, in C order; those of bool as bytes."""
        if self._device is None:
            self._device = gpu.upload(_plain(np.asarray(self._host)))
        return self._device

    def reshaped(self, shape: tuple[int, ...]) -> Resident:
        """The same elements with another shape."""
        host = None if self._host is None else np.reshape(self._host, shape)
        return Resident(shape, self.dtype, self._device, host)

    @property
    def on_device(self) -> bool:
        """Whether the elements are on the device."""
        return self._device is not None

    def plain(self) -> Array:
        """The array of NumPy as kernels take it: bool as bytes."""
        return _plain(np.asarray(self.host()))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice) and self._device is not None and key.step in (None, 1):
            start, stop, _ = key.indices(self.shape[0])
            return self.rows(start, max(start, stop))
        return self.host()[key]

    def rows(self, start: int, stop: int) -> Resident:
        """Some of the rows, which lie where the array lies."""
        each = math.prod(self.shape[1:])
        device = gpu.part(self.device(), start * each, (stop - start) * each)
        return Resident((stop - start, *self.shape[1:]), self.dtype, device)

    def row(self, at: int) -> Resident:
        """One row."""
        return self.rows(at, at + 1).reshaped(self.shape[1:])


def _plain(array: Array) -> Array:
    """An array as kernels take it."""
    array = np.ascontiguousarray(array)
    return array.view(np.uint8) if array.dtype == np.bool_ else array


def wrapped(value: Any) -> Resident:
    """An array of another library of the GPU, read where it lies; one in another order is copied there."""
    face = value.__cuda_array_interface__
    shape, dtype = tuple(face["shape"]), np.dtype(face["typestr"])
    try:
        elements = gpu.wrap(value)
    except ValueError:
        return wrapped(value.copy())
    return Resident(shape, dtype, gpu.cast(elements, np.uint8) if dtype == np.bool_ else elements)


def host(value: Any) -> Any:
    """A value for NumPy."""
    return value.host() if isinstance(value, Resident) else value


def shaped(value: Any) -> Any:
    """An array of a value's shape and dtype, for what does not look at elements; they stay where they are."""
    return np.empty(value.shape, value.dtype) if isinstance(value, Resident) else value


def resident(value: Any, dtype: Any, fixed: bool = True) -> Resident:
    """A value as an array of a dtype that may go to the device.

    What is `fixed` never changes while it lives: it is taken to the device once.
    """
    if isinstance(value, Resident):
        return (
            value if value.dtype == dtype else Resident(value.shape, dtype, None, host(value).astype(dtype))
        )
    array = np.asarray(value, dtype)
    if not array.ndim:
        return _number(array.dtype, array.tobytes())
    if not fixed or array is not value:
        return Resident(array.shape, dtype, None, array)
    found = batch(array)
    return found if found.on_device else _held(array)


def batch(array: Array | Resident) -> Resident:
    """Some rows of an array: on the device, if the array is there or has room there; else on the host."""
    if isinstance(array, Resident):
        return array
    base = array.base
    if not isinstance(base, np.ndarray) or not _is_batch(array, base):
        return Resident(array.shape, array.dtype, None, array)
    start = array.__array_interface__["data"][0] - base.__array_interface__["data"][0]
    first = start // base.strides[0]
    return _held(base).rows(first, first + len(array))


@lru_cache(256)
def _number(dtype: Any, data: bytes) -> Resident:
    """A number, which is taken to the device once: most are the same in every call."""
    return Resident((), dtype, None, np.frombuffer(data, dtype)[0])


def _is_batch(array: Array, base: Array) -> bool:
    """Whether an array is some of the rows of another that has room on the device."""
    if not (array.ndim == base.ndim > 0 and array.dtype == base.dtype and array.shape[1:] == base.shape[1:]):
        return False
    if not (array.flags.c_contiguous and base.flags.c_contiguous and 0 < array.nbytes < base.nbytes):
        return False
    return bool(base.nbytes <= gpu.device().memory // _SHARE)


_HELD: dict[int, tuple[weakref.ref[Any], Resident]] = {}


def _held(array: Array) -> Resident:
    """The form of an array that is on the device, or will be: the same as long as the array lives."""
    key = id(array)
    found = _HELD.get(key)
    if found is None or found[0]() is not array:
        made = Resident(array.shape, array.dtype, None, None)
        made._device = gpu.upload(_plain(array))
        found = weakref.ref(array, lambda _: _HELD.pop(key, None)), made
        _HELD[key] = found
    return found[1]
