"""The compiled code under test: that of the backend "cpu", or of the one that `TLANG_TEST_BACKEND` names.

`tests/test_cuda.py` runs with it, in processes of their own, what other files test on the processor.
"""

from __future__ import annotations

import os
from typing import Any

import pytest

from tlang.interpret import on_host
from tlang.run.build import CompiledTape as ProcessorTape
from tlang.run.cuda.tape import DeviceTape

BACKEND = os.environ.get("TLANG_TEST_BACKEND", "cpu")
ON_A_GPU = BACKEND == "cuda"
SIMULATED = ON_A_GPU and os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
of_the_processor = pytest.mark.skipif(ON_A_GPU, reason="of code for the processor alone")


class HostedTape(DeviceTape):
    """A tape of kernels whose results come back."""

    def run(self, *args: Any, **options: Any) -> list[Any]:
        return [on_host(value) for value in super().run(*args, **options)]


CompiledTape: type[ProcessorTape] = HostedTape if ON_A_GPU else ProcessorTape
