"""`python -m ghosttrack.stages.report`."""

from ghosttrack.common.engine.stage import main

main(__file__)
