"""The table of operations, a file for each family. Importing this package fills `OPS`.

A row is all that is known of an operation (see :class:`tlang.graph.node.Op`); passes read rows and
never ask for names. Operations that are formulas in others have rows in `FORMULAS`, which no pass sees.
`EXAMPLES` shows a call of each. The NumPy meanings take NumPy as their first argument, so that checking a
program does not import it.
"""

from tlang.graph.node import OPS, Op
from tlang.graph.ops import (
    activations,
    arrangements,
    complexes,
    cumulative,
    decompositions,
    einsum,
    elementwise,
    factors,
    fourier,
    functions,
    indexing,
    leaves,
    linalg,
    matrix_functions,
    norms,
    places,
    random,
    recurrence,
    reduce,
    shape,
    sorting,
    special,
    summaries,
    windows,
)
from tlang.graph.ops.examples import EXAMPLES
from tlang.graph.ops.formula import FORMULAS, Formula

#: Every row that programs call by name.
CALLABLE: dict[str, Op | Formula] = {name: op for name, op in OPS.items() if op.public} | FORMULAS

__all__ = [
    "CALLABLE",
    "EXAMPLES",
    "FORMULAS",
    "OPS",
    "Formula",
    "Op",
    "activations",
    "arrangements",
    "complexes",
    "cumulative",
    "decompositions",
    "einsum",
    "elementwise",
    "factors",
    "fourier",
    "functions",
    "indexing",
    "leaves",
    "linalg",
    "matrix_functions",
    "norms",
    "places",
    "random",
    "recurrence",
    "reduce",
    "shape",
    "sorting",
    "special",
    "summaries",
    "windows",
]
