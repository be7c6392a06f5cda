"""`python -m ghosttrack.stages.detect`."""

from ghosttrack.common.engine.stage import main

main(__file__)
