"""`python -m ghosttrack.stages.extract`."""

from pathlib import Path

from ghosttrack.common.engine.stage import main

main(Path(__file__).parent)
