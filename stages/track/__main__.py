"""`python -m ghosttrack.stages.track`."""

from ghosttrack.common.engine.stage import main

main(__file__)
