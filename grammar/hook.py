"""Hatch's hook for wheels: the tables of the grammar go into them, so that no first start computes any."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class TablesHook(BuildHookInterface):
    """Computes the tables of `tlang.lark`, and puts them beside it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """An editable install reads the grammar where it is edited, and has no use for tables."""
        if version != "standard":
            return
        sys.path.insert(0, self.root)
        try:
            from tlang.syntax import tables
        finally:
            sys.path.remove(self.root)
        grammar = (Path(self.root) / "grammar" / "tlang.lark").read_text(encoding="utf-8")
        self._folder = tempfile.TemporaryDirectory()
        made = Path(self._folder.name) / tables.file_name(grammar)
        made.write_bytes(tables.packed(tables.compute(grammar)))
        build_data["force_include"][str(made)] = f"tlang/grammar/{made.name}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """What was computed is in the wheel now."""
        if version == "standard":
            self._folder.cleanup()
