"""The generators: published vectors, exact bits, distributions, and what a draw does to a state."""

from __future__ import annotations

import importlib.util
import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from tlang.run import distributions, rng

F64, F32, I64, U64 = (np.dtype(t) for t in ("f8", "f4", "i8", "u8"))
M64 = 2**64 - 1
CASES = [
    ("uniform", (2.0, 5.0), F64),
    ("uniform", (-1.0, 1.0), F32),
    ("normal", (3.0, 2.0), F64),
    ("normal", (-1.0, 0.5), F32),
    ("integers", (-3, 9), I64),
]


def draw(
    state: rng.State, name: str, params: Sequence[Any], shape: tuple[int, ...], dtype: np.dtype[Any] = F64
) -> np.ndarray[Any, np.dtype[Any]]:
    return distributions.draw(state, name, [np.asarray(p) for p in params], shape, dtype)[0]


# An independent Philox4x32-10 on Python integers, written from the paper.


def block(key: int, counter: int) -> list[int]:
    c = [counter >> 32 * i & 0xFFFFFFFF for i in range(4)]
    for i in range(10):
        k0 = (key + i * 0x9E3779B9) & 0xFFFFFFFF
        k1 = ((key >> 32) + i * 0xBB67AE85) & 0xFFFFFFFF
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [b >> 32 ^ c[1] ^ k0, b & 0xFFFFFFFF, a >> 32 ^ c[3] ^ k1, a & 0xFFFFFFFF]
    return c


def blocks(state: rng.PhiloxState, count: int) -> list[list[int]]:
    return [block(state.key, (state.counter << 64) + i) for i in range(count)]


def single(x: float) -> float:
    return float(struct.unpack("f", struct.pack("f", x))[0])


# Published vectors


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)
def test_philox_known_answers(counter: str, key: str, expected: str) -> None:
    c, k, e = ([int(w, 16) for w in text.split()] for text in (counter, key, expected))
    assert [int(w) for w in rng.philox4x32(c, (k[0], k[1]))] == e
    assert block(k[0] + (k[1] << 32), sum(w << 32 * i for i, w in enumerate(c))) == e
    many = rng.philox4x32([np.array([w, 0]) for w in c], (k[0], k[1]))
    assert [int(w[0]) for w in many] == e


def test_hash_known_answers() -> None:
    assert rng.fnv1a64(b"") == 0xCBF29CE484222325
    assert rng.fnv1a64(b"a") == 0xAF63DC4C8601EC8C
    assert rng.fnv1a64(b"foobar") == 0x85944171F73967E8
    assert rng.splitmix64(0) == 0xE220A8397B1DCDAF
    assert rng.splitmix64(0x9E3779B97F4A7C15) == 0x6E789E6AA1B965F4


def test_philox_state_is_pinned() -> None:
    assert rng.philox_state(0, "main.w") == rng.PhiloxState(key=0x6E9197662022A968, counter=0)
    expected = rng.splitmix64((rng.fnv1a64("é.x".encode()) + rng.splitmix64(7)) & M64)
    assert rng.philox_state(7, "é.x").key == expected
    assert rng.philox_state(-1, "x") == rng.philox_state(M64, "x") == rng.philox_state(2**70 - 1, "x")
    names, seeds = [f"main.w{i}" for i in range(300)], range(-50, 300)
    keys = {rng.philox_state(seed, name).key for seed in seeds for name in names}
    assert len(keys) == 300 * 350


# Exact bits

GOLDEN = rng.PhiloxState(0x0123456789ABCDEF, 3)
GOLDEN_F64 = ["0x1.05a6230d3c700p-2", "0x1.e11ad41c5ccccp-1", "0x1.6cf239afdfb28p-1"]
GOLDEN_F32 = ["0x1.3c70080000000p-2", "0x1.05a6200000000p-2", "0x1.7333100000000p-3"]
GOLDEN_I64 = [939657810651927864, 119842305593596934, 90378866436066976]
GOLDEN_NORMAL = [0.7136435045203751, -0.28432785302524294, 1.1525302604521828]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 9])
@pytest.mark.parametrize("state", [GOLDEN, rng.PhiloxState(M64, M64), rng.PhiloxState(0, 0)])
def test_uniform_bits(state: rng.PhiloxState, count: int) -> None:
    words = blocks(state, 5)
    f64 = [(x >> 11) / 2**53 for w in words for x in (w[0] | w[1] << 32, w[2] | w[3] << 32)]
    assert draw(state, "uniform", (0, 1), (count,)).tolist() == f64[:count]
    f32 = [(x >> 8) / 2**24 for w in words for x in w]
    assert draw(state, "uniform", (0, 1), (count,), F32).tolist() == f32[:count]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 8])
@pytest.mark.parametrize("state", [GOLDEN, rng.PhiloxState(M64, M64), rng.PhiloxState(0, 0)])
def test_normal_bits(state: rng.PhiloxState, count: int) -> None:
    def pair(u1: float, u2: float) -> list[float]:
        r, t = math.sqrt(-2 * math.log(u1)), 2 * math.pi * u2
        return [r * math.cos(t), r * math.sin(t)]

    f64, f32 = [], []
    for w in blocks(state, 5):
        x, y = w[0] | w[1] << 32, w[2] | w[3] << 32
        f64 += pair(1 - (x >> 11) / 2**53, (y >> 11) / 2**53)
        f32 += [single(z) for p in (w[:2], w[2:]) for z in pair((p[0] + 1) / 2**32, p[1] / 2**32)]
    np.testing.assert_allclose(draw(state, "normal", (0, 1), (count,)), f64[:count], rtol=1e-14)
    np.testing.assert_allclose(draw(state, "normal", (0, 1), (count,), F32), f32[:count], rtol=2e-7)


def test_golden_constants() -> None:
    """Numbers that must never change, whatever becomes of the code above."""
    assert [x.hex() for x in draw(GOLDEN, "uniform", (0, 1), (3,)).tolist()] == GOLDEN_F64
    assert [x.hex() for x in draw(GOLDEN, "uniform", (0, 1), (3,), F32).tolist()] == GOLDEN_F32
    assert draw(GOLDEN, "integers", (-(10**6), 10**18), (3,), I64).tolist() == GOLDEN_I64
    np.testing.assert_allclose(draw(GOLDEN, "normal", (0, 1), (3,)), GOLDEN_NORMAL, rtol=1e-14)


def test_affine_in_the_dtype() -> None:
    u = draw(GOLDEN, "uniform", (0, 1), (7,), F32)
    low, high = np.float32(0.1), np.float32(7.3)
    assert (draw(GOLDEN, "uniform", (0.1, 7.3), (7,), F32) == low + (high - low) * u).all()
    z = draw(GOLDEN, "normal", (0, 1), (7,))
    assert (draw(GOLDEN, "normal", (0.1, 7.3), (7,)) == 0.1 + 7.3 * z).all()


def test_pieces_join(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks are computed in pieces; their length must not show."""
    for name, params, dtype in CASES:
        whole = draw(GOLDEN, name, params, (1001,), dtype)
        monkeypatch.setattr(rng, "_CHUNK", 16)
        assert (draw(GOLDEN, name, params, (1001,), dtype) == whole).all()
        monkeypatch.undo()
    state = rng.PhiloxState(5, 0)
    first, words = list(rng.philox_blocks(state, rng._CHUNK + 2))[-1]
    assert first == rng._CHUNK
    assert words.tolist() == [block(5, first), block(5, first + 1)]


# Integers


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(0, M64))
def test_integers_are_exact(data: st.DataObject, key: int) -> None:
    low = data.draw(st.integers(-(2**63), 2**63 - 2))
    high = data.draw(st.integers(low + 1, 2**63 - 1))
    state = rng.PhiloxState(key, 1)
    found = draw(state, "integers", (np.int64(low), np.int64(high)), (3,), I64)
    for value, words in zip(found.tolist(), blocks(state, 3), strict=True):
        x = sum(w << 32 * i for i, w in enumerate(words))
        assert value == low + (x * (high - low) >> 128)


@pytest.mark.parametrize("code", ["i1", "i2", "i4", "i8", "u1", "u2", "u4"])
@pytest.mark.parametrize("state", [GOLDEN, rng.mt19937_state(5)])
def test_integers_of_each_dtype(code: str, state: rng.State) -> None:
    dtype = np.dtype(code)
    least, end = int(np.iinfo(dtype).min), int(np.iinfo(dtype).max) + 1
    high = np.array(end, U64)
    found = draw(state, "integers", (least, high), (2000,), dtype)
    assert found.dtype == dtype
    margin = (end - least) // 100
    assert int(found.min()) <= least + margin
    assert int(found.max()) >= end - 1 - margin
    with pytest.raises(rng.InvalidParameter, match=f"at most {end} for {code[0]}{8 * dtype.itemsize}"):
        draw(state, "integers", (0, np.array(end + 1, U64)), (2,), dtype)
    if least > -(2**63):
        with pytest.raises(rng.InvalidParameter, match=f"at least {least} for {code[0]}{8 * dtype.itemsize}"):
            draw(state, "integers", (least - 1, 1), (2,), dtype)


@pytest.mark.parametrize("state", [GOLDEN, rng.mt19937_state(5)])
def test_integers_above_i64(state: rng.State) -> None:
    low, high = np.array(2**63 + 1, U64), np.array(M64, U64)
    found = draw(state, "integers", (low, high), (100,), U64)
    assert found.min() > 2**63
    assert found.max() < M64
    with pytest.raises(rng.InvalidParameter, match="at least 0 for u64"):
        draw(state, "integers", (np.array(-1), high), (100,), U64)
    lows, highs = np.array([-(2**63), 5]), np.array([2**63, 2**63], U64)
    found = draw(state, "integers", (lows, highs), (100, 2), I64)
    assert found[:, 0].min() < 0 <= 5 <= found[:, 1].min()


def test_integers_of_the_whole_range() -> None:
    bounds = np.array(-(2**63)), np.array(2**63, U64)
    found = draw(GOLDEN, "integers", bounds, (4,), I64)
    assert found.tolist() == [(w[2] | w[3] << 32) - 2**63 for w in blocks(GOLDEN, 4)]


def test_integers_broadcast() -> None:
    low, high = np.array([[0], [-(2**62)]]), np.array([1, 10, 2**62])
    found = draw(GOLDEN, "integers", (low, high), (2, 3), I64)
    flat = blocks(GOLDEN, 6)
    for i in range(2):
        for j in range(3):
            x = sum(w << 32 * k for k, w in enumerate(flat[3 * i + j]))
            bounds = int(low[i, 0]), int(high[j])
            assert found[i, j] == bounds[0] + (x * (bounds[1] - bounds[0]) >> 128)


# mt19937


def test_mt19937_is_numpys() -> None:
    seeds = rng.mt19937_seeds(234, 5)
    gen = np.random.RandomState(234)
    assert seeds == [int(gen.randint(2**30)) for _ in range(5)]
    first = draw(rng.mt19937_state(seeds[0]), "uniform", (0, 1), (2, 2))
    np.testing.assert_allclose(first, [[0.12672381, 0.97091597], [0.13989098, 0.88754825]], atol=5e-9)

    state: rng.State = rng.mt19937_state(7)
    gen = np.random.RandomState(7)
    for shape in [(3,), (), (2, 5), (0,), (1000,)]:
        for name, params, method in [
            ("normal", (0.5, 2.0), gen.normal),
            ("uniform", (-1.0, 2.0), gen.uniform),
            ("integers", (-5, 11), gen.randint),
        ]:
            dtype = I64 if name == "integers" else F64
            arrays = [np.asarray(p) for p in params]
            found, state = distributions.draw(state, name, arrays, shape, dtype)
            assert found.shape == shape
            assert found.dtype == dtype
            assert (found == method(*params, size=shape)).all()


def test_mt19937_keeps_the_second_normal() -> None:
    start = rng.mt19937_state(1)
    one, half = distributions.draw(start, "normal", [np.asarray(0.0), np.asarray(1.0)], (), F64)
    two, _ = distributions.draw(half, "normal", [np.asarray(0.0), np.asarray(1.0)], (), F64)
    assert isinstance(half, rng.Mt19937State)
    assert half.has_gauss == 1
    assert [one.item(), two.item()] == np.random.RandomState(1).normal(size=2).tolist()


def test_mt19937_f32_is_cast_and_broadcasts() -> None:
    state, low = rng.mt19937_state(3), np.array([[0.0], [5.0]])
    found = draw(state, "uniform", (low, 6.0), (2, 3), F32)
    expected = np.random.RandomState(3).uniform(low, 6.0, (2, 3)).astype(F32)
    assert found.dtype == F32
    assert (found == expected).all()
    assert (draw(state, "normal", (1.0, -0.0), (4,)) == 1).all()


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_mt19937_seed_range(seed: int) -> None:
    with pytest.raises(rng.InvalidParameter, match="from 0 to 4294967295"):
        rng.mt19937_state(seed)
    with pytest.raises(rng.InvalidParameter, match="from 0 to 4294967295"):
        rng.mt19937_seeds(seed, 1)


# Distributions at 10^5 draws

N = 100_000
STATES = [rng.philox_state(0, "main.r"), rng.philox_state(12345, "other.r"), rng.mt19937_state(11)]


@pytest.mark.parametrize("state", STATES, ids=lambda s: s.generator)
@pytest.mark.parametrize("dtype", [F64, F32])
def test_floats_are_distributed_right(state: rng.State, dtype: np.dtype[Any]) -> None:
    u = draw(state, "uniform", (2, 5), (N,), dtype)
    assert u.dtype == dtype
    assert u.min() >= 2
    assert u.max() <= 5
    assert abs(u.mean() - 3.5) < 0.012
    assert abs(u.std() - 3 / math.sqrt(12)) < 0.008
    assert stats.kstest(u.astype(float), stats.uniform(2, 3).cdf).pvalue > 1e-3
    z = draw(state, "normal", (-1, 2), (N,), dtype).astype(float)
    assert abs(z.mean() + 1) < 0.025
    assert abs(z.std() - 2) < 0.018
    assert abs(stats.skew(z)) < 0.03
    assert abs(stats.kurtosis(z)) < 0.06
    assert stats.kstest(z, stats.norm(-1, 2).cdf).pvalue > 1e-3
    for x in (u.astype(float), z):
        for lag in (1, 2, 3, 4):
            assert abs(np.corrcoef(x[:-lag], x[lag:])[0, 1]) < 4 / math.sqrt(N)


@pytest.mark.parametrize("state", STATES, ids=lambda s: s.generator)
def test_integers_are_distributed_right(state: rng.State) -> None:
    counts = np.bincount(draw(state, "integers", (-5, 12), (N,), I64) + 5, minlength=17)
    assert len(counts) == 17
    assert stats.chisquare(counts).pvalue > 1e-3


def test_neighbours_are_independent() -> None:
    states = [rng.philox_state(seed, name) for seed in (0, 1, 2, 2**32) for name in ("m.a", "m.b", "m.aa")]
    states += [rng.PhiloxState(states[0].key, c) for c in (1, 2, 2**32)]
    states += [rng.PhiloxState(states[0].key ^ 1 << k, 0) for k in (0, 31, 32, 63)]
    z = np.array([draw(s, "normal", (0, 1), (N,)) for s in states])
    off = np.corrcoef(z) - np.eye(len(states))
    assert np.abs(off).max() < 4.5 / math.sqrt(N)


# What a draw does


@pytest.mark.parametrize(("name", "params", "dtype"), CASES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (1,), (5,), (2, 3), (2, 1, 3, 1)])
@pytest.mark.parametrize("start", [GOLDEN, rng.mt19937_state(2)], ids=lambda s: s.generator)
def test_shapes(
    start: rng.State, shape: tuple[int, ...], name: str, params: tuple[Any, ...], dtype: np.dtype[Any]
) -> None:
    found, after = distributions.draw(start, name, [np.asarray(p) for p in params], shape, dtype)
    assert isinstance(found, np.ndarray)
    assert found.shape == shape
    assert found.dtype == dtype
    assert found.flags.writeable
    assert found.flags.c_contiguous
    again, same = distributions.draw(start, name, [np.asarray(p) for p in params], shape, dtype)
    assert (again == found).all()
    assert same == after
    assert hash(same) == hash(after)
    assert not np.shares_memory(again, found)
    assert after.generator == start.generator
    if isinstance(after, rng.PhiloxState):
        assert after == rng.PhiloxState(GOLDEN.key, GOLDEN.counter + 1)
    elif math.prod(shape):
        assert after != start


def test_prefix_and_advance() -> None:
    """Elements go by position in C order; the next draw shares nothing with the first."""
    state = rng.philox_state(1, "x")
    long = draw(state, "uniform", (0, 1), (3, 4))
    assert (draw(state, "uniform", (0, 1), (5,)) == long.reshape(-1)[:5]).all()
    _, after = distributions.draw(state, "uniform", [np.asarray(0.0), np.asarray(1.0)], (1000,), F64)
    assert not np.isin(draw(after, "uniform", (0, 1), (1000,)), draw(state, "uniform", (0, 1), (1000,))).any()
    last = rng.PhiloxState(state.key, M64)
    _, wrapped = distributions.draw(last, "uniform", [np.asarray(0.0), np.asarray(1.0)], (1,), F64)
    assert wrapped == state


def test_parameters_broadcast() -> None:
    low, high = np.array([[0.0], [10.0]]), np.array([20.0, 30.0, 40.0])
    found = draw(GOLDEN, "uniform", (low, high), (2, 3))
    u = draw(GOLDEN, "uniform", (0, 1), (2, 3))
    assert (found == low + (high - low) * u).all()
    with pytest.raises(ValueError, match="broadcast"):
        draw(GOLDEN, "uniform", (low, high), (3, 3))
    assert (draw(GOLDEN, "uniform", (4, 4), (5,)) == 4).all()
    assert np.isnan(draw(GOLDEN, "normal", (np.nan, 1), (5,))).all()


NAN, INF = math.nan, math.inf
INVALID: list[tuple[str, tuple[Any, ...], str, Any]] = [
    ("uniform", (1.0, 0.0), "high", 0.0),
    ("uniform", (NAN, 0.0), "low", NAN),
    ("uniform", (0.0, NAN), "high", NAN),
    ("uniform", (-INF, 0.0), "low", -INF),
    ("uniform", (0.0, INF), "high", INF),
    ("uniform", (-1e308, 1e308), "high", 1e308),
    ("uniform", (0.0, [[1.0], [-2.0]]), "high", -2.0),
    ("normal", (0.0, -1.0), "std", -1.0),
    ("normal", ([0.0, 1.0], [1.0, -3.0]), "std", -3.0),
    ("normal", (0.0, NAN), "std", NAN),
    ("integers", (3, 3), "high", 3),
    ("integers", (0, [5, -1]), "high", -1),
    ("integers", (-(2**63), np.int64(-(2**63))), "high", -(2**63)),
]


@pytest.mark.parametrize("state", [GOLDEN, rng.mt19937_state(0)], ids=lambda s: s.generator)
@pytest.mark.parametrize(("name", "params", "parameter", "value"), INVALID)
def test_invalid_parameters(
    state: rng.State, name: str, params: tuple[Any, ...], parameter: str, value: Any
) -> None:
    dtype = I64 if name == "integers" else F64
    for shape in [(2, 2), (0, 2, 2)]:
        with pytest.raises(rng.InvalidParameter) as caught:
            draw(state, name, params, shape, dtype)
        found = caught.value
        assert (found.distribution, found.name) == (name, parameter)
        assert type(found.value) is type(value)
        assert found.value == value or (math.isnan(value) and math.isnan(found.value))  # type: ignore[arg-type]
        assert found.expected
        assert str(found.value) in str(found)


def test_f32_bounds_are_judged_as_f32() -> None:
    with pytest.raises(rng.InvalidParameter, match="finite"):
        draw(GOLDEN, "uniform", (0.0, 1e300), (2,), F32)
    with pytest.raises(rng.InvalidParameter, match="no finite f32"):
        draw(GOLDEN, "uniform", (-3e38, 3e38), (2,), F32)


@pytest.mark.parametrize(
    ("name", "params", "dtype"),
    [
        ("uniform", (0, 1), "i8"),
        ("uniform", (0, 1), "f2"),
        ("normal", (0, 1), "c16"),
        ("integers", (0, 1), "f8"),
        ("integers", (0.0, 1.0), "i8"),
    ],
)
def test_dtypes_that_cannot_be_drawn(name: str, params: tuple[Any, ...], dtype: str) -> None:
    with pytest.raises(TypeError):
        draw(GOLDEN, name, params, (2,), np.dtype(dtype))


# The battery


@pytest.fixture(scope="module")
def battery() -> Any:
    """tests/battery.py, which is a script."""
    spec = importlib.util.spec_from_file_location("battery", Path(__file__).parent / "battery.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_battery_takes_the_bits_of_draws(battery: Any) -> None:
    first = next(battery.one_draw())
    assert (first == rng.bits64(rng.philox_state(0, "main.r"), len(first))).all()
    draws = next(battery.many_draws()).reshape(-1, 128)
    for k in (0, 1, 77):
        state = rng.PhiloxState(rng.philox_state(1, "main.noise").key, k)
        assert (draws[k] == rng.bits64(state, 128)).all()
    variables = next(battery.many_variables()).reshape(-1, 128)
    for k in (0, 255, 256, 700):
        state = rng.philox_state(k % 256, f"main.w{k // 256}")
        assert (variables[k] == rng.bits64(state, 128)).all()


@pytest.mark.parametrize("source", ["one draw", "many draws", "many variables"])
def test_the_battery_passes_philox(battery: Any, source: str) -> None:
    assert not [name for name, p in battery.battery(source, 8).items() if battery.is_odd(p)]


def test_the_battery_fails_a_bad_generator(battery: Any) -> None:
    failed = [name for name, p in battery.battery("randu", 8).items() if battery.is_odd(p)]
    assert len(failed) >= 5


def test_the_figure_of_the_battery(battery: Any) -> None:
    """The recorded run is one of 1 GiB, of all tests, and none of them failed."""
    text = battery.FIGURE.read_text()
    assert "512 MiB         256 MiB         256 MiB" in text
    assert all(name in text for name in battery.TESTS)
    assert "failures, which are odd twice: 0" in text


@pytest.mark.slow
def test_a_gibibyte_of_bits(battery: Any) -> None:
    sizes = {"one draw": 512, "many draws": 256, "many variables": 256}
    found = {source: battery.battery(source, mib) for source, mib in sizes.items()}
    assert battery.figure(found, sizes, battery.again(found, sizes)) == battery.FIGURE.read_text()
