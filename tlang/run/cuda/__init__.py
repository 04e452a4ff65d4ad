"""Kernels on a GPU: what is there, memory, compiled code, and the forms of calls and loops that use them."""
