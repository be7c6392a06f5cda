"""`python -m stages.evaluate`."""

from pathlib import Path

from common.stage import Run, main


def load() -> Run:
    from stages.evaluate.run import run

    return run


main(Path(__file__).parent, load)
