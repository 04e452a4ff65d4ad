"""The functions that kernels call: `math` of the element's dtype, and those that `math` lacks."""

from __future__ import annotations

from tlang.types import F32, F64, DType

#: Functions of our own, written with those of `math`; `{t}` is the dtype. Stable for every argument.
_OWN = {
    "sigmoid": """\
@njit
def sigmoid_{t}(x):
    e = math.exp(-abs(x))
    return (np.{t}(1) if x >= 0 else e) / (np.{t}(1) + e)
""",
    "softplus": """\
@njit
def softplus_{t}(x):
    m = np.{t}(0) if x <= 0 else x
    return m + math.log1p(math.exp(-abs(x)))
""",
}


class Names(dict[str, str]):
    """What the names of scalar forms stand for; functions are found when a form asks for them.

    `dtype` is that of the form's element, `used` the functions of our own that were asked for.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dtype: DType = F64
        self.used: dict[tuple[str, str], None] = {}

    def __missing__(self, name: str) -> str:
        if name not in _OWN:
            return f"math.{name}"
        kind = self.dtype if self.dtype in (F32, F64) else F64
        self.used[name, kind.numpy_name] = None
        return f"{name}_{kind.numpy_name}"


def helpers(names: Names) -> str:
    """The text of the functions of our own that were asked for."""
    return "".join(_OWN[name].format(t=kind) + "\n\n" for name, kind in names.used)
