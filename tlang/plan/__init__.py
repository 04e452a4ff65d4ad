"""From a graph to kernels: what is computed together, in which order."""
