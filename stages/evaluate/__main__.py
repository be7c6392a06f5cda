"""`python -m ghosttrack.stages.evaluate`."""

from ghosttrack.common.engine.stage import main

main(__file__)
