"""`python -m ghosttrack.stages.sae_train`."""

from ghosttrack.common.engine.stage import main

main(__file__)
