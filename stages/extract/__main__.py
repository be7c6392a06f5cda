"""`python -m stages.extract`."""

from pathlib import Path

from common.stage import Run, main


def load() -> Run:
    from stages.extract.run import run

    return run


main(Path(__file__).parent, load)
