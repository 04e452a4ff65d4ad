"""Everything with effects: state, files, random generators, and the session that runs commands."""
