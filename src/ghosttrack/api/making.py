"""`ghosttrack.run`: the pipeline from Python, as `ghosttrack run` does it on this machine."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ghosttrack.api.run import Run, open_run
from ghosttrack.common.config.schema import NAME
from ghosttrack.common.engine.storage import storage_errors
from ghosttrack.common.errors import ConfigError
from ghosttrack.orchestrate.request import Request
from ghosttrack.orchestrate.submitting import bring_up_to_date


def run(
    config: str | Path | Mapping[str, Any],
    root: str | Path = ".",
    overrides: Sequence[str] = (),
    *,
    stub: bool = False,
) -> Run:
    """Run what is stale of a configuration on this machine, each stage a process of its own, and open it.

    config: a name (`demo`), a YAML file, or its content as a mapping with a `name`. root: where the results appear. stub:
    the real work on a miniature model, in seconds. Raises what `ghosttrack run` would end with.
    """
    name = _written(config, Path(root)) if isinstance(config, Mapping) else str(config)
    request = Request.of(name, [f"paths.root={root}", *overrides], stub=stub)
    bring_up_to_date(request, "local", contained=False)
    return open_run(name, root, overrides) if not stub else open_run(request.config.name, root)


def _written(config: Mapping[str, Any], root: Path) -> str:
    """The path of a configuration file with this content, kept beside the run's logs."""
    name = config.get("name")
    if not isinstance(name, str) or not re.match(NAME, name):
        raise ConfigError(
            f"a configuration that is given as a mapping needs a 'name' for folders, not {name!r}"
        )
    plain = json.loads(json.dumps(dict(config), default=str))  # paths and numbers of NumPy
    path = root / "runs" / f"{name}.yaml"
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return str(path)
