"""Jobs of a stage that read from plain folders, for tests of one unit."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.contract import Unit, expand, load_contract
from ghosttrack.common.engine.stage import Job

STAGES = Path(__file__).resolve().parents[1] / "stages"


def unit_of(stage: str, settings: Config, name: str = "all") -> Unit:
    [unit] = [unit for unit in expand(load_contract(STAGES / stage), settings) if unit.name == name]
    return unit


def job_of(unit: Unit, settings: Config, folder: Path, entries: Mapping[str, Any]) -> Job:
    """A job that writes to `folder`. entries: of each unit that it reads what stands for the result."""
    (folder / "out").mkdir(parents=True, exist_ok=True)
    return Job(settings, unit, logging.getLogger("test"), folder, dict(entries))
