"""`python -m stages.sae_train`."""

from pathlib import Path

from common.stage import Run, RunTogether, main


def load() -> Run:
    from stages.sae_train.run import run

    return run


def load_together() -> RunTogether:
    from stages.sae_train.run import run_together

    return run_together


main(Path(__file__).parent, load, load_together)
