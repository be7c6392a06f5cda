"""`python -m stages.sae_train`."""

from pathlib import Path

from common.stage import Run, main


def load() -> Run:
    from stages.sae_train.run import run

    return run


main(Path(__file__).parent, load)
