"""The text of CUDA kernels."""
