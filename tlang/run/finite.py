"""`--check-finite`: the first operation that makes a NaN or an infinity of finite numbers is an error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tlang.errors import error
from tlang.graph.node import Node
from tlang.types import FROM_NUMPY

Array = Any


def check_finite(node: Node, operation: Callable[[], Array], operands: Sequence[Array]) -> Array:
    """Does an operation of the interpreter; see :data:`tlang.interpret.Watch`.

    Raises R160 if the result has an element that is not finite and all operands have none: what comes from
    such operands has been said of what made them, or was given.
    """
    result = operation()
    if not isinstance(result, tuple) and not _is_finite(result) and all(map(_is_finite, operands)):
        at = _first_bad(result)
        raise error(
            "R160",
            node.span,
            what=node.op.name,
            found=_number(result[at]),
            where=_place(at),
            notes=[_described(number, x, at) for number, x in enumerate(operands, 1)],
        )
    return result


def _is_finite(x: Array) -> bool:
    kind = getattr(getattr(x, "dtype", None), "kind", "")
    return kind not in ("f", "c") or bool(np.isfinite(x).all())


def _first_bad(x: Array) -> tuple[int, ...]:
    return tuple(int(k) for k in np.argwhere(~np.isfinite(x))[0])


def _place(at: Sequence[int]) -> str:
    return f" at [{', '.join(map(str, at))}]" if at else ""


def _number(x: Any) -> str:
    return str(x.item()) if hasattr(x, "item") else str(x)


def _described(number: int, x: Array, at: Sequence[int]) -> str:
    """An operand: a number by its value, an array by its type and range, and the element that meets `at`."""
    if isinstance(x, tuple):
        return f"operand {number}: several results"
    array = np.asarray(x)
    if array.ndim == 0:
        return f"operand {number}: {_number(array[()])}"
    kind = f"{FROM_NUMPY[array.dtype.name]}[{', '.join(map(str, array.shape))}]"
    text = f"operand {number}: {kind}"
    if array.size and array.dtype.kind in "fiu":
        text += f", from {_number(array.min())} to {_number(array.max())}"
    offset = len(at) - array.ndim
    if offset >= 0:
        meets = tuple(0 if size == 1 else k for k, size in zip(at[offset:], array.shape, strict=True))
        if all(k < size for k, size in zip(meets, array.shape, strict=True)):
            text += f", {_number(array[meets])}{_place(meets)}"
    return text
