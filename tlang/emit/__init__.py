"""From a plan to the text of kernels, and from that to a text of LLVM."""
