"""`python -m stages.prepare`."""

from pathlib import Path

from common.stage import Run, main


def load() -> Run:
    from stages.prepare.run import run

    return run


main(Path(__file__).parent, load)
