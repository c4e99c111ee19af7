"""Everything kept: tables, questions to them, and files."""
