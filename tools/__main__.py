"""`python -m tools`."""

from .cli import main

main()
