"""`python -m ghosttrack.stages.prepare`."""

from ghosttrack.common.engine.stage import main

main(__file__)
