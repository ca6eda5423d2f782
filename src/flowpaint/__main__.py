"""`python -m flowpaint`: the command line."""

from .cli import main

main()
