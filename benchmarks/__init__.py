"""Performance claims as programs: each prints a table and, with --json FILE, the same as JSON."""
