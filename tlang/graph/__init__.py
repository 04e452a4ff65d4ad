"""The typed graph: nodes, the table of operations, gradients, and elaboration from syntax."""
