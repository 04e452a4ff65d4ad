"""From a plan to the text of Numba kernels."""
