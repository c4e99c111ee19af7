"""`python -m archsearch` is the shell command."""

from archsearch.cli import main

main()
