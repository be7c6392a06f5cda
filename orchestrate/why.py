"""Why a unit must run, followed upstream to where the change came from."""

import difflib

from ghosttrack.common.engine.staleness import Reason
from ghosttrack.common.errors import ConfigError
from ghosttrack.orchestrate.plan import Plan, PlannedUnit


def choose(plan: Plan, name: str) -> list[PlannedUnit]:
    """The units that `stage/unit` or `stage` stands for. Raises ConfigError for an unknown one."""
    chosen = [planned for planned in plan.units if name in (planned.unit.label, planned.unit.stage)]
    if chosen:
        return chosen
    known = [*plan.stages, *(planned.unit.label for planned in plan.units)]
    nearest = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
    raise ConfigError(
        f"there is no unit {name!r}{hint}; name a stage ({', '.join(plan.stages)}) or a unit such as "
        f"{plan.units[-1].unit.label}"
    )


def explain(plan: Plan, planned: PlannedUnit) -> list[str]:
    """Lines: the unit's reason, then the reasons of what it waits for, up to the first cause."""
    by_label = {each.unit.label: each for each in plan.units}
    if planned.reason is None:
        assert planned.entry
        when = f"{planned.entry.finished.astimezone():%Y-%m-%d %H:%M}"
        return [f"{planned.unit.label} is up to date: finished {when}, key {planned.entry.key[:12]}"]
    lines: list[str] = []
    current: PlannedUnit | None = planned
    while current is not None and current.reason is not None:
        upstream = by_label.get(current.reason.detail) if current.reason.kind == "input" else None
        begin = "because " if lines else ""
        lines.append(
            f"{'  ' * len(lines)}{begin}{current.unit.label} must run: {_sentence(current.reason, upstream)}"
        )
        current = upstream
    return lines


def _sentence(reason: Reason, upstream: PlannedUnit | None) -> str:
    meaning = {
        "missing": f"{reason.detail} is missing" if reason.detail else "it has no published result",
        "param": f"a parameter that matters to its result has changed: {reason.detail}",
        "input": f"it reads {reason.detail}, which {'will run' if upstream else 'has changed'}",
        "code": "the code of its stage is not what it was made with, and --strict-code was given",
        "image": "the image of its stage is not the one that it was made in, and --strict-code was given",
        "contract": f"the meaning of its outputs has changed, contract version {reason.detail}",
        "released": f"its files were removed after use, and {reason.detail} needs them again",
        "corrupt": f"its published result is damaged: {reason.detail}",
    }[reason.kind]
    return f"{meaning} ({reason.kind})"
