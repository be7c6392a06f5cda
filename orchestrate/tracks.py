"""Commands about tracking: put the tracker to the test."""

import click

from ghosttrack.common.formats.validation import VALIDATION, VALIDATION_WORDS
from ghosttrack.orchestrate.local import LocalExecutor
from ghosttrack.orchestrate.options import ghosttrack, takes_config
from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.request import Request


@ghosttrack.group()
def track() -> None:
    """Whether the tracker can be believed."""


@track.command()
@takes_config
def validate(request: Request) -> None:
    """Run the validation of the tracker, if it is not up to date, and print its report.

    Planted scenes, held-out likelihood, life against permuted decoders, causal links, completeness of accounts, predicted and
    measured effects of taking tracks out; needs what `ghosttrack run` makes. Ends with exit code 1 where one of them fails.
    """
    terminal = Terminal()
    planned = request.plan().unit_that_writes(VALIDATION.name)
    unit = planned.unit
    if planned.reason is not None:
        LocalExecutor(terminal).run_stage(request, unit.stage, [unit.name])
    entry = request.plan().result_of(VALIDATION.name)
    store = request.store
    terminal.line(store.file(entry, VALIDATION_WORDS.name).read_text(encoding="utf-8"))
    report = VALIDATION.read(store.file(entry, VALIDATION.name))
    said = {
        kind: [v["question"] for v in report["verdicts"] if v["passed"] is kind]
        for kind in (True, False, None)
    }
    words = [f"{len(said[True])} of {len(report['verdicts'])} passed"]
    words += [f"FAILED: {'; '.join(said[False])}"] if said[False] else []
    words += [f"not told: {'; '.join(said[None])}"] if said[None] else []
    terminal.line(f"{request.config.name}: {'. '.join(words)}")
    if said[False]:
        click.get_current_context().exit(1)
