"""The cache of compiled kernels: what is kept and when not, and what object code is."""

from __future__ import annotations

import errno
import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlang.run import cache
from tlang.run.cache import Cache, cache_folder, key
from tlang.run.objects import ObjectCode, ObjectError, compile_text, load_object
from tlang.tools.cli import main

TEXT = """
@njit
def logistic(t):
    return 1.0 / (1.0 + math.exp(-t))

def points(x, out, n):
    x = float64_at(x)
    out = float64_at(out)
    for i in range(n):
        out[i] = logistic(x[i])
    return n

def total(x, out, n, factor):
    x = float64_at(x)
    s = 0.0
    for i in range(n):
        s += factor * x[i] + logistic(x[i])
    float64_at(out)[0] = s
    return 0

def count(flags, n):
    flags = bool_at(flags)
    found = 0
    for i in range(n):
        found += 1 if flags[i] else 0
    return found

"""
SIGNATURES = {
    "points": "int64(int64, int64, int64)",
    "total": "int64(int64, int64, int64, float64)",
    "count": "int64(int64, int64)",
}
FLAGS = {"reassoc", "contract", "nsz", "arcp"}
SMALL = ObjectCode({"f": "int64(int64)"}, b"code")


@pytest.fixture(scope="module")
def code() -> ObjectCode:
    return compile_text(TEXT, SIGNATURES, FLAGS)


# ---------------------------------------------------------------- objects


def test_entries_compute(code: ObjectCode) -> None:
    entries = load_object(code)
    x, out = np.linspace(-2.0, 2.0, 101), np.zeros(101)
    assert entries["points"](x.ctypes.data, out.ctypes.data, 101) == 101
    np.testing.assert_allclose(out, [1 / (1 + math.exp(-t)) for t in x], rtol=1e-14)
    assert entries["total"](x.ctypes.data, out.ctypes.data, 3, 10.0) == 0
    assert out[0] == pytest.approx(sum(10.0 * t + 1 / (1 + math.exp(-t)) for t in x[:3]))
    assert entries["count"](np.array([True, False, True]).ctypes.data, 3) == 2


@pytest.mark.parametrize(
    ("text", "signature"),
    [
        ("def f(n): return unknown(n)", "int64(int64)"),
        ("def f(n): return", "int64(int64)"),
        ("def f(n):\n    if n > 3:\n        raise ValueError\n    return n", "int64(int64)"),
        ("def g(n): return n", "int64(int64)"),
        ("def f(n) return n", "int64(int64)"),
        ("def f(n): return n", "int64(float32)"),
        ("def f(n): return n", "float64(int64)"),
        ("def f(n): return n", "int64"),
    ],
)
def test_texts_that_do_not_compile(text: str, signature: str) -> None:
    with pytest.raises(ObjectError):
        compile_text(text, {"f": signature})


EXTERNAL = """
def f(n):
    cblas_float64(101, 111, 111, n, n, n, 1.0, 0, n, 0, n, 0.0, 0, n)
    return n
"""


def test_a_missing_symbol_is_an_error_and_can_be_given() -> None:
    import ctypes

    code = compile_text(EXTERNAL, {"f": "int64(int64)"})
    with pytest.raises(ObjectError):
        load_object(code)
    seen = []
    kind = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int64)
    function = kind(lambda *given: seen.append(given))
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    assert load_object(code, {"tlang_dgemm": address})["f"](5) == 5
    assert seen == [(101, 111, 111, 5)]


@pytest.mark.parametrize("data", [b"", b"not an object", b"\x7fELF" + bytes(60)])
def test_what_is_not_an_object_cannot_be_loaded(data: bytes) -> None:
    with pytest.raises(ObjectError):
        load_object(ObjectCode({"f": "int64(int64)"}, data))


def test_an_entry_that_is_not_in_the_object(code: ObjectCode) -> None:
    with pytest.raises(ObjectError):
        load_object(ObjectCode({"absent": "int64(int64)"}, code.code))


# ---------------------------------------------------------------- processes

SCRIPT = f"""
import sys
from pathlib import Path
from tlang.run.cache import Cache
entries = Cache(Path(sys.argv[1])).load({TEXT!r}, {SIGNATURES!r}, {sorted(FLAGS)!r})
print(entries["count"](0, 0))
"""


def start(folder: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parent.parent)


def test_two_processes_at_once_then_one_more(tmp_path: Path) -> None:
    both = [start(tmp_path), start(tmp_path)]
    assert [p.communicate()[0].split() for p in both] == [["0"]] * 2
    assert [p.returncode for p in both] == [0, 0]
    (entry,) = tmp_path.iterdir()
    assert entry.stem == key(TEXT, SIGNATURES, FLAGS)
    third = start(tmp_path)
    assert third.communicate()[0].split() == ["0"]
    assert third.returncode == 0


# ---------------------------------------------------------------- keys


def test_a_key_depends_on_everything() -> None:
    first = key("a", {"f": "int64()"}, ["nsz", "arcp"])
    assert first == key("a", {"f": "int64()"}, ["arcp", "nsz"])
    others = {key("b", {"f": "int64()"}, FLAGS), key("a", {"g": "int64()"}), key("a", {"f": "int64()"})}
    assert len(others | {first}) == 4


def test_where_the_cache_lies(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TLANG_CACHE_DIR", str(tmp_path / "a"))
    assert cache_folder() == tmp_path / "a"
    assert Cache().folder == tmp_path / "a" / "kernels"
    monkeypatch.delenv("TLANG_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "tlang"


def test_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError

    monkeypatch.delenv("TLANG_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    kept = Cache()
    kept.put(name(1), SMALL)
    kept.clear()
    assert (kept.folder, kept.get(name(1)), kept.stats()) == (None, None, cache.Stats(0, 0))


# ---------------------------------------------------------------- entries


def name(n: int) -> str:
    return f"{n:064x}"


def test_what_is_put_is_got(tmp_path: Path) -> None:
    kept = Cache(tmp_path / "new" / "folder")
    assert kept.get(name(1)) is None
    kept.put(name(1), SMALL)
    kept.put(name(1), SMALL)
    assert kept.get(name(1)) == SMALL
    assert kept.get(name(2)) is None
    assert kept.stats().entries == 1
    assert [p.name for p in (tmp_path / "new" / "folder").iterdir()] == [f"{name(1)}.object"]


def test_every_truncation_and_every_flipped_byte_is_detected(tmp_path: Path) -> None:
    kept = Cache(tmp_path)
    path = tmp_path / f"{name(1)}.object"
    kept.put(name(1), SMALL)
    whole = path.read_bytes()
    damaged = [whole[:n] for n in range(len(whole))]
    damaged += [whole[:n] + bytes([whole[n] ^ 1]) + whole[n + 1 :] for n in range(len(whole))]
    for data in [*damaged, whole + b"x", b"something else"]:
        path.write_bytes(data)
        assert kept.get(name(1)) is None
        assert not path.exists()
    path.write_bytes(whole)
    assert kept.get(name(1)) == SMALL


def test_an_entry_of_another_key_is_foreign(tmp_path: Path) -> None:
    kept = Cache(tmp_path)
    kept.put(name(1), SMALL)
    os.rename(tmp_path / f"{name(1)}.object", tmp_path / f"{name(2)}.object")
    assert kept.get(name(2)) is None


def test_an_object_that_cannot_be_loaded_is_made_again(tmp_path: Path) -> None:
    text, signatures = "def f(n): return n + 1", {"f": "int64(int64)"}
    kept = Cache(tmp_path)
    kept.put(key(text, signatures), ObjectCode(signatures, b"not an object"))
    assert kept.load(text, signatures)["f"](1) == 2
    found = kept.get(key(text, signatures))
    assert found is not None
    assert load_object(found)["f"](1) == 2


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    kept = Cache(tmp_path / "file")
    kept.put(name(1), SMALL)
    assert kept.get(name(1)) is None
    kept.clear()
    assert (tmp_path / "file").read_text() == "a file"


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0,
    reason="the superuser may write anywhere, so no folder is read-only",
)
def test_a_folder_that_is_read_only(tmp_path: Path) -> None:
    kept = Cache(tmp_path)
    kept.put(name(1), SMALL)
    tmp_path.chmod(0o500)
    try:
        kept.put(name(2), SMALL)
        assert kept.get(name(1)) == SMALL
        assert kept.get(name(2)) is None
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize("step", ["mkstemp", "fdopen", "replace"])
def test_a_full_disk(step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> Any:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(cache.tempfile if step == "mkstemp" else cache.os, step, full)
    kept = Cache(tmp_path)
    kept.put(name(1), SMALL)
    monkeypatch.undo()
    assert kept.get(name(1)) is None
    assert list(tmp_path.iterdir()) == []


def test_the_entry_used_longest_ago_goes_first(tmp_path: Path) -> None:
    kept = Cache(tmp_path)
    kept.put(name(0), SMALL)
    kept.limit = 3 * kept.stats().size
    for n in (1, 2):
        kept.put(name(n), SMALL)
    for n in (0, 1, 2):
        os.utime(tmp_path / f"{name(n)}.object", (1000 + n, 1000 + n))
    assert kept.get(name(0)) == SMALL
    kept.put(name(3), SMALL)
    assert [n for n in range(4) if kept.get(name(n)) is not None] == [0, 2, 3]
    kept.put(name(4), ObjectCode({}, bytes(kept.limit)))
    assert kept.get(name(4)) is None
    assert kept.stats().entries == 3


def test_other_files_stay_but_what_a_dead_process_left_goes(tmp_path: Path) -> None:
    kept = Cache(tmp_path)
    kept.put(name(1), SMALL)
    for other in ("notes.txt", "x.object", "young.tmp", "old.tmp"):
        (tmp_path / other).write_text(other)
    os.utime(tmp_path / "old.tmp", (time.time() - 1e5,) * 2)
    kept.clear()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["notes.txt", "x.object", "young.tmp"]


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TLANG_CACHE_DIR", str(tmp_path))
    Cache().put(name(1), SMALL)
    (tmp_path / "grammar-0.pickle").write_text("")
    (tmp_path / "notes.txt").write_text("")
    assert main(["cache", "dir"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}\n"
    assert main(["cache", "stats"]) == 0
    assert capsys.readouterr().out == "1 kernels, 0.0 MiB of 256 MiB\n"
    assert main(["cache", "clear"]) == 0
    assert Cache().stats().entries == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["kernels", "notes.txt"]
