"""The table of operations, a file for each family. Importing this package fills `OPS`.

A row is all that is known of an operation (see :class:`tlang.graph.node.Op`); passes read rows and
never ask for names. The NumPy meanings take NumPy as their first argument, so that checking a
program does not import it.
"""

from tlang.graph.node import OPS, Op
from tlang.graph.ops import (
    activations,
    decompositions,
    elementwise,
    functions,
    indexing,
    leaves,
    linalg,
    places,
    random,
    reduce,
    shape,
)

__all__ = [
    "OPS",
    "Op",
    "activations",
    "decompositions",
    "elementwise",
    "functions",
    "indexing",
    "leaves",
    "linalg",
    "places",
    "random",
    "reduce",
    "shape",
]
