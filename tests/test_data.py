"""Data files: what is read and written, and that every fault is a coded error with its place."""

from __future__ import annotations

import io
import os
import pickle
import stat
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tlang.codes import CODES
from tlang.errors import StateError
from tlang.run import data
from tlang.run.datafile import FORMATS
from tlang.source import Source, Span

Array = np.ndarray[Any, np.dtype[Any]]
SOURCE = Source("main.tl", 'set x = load("digits.npz")\n')
SPAN = Span(SOURCE, 8, 26)
NAMES = ["bool", *(f"{s}int{b}" for s in ("", "u") for b in (8, 16, 32, 64))]
NAMES += ["float32", "float64", "complex64", "complex128"]


def fails(code: str, action: Callable[[], object], *texts: str) -> str:
    """The message of the error that `action` must raise."""
    with pytest.raises(StateError) as caught:
        action()
    message = str(caught.value)
    assert caught.value.code == code, message
    for text in texts:
        assert text in message
    return message


def npy(array: Array, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **options)
    return stream.getvalue()


def header(text: str, body: bytes = b"", version: int = 1) -> bytes:
    raw = text.encode("utf-8" if version == 3 else "latin-1")
    return (
        b"\x93NUMPY"
        + bytes([version, 0])
        + struct.pack("<H" if version == 1 else "<I", len(raw))
        + raw
        + body
    )


def place(folder: Path, name: str, content: bytes | str) -> str:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def same(found: Array, expected: Array) -> None:
    assert found.dtype == expected.dtype.newbyteorder("=")
    assert found.dtype.isnative
    assert found.flags.c_contiguous
    assert found.flags.writeable
    np.testing.assert_array_equal(found, expected)


# npy and npz


@pytest.mark.parametrize("dtype", NAMES)
@pytest.mark.parametrize("shape", [(), (0,), (5,), (3, 4), (2, 0, 3), (2, 1, 3)])
def test_round_trip_of_numpy_formats(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, 100, shape)
    array = np.asarray(values % 2 if dtype == "bool" else values).astype(dtype)
    single, several = str(tmp_path / "a.npy"), str(tmp_path / "a.NPZ")
    data.write(single, [("a", array)])
    same(data.read(single), array)
    same(np.load(single, allow_pickle=False), array)
    data.write(several, [("layers.w", array), ("file", array + array)])
    same(data.read(several, "layers.w"), array)
    same(data.read(several, "file"), array + array)
    with np.load(several, allow_pickle=False) as archive:
        assert archive.files == ["layers.w", "file"]
        same(archive["file"], array + array)


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("array", [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.eye(3)[:, :2])])
@pytest.mark.parametrize("order", ["<", ">"])
def test_versions_and_orders(tmp_path: Path, version: tuple[int, int], array: Array, order: Any) -> None:
    array = array.astype(array.dtype.newbyteorder(order))
    path = place(tmp_path, "a.npy", npy(array, version=version))
    same(data.read(path), array)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_of_numpy(tmp_path: Path, save: Any) -> None:
    path = str(tmp_path / "a.npz")
    save(path, x=np.arange(1000.0), y=np.asfortranarray(np.ones((30, 20), ">i4")))
    same(data.read(path, "x"), np.arange(1000.0))
    same(data.read(path, "y"), np.ones((30, 20), "i4"))
    save(path, only=np.ones(3, bool))
    same(data.read(path), np.ones(3, bool))


def test_bool_bytes_become_bools(tmp_path: Path) -> None:
    text = "{'descr': '|b1', 'fortran_order': False, 'shape': (3,)}"
    found = data.read(place(tmp_path, "a.npy", header(text, b"\0\2\xff")))
    assert found.view(np.uint8).tolist() == [0, 1, 1]


def test_what_follows_is_ignored(tmp_path: Path) -> None:
    same(data.read(place(tmp_path, "a.npy", npy(np.arange(3)) + b"more")), np.arange(3))


def test_keys(tmp_path: Path) -> None:
    path = str(tmp_path / "digits.npz")
    np.savez(path, images=np.ones(2), labels=np.zeros(2))
    fails("D109", lambda: data.read(path), "2 arrays", "`images`, `labels`", 'load("')
    fails("D110", lambda: data.read(path, "label"), "no array `label`", "did you mean `labels`?")
    assert "did you mean" not in fails("D110", lambda: data.read(path, "zzz"), "`images`, `labels`")
    fails("D111", lambda: data.read(path, "images", None, "labels"), "no column names")
    fails("D111", lambda: data.read(place(tmp_path, "a.npy", npy(np.ones(2))), "x"), "leave the names out")
    data.write(path, [(f"a{i}", np.ones(1)) for i in range(25)])
    fails("D109", lambda: data.read(path), "`a19` and 5 more")
    np.savez(path)
    fails("D112", lambda: data.read(path), "no arrays")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    fails("D112", lambda: data.read(path), "no arrays")


class Harmful:
    def __reduce__(self) -> Any:
        return (os.mkdir, ("pickle-ran",))


def test_pickles_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    objects = np.array([Harmful()], dtype=object)
    fails("D108", lambda: data.read(place(tmp_path, "a.npy", npy(objects))), "Python objects")
    np.savez(tmp_path / "a.npz", x=objects)
    fails("D108", lambda: data.read(str(tmp_path / "a.npz")), "array `x`: Python objects")
    fails("D106", lambda: data.read(place(tmp_path, "b.npy", pickle.dumps(Harmful()))))
    fails("D106", lambda: data.read(place(tmp_path, "b.npz", pickle.dumps(Harmful()))))
    assert not (tmp_path / "pickle-ran").exists()


@pytest.mark.parametrize(
    ("dtype", "text"),
    [
        ("f2", "floats of 16 bits"),
        ("g", "floats of"),
        ("U3", "strings"),
        ("S3", "strings"),
        ("M8[s]", "elements of type"),
        ("V4", "elements of type"),
        ([("a", "f8"), ("b", "i4")], "records with fields"),
    ],
)
def test_foreign_dtypes(tmp_path: Path, dtype: Any, text: str) -> None:
    array = np.zeros(3, dtype)
    if array.dtype == np.float64:
        pytest.skip("long double is double here")
    fails("D108", lambda: data.read(place(tmp_path, "a.npy", npy(array))), text, "hint:")
    fails("D118", lambda: data.write(str(tmp_path / "b.npy"), [("a", array)]), "`a`, which is")
    assert os.listdir(tmp_path) == ["a.npy"]


DESCR = "'descr': '<f8', 'fortran_order': False"


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "no bytes"),
        (b"hello, world", "does not begin as one"),
        (b"\x93NUM", "ends within its header"),
        (b"\x93NUMPY\x01", "ends within its header"),
        (b"\x93NUMPY\x01\x00", "ends within its header"),
        (b"\x93NUMPY\x09\x00", "version is 9.0"),
        (header("{}")[:-1], "ends within its header"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "claims 4294967295 bytes"),
        (header("{}"), "cannot be understood"),
        (header("[1]"), "cannot be understood"),
        (header("__import__('os').mkdir('x')"), "cannot be understood"),
        (header("(" * 5000), "cannot be understood"),
        (header("\0"), "cannot be understood"),
        (header(f"{{{DESCR}, 'shape': [3]}}"), "cannot be understood"),
        (header(f"{{{DESCR}, 'shape': (-1,)}}"), "cannot be understood"),
        (header(f"{{{DESCR}, 'shape': (True,)}}"), "cannot be understood"),
        (header(f"{{{DESCR}, 'shape': (1.0,)}}"), "cannot be understood"),
        (header(f"{{{DESCR}, 'shape': {(1,) * 33}}}"), "cannot be understood"),
        (header("{'descr': 5, 'fortran_order': False, 'shape': ()}"), "cannot be understood"),
        (header("{'descr': '<f8', 'fortran_order': 1, 'shape': ()}"), "cannot be understood"),
        (header(f"{{{DESCR}, 'shape': (3,)}}", b"x" * 23), "claims 24 bytes of numbers, but it holds 23"),
        (header(f"{{{DESCR}, 'shape': (10**18, 10**18)}}"), "cannot be understood"),
        (header(f"{{{DESCR}, 'shape': ({10**18}, {10**18})}}"), "but it holds 0"),
        (header(f"{{{DESCR}, 'shape': (0, {2**62}, {2**62})}}"), "cannot have the shape"),
        (header(f"{{{DESCR}, 'shape': (\N{ARABIC-INDIC DIGIT THREE},)}}", version=3), "cannot be understood"),
    ],
)
def test_damaged_npy(tmp_path: Path, content: bytes, text: str) -> None:
    fails("D106", lambda: data.read(place(tmp_path, "a.npy", content)), text)
    path = str(tmp_path / "a.npz")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", content)
    fails("D106", lambda: data.read(path), "array `x`: ", text)


def test_damaged_npz(tmp_path: Path) -> None:
    path = str(tmp_path / "a.npz")
    np.savez_compressed(path, x=np.arange(1000.0))
    content = Path(path).read_bytes()
    for end in (0, 3, 30, len(content) // 2, len(content) - 1):
        fails("D106", lambda end=end: data.read(place(tmp_path, "b.npz", content[:end])))  # type: ignore[misc]
    at = 200
    changed = content[:at] + bytes([content[at] ^ 255]) + content[at + 1 :]
    fails("D106", lambda: data.read(place(tmp_path, "b.npz", changed)))
    np.savez(path, x=np.arange(1000.0))
    content = Path(path).read_bytes()
    changed = content[:-1000] + bytes([content[-1000] ^ 1]) + content[-999:]
    fails("D106", lambda: data.read(place(tmp_path, "b.npz", changed)), "CRC")


def test_formats_under_the_wrong_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones(2))
    zipped = (tmp_path / "a.npz").read_bytes()
    fails("D106", lambda: data.read(place(tmp_path, "b.npy", zipped)), "archive .npz")
    fails("D106", lambda: data.read(place(tmp_path, "b.npz", npy(np.ones(2)))), "name it .npy")
    fails("D116", lambda: data.read(place(tmp_path, "b.csv", npy(np.ones(2)))), "name it .npy", "0x93")
    fails("D116", lambda: data.read(place(tmp_path, "c.csv", zipped + b"\xff")), "name it .npz")


def test_an_archive_may_lie_about_sizes(tmp_path: Path) -> None:
    """An archive that claims more than there is neither takes that memory nor is believed."""
    path = str(tmp_path / "a.npz")
    body = header(f"{{{DESCR}, 'shape': (100000000,)}}", b"x" * 64)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", body)
    raw = bytearray(Path(path).read_bytes())
    sizes = struct.pack("<II", len(body), len(body))
    assert raw.count(sizes) == 2
    lie = raw.replace(sizes, struct.pack("<II", len(body), 2**31 - 1))
    fails("D106", lambda: data.read(place(tmp_path, "b.npz", bytes(lie))))


def test_memory_runs_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> Any:
        raise MemoryError

    for name, values in [("a.npy", np.ones(3)), ("a.npz", np.ones(3)), ("a.csv", np.ones(3))]:
        data.write(str(tmp_path / name), [("a", values)])
    monkeypatch.setattr(data.np, "empty", refuse)  # type: ignore[attr-defined]
    monkeypatch.setattr(data.np, "frombuffer", refuse)  # type: ignore[attr-defined]
    for name in ("a.npy", "a.npz", "a.csv"):
        fails("D119", lambda name=name: data.read(str(tmp_path / name)), "memory")  # type: ignore[misc]


# csv


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1,2\n3,4\n", np.array([[1, 2], [3, 4]])),
        ("1,2\r\n3,4", np.array([[1, 2], [3, 4]])),
        ("1,2\r3,4\r", np.array([[1, 2], [3, 4]])),
        ("\ufeff1,2\n", np.array([[1, 2]])),
        ("\ufeffa,b\n1,2\n", np.array([[1, 2]])),
        ("# by hand\n\na, b\n  \n 1 ,2\n  # more\n3,4\n\n", np.array([[1, 2], [3, 4]])),
        ('"a, b","c"\n"1", "2.5"\n', np.array([[1.0, 2.5]])),
        ("1,2\n3,4.0\n5,6\n", np.array([[1.0, 2], [3, 4], [5, 6]])),
        ("nan,inf\n-INF,+Infinity\n", np.array([[np.nan, np.inf], [-np.inf, np.inf]])),
        (".5,5.,1e3,-1.5E-3\n", np.array([[0.5, 5.0, 1e3, -1.5e-3]])),
        ("True,False\nfalse, true\n", np.array([[True, False], [False, True]])),
        ("ok\nTrue\n", np.array([[True]])),
        ("7", np.array([[7]])),
        (",b\n1,2\n", np.array([[1, 2]])),
        ("+7,-0,007\n", np.array([[7, 0, 7]])),
        ("9223372036854775807,-9223372036854775808\n", np.array([[2**63 - 1, -(2**63)]])),
        ("9223372036854775808\n0.5\n", np.array([[2.0**63], [0.5]])),
        ("9007199254740993\n0.5\n9007199254740993\n", np.array([[2.0**53], [0.5], [2.0**53]])),
        ("1e400," + "9" * 5000 + "\n", np.array([[np.inf, np.inf]])),
    ],
)
def test_tables(tmp_path: Path, text: str, expected: Array) -> None:
    same(data.read(place(tmp_path, "a.csv", text)), expected)


def test_columns(tmp_path: Path) -> None:
    path = place(tmp_path, "a.csv", "name,x,label,ok\nann,1.5,3,True\nbob,2,4,False\n")
    same(data.read(path, "x"), np.array([1.5, 2]))
    same(data.read(path, "label"), np.array([3, 4]))
    same(data.read(path, "ok"), np.array([True, False]))
    same(data.read(path, "label", None, "x"), np.array([[3, 1.5], [4, 2]]))
    fails("D114", lambda: data.read(path), "line 2, column 1 (`name`): `ann` is not a number")
    fails("D110", lambda: data.read(path, "labels"), "no column `labels`", "did you mean `label`?")
    fails("D110", lambda: data.read(path, "x", None, "y"), "no column `y`")
    bare = place(tmp_path, "b.csv", "1,2\n")
    fails("D111", lambda: data.read(bare, "x"), "first line is numbers", "[:, 0]")
    twice = place(tmp_path, "c.csv", "x,x\n1,2\n")
    fails("D111", lambda: data.read(twice, "x"), "2 columns are named `x`")
    same(data.read(twice), np.array([[1, 2]]))


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        ("", "D112", "no numbers"),
        ("\n# nothing\n", "D112", "no numbers"),
        ("a,b\n", "D112", "a header but no numbers"),
        ("1,2\n3\n", "D113", "line 2: 1 cell, but the first row has 2 cells"),
        ("a\n\n1\n# c\n2,3\n", "D113", "line 5: 2 cells, but the first row has 1 cell"),
        ("1,2\n3,x\n", "D114", "line 2, column 2: `x` is not a number"),
        ("a,b\n3,4\n1,\n", "D114", "line 3, column 2 (`b`): the cell is empty, and not a number"),
        ("1,,3\n", "D114", "line 1, column 2: the cell is empty"),
        ("a;b\n1;2\n", "D114", "separate the cells by commas"),
        ("1\n1_000\n", "D114", "`1_000` is not a number"),
        ("1\n0x10\n", "D114", "`0x10`"),
        ("1\n\N{ARABIC-INDIC DIGIT THREE}\n", "D114", "is not a number"),
        ("1\n1 2\n", "D114", "`1 2`"),
        ("1\n" + "z" * 200 + "\n", "D114", "z..."),
        ("1,True\n", "D114", "line 1, column 2: `True` is not a number"),
        ("True\n1\n", "D114", "`1` is not True or False"),
        ("1.5\nTrue\n", "D114", "`True` is not a number"),
        ("1,2\n3,9223372036854775808\n", "D115", "line 2, column 2: an integer that i64 cannot hold"),
        ("9223372036854775807,-9223372036854775809\n", "D115", "line 1, column 2"),
        ("-9223372036854775808,9223372036854775808\n", "D115", "line 1, column 2"),
        ("9" * 5000 + "\n", "D115", "decimal point"),
        ('a\n1\n"2\n3\n', "D117", "line 3"),
        ('a\n1\n"2"x\n3\n', "D117", "line 3"),
        ("1\n" + "5" * 140_000 + "\n", "D117", "line 2"),
    ],
)
def test_faults_of_tables(tmp_path: Path, text: str, code: str, message: str) -> None:
    path = place(tmp_path, "a.csv", text)
    fails(code, lambda: data.read(path, shown="my.csv"), message, "`my.csv`")


def test_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = place(tmp_path, "a.csv", b"a\n1\n\xe9\n")
    fails("D116", lambda: data.read(path), "line 3: the byte 0xe9", "UTF-8")
    fails("D116", lambda: data.read(place(tmp_path, "b.csv", "1,2\n".encode("utf-16"))), "UTF-8")


# Round trips of csv


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 4))))
def test_csv_floats_are_exact(tmp_path: Path, array: Array) -> None:
    path = str(tmp_path / "a.csv")
    data.write(path, [("a", array)])
    found = data.read(path)
    np.testing.assert_array_equal(found, array)
    assert (np.signbit(found) == np.signbit(array))[~np.isnan(array)].all()


@pytest.mark.parametrize("dtype", [n for n in NAMES if "complex" not in n])
def test_csv_of_each_dtype(tmp_path: Path, dtype: str) -> None:
    path = str(tmp_path / "a.csv")
    values = (np.arange(12).reshape(4, 3) % 2 + (0.1 if "float" in dtype else 0)).astype(dtype)
    read = {"b": "bool", "i": "int64", "u": "int64", "f": "float64"}[values.dtype.kind]
    data.write(path, [("a", values)])
    same(data.read(path), values.astype(read))
    data.write(path, [("a", values[:, 0]), ("b", np.arange(4))])
    assert Path(path).read_text().startswith("a,b\n")
    same(data.read(path, "a"), values[:, 0].astype(read))
    same(data.read(path, "b"), np.arange(4))
    data.write(path, [("a", values[:, 0])])
    same(data.read(path, "a"), values[:, 0].astype(read))


@pytest.mark.parametrize(
    ("arrays", "text"),
    [
        ([], "nothing"),
        ([("a", np.ones(2)), ("a", np.ones(2))], "two arrays named `a`"),
        ([("a", np.ones((2, 2, 2)))], "an array of 3 dimensions (`a`)"),
        ([("a", np.array(1.0))], "an array of 0 dimensions (`a`)"),
        ([("a", np.ones((2, 2))), ("b", np.ones(2))], "2 dimensions (`a`) beside other arrays"),
        ([("a", np.ones(2)), ("b", np.ones(3))], "different lengths (`a` 2, `b` 3)"),
        ([("a", np.ones(0))], "without elements (`a`)"),
        ([("a", np.ones((3, 0)))], "without elements (`a`)"),
        ([("a", np.ones(2, complex))], "complex numbers (`a`)"),
        ([("a", np.array([1, 2**63], np.uint64))], "integers beyond i64 (`a`)"),
        ([("nan", np.ones(2))], "names read as numbers (`nan`)"),
    ],
)
def test_what_csv_cannot_hold(tmp_path: Path, arrays: list[tuple[str, Array]], text: str) -> None:
    fails("D118", lambda: data.write(str(tmp_path / "a.csv"), arrays, SPAN), text, "main.tl:1:9")
    assert os.listdir(tmp_path) == []


def test_what_numpy_formats_cannot_hold(tmp_path: Path) -> None:
    two = [("a", np.ones(2)), ("a", np.ones(2))]
    fails("D118", lambda: data.write(str(tmp_path / "a.npy"), two), "2 arrays; .npy takes one", ".npz")
    fails("D118", lambda: data.write(str(tmp_path / "a.npy"), []), "0 arrays")
    fails("D118", lambda: data.write(str(tmp_path / "a.npz"), two), "two arrays named `a`")
    fails("D118", lambda: data.write(str(tmp_path / "a.npz"), []), "nothing")


# Paths


def test_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data.write("digits.npz", [("x", np.ones(2))])
    fails("D101", lambda: data.read("digit.npz", None, SPAN), "`digit.npz`", "did you mean `digits.npz`?")
    shown = os.path.join("..", "digit.npz")
    fails(
        "D101", lambda: data.read(str(tmp_path / "digit.npz"), shown=shown), os.path.join("..", "digits.npz")
    )
    assert "did you mean" not in fails("D101", lambda: data.read("zzz.csv"))
    fails("D101", lambda: data.read("none/a.npy"), "the folder `none` does not exist")
    os.mkdir("folder.npy")
    fails("D102", lambda: data.read("folder.npy"), "`folder.npy` is a folder, not a file")
    fails("D102", lambda: data.write("folder.npy", [("x", np.ones(2))]), "is a folder")
    fails("D107", lambda: data.write("none/a.npy", [("x", np.ones(2))]), "folder of `none/a.npy`")
    fails("D104", lambda: data.read("digits.npz/a.npy"), "could not be read")
    fails("D104", lambda: data.write("digits.npz/a.npy", [("x", np.ones(2))]), "could not be written")
    fails("D105", lambda: data.read("digits.nzp"), "`.nzp`", "did you mean `.npz`?")
    fails("D105", lambda: data.read("digits.parquet"), "the formats are .npy, .npz, .safetensors and .csv")
    fails("D105", lambda: data.write("digits", [("x", np.ones(2))]), "no ending")
    fails("D104", lambda: data.read("a\0.npy"), "no file can have this name")
    fails("D104", lambda: data.write("\udcff\ud800.npy", []), "no file can have this name")
    fails("D104", lambda: data.read("a" * 5000 + ".npy"), "could not be read")
    message = fails("D101", lambda: data.read("digit.npz", None, SPAN))
    assert "main.tl:1:9" in message
    assert sorted(os.listdir()) == ["digits.npz", "folder.npy"]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX files")
def test_devices_and_pipes_are_refused(tmp_path: Path) -> None:
    pipe = str(tmp_path / "pipe.csv")
    os.mkfifo(pipe)
    fails("D102", lambda: data.read(pipe), "a device, not a file")
    fails("D102", lambda: data.write(pipe, [("x", np.ones(2))]), "a device")
    endless = tmp_path / "zero.csv"
    endless.symlink_to("/dev/zero")
    fails("D102", lambda: data.read(str(endless)), "a device")
    fails("D102", lambda: data.write(str(endless), [("x", np.ones(2))]), "a device")


def test_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "a.npy")
    data.write(path, [("x", np.ones(2))])
    monkeypatch.setattr(os, "access", lambda *_: False)
    fails("D103", lambda: data.write(path, [("x", np.zeros(2))]), "may not be written")

    def refuse(*_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    fails("D103", lambda: data.read(path), "may not be read")
    monkeypatch.undo()
    same(data.read(path), np.ones(2))


# Writing in place


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.csv"])
@pytest.mark.parametrize(
    "fault", [OSError(28, "No space left on device"), OSError("2 written"), KeyboardInterrupt()]
)
def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fault: BaseException
) -> None:
    path = str(tmp_path / name)
    data.write(path, [("x", np.ones(2))])
    before = Path(path).read_bytes()

    def refuse(_: int) -> None:
        raise fault

    monkeypatch.setattr(os, "fsync", refuse)
    if isinstance(fault, OSError):
        fails("D104", lambda: data.write(path, [("x", np.zeros(9))]), fault.strerror or "2 written")
    else:
        with pytest.raises(KeyboardInterrupt):
            data.write(path, [("x", np.zeros(9))])
    assert os.listdir(tmp_path) == [name]
    assert Path(path).read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits")
@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.csv"])
def test_a_full_disk(tmp_path: Path, name: str) -> None:
    """The operating system stops the write itself, at any byte."""
    import resource
    import signal

    big = np.random.default_rng(0).random(100_000)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        fails("D104", lambda: data.write(str(tmp_path / name), [("x", big)]), "could not be written")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX modes")
def test_modes_and_links_are_kept(tmp_path: Path) -> None:
    target, link = tmp_path / "a.npy", tmp_path / "link.npy"
    link.symlink_to(target)
    data.write(str(link), [("x", np.ones(2))])
    assert link.is_symlink()
    target.chmod(0o640)
    data.write(str(link), [("x", np.zeros(3))])
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    same(data.read(str(target)), np.zeros(3))
    fresh = tmp_path / "fresh"
    fresh.write_bytes(b"")
    data.write(str(tmp_path / "b.npz"), [("x", np.ones(2))])
    assert (tmp_path / "b.npz").stat().st_mode == fresh.stat().st_mode


def test_equal_arrays_make_equal_files(tmp_path: Path) -> None:
    for name in ("a.npz", "b.npz"):
        data.write(str(tmp_path / name), [("x", np.arange(5)), ("y", np.eye(2))])
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


# Any bytes at all


def survives(folder: Path, name: str, content: bytes, key: str | None = None) -> None:
    code: str | None = None
    try:
        found = data.read(place(folder, name, content), key)
    except StateError as e:
        code = e.code
    else:
        assert found.dtype.name in NAMES
    assert code is None or code in CODES


FUZZ = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
KEYS = st.sampled_from([None, "x", "a"])


@FUZZ
@given(st.binary(max_size=200), st.sampled_from(FORMATS), KEYS)
def test_any_bytes(tmp_path: Path, content: bytes, ending: str, key: str | None) -> None:
    survives(tmp_path, "a" + ending, content, key)


@FUZZ
@given(st.text(max_size=120), KEYS)
def test_any_text(tmp_path: Path, content: str, key: str | None) -> None:
    survives(tmp_path, "a.csv", content.encode("utf-8", "surrogatepass"), key)


@FUZZ
@given(st.text(alphabet='0123456789.,-+eEnaif "\n\r\t#_ax;TrueFls\0\ufeff', max_size=60), KEYS)
def test_near_tables(tmp_path: Path, content: str, key: str | None) -> None:
    survives(tmp_path, "a.csv", content.encode(), key)


@FUZZ
@given(st.binary(max_size=60), st.sampled_from([1, 2, 3]))
def test_any_header(tmp_path: Path, raw: bytes, version: int) -> None:
    length = struct.pack("<H" if version == 1 else "<I", len(raw))
    survives(tmp_path, "a.npy", b"\x93NUMPY" + bytes([version, 0]) + length + raw + b"x" * 64)


@FUZZ
@given(st.text(max_size=8), st.lists(st.integers(-2, 2**65), max_size=4), st.booleans())
def test_near_headers(tmp_path: Path, descr: str, shape: list[int], fortran: bool) -> None:
    text = repr({"descr": descr, "fortran_order": fortran, "shape": tuple(shape)})
    survives(tmp_path, "a.npy", header(ascii(text)[1:-1] if not text.isascii() else text, b"x" * 64))


def archive_bytes() -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, x=np.arange(40.0), a=np.eye(3))
    return stream.getvalue()


@FUZZ
@given(st.data(), st.sampled_from([npy(np.arange(6.0)), archive_bytes()]), KEYS)
def test_changed_bytes(tmp_path: Path, draw: st.DataObject, content: bytes, key: str | None) -> None:
    changed = bytearray(content)
    for _ in range(draw.draw(st.integers(1, 4))):
        changed[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    end = draw.draw(st.integers(0, len(content)) | st.just(len(content)))
    survives(tmp_path, "a.npz" if content[:2] == b"PK" else "a.npy", bytes(changed[:end]), key)


def test_every_code_has_an_explanation() -> None:
    for number in range(101, 120):
        row = CODES[f"D{number}"]
        assert row.kind == "state"
        assert "{path}" in row.sentence
        assert row.why.endswith(".")
