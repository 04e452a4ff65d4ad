"""The functions that kernels call: our own where loops over them become vector code, else those of `math`.

Ours are free of branches, tables and calls. They keep to the order in which they are written (`fastmath`
is empty), and are computed in f64; of f32 the result is rounded once. Errors are at most 4 ulp over the
whole range, subnormal numbers, infinities and NaN included; a test measures them.

The methods are the usual ones: `exp` reduces by multiples of ln 2 (Cody and Waite) and takes the minimax
polynomial of e**r - 1 on [-ln 2 / 2, ln 2 / 2]; `log` splits off the exponent and takes the series of fdlibm
(Sun Microsystems, 1993) in s = f / (2 + f); `log1p` corrects `log(1 + x)` by what the sum has lost (Kahan).
`sin` and `cos` subtract a multiple of pi in three parts, each with one rounding (Cody and Waite), and take a
minimax polynomial of sine on [-pi / 2, pi / 2]; the subtraction is right up to a bound of |x|.
"""

from __future__ import annotations

from tlang.types import F32, F64, DType

#: What each of our functions is written with.
_NEEDS = {
    "exp": ("reduced",),
    "sigmoid": ("exp",),
    "tanh": ("reduced",),
    "log": ("log_series",),
    "log1p": ("log",),
    "softplus": ("exp", "log1p"),
    "expm1": ("reduced",),
    "log_series": (),
    "log2": ("log_series",),
    "log10": ("log_series",),
    "sine": (),
    "sin": ("sine",),
    "cos": ("sine",),
    "tan": ("sin", "cos"),
    "scaled": (),
    "reduced": (),
}
#: Functions that are right up to a bound of |x|; beyond it, a loop is run again with the C library's.
BOUNDS = {"sin": 1e9, "cos": 1e9, "tan": 1e9}
_OWN = {
    # The nearest integer to x / ln 2, as n - 1.5 * 2**52; and e**r - 1 of what is left.
    "reduced": """\
@njit(fastmath=set())
def reduced_float64(x):
    n = fma(x, 1.4426950408889634, 6755399441055744.0)
    k = n - 6755399441055744.0
    r = fma(k, -1.9082149292705877e-10, fma(k, -0.6931471803691238, x))
    q = polynomial(r, (0.5, 0.1666666666666667, 0.04166666666666667, 0.008333333333324906,
        0.001388888888888287, 0.00019841269879033045, 2.4801587328555858e-05, 2.755725016302918e-06,
        2.7557269903215795e-07, 2.5107353767261877e-08, 2.0916212837493853e-09))
    return n, k, fma(r * r, q, r)
""",
    "exp": """\
@njit(fastmath=set())
def exp_float64(x):
    x = select(x > 710.0, 710.0, x)
    x = select(x < -746.0, -746.0, x)
    n, k, p = reduced_float64(x)
    half = fma(k, 0.5, 6755399441055744.0)
    rest = (k - (half - 6755399441055744.0)) + 6755399441055744.0
    return (1.0 + p) * power(half, 0.0) * power(rest, 0.0)
""",
    "sigmoid": """\
@njit(fastmath=set())
def sigmoid_float64(x):
    e = exp_float64(-abs(x))
    return select(x < 0.0, e, 1.0) / (1.0 + e)
""",
    "tanh": """\
@njit(fastmath=set())
def tanh_float64(x):
    y = 2.0 * abs(x)
    n, k, p = reduced_float64(select(y > 44.0, 44.0, y))
    s = power(n, 0.0)
    e = fma(s, p, s - 1.0)
    return copysign(e / (e + 2.0), x)
""",
    "log": """\
@njit(fastmath=set())
def log_float64(x):
    k, f, h, t = log_series_float64(x)
    return log_special_float64(x, fma(k, 0.6931471803691238, f - (h - fma(k, 1.9082149292705877e-10, t))))
""",
    "log1p": """\
@njit(fastmath=set())
def log1p_float64(x):
    u = 1.0 + x
    lost = x - (u - 1.0)
    r = log_float64(u) + lost / u
    r = select(u > 1.7976931348623157e308, u, r)
    r = select(u == 0.0, -np.inf, r)
    return select(abs(x) < 1e-16, x, r)
""",
    "softplus": """\
@njit(fastmath=set())
def softplus_float64(x):
    return select(x <= 0.0, 0.0, x) + log1p_float64(exp_float64(-abs(x)))
""",
}
_OWN |= {
    "expm1": """\
@njit(fastmath=set())
def expm1_float64(x):
    y = select(x > 710.0, 710.0, x)
    n, k, p = reduced_float64(select(y < -46.0, -46.0, y))
    s = power(n, -1.0)
    e = 2.0 * fma(s, p, s - 0.5)
    return select(abs(x) < 1e-17, x, e)
""",
    # The exponent k of x = m * 2**k, and log m as f - (h - t); what x itself decides is left to `special`.
    "log_series": """\
@njit(fastmath=set())
def log_series_float64(x):
    small = x < 2.2250738585072014e-308
    m, k = split(select(small, x * 18014398509481984.0, x))
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    q = z * polynomial(z, (0.6666666666666735, 0.3999999999940942, 0.2857142874366239, 0.22222198432149784,
        0.1818357216161805, 0.15313837699209373, 0.14798198605116586))
    h = 0.5 * f * f
    return select(small, k - 54.0, k), f, h, s * (h + q)


@njit(fastmath=set())
def log_special_float64(x, r):
    r = select(x > 1.7976931348623157e308, x, r)
    r = select(x == 0.0, -np.inf, r)
    return select(x >= 0.0, r, np.nan)
""",
    "log2": """\
@njit(fastmath=set())
def log2_float64(x):
    k, f, h, t = log_series_float64(x)
    r = f - (h - t)
    return log_special_float64(x, k + fma(r, 1.4426950408889634, r * 2.0355273740931033e-17))
""",
    "log10": """\
@njit(fastmath=set())
def log10_float64(x):
    k, f, h, t = log_series_float64(x)
    r = f - (h - t)
    low = fma(k, 3.694239077158931e-13, r * 0.4342944819032518)
    return log_special_float64(x, fma(k, 0.30102999566361177, low))
""",
    # (-1)**n times the sine of x - k pi, which is at most pi / 2.
    "sine": """\
@njit(fastmath=set())
def sine_float64(x, n, k):
    r = fma(k, -3.141592653589793, x)
    r = fma(k, -1.2246467991473532e-16, r)
    r = fma(k, 2.9947698097183397e-33, r)
    u = r * r
    p = polynomial(u, (-0.16666666666666666, 0.008333333333333312, -0.00019841269841253096,
        2.7557319218661113e-06, -2.5052107553693198e-08, 1.605897324929603e-10, -7.643841865853093e-13,
        2.729859310147684e-15))
    return negated(fma(u * r, p, r), n)
""",
    "sin": """\
@njit(fastmath=set())
def sin_float64(x):
    n = fma(x, 0.3183098861837907, 6755399441055744.0)
    return select(x == 0.0, x, sine_float64(x, n, n - 6755399441055744.0))
""",
    "cos": """\
@njit(fastmath=set())
def cos_float64(x):
    n = fma(x, 0.3183098861837907, -0.5) + 6755399441055744.0
    return -sine_float64(x, n, (n - 6755399441055744.0) + 0.5)
""",
    "tan": """\
@njit(fastmath=set())
def tan_float64(x):
    return sin_float64(x) / cos_float64(x)
""",
}
_OWN["scaled"] = """\
@njit(fastmath=set())
def scaled_float64(u, low, width):
    return low + width * u
"""
_NARROW = """\
@njit(fastmath=set())
def {name}_float32(x):
    return np.float32({name}_float64(np.float64(x)))
"""


class Names(dict[str, str]):
    """What the names of scalar forms stand for; functions are found when a form asks for them.

    `dtype` is that of the form's element, `used` the functions of our own that were asked for. With `exact`
    those with bounds are the C library's.
    """

    def __init__(self) -> None:
        super().__init__()
        self.dtype: DType = F64
        self.used: dict[tuple[str, str], None] = {}
        self.exact = False

    def __missing__(self, name: str) -> str:
        if name not in _OWN or (self.exact and name in BOUNDS):
            return f"math.{name}"
        kind = self.dtype if self.dtype in (F32, F64) else F64
        self.used[name, kind.numpy_name] = None
        return f"{name}_{kind.numpy_name}"


def helpers(names: Names) -> str:
    """The text of the functions of our own that were asked for, each after what it is written with."""
    texts: dict[str, None] = {}

    def add(name: str) -> None:
        for other in _NEEDS[name]:
            add(other)
        texts[_OWN[name]] = None

    for name, kind in names.used:
        add(name)
        if kind == "float32" and name == "scaled":  # each operation is rounded
            texts[_OWN[name].replace("float64", "float32")] = None
        elif kind == "float32":
            texts[_NARROW.format(name=name)] = None
    return "".join(f"{text}\n\n" for text in texts)
