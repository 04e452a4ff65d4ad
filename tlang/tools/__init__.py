"""What people use: the command line, tests inside programs, how values are shown."""
