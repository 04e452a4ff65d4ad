"""The functions that kernels call: our own where loops over them become vector code, else those of `math`.

Ours are free of branches, tables and calls. They keep to the order in which they are written (`fastmath`
is empty). Those of f32 compute in f32, but for `sin` and its kin, which compute in f64 and round once. Errors
are at most 4 ulp over the whole range, subnormal numbers, infinities and NaN included; a test measures them.

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
def reduced_{t}(x):
    n = fma(x, 1.4426950408889634, {shift})
    k = n - {shift}
    r = fma(k, -{ln2_low}, fma(k, -{ln2_high}, x))
    q = polynomial(r, ({exp}))
    return n, k, fma(r * r, q, r)
""",
    "exp": """\
@njit(fastmath=set())
def exp_{t}(x):
    x = select(x > {exp_most}, {exp_most}, x)
    x = select(x < {exp_least}, {exp_least}, x)
    n, k, p = reduced_{t}(x)
    half = fma(k, 0.5, {shift})
    rest = (k - (half - {shift})) + {shift}
    return (1.0 + p) * power(half, 0.0) * power(rest, 0.0)
""",
    "sigmoid": """\
@njit(fastmath=set())
def sigmoid_{t}(x):
    e = exp_{t}(-abs(x))
    return select(x < 0.0, e, 1.0) / (1.0 + e)
""",
    "tanh": """\
@njit(fastmath=set())
def tanh_{t}(x):
    y = 2.0 * abs(x)
    n, k, p = reduced_{t}(select(y > {tanh_most}, {tanh_most}, y))
    s = power(n, 0.0)
    e = fma(s, p, s - 1.0)
    return copysign(e / (e + 2.0), x)
""",
    "log": """\
@njit(fastmath=set())
def log_{t}(x):
    k, f, h, t = log_series_{t}(x)
    return log_special_{t}(x, fma(k, {ln2_high}, f - (h - fma(k, {ln2_low}, t))))
""",
    "log1p": """\
@njit(fastmath=set())
def log1p_{t}(x):
    u = 1.0 + x
    lost = x - (u - 1.0)
    r = log_{t}(u) + lost / u
    r = select(u > {most}, u, r)
    r = select(u == 0.0, -np.inf, r)
    return select(abs(x) < {negligible}, x, r)
""",
    "softplus": """\
@njit(fastmath=set())
def softplus_{t}(x):
    return select(x <= 0.0, 0.0, x) + log1p_{t}(exp_{t}(-abs(x)))
""",
    "expm1": """\
@njit(fastmath=set())
def expm1_{t}(x):
    y = select(x > {exp_most}, {exp_most}, x)
    n, k, p = reduced_{t}(select(y < {expm1_least}, {expm1_least}, y))
    s = power(n, -1.0)
    e = 2.0 * fma(s, p, s - 0.5)
    return select(abs(x) < {negligible}, x, e)
""",
    # The exponent k of x = m * 2**k, and log m as f - (h - t); what x itself decides is left to `special`.
    "log_series": """\
@njit(fastmath=set())
def log_series_{t}(x):
    small = x < {normal}
    m, k = split(select(small, x * {up}, x))
    f = m - 1.0
    s = f / (2.0 + f)
    z = s * s
    q = z * polynomial(z, ({log}))
    h = 0.5 * f * f
    return select(small, k - {digits}, k), f, h, s * (h + q)


@njit(fastmath=set())
def log_special_{t}(x, r):
    r = select(x > {most}, x, r)
    r = select(x == 0.0, -np.inf, r)
    return select(x >= 0.0, r, np.nan)
""",
    "log2": """\
@njit(fastmath=set())
def log2_{t}(x):
    k, f, h, t = log_series_{t}(x)
    r = f - (h - t)
    return log_special_{t}(x, k + fma(r, {log2e_high}, r * {log2e_low}))
""",
    "log10": """\
@njit(fastmath=set())
def log10_{t}(x):
    k, f, h, t = log_series_{t}(x)
    r = f - (h - t)
    low = fma(k, {log10_2_low}, r * 0.4342944819032518)
    return log_special_{t}(x, fma(k, {log10_2_high}, low))
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
    "scaled": """\
@njit(fastmath=set())
def scaled_{t}(u, low, width):
    return low + width * u
""",
}
#: What the texts of a dtype are made with. The polynomials are e**r = 1 + r + r**2 q(r), minimax for the
#: relative error on [-ln 2 / 2, ln 2 / 2], and the series of fdlibm (`e_log.c` and `e_logf.c`).
_CONSTANTS = {
    "float64": {
        "t": "float64",
        "shift": "6755399441055744.0",
        "ln2_high": "0.6931471803691238",
        "ln2_low": "1.9082149292705877e-10",
        "exp": """0.5, 0.1666666666666667, 0.04166666666666667, 0.008333333333324906,
        0.001388888888888287, 0.00019841269879033045, 2.4801587328555858e-05, 2.755725016302918e-06,
        2.7557269903215795e-07, 2.5107353767261877e-08, 2.0916212837493853e-09""",
        "exp_most": "710.0",
        "exp_least": "-746.0",
        "expm1_least": "-46.0",
        "tanh_most": "44.0",
        "negligible": "1e-17",
        "most": "1.7976931348623157e308",
        "normal": "2.2250738585072014e-308",
        "up": "18014398509481984.0",
        "digits": "54.0",
        "log": """0.6666666666666735, 0.3999999999940942, 0.2857142874366239, 0.22222198432149784,
        0.1818357216161805, 0.15313837699209373, 0.14798198605116586""",
        "log2e_high": "1.4426950408889634",
        "log2e_low": "2.0355273740931033e-17",
        "log10_2_high": "0.30102999566361177",
        "log10_2_low": "3.694239077158931e-13",
    },
    "float32": {
        "t": "float32",
        "shift": "12582912.0",
        "ln2_high": "0.69313812256",
        "ln2_low": "9.0580006145e-06",
        "exp": "0.5, 0.1666666716337204, 0.041666239500045776, 0.00833328627049923, "
        "0.0013948592822998762, 0.00019907584646716714",
        "exp_most": "89.0",
        "exp_least": "-105.0",
        "expm1_least": "-18.0",
        "tanh_most": "20.0",
        "negligible": "1e-9",
        "most": "3.4028234663852886e38",
        "normal": "1.1754943508222875e-38",
        "up": "33554432.0",
        "digits": "25.0",
        "log": "0.66666662693, 0.40000972152, 0.28498786688, 0.24279078841",
        "log2e_high": "1.4426950216293335",
        "log2e_low": "1.9259629911e-08",
        "log10_2_high": "0.30102920532",
        "log10_2_low": "7.9034151668e-07",
    },
}
#: Of float32 what is not written for it: one that computes in float64.
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

    def add(name: str, kind: str) -> None:
        if kind == "float32" and "{t}" not in _OWN[name]:
            add(name, "float64")
            texts[_NARROW.format(name=name)] = None
            return
        for other in _NEEDS[name]:
            add(other, kind)
        texts[_OWN[name].format_map(_CONSTANTS[kind])] = None

    for name, kind in names.used:
        add(name, kind)
    return "".join(f"{text}\n\n" for text in texts)
