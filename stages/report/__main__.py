"""`python -m stages.report`."""

from pathlib import Path

from common.stage import Run, main
from stages.report.commands import compare, crate, dashboard, export


def load() -> Run:
    from stages.report.run import run

    return run


main(Path(__file__).parent, load, commands=(dashboard, compare, export, crate))
