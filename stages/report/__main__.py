"""`python -m stages.report`."""

from pathlib import Path

from common.stage import Run, main


def load() -> Run:
    from stages.report.run import run

    return run


main(Path(__file__).parent, load)
