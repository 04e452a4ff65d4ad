"""The interactive prompt: `shell` runs what is entered, `terminal` is where it is typed."""
