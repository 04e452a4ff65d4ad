"""The wheel: what is in it."""

from __future__ import annotations

import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

from tlang.syntax import tables

ROOT = Path(__file__).parent.parent


def test_the_wheel_has_the_tables_of_its_grammar(tmp_path: Path) -> None:
    """So that no first start computes any; what makes them is not in it."""
    command = [
        sys.executable,
        "-m",
        "build",
        "--wheel",
        "--no-isolation",
        "--outdir",
        str(tmp_path),
        str(ROOT),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        names = [n for n in file.namelist() if n.startswith("tlang/grammar/")]
        grammar = file.read("tlang/grammar/tlang.lark").decode()
        made = file.read(f"tlang/grammar/{tables.file_name(grammar)}")
    assert grammar == (ROOT / "grammar" / "tlang.lark").read_text(encoding="utf-8")
    found, wanted = tables.Tables(*pickle.loads(made)), tables.compute(grammar)
    assert (found.pattern, found.words, found.ignored) == (wanted.pattern, wanted.words, wanted.ignored)
    assert len(found.states) == len(wanted.states)  # how Lark numbers them depends on hashes
    assert sorted(map(str, found.rules)) == sorted(map(str, wanted.rules))
    assert not [n for n in names if n.endswith(".py")]
