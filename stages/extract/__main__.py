"""`python -m ghosttrack.stages.extract`."""

from ghosttrack.common.engine.stage import main

main(__file__)
