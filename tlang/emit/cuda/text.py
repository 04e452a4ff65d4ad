"""The text of one kernel: a module of its own, with one function."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tlang.emit.cuda.actions import STATUS, Arg, Count, Launch
from tlang.emit.cuda.grids import Grid
from tlang.emit.functions import Names
from tlang.emit.text import Text

HEAD = "import math\nimport numpy as np\nfrom numba import cuda\n\n\n"
#: A kernel by which an integer in memory is one more.
ADVANCE = HEAD + "def kernel(p0, k):\n    p0[k] = p0[k] + 1\n"
#: The number of a thread along x, and the threads of a grid along x and y.
X = "cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x"
STEP_X = "cuda.gridDim.x * cuda.blockDim.x"
STEP_Y = "cuda.gridDim.y * cuda.blockDim.y"


class KernelText(Text):
    """The text of one kernel under construction."""

    def __init__(self) -> None:
        super().__init__(names=_Names())
        self.checks = False
        self.others: dict[Arg, str] = {}

    def argument(self, arg: Count) -> str:
        """The name of a further argument."""
        return self.others.setdefault(arg, f"n{len(self.others)}")

    def launch(self, grid: Grid) -> Launch:
        """The kernel, with its head."""
        params = [*self.sizes.values(), *self.others.values(), *self.pointers.values()]
        args: list[Arg] = [*self.sizes, *self.others, *self.pointers]
        if self.checks:
            params.append(STATUS)
            args.append(STATUS)
        head = [f"def kernel({', '.join(params)}):"]
        for dim, name in self.dims.items():
            terms = [self.sizes[s] if k == 1 else f"{k} * {self.sizes[s]}" for s, k in dim.terms]
            head.append(f"    {name} = {' + '.join([*terms, *([str(dim.const)] if dim.const else [])])}")
        return Launch(HEAD + "\n".join([*head, *_counted(self.lines)]) + "\n", tuple(args), grid)


def _counted(lines: Sequence[str]) -> list[str]:
    """Lines with `while` for each `for` with a start and an end, which takes fewer registers."""
    out: list[str] = []
    ends: list[tuple[int, str]] = []
    for line in (*lines, ""):
        depth = len(line) - len(line.lstrip()) if line else 0
        while ends and depth <= ends[-1][0]:
            out.append(ends.pop()[1])
        found = _RANGE.fullmatch(line)
        if found is None:
            out.append(line)
            continue
        indent, name, start, stop, step = found.groups()
        out += [f"{indent}{name} = {start}", f"{indent}while {name} < {stop}:"]
        ends.append((depth, f"{indent}    {name} = {name} + {step or 1}"))
    return out[:-1]


_RANGE = re.compile(r"( *)for (\w+) in range\(([^,]+), (.+?)(?:, ([^,]+))?\):")


class _Names(Names):
    """Names of forms stay what they are: the inliner knows them."""

    def __missing__(self, name: str) -> str:
        return name
