"""The benchmarks run, and say what they measured; the figures are for people."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def test_quick_run(tmp_path: Path) -> None:
    script = Path(__file__).parent / "bench" / "run.py"
    command = [sys.executable, str(script), "--quick", "--rounds", "2"]
    command += ["--json", str(tmp_path / "b.json"), "--markdown", str(tmp_path / "b.md")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "b.json").read_text())["rows"]
    assert rows
    for row in rows:
        assert row["tlang"] > 0
        assert row["numpy"] > 0
        assert row["ratio"] >= row["tlang"] / row["numpy"] - 1e-9
        assert row["case"] in (tmp_path / "b.md").read_text()
        assert row["case"] in done.stdout
