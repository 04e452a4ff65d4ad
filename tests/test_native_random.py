"""Draws inside compiled code: the numbers of `tlang.run.rng`, whole and in chunks."""

import ctypes
from itertools import product
from typing import Any

import mpmath
import numpy as np
import pytest
from compiled import BACKEND, ON_A_GPU, SIMULATED

import tlang
from tlang.emit.random import helpers, name, per_block
from tlang.run import rng
from tlang.run.build import Segment
from tlang.run.objects import compile_text, load_object
from tlang.run.rng import PhiloxState
from tlang.source import Source
from tlang.tools.emit import emit

FLOATS = list(product(("uniform", "normal"), ("float64", "float32")))
SAME = [("integers", t) for t in ("int64", "uint64", "int8")]
EACH = [("integers_each", t) for t in ("int64", "uint32")]
FLAGS = {"contract", "nsz", "arcp"}

EXTRA = """
@njit(fastmath=set(), forceinline=True)
def product(a, b):
    return a * b

def affine(address, count, low, width):
    out = float64_at(address)
    for k in range(count):
        out[k] = low + product(width, out[k])
    return 0

def pairs_float64(address, words, count):
    out, word = float64_at(address), int64_at(words)
    for k in range(count):
        out[2 * k], out[2 * k + 1] = normal_pair_float64(word[2 * k], word[2 * k + 1], address, 2 * k)
    return 0

def pairs_float32(address, words, count):
    out, word = float32_at(address), int64_at(words)
    for k in range(count):
        out[2 * k], out[2 * k + 1] = normal_pair_float32(word[2 * k], word[2 * k + 1], address, 2 * k)
    return 0
"""

STATES = [
    PhiloxState(0, 0),
    PhiloxState(2**64 - 1, 2**64 - 1),
    PhiloxState(0x0123456789ABCDEF, 2**32 - 1),
    PhiloxState(2**63, 2**32),
    PhiloxState(rng.philox_state(7, "noise").key, 2**63),
]
MANY = 1_000 if SIMULATED else 100_000
SIZES = [0, 1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 31, 33, 63, 64, 65, 127, 1023, 1024, 1025, 4099, 70001]


@pytest.fixture(scope="module")
def native():
    """One module of all functions under test: entries by name."""
    fills = [*FLOATS, *SAME, *EACH]
    text, signatures = helpers(fills) + EXTRA, {}
    for kind in fills:
        bounds = ", low, high" if kind in SAME + EACH else ""
        arguments = f"address, first, count, key, counter{bounds}"
        text += f"def {'_'.join(kind)}({arguments}):\n    {name(*kind)}({arguments})\n    return 0\n\n"
        signatures["_".join(kind)] = f"int64({', '.join(['int64'] * (7 if bounds else 5))})"
    signatures |= dict.fromkeys(("pairs_float64", "pairs_float32"), "int64(int64, int64, int64)")
    signatures["affine"] = "int64(int64, int64, float64, float64)"
    return load_object(compile_text(text, signatures, FLAGS))


def word(value):
    """An integer modulo 2^64 as an int64."""
    return ctypes.c_int64(int(value) % 2**64).value


def fill(native, kind, state, count, *bounds, first=0):
    """A range of a draw; what lies behind it must stay as it is."""
    out = np.full(count + 8, 77, kind[1])
    rest = [word(state.key), word(state.counter), *map(word, bounds)]
    assert native["_".join(kind)](out.ctypes.data, first, count, *rest) == 0
    assert np.all(out[count:] == 77)
    return out[:count]


def ulps(found, right):
    return np.abs(found - right) / np.spacing(np.abs(right))


def expected(kind, state, count):
    draw = rng.uniform01 if kind[0] == "uniform" else rng.normal01
    return draw(state, (count,), np.dtype(kind[1]))


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("kind", FLOATS, ids="_".join)
def test_floats_are_those_of_the_definition(native, kind, state):
    for size in SIZES:
        found, right = fill(native, kind, state, size), expected(kind, state, size)
        if kind[0] == "uniform":
            assert np.array_equal(found, right)
        else:
            assert np.all(ulps(found, right) <= 4)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_million_normals_differ_by_four_ulps_at_most(native, dtype):
    state = PhiloxState(0x9E3779B97F4A7C15, 3)
    found = fill(native, ("normal", dtype), state, 10**6)
    assert ulps(found, expected(("normal", dtype), state, 10**6)).max() <= 4


@pytest.mark.parametrize("kind", [*FLOATS, *SAME], ids="_".join)
def test_chunks_make_the_whole(native, kind):
    state, size, bounds = STATES[4], 3001, (-3, 100) if kind in SAME else ()
    bits = f"u{np.dtype(kind[1]).itemsize}"
    whole = fill(native, kind, state, size, *bounds).view(bits)
    for blocks in (1, 2, 7, 64, 100, 512, 5000):
        step = blocks * per_block(*kind)
        for first in range(0, size, step):
            part = fill(native, kind, state, min(step, size - first), *bounds, first=first).view(bits)
            assert np.array_equal(part, whole[first : first + step])


def test_blocks_far_into_a_draw(native):
    first = 2**34  # the block needs more than 32 bits
    for kind in (("uniform", "float64"), ("integers", "uint64")):
        found = fill(native, kind, STATES[2], 40, *((0, 0) if kind in SAME else ()), first=first)
        block = np.arange(40, dtype=np.uint64) + np.uint64(first // per_block(*kind))
        counter, key = STATES[2].counter, STATES[2].key
        counters = (block & 0xFFFFFFFF, block >> 32, counter & 0xFFFFFFFF, counter >> 32)
        w = rng.philox4x32(counters, (key & 0xFFFFFFFF, key >> 32))
        x, y = w[0] | w[1] << np.uint64(32), w[2] | w[3] << np.uint64(32)
        if kind[0] == "uniform":
            assert np.array_equal(found[::2], (x >> 11)[:20] * 2.0**-53)
            assert np.array_equal(found[1::2], (y >> 11)[:20] * 2.0**-53)
        else:
            assert np.array_equal(found, y)  # of all 2^64 values, the upper half of the block


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        ("int64", 0, 1),
        ("int64", -5, 10),
        ("int64", -(2**63), 2**63),
        ("int64", -(2**63), 2**63 - 1),
        ("int64", 2**62, 2**62 + 2**32),
        ("int64", -1, 2**33 + 12345),
        ("uint64", 0, 2**64),
        ("uint64", 3, 2**64 - 1),
        ("uint64", 2**63, 2**63 + 2**40 + 1),
        ("int8", -128, 128),
        ("int8", -1, 6),
    ],
)
def test_integers_are_those_of_the_definition(native, dtype, low, high):
    bounds = [np.array(word(b), np.int64).astype(np.uint64) for b in (low, high)]
    for state, size in product(STATES, (0, 1, 2, 17, 1000)):
        right = rng.integers_between(state, (size,), np.dtype(dtype), *bounds)
        assert np.array_equal(fill(native, ("integers", dtype), state, size, low, high), right)


@pytest.mark.parametrize("dtype", ["int64", "uint32"])
def test_integers_with_a_bound_for_each(native, dtype):
    gen = np.random.default_rng(5)
    low = gen.integers(0, 2**31, 1001)
    high = low + gen.integers(1, 2**31, 1001)
    for state, first in product(STATES, (0, 999)):
        right = rng.integers_between(state, (1001,), np.dtype(dtype), low, high)[first:]
        bounds = [b[first:].ctypes.data for b in (low, high)]
        found = fill(native, ("integers_each", dtype), state, 1001 - first, *bounds, first=first)
        assert np.array_equal(found, right)


def edges(bits):
    """Integers of so many bits at which logarithms, sines and cosines are hard to get right."""
    top, near = 2**bits, [0, 1, 2, 3, 5, 100, 2 ** (bits // 2), 2 ** (bits // 2) + 1]
    halves = int(top * 0.5**0.5)
    marks = [top * k // 8 for k in range(9)] + [halves, top - halves]
    return sorted({(m + s * n) % top for m in marks for n in near for s in (1, -1)})


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_normals_of_edge_words(native, dtype):
    bits = 53 if dtype == "float64" else 32
    drawn = np.array(list(product(edges(bits), edges(bits))), np.uint64)
    words = drawn << np.uint64(11) | np.uint64(2**11 - 1) if bits == 53 else drawn
    out = np.empty(2 * len(words), dtype)
    assert native[f"pairs_{dtype}"](out.ctypes.data, words.ctypes.data, len(words)) == 0
    u1 = 1 - drawn[:, 0] * 2.0**-53 if bits == 53 else (drawn[:, 0] + np.uint64(1)) * 2.0**-32
    u2 = drawn[:, 1] * 2.0**-bits
    angle = 2 * np.pi * u2
    with mpmath.workprec(160):
        radius = {u: mpmath.sqrt(-2 * mpmath.log(mpmath.mpf(u))) for u in set(u1.tolist())}
        turn = {a: mpmath.cos_sin(mpmath.mpf(a)) for a in set(angle.tolist())}
        right = [[radius[u] * t for t in turn[a]] for u, a in zip(u1.tolist(), angle.tolist(), strict=True)]
        nearest = np.array(right, dtype=np.float64)
    found = out.reshape(-1, 2).astype(np.float64)
    assert np.array_equal(found == 0, nearest == 0)
    error = np.abs(found - nearest) / np.spacing(np.abs(nearest.astype(dtype))).astype(np.float64)
    assert error.max() <= (3 if bits == 53 else 0.5001)
    numpy = np.sqrt(-2 * np.log(u1))[:, None] * np.stack([np.cos(angle), np.sin(angle)], 1)
    assert ulps(found.astype(dtype), numpy.astype(dtype)).max() <= 4


def test_a_product_without_flags_is_not_fused(native):
    u = fill(native, ("uniform", "float64"), STATES[0], 10007).copy()
    low, width = -0.1, 1.1
    right = low + width * u
    assert native["affine"](u.ctypes.data, len(u), low, width) == 0
    assert np.array_equal(u, right)


DRAWS = """
stream gen = philox(3)
random u: f64[1000] ~ gen.uniform(0, 1)
random v: f32[1001] ~ uniform(-2, 3)
random z: f64[n] ~ normal(1, 2)
random k: i64[7] ~ integers(-5, 5)
random q: u8[n] ~ integers(0, 256)
random wide: f64[3] ~ normal(0, s)
tensor x: f64[n]
shared s: f64 = 2
function f(x) = (u, v, z + x, k, q) where { update s = s + mean(u) + sum(z) }
function g() = u[:3]
function h() = wide
"""


def same(first: Any, second: Any) -> None:
    for found, wanted in zip(first, second, strict=True):
        assert found.dtype == wanted.dtype
        np.testing.assert_allclose(found, wanted, rtol=1e-14)


def test_functions_draw_in_kernels() -> None:
    """The numbers and the states of the interpreter, in single calls and in loops; `hold` keeps a state."""
    x = np.arange(10.0)
    compiled, plain = (tlang.compile(DRAWS, backend) for backend in (BACKEND, "numpy"))
    for _ in range(2):
        same(compiled.f(x), plain.f(x))
        np.testing.assert_array_equal(compiled.g(), plain.g())
    same(compiled.repeat(40, "f", x), plain.repeat(40, "f", x))
    assert not compiled._session.loops.why_slow
    held = [m.f.copy(hold="u") for m in (compiled, plain)]
    same(held[0](x), held[1](x))
    same(compiled.f(x), plain.f(x))
    for m in (compiled, plain):
        m.run("repeat 30 { set r = f([1.0, 2.0]) }")
        m.gen.seed = 7
        m.run("repeat 30 { set r = f([1.0, 2.0]) }")
    for variable in ("u", "v", "z", "k", "q"):
        assert compiled[variable].state == plain[variable].state
    np.testing.assert_allclose(compiled.s.value, plain.s.value, rtol=1e-12)
    np.testing.assert_allclose(compiled.h(), plain.h(), rtol=1e-14)


def test_draws_do_not_depend_on_threads() -> None:
    text = """
        random z: f64[100_000] ~ normal(0, 1)
        shared s: f64 = 0
        function f() = () where { update s = s + sum(z) }
    """
    found = []
    for threads in (1, 2):
        m = tlang.compile(text, "cpu")
        m._session.backends.threads = threads
        m.repeat(5, "f")
        found.append(m.s.value)
    assert found[0] == found[1]


RUN_TIME = """
shared sd: f64 = 2
tensor mu: f64[n]
tensor sc: f32[n]
random a: f64[n] ~ normal(0, sd)
random b: f32[n] ~ exponential(sc)
random c: f64[n] ~ exponential(sd)
random d: f64[n] ~ uniform(mu, mu + sd)
random e: f32[n] ~ uniform(-sc, sc)
random f: i8[n] ~ bernoulli(sc)
random g: f32[3, n] ~ bernoulli([[0.5], [0], [1]])
random h: f32[n] ~ normal(sc, sc)
random i: bool[n] ~ bernoulli(0.25)
random k: f64[n] ~ gamma(sc64, sd)
random l: i64[n] ~ poisson(sc64)
sc64 = f64(sc)
function draw(mu, sc) = (a, b, c, d, e, f, g, h, i) where { update sd = sd * 1.25 }
function rest(sc) = (k, l)
function step(mu) = where(i, mu, 0) * a + d where { update sd = 1 + 0.001 * mean(d) ** 2 }
"""


def test_parameters_that_only_the_run_knows() -> None:
    """Uniforms and bernoulli are exact, the rest is within 4 units in the last place; states are the same."""
    gen = np.random.default_rng(1)
    mu, sc = gen.normal(size=MANY), gen.random(MANY, np.float32)
    compiled, plain = (tlang.compile(RUN_TIME, backend) for backend in (BACKEND, "numpy"))
    for _ in range(2):
        for key, found, right in zip("abcdefghi", compiled.draw(mu, sc), plain.draw(mu, sc), strict=True):
            assert found.dtype == right.dtype
            if key == "h" and ON_A_GPU:  # the normal is not exact, and its product is added to the mean
                assert (np.abs(found - right) / np.spacing(np.maximum(sc, np.abs(right)))).max() <= 4
            elif right.dtype.kind == "f":
                assert ulps(found, right).max() <= 4
            else:
                assert np.array_equal(found, right)
        for variable in "degi":
            assert compiled[variable].state == plain[variable].state
        for found, right in zip(compiled.rest(sc), plain.rest(sc), strict=True):
            assert np.array_equal(found, right)


def test_draws_with_parameters_in_loops() -> None:
    mu = np.linspace(-1, 1, MANY // 100)
    compiled, plain = (tlang.compile(RUN_TIME, backend) for backend in (BACKEND, "numpy"))
    found, right = (m.repeat(50, "step", mu) for m in (compiled, plain))
    np.testing.assert_allclose(found, right, rtol=1e-12)
    assert not compiled._session.loops.why_slow
    np.testing.assert_allclose(compiled.sd.value, plain.sd.value, rtol=1e-13)
    for variable in "adi":
        assert compiled[variable].state == plain[variable].state


WRONG = """
tensor low, high: f64[n]
random e: f64[n] ~ exponential(low)
random u: f64[n] ~ uniform(low, high)
random z: f64[n] ~ normal(0, low)
random b: bool[n] ~ bernoulli(low)
shared s: f64 = 1
function exponentials(low) = e where { update s = s + 1 }
function uniforms(low, high) = u where { update s = s + 1 }
function normals(low) = z where { update s = s + 1 }
function flags(low) = b where { update s = s + 1 }
function size_alone(low) = size(z) where { update s = s + 1 }
function nothing(low) = 0 * z where { update s = s + 1 }
"""


@pytest.mark.parametrize("backend", ["numpy", BACKEND])
@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("exponentials", ([1, 2, -1],)),
        ("exponentials", ([1, np.nan, 1],)),
        ("uniforms", ([1, 2], [1, 1])),
        ("uniforms", ([1, 2], [1, np.inf])),
        ("uniforms", ([1, -np.inf], [1, 3])),
        ("uniforms", ([1, -1.5e308], [1, 1.5e308])),
        ("uniforms", ([1, np.nan], [1, 3])),
        ("normals", ([1, -1e-300],)),
        ("flags", ([1, 1.0000001],)),
        ("flags", ([1, -0.1],)),
        ("flags", ([1, np.nan],)),
        ("size_alone", ([1, -1],)),
        ("nothing", ([1, -1],)),
    ],
)
def test_wrong_parameters_at_the_run(backend: str, name: str, args: tuple[Any, ...]) -> None:
    """The error of the interpreter, nothing stored and nothing advanced; in loops too."""
    m = tlang.compile(WRONG, backend)
    getattr(m, name)(*([1.0] * len(args[0]) for _ in args))
    states = [m[v].state for v in "euzb"]
    for repeat in (False, True):
        with pytest.raises(tlang.StateError, match="but must be"):
            m.repeat(5, name, *args) if repeat else getattr(m, name)(*args)
        assert m.s.value == 2
        assert [m[v].state for v in "euzb"] == states


IN_BETWEEN = """
shared lam: f64 = 3
shared total: i64 = 0
random k: i64[4] ~ poisson(lam)
random z: f64[4] ~ gamma(lam + 1, 2)
random unread: i64[4] ~ binomial(5, 0.5)
function step() = (z, 0 * unread) where { update lam = lam - 1; update total = total + sum(k) }
"""


def test_draws_by_numpy_between_kernels_of_a_loop() -> None:
    """The numbers, and where a parameter becomes wrong the error, of the interpreter."""
    found = []
    for backend in ("numpy", BACKEND):
        m = tlang.compile(IN_BETWEEN + "repeat 4 { set last = step() }", backend)
        assert ON_A_GPU or not m._session.loops.why_slow
        states = [m[v].state for v in ("k", "z", "unread")]
        with pytest.raises(tlang.StateError, match="R140"):
            m.repeat(10, "step")
        assert [m[v].state for v in ("k", "z", "unread")] == states
        other = tlang.compile(IN_BETWEEN, backend)
        with pytest.raises(tlang.StateError, match="R140"):
            other.repeat(10, "step")
        assert [other[v].state for v in ("k", "z", "unread")] == states
        found.append((m.last.z.tolist(), m.total.value, other.total.value, other.lam.value))
    assert found[0] == found[1]
    assert found[0][3] == -1


FUSED = """
stream gen = philox(11)
tensor x: f64[n, m]
tensor w: f64[m]
random z: f64[n, m] ~ gen.normal(0, 1)
random u: f32[n, m] ~ gen.uniform(-1, 1)
random v: f64[n, m] ~ gen.uniform(0, 1)
random k: i16[n, m] ~ gen.integers(-7, 9)
random keep: f64[n, m] ~ gen.bernoulli(0.75)
random row: f64[m] ~ gen.normal(1, 2)
random column: f64[n] ~ gen.uniform(0, 1)
random one: f64 ~ gen.uniform(0, 1)
random cube: f64[2, n, m] ~ gen.uniform(0, 1)
random e: f32[n, m] ~ gen.exponential(f32(abs(x)))
shared s: f64 = 1
shared b: f64[n, m] = [[0]]
function sums(x) = (sum(z), sum(x * u, axis=0), sum(x * v, axis=1), sum(k), sum(k, axis=1))
function greatest(x) = (max(x + keep, axis=0), max(x * z))
function first(x) = sum(z, axis=0)
function last(x) = mean(x * z)
function both(x) = (x + 0.1 * z - u, sum(k * v))
function kept(x) = (z, sum(z ** 2), u + x)
function stretched(x) = (x + row, x * column[:, None], one * x, sum(row) + sum(column))
function transposed(x) = (x.T + z.T, v.T + sum(v.T, axis=1)[:, None], sum(u.T, axis=0))
function stages(x) = (softmax(x + z, axis=1), logsumexp(x * v, axis=1), v / sum(v, axis=1, keepdims=True))
function product(x, w) = ((x * keep) @ w, w @ (x * z).T, (x * u).T @ (x @ w))
function dropout(x) = (x * keep, grad(sum(tanh(x * keep) ** 2), x))
function middle(x) = (sum(cube, axis=1), sum(cube * x, axis=(0, 2)), sum(cube[1] * x))
function examined(x) = sum(e * e, axis=1)
function far(x) = sum(sin(1e9 * x * v), axis=1)
function step(x) = (mean(z * x), sum(v)) where {
    update s = s + mean(u * x) + sum(k)
    update b = 0.5 * b + x * keep
}
"""
RANDOM = ("z", "u", "v", "k", "keep", "row", "column", "one", "cube", "e")
FORMS = ["sums", "greatest", "first", "last", "both", "kept", "stretched", "transposed", "stages", "product"]
FORMS += ["dropout", "middle", "examined", "far", "step"]
SHAPES = [(1, 1), (1, 3), (7, 1), (3, 7), (7, 20), (600, 3), (3, 4097), (4097, 5), (70, 1025), (0, 3), (3, 0)]


@pytest.fixture(scope="module")
def fused_pair() -> Any:
    return tlang.compile(FUSED, "cpu"), tlang.compile(FUSED, "numpy")


def close(first: Any, second: Any) -> None:
    for found, wanted in zip(first, second, strict=True):
        assert np.asarray(found).dtype == np.asarray(wanted).dtype
        if np.asarray(wanted).dtype.kind == "f":
            size = np.abs(wanted).max() if np.size(wanted) else 1
            rough = 1e-5 if np.asarray(wanted).dtype == np.float32 else 1e-11
            np.testing.assert_allclose(found, wanted, rtol=rough, atol=rough * size)
        else:
            np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_fused_draws(fused_pair: Any, shape: tuple[int, int]) -> None:
    """Numbers drawn where they are used: those of the interpreter, in calls and in loops, and all states."""
    gen = np.random.default_rng(3)
    x, w = gen.normal(size=shape), gen.normal(size=shape[1])
    for form in FORMS:
        for module in fused_pair:
            module.run(f"set b = zeros([{shape[0]}, {shape[1]}])")
        args = (x, w) if form == "product" else (x,)
        if not x.size and form in ("greatest", "last", "stages", "step"):
            continue  # of nothing there is no maximum, and no mean
        for repeat in (0, 1, 3):
            found, right = (
                m.repeat(repeat, form, *args) if repeat else getattr(m, form)(*args) for m in fused_pair
            )
            close(*(r if isinstance(r, tuple) else (r,) for r in (found, right)))
            for variable in RANDOM:
                assert fused_pair[0][variable].state == fused_pair[1][variable].state
            close(*([m.s.value, m.b.value] for m in fused_pair))


@pytest.mark.parametrize("name", ["sums", "both", "stages", "dropout", "step"])
def test_fused_draws_do_not_depend_on_threads(name: str) -> None:
    x, found = np.random.default_rng(4).normal(size=(1001, 1003)), []
    for threads in (1, 2, 3):
        m = tlang.compile(FUSED, "cpu")
        m._session.threads = threads
        m.run("set b = zeros([1001, 1003])")
        for repeat in (0, 2):
            result = m.repeat(repeat, name, x) if repeat else getattr(m, name)(x)
        found.append(result)
    for other in found[1:]:
        for a, b in zip(*(r if isinstance(r, tuple) else (r,) for r in (found[0], other)), strict=True):
            assert np.array_equal(a, b)


def segments(monkeypatch: pytest.MonkeyPatch) -> list[Segment]:
    """The segments that are made from now on."""
    made: list[Segment] = []
    plain = Segment.__init__

    def init(self: Segment, *args: Any, **kwargs: Any) -> None:
        plain(self, *args, **kwargs)
        made.append(self)

    monkeypatch.setattr(Segment, "__init__", init)
    return made


@pytest.mark.parametrize(
    "formula",
    [
        "mean(z * x)",
        "sum(z ** 2) + sum(u)",
        "sum(tall, axis=0)",
        "sum(exp(square), axis=1)",
        "mean(where(keep, x, 0))",
    ],
)
def test_no_array_of_randoms(formula: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a call needs beside its arrays does not grow with the draw."""
    made = segments(monkeypatch)
    m = tlang.compile(
        f"""
        random z: f64[1_000_000] ~ normal(0, 1)
        random u: f32[1_000_000] ~ uniform(-1, 1)
        random keep: bool[1_000_000] ~ bernoulli(0.5)
        random tall: f64[10_000, 100] ~ normal(0, 1)
        random square: f64[1000, 1000] ~ normal(0, 1)
        tensor x: f64[1_000_000]
        function f(x) = {formula} + 0 * sum(x[:1])
        """,
        "cpu",
    )
    m.f(np.ones(10**6))
    (frame,) = (f for s in made for frames in s.frames.values() for f in frames)
    assert frame.memory.nbytes < 200_000
    assert all(np.prod(shape) <= 1000 for _, shape, _ in frame.outputs)


def test_plans_show_where_numbers_are_drawn() -> None:
    text = """
        random z: f64[n, m] ~ normal(0, 1)
        random bias: f64[m] ~ uniform(0, 1)
        random thin: f64[n, 3] ~ uniform(0, 1)
        function f(x: f64[n, m]) = sum(x * z, axis=0)
        function g(x: f64[n, m]) = x + bias
        function h(x: f64[n, m]) = (z, x + z)
        function k(x: f64[n, 3]) = sum(x * thin, axis=1)
    """

    def plan(name: str) -> list[str]:
        shown = emit(Source("<text>", text), "plan", name, unused="ignore").splitlines()
        return [line.split("  (")[0].strip() for line in shown if "draw" in line or "reads unit" in line]

    assert plan("f") == ["draw normal: f64[n, m]"]  # a member of the nest
    assert plan("g") == ["0: draw uniform: f64[m]", "reads unit: f64[m]"]  # once, not for each row
    assert plan("h") == ["0: draw normal: f64[n, m]", "reads unit: f64[n, m]"]  # it is wanted anyway
    assert plan("k") == ["0: draw uniform: f64[n, 3]", "reads unit: f64[n, 3]"]  # short rows
