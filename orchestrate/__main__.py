"""`python -m ghosttrack.orchestrate`: the `ghosttrack` command from a checkout that is not installed."""

from ghosttrack.orchestrate.cli import main

main()
