"""Run the command line as ``python -m oceanmock``."""

from oceanmock.cli import main

main()
