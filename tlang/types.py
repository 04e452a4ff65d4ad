"""Types: dtypes, dimensions as canonical linear sums, tensors; promotion, unification, broadcasting.

Everything here is decided before a program runs, and nothing here needs NumPy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

# ---------------------------------------------------------------- dtypes


@dataclass(frozen=True, slots=True)
class DType:
    """An element type: `kind` is one of b i u f c, `bits` its size."""

    name: str
    kind: str
    bits: int

    @property
    def is_integer(self) -> bool:
        """Signed or unsigned, not bool."""
        return self.kind in "iu"

    @property
    def is_inexact(self) -> bool:
        """Real or complex floating point: what has a derivative."""
        return self.kind in "fc"

    @property
    def numpy_name(self) -> str:
        """The dtype's name in NumPy."""
        long = {"b": "bool", "i": "int", "u": "uint", "f": "float", "c": "complex"}[self.kind]
        return long if self.kind == "b" else f"{long}{self.bits}"

    def integer_range(self) -> tuple[int, int]:
        """The least and the greatest value of an integer dtype."""
        if self.kind == "u":
            return 0, 2**self.bits - 1
        return -(2 ** (self.bits - 1)), 2 ** (self.bits - 1) - 1

    def __str__(self) -> str:
        return self.name


BOOL = DType("bool", "b", 8)
I8, I16, I32, I64 = (DType(f"i{b}", "i", b) for b in (8, 16, 32, 64))
U8, U16, U32, U64 = (DType(f"u{b}", "u", b) for b in (8, 16, 32, 64))
F32, F64 = (DType(f"f{b}", "f", b) for b in (32, 64))
C64, C128 = (DType(f"c{b}", "c", b) for b in (64, 128))
DTYPES = {t.name: t for t in (BOOL, I8, I16, I32, I64, U8, U16, U32, U64, F32, F64, C64, C128)}
FROM_NUMPY = {t.numpy_name: t for t in DTYPES.values()}

_THEANO_LETTERS = {"b": I8, "w": I16, "i": I32, "l": I64, "f": F32, "d": F64, "c": C64, "z": C128}
_THEANO_SHAPES: dict[str, tuple[str, ...]] = {
    "scalar": (),
    "vector": ("_",),
    "row": ("1", "_"),
    "col": ("_", "1"),
    "matrix": ("_", "_"),
    "tensor3": ("_",) * 3,
    "tensor4": ("_",) * 4,
    "tensor5": ("_",) * 5,
}
#: Theano's type names: `dmatrix` is `(F64, ("_", "_"))`, `drow` is `(F64, ("1", "_"))`.
THEANO_NAMES: dict[str, tuple[DType, tuple[str, ...]]] = {
    letter + shape: (dtype, dims)
    for letter, dtype in _THEANO_LETTERS.items()
    for shape, dims in _THEANO_SHAPES.items()
}


def _promote_pair(a: DType, b: DType) -> DType:
    if a == b:
        return a
    order = "biufc"
    if order.index(a.kind) > order.index(b.kind):
        a, b = b, a
    if a.kind == b.kind:
        return a if a.bits >= b.bits else b
    if a.kind == "b":
        return b
    if b.kind == "u":  # a signed integer that holds both, or f64
        bits = max(a.bits, 2 * b.bits)
        return F64 if bits > 64 else DTYPES[f"i{bits}"]
    real = 32 if a.bits <= (32 if a.kind == "f" else 16) else 64
    if b.kind == "f":
        return DTYPES[f"f{max(real, b.bits)}"]
    return DTYPES[f"c{max(2 * real, b.bits)}"]


# ---------------------------------------------------------------- dimensions


@dataclass(frozen=True, slots=True, order=True)
class Symbol:
    """A named size (`serial` 0, rigid: equal only to itself) or an unknown one that is solved for.

    `scope` is the file, since every file has its own dimension names.
    """

    name: str
    scope: str = ""
    serial: int = 0

    @property
    def rigid(self) -> bool:
        """Whether the symbol is a name of the program rather than an unknown."""
        return self.serial == 0


_serials = count(1)


def fresh_symbol(name: str = "_") -> Symbol:
    """An unknown size that equals nothing else yet."""
    return Symbol(name, "", next(_serials))


@dataclass(frozen=True, slots=True)
class Dim:
    """A size: `const` plus the sum of `coefficient * symbol`, the terms sorted by symbol.

    `alias` is the name by which a constant was written (`feats` for 784); it is for messages only.
    """

    const: int
    terms: tuple[tuple[Symbol, int], ...] = ()
    alias: str = field(default="", compare=False)

    @staticmethod
    def of(symbol: Symbol) -> Dim:
        """The size that is one symbol."""
        return Dim(0, ((symbol, 1),))

    @property
    def is_const(self) -> bool:
        """Whether the size is a known integer."""
        return not self.terms

    def __add__(self, other: Dim) -> Dim:
        if not self.terms and not other.terms:
            return Dim(self.const + other.const)
        total = dict(self.terms)
        for symbol, k in other.terms:
            total[symbol] = total.get(symbol, 0) + k
        return Dim(self.const + other.const, tuple(sorted((s, k) for s, k in total.items() if k)))

    def __sub__(self, other: Dim) -> Dim:
        return self + other.scale(-1)

    def scale(self, k: int) -> Dim:
        """The size times an integer."""
        return Dim(self.const * k, tuple((s, c * k) for s, c in self.terms) if k else ())

    def symbols(self) -> Iterable[Symbol]:
        """The symbols of the sum."""
        return (s for s, _ in self.terms)

    def evaluate(self, sizes: Mapping[Symbol, int]) -> int:
        """The size where every symbol has a value; a missing one is a KeyError."""
        return self.const + sum(sizes[s] * k for s, k in self.terms)

    def __str__(self) -> str:
        out = ""
        for symbol, k in self.terms:
            sign = " - " if k < 0 else " + "
            out += (
                (sign if out else "-" if k < 0 else "") + (f"{abs(k)}*" if abs(k) != 1 else "") + symbol.name
            )
        if self.const or not out:
            out += (f" {'-' if self.const < 0 else '+'} {abs(self.const)}") if out else str(self.const)
        return out


ONE = Dim(1)


# ---------------------------------------------------------------- tensors


@dataclass(frozen=True, slots=True)
class Tensor:
    """The type of every value: a dtype and a shape; rank 0 is a scalar.

    `weak` marks a literal (and arithmetic on literals alone), whose dtype adapts to what it meets.
    """

    dtype: DType
    shape: tuple[Dim, ...] = ()
    weak: bool = False

    @property
    def rank(self) -> int:
        """The number of dimensions."""
        return len(self.shape)

    def with_dtype(self, dtype: DType) -> Tensor:
        """The same shape with another (strong) dtype."""
        return Tensor(dtype, self.shape)

    def with_shape(self, shape: Iterable[Dim]) -> Tensor:
        """The same dtype with another shape."""
        return replace(self, shape=tuple(shape))

    def strong(self) -> Tensor:
        """The type without the mark of a literal."""
        return replace(self, weak=False) if self.weak else self

    def declared(self) -> str:
        """The type with dimension names in the place of the constants that they stand for."""
        return self._text(lambda d: d.alias or str(d))

    def __str__(self) -> str:
        return self._text(str)

    def _text(self, show: Callable[[Dim], str]) -> str:
        return f"{self.dtype}[{', '.join(map(show, self.shape))}]" if self.shape else str(self.dtype)


def promote(types: Sequence[Tensor]) -> DType:
    """NumPy 2's `result_type`: literals are weak (NEP 50), all others promote by the table."""
    strong = [t.dtype for t in types if not t.weak]
    weak = [t.dtype for t in types if t.weak]
    if not strong:
        strong, weak = weak, []
    # As NumPy does, the widest kind first: i16, u16 and f32 are f32, not f64 by way of i32.
    strong.sort(key=lambda t: "biufc".index(t.kind), reverse=True)
    result = strong[0]
    for dtype in strong[1:]:
        result = _promote_pair(result, dtype)
    for dtype in weak:
        if "biufc".index(dtype.kind) <= "biufc".index(result.kind):
            continue
        if dtype.kind in "iu" and result.kind in "iu":
            continue
        if dtype.kind == "i":
            result = I64
        elif dtype.kind == "f":
            result = F64
        elif dtype.kind == "c":
            result = C64 if result == F32 else C128
    return result


def can_cast_safely(source: DType, target: DType) -> bool:
    """NumPy's "safe" casting: every value of `source` is one of `target`."""
    if source.kind == "i" and target.kind == "u":
        return False
    return _promote_pair(source, target) == target


# ---------------------------------------------------------------- unification


class Mismatch(Exception):
    """Two sizes that must be equal and cannot be; whoever knows the operands reports it.

    `sides` are (operand index, which dimension of it, the size) for the message.
    """

    def __init__(self, code: str, sides: Sequence[tuple[int, str, Dim]], hint: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.sides = tuple(sides)
        self.hint = hint


class Solver:
    """Equations between sizes, solved as they come; one for each function or command."""

    def __init__(self) -> None:
        self.solution: dict[Symbol, Dim] = {}

    def resolve(self, dim: Dim) -> Dim:
        """The size with everything put in that is known by now."""
        solution = self.solution
        if not solution:
            return dim
        while any(s in solution for s, _ in dim.terms):
            total = Dim(dim.const)
            for symbol, k in dim.terms:
                total = total + solution.get(symbol, Dim.of(symbol)).scale(k)
            dim = total
        return dim

    def rename(self, change: Callable[[Dim], Dim]) -> None:
        """Puts other symbols into all that is solved."""
        self.solution = {s: change(d) for s, d in self.solution.items()}

    def shape(self, tensor: Tensor) -> tuple[Dim, ...]:
        """The resolved shape of a type."""
        if not self.solution:
            return tensor.shape
        return tuple(map(self.resolve, tensor.shape))

    def unify(self, a: Dim, b: Dim) -> bool:
        """Makes two sizes equal, by solving for an unknown if there is one; False if they differ."""
        if a == b:
            return True
        gap = self.resolve(a) - self.resolve(b)
        if gap.is_const:
            return gap.const == 0
        unknown = [(s, k) for s, k in gap.terms if not s.rigid]
        if not unknown:
            return False
        for symbol, k in sorted(unknown, key=lambda t: -t[0].serial):
            rest = gap - Dim.of(symbol).scale(k)
            if rest.const % k == 0 and all(c % k == 0 for _, c in rest.terms):
                value = Dim(-rest.const // k, tuple((s, -c // k) for s, c in rest.terms))
                if value.is_const and value.const < 0:
                    return False
                self.solution[symbol] = value
                return True
        # 2*u = 3 has no solution, 2*u = n is left to the run, which checks every size
        return not (len(gap.terms) == 1 and gap.const % gap.terms[0][1] != 0)

    def broadcast(self, shapes: Sequence[tuple[Dim, ...]], code: str = "T101") -> tuple[Dim, ...]:
        """NumPy's broadcasting, decided here: align right, a written 1 stretches, the rest is equal.

        Raises :class:`Mismatch` with the two sizes that differ.
        """
        first = shapes[0]
        if all(s is first or s == first for s in shapes):
            return first
        rank = max(map(len, shapes))
        out = []
        for axis in range(-rank, 0):
            chosen, owner = ONE, 0
            for index, shape in enumerate(shapes):
                if -axis > len(shape):
                    continue
                dim = self.resolve(shape[axis])
                if chosen == ONE:
                    chosen, owner = (shape[axis] if dim.is_const else dim), index
                elif dim != ONE and not self.unify(chosen, dim):
                    where = describe_axis(axis)
                    raise Mismatch(code, [(owner, where, chosen), (index, where, shape[axis])])
            out.append(chosen)
        return tuple(out)


def describe_axis(axis: int) -> str:
    """A negative axis in words: "last dimension", "dimension -2"."""
    return "last dimension" if axis == -1 else f"dimension {axis}"
