"""The functions that kernels call: our own where loops over them become vector code, else those of `math`.

Ours are free of branches, tables and calls. They keep to the order in which they are written (`fastmath`
is empty). Those of f32 compute in f32, but for `sin` and its kin, which compute in f64 and round once. Errors
are at most 4 ulp over the whole range, subnormal numbers, infinities and NaN included; a test measures them.

The methods are the usual ones: `exp` reduces by multiples of ln 2 (Cody and Waite) and takes the minimax
polynomial of e**r - 1 on [-ln 2 / 2, ln 2 / 2]; `log` splits off the exponent and takes the series of fdlibm
(Sun Microsystems, 1993) in s = f / (2 + f); `log1p` corrects `log(1 + x)` by what the sum has lost (Kahan).
`sin` and `cos` subtract a multiple of pi in three parts, each with one rounding (Cody and Waite), and take a
minimax polynomial of sine on [-pi / 2, pi / 2]; the subtraction is right up to a bound of |x|. `pow` takes a
logarithm of twice the digits; the rational functions of `erf`, `asin` (fdlibm) and `atan` (Cephes) are named
where they stand; the hyperbolic functions are written with `expm1` and `log1p`.
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
    "between": (),
    "reduced": (),
    "raised": (),
    "exp2": (),
    "pow": ("raised",),
    "error_parts": ("raised",),
    "erf": ("error_parts",),
    "erfc": ("error_parts",),
    "atan_ratio": (),
    "atan": ("atan_ratio",),
    "atan2": ("atan_ratio",),
    "asin_series": (),
    "asin": ("asin_series",),
    "acos": ("asin_series",),
    "sinh": ("exp", "expm1"),
    "cosh": ("exp", "expm1"),
    "asinh": ("log", "log1p"),
    "acosh": ("log", "log1p"),
    "atanh": ("log1p",),
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
    # e**(x + low), for a small part that x has no digits for.
    "raised": """\
@njit(fastmath=set())
def raised_float64(x, low):
    low = select(abs(x) < 800.0, low, 0.0)
    x = select(x > 710.0, 710.0, x)
    x = select(x < -750.0, -750.0, x)
    n = fma(x + low, 1.4426950408889634, 6755399441055744.0)
    k = n - 6755399441055744.0
    r = fma(k, -1.9082149292705877e-10, fma(k, -0.6931471803691238, x)) + low
    q = polynomial(r, ({exp}))
    half = fma(k, 0.5, 6755399441055744.0)
    rest = (k - (half - 6755399441055744.0)) + 6755399441055744.0
    return (1.0 + fma(r * r, q, r)) * power(half, 0.0) * power(rest, 0.0)
""",
    "exp2": """\
@njit(fastmath=set())
def exp2_{t}(x):
    x = select(x > {exp2_most}, {exp2_most}, x)
    x = select(x < {exp2_least}, {exp2_least}, x)
    n = x + {shift}
    k = n - {shift}
    d = x - k
    r = fma(d, {ln2_rest}, 0.6931471805599453 * d)
    q = polynomial(r, ({exp}))
    half = fma(k, 0.5, {shift})
    rest = (k - (half - {shift})) + {shift}
    return (1.0 + fma(r * r, q, r)) * power(half, 0.0) * power(rest, 0.0)
""",
    # y log |x| in two parts. With s = f / (2 + f), log m is 2 s (1 + s**2 / 3 + s**4 q(s**2)).
    "pow": """\
@njit(fastmath=set())
def pow_float64(x, y):
    a = abs(x)
    small = a < 2.2250738585072014e-308
    m, k = split(select(small, a * 18014398509481984.0, a))
    k = select(small, k - 54.0, k)
    f = m - 1.0
    d = m + 1.0
    s = f / d
    t = (fma(-s, d, f) - s * (m - (d - 1.0))) / d
    z = s * s
    u = z * 0.3333333333333333
    q = polynomial(z, (0.19999999999999998, 0.1428571428571645, 0.11111111110178998, 0.09090909272758588,
        0.07692288751306785, 0.06667790776954935, 0.05844317596764731, 0.05941340339474469))
    v = fma(z, 0.3333333333333333, -u) + z * 1.850371707708594e-17 + z * z * q
    v = v + (fma(s, s, -z) + 2.0 * s * t) * 0.3333333333333333
    w = s * u
    b = s + w
    c = ((s - b) + w) + (t + (fma(s, u, -w) + s * v + t * u))
    whole = k * 0.6931471803691238
    h = whole + 2.0 * b
    part = h - whole
    low = ((whole - (h - part)) + (2.0 * b - part)) + 2.0 * c + k * 1.9082149292705877e-10
    h = select(a == np.inf, np.inf, h)
    h = select(a == 0.0, -np.inf, h)
    h = select(a >= 0.0, h, np.nan)
    product = y * h
    r = raised_float64(product, fma(y, h, -product) + y * low)
    r = select(a == 1.0, 1.0, r)
    half = 0.5 * y
    signed = select(np.rint(half) == half, r, copysign(r, x))
    defined = select(np.rint(y) == y, signed, select(a == np.inf, r, np.nan))
    r = select(x < 0.0, defined, select(x > 0.0, r, select(np.rint(y) == y, signed, r)))
    r = select(a >= 0.0, r, np.nan)
    return select(x == 1.0, 1.0, select(y == 0.0, 1.0, r))
""",
    # Of fdlibm's `s_erf.c`, for a = |x|: erf(x) / x - 1 of small x, erf(a) less a constant of middle ones,
    # erfc(a) of large ones.
    "error_parts": """\
@njit(fastmath=set())
def error_parts_float64(a):
    z = a * a
    near = polynomial(z, (1.28379167095512558561e-01, -3.25042107247001499370e-01,
        -2.84817495755985104766e-02, -5.77027029648944159157e-03, -2.37630166566501626084e-05))
    near = near / polynomial(z, (1.0, 3.97917223959155352819e-01, 6.50222499887672944485e-02,
        5.08130628187576562776e-03, 1.32494738004321644526e-04, -3.96022827877536812320e-06))
    s = a - 1.0
    middle = polynomial(s, (-2.36211856075265944077e-03, 4.14856118683748331666e-01,
        -3.72207876035701323847e-01, 3.18346619901161753674e-01, -1.10894694282396677476e-01,
        3.54783043256182359371e-02, -2.16637559486879084300e-03))
    middle = middle / polynomial(s, (1.0, 1.06420880400844228286e-01, 5.40397917702171048937e-01,
        7.18286544141962662868e-02, 1.26171219808761642112e-01, 1.36370839120290507362e-02,
        1.19844998467991074170e-02))
    a = select(a > 28.0, 28.0, a)
    s = 1.0 / (a * a)
    early = a < 2.857142857142857
    over = select(early, polynomial(s, (-9.86494403484714822705e-03, -6.93858572707181764372e-01,
        -1.05586262253232909814e+01, -6.23753324503260060396e+01, -1.62396669462573470355e+02,
        -1.84605092906711035994e+02, -8.12874355063065934246e+01, -9.81432934416914548592e+00)),
        polynomial(s, (-9.86494292470009928597e-03, -7.99283237680523006574e-01,
        -1.77579549177547519889e+01, -1.60636384855821916062e+02, -6.37566443368389627722e+02,
        -1.02509513161107724954e+03, -4.83519191608651397019e+02)))
    under = select(early, polynomial(s, (1.0, 1.96512716674392571292e+01, 1.37657754143519042600e+02,
        4.34565877475229228821e+02, 6.45387271733267880336e+02, 4.29008140027567833386e+02,
        1.08635005541779435134e+02, 6.57024977031928170135e+00, -6.04244152148580987438e-02)),
        polynomial(s, (1.0, 3.03380607434824582924e+01, 3.25792512996573918826e+02,
        1.53672958608443695994e+03, 3.19985821950859553908e+03, 2.55305040643316442583e+03,
        4.74528541206955367215e+02, -2.24409524465858183362e+01)))
    c = 134217729.0 * a
    h = c - (c - a)
    tail = raised_float64(-h * h, (h - a) * (h + a) + (over / under - 0.5625)) / a
    return near, middle, tail
""",
    "erf": """\
@njit(fastmath=set())
def erf_float64(x):
    a = abs(x)
    near, middle, tail = error_parts_float64(a)
    r = select(a < 1.25, 0.845062911510467529297 + middle, 1.0 - tail)
    return select(a < 0.84375, x + x * near, copysign(r, x))
""",
    "erfc": """\
@njit(fastmath=set())
def erfc_float64(x):
    a = abs(x)
    near, middle, tail = error_parts_float64(a)
    small = select(x < 0.25, 1.0 - (x + x * near), 0.5 - (x * near + (x - 0.5)))
    beyond = select(x < 0.0, 1.0 + (0.845062911510467529297 + middle), 0.154937088489532470703 - middle)
    large = select(x < 0.0, 2.0 - tail, tail)
    return select(a < 0.84375, small, select(a < 1.25, beyond, large))
""",
    # The angle of (b, a), both not negative, by the rational function of Cephes (Moshier, `atan.c`).
    "atan_ratio": """\
@njit(fastmath=set())
def atan_ratio_float64(a, b):
    steep = a > b * 2.41421356237309504880
    wide = a > b * 0.66
    over = select(steep, -b, select(wide, a - b, a))
    under = select(steep, a, select(wide, a + b, b))
    base = select(steep, 1.5707963267948966, select(wide, 0.7853981633974483, 0.0))
    more = select(steep, 6.123233995736766e-17, select(wide, 3.061616997868383e-17, 0.0))
    t = over / under
    z = t * t
    p = polynomial(z, (-6.485021904942025371773e1, -1.228866684490136173410e2, -7.500855792314704667340e1,
        -1.615753718733365076637e1, -8.750608600031904122785e-1))
    q = polynomial(z, (1.945506571482613964425e2, 4.853903996359136964868e2, 4.328810604912902668951e2,
        1.650270098316988542046e2, 2.485846490142306297962e1, 1.0))
    return base + (t + (t * (z * p / q) + more))
""",
    "atan": """\
@njit(fastmath=set())
def atan_float64(x):
    return copysign(atan_ratio_float64(abs(x), 1.0), x)
""",
    "atan2": """\
@njit(fastmath=set())
def atan2_float64(y, x):
    a, b = abs(y), abs(x)
    endless = select(a == np.inf, b, 0.0) == np.inf
    a = select(endless, 1.0, a)
    b = select(endless, 1.0, b)
    tiny = maximum(a, b) < 1e-290
    a = select(tiny, a * 18014398509481984.0, a)
    b = select(tiny, b * 18014398509481984.0, b)
    huge = maximum(a, b) > 1e300
    a = select(huge, a * 5.551115123125783e-17, a)
    b = select(huge, b * 5.551115123125783e-17, b)
    r = select(maximum(a, b) == 0.0, 0.0, atan_ratio_float64(a, b))
    r = select(copysign(1.0, x) < 0.0, 3.141592653589793 - (r - 1.2246467991473532e-16), r)
    return copysign(r, y)
""",
    # Of fdlibm's `e_asin.c`: (arcsin(t) - t) / t, for t of at most 1/2, in z = t**2.
    "asin_series": """\
@njit(fastmath=set())
def asin_series_float64(z):
    p = z * polynomial(z, (1.66666666666666657415e-01, -3.25565818622400915405e-01,
        2.01212532134862925881e-01, -4.00555345006794114027e-02, 7.91534994289814532176e-04,
        3.47933107596021167570e-05))
    return p / polynomial(z, (1.0, -2.40339491173441421878e+00, 2.02094576023350569471e+00,
        -6.88283971605453293030e-01, 7.70381505559019352791e-02))
""",
    "asin": """\
@njit(fastmath=set())
def asin_float64(x):
    a = abs(x)
    half = a < 0.5
    z = select(half, x * x, (1.0 - a) * 0.5)
    t = select(half, a, math.sqrt(z))
    r = t + t * asin_series_float64(z)
    return copysign(select(half, r, 1.5707963267948966 - (2.0 * r - 6.123233995736766e-17)), x)
""",
    "acos": """\
@njit(fastmath=set())
def acos_float64(x):
    a = abs(x)
    half = a < 0.5
    z = select(half, x * x, (1.0 - a) * 0.5)
    t = select(half, x, math.sqrt(z))
    r = t + t * asin_series_float64(z)
    far = select(x < 0.0, 3.141592653589793 - (2.0 * r - 1.2246467991473532e-16), 2.0 * r)
    return select(half, 1.5707963267948966 - (r - 6.123233995736766e-17), far)
""",
    "sinh": """\
@njit(fastmath=set())
def sinh_float64(x):
    a = abs(x)
    e = expm1_float64(select(a > 22.0, 0.0, a))
    large = exp_float64(0.5 * a)
    r = select(a > 22.0, (0.5 * large) * large, 0.5 * (e + e / (e + 1.0)))
    return select(a < 1e-9, x, copysign(r, x))
""",
    "cosh": """\
@njit(fastmath=set())
def cosh_float64(x):
    a = abs(x)
    e = expm1_float64(select(a > 22.0, 0.0, a))
    large = exp_float64(0.5 * a)
    return select(a > 22.0, (0.5 * large) * large, 1.0 + e * e / (2.0 * (1.0 + e)))
""",
    "asinh": """\
@njit(fastmath=set())
def asinh_float64(x):
    a = abs(x)
    z = select(a > 1e8, 1.0, a)
    usual = log1p_float64(z + z * z / (1.0 + math.sqrt(z * z + 1.0)))
    r = select(a > 1e8, log_float64(a) + 0.6931471805599453, usual)
    return copysign(select(a < 1e-9, a, r), x)
""",
    "acosh": """\
@njit(fastmath=set())
def acosh_float64(x):
    t = select(x > 1e8, 1.0, x) - 1.0
    usual = log1p_float64(t + math.sqrt(2.0 * t + t * t))
    return select(x >= 1.0, select(x > 1e8, log_float64(x) + 0.6931471805599453, usual), np.nan)
""",
    "atanh": """\
@njit(fastmath=set())
def atanh_float64(x):
    a = abs(x)
    t = a + a
    r = 0.5 * log1p_float64(select(a < 0.5, t + t * a / (1.0 - a), t / (1.0 - a)))
    return copysign(select(a < 1e-9, a, r), x)
""",
    "scaled": """\
@njit(fastmath=set())
def scaled_{t}(u, low, width):
    return low + width * u
""",
    "between": """\
@njit(fastmath=set())
def between_{t}(u, low, high):
    return low + (high - low) * u
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
        "exp2_most": "1025.0",
        "exp2_least": "-1080.0",
        "ln2_rest": "2.3190468138462996e-17",
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
        "exp2_most": "129.0",
        "exp2_least": "-160.0",
        "ln2_rest": "-1.904654e-09",
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
_NARROW = {
    1: """\
@njit(fastmath=set())
def {name}_float32(x):
    return np.float32({name}_float64(np.float64(x)))
""",
    2: """\
@njit(fastmath=set())
def {name}_float32(x, y):
    return np.float32({name}_float64(np.float64(x), np.float64(y)))
""",
}
#: Functions of two numbers.
BINARY = frozenset({"pow", "atan2"})


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
            texts[_NARROW[1 + (name in BINARY)].format(name=name)] = None
            return
        for other in _NEEDS[name]:
            add(other, kind)
        texts[_OWN[name].format_map(_CONSTANTS[kind])] = None

    for name, kind in names.used:
        add(name, kind)
    return "".join(f"{text}\n\n" for text in texts)
