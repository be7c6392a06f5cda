"""Why a unit must run, followed upstream to where the change came from."""

import difflib

from common.errors import ConfigError
from orchestrate.estimate import finished_at
from orchestrate.plan import Plan, PlannedUnit

MEANINGS = {
    "missing": "it has no published result",
    "param": "a parameter that matters to its result has changed",
    "input": "something that it reads has changed or will change",
    "image": "it was made with another container image",
    "contract": "the meaning of its outputs has changed (contract version)",
    "corrupt": "its published result is damaged",
}


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
        when = f"{finished_at(planned.entry).astimezone():%Y-%m-%d %H:%M}"
        return [f"{planned.unit.label} is up to date: finished {when}, key {planned.entry.key[:12]}"]
    lines: list[str] = []
    current: PlannedUnit | None = planned
    while current is not None and current.reason is not None:
        reason = current.reason
        detail = f": {reason.detail}" if reason.detail else ""
        begin = (
            f"{current.unit.label} must run, {reason.kind}: "
            if not lines
            else f"because {current.unit.label}: "
        )
        lines.append(f"{'  ' * len(lines)}{begin}{MEANINGS[reason.kind]}{detail}")
        current = by_label.get(reason.detail) if reason.kind == "input" else None
    return lines
