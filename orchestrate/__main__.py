"""`python -m orchestrate`: the `ghosttrack` command from a checkout that is not installed."""

from orchestrate.cli import main

main()
