"""Everything with effects: state, files, random generators, and the session that runs commands."""

#: What can compute a program.
BACKENDS = ("auto", "numpy", "cpu", "cuda")
