"""What is learned from and measured on, and every question that is not, by reason."""

from collections.abc import Sequence

from ghosttrack.common.errors import DataError
from ghosttrack.common.formats.answers import Answer
from ghosttrack.common.maths.arrays import Bools

UNEXPLAINED = "unexplained"
MOST_UNEXPLAINED = 0.005
"""Share of questions that may lack a label or features without a reason."""


SAYS_NOTHING = ("empty", "refusal")
"""Why an answer has no label whatever is right: nothing in it could be right or wrong."""


def unscored(answers: Sequence[Answer], complete: Bools) -> list[str | None]:
    """Why each new question gets no score, None for those that do: its answer says nothing, or a signal is missing.

    complete: [n] whether every signal has finite features of the question.
    """
    return [
        answer.excluded if answer.excluded in SAYS_NOTHING else None if there else "no_features"
        for answer, there in zip(answers, complete, strict=True)
    ]


def exclusions(answers: Sequence[Answer], complete: Bools) -> list[str | None]:
    """Why each question is left out, None for those that are in.

    complete: [n] whether every signal has finite features of the question. Raises DataError if more than
    `MOST_UNEXPLAINED` of all questions lack a label without a reason, or have a label but lack features.
    """
    reasons = [
        answer.reason if answer.label is None else None if there else "no_features"
        for answer, there in zip(answers, complete, strict=True)
    ]
    bad = [row for row, reason in enumerate(reasons) if reason in (UNEXPLAINED, "no_features")]
    if len(bad) > MOST_UNEXPLAINED * len(answers):
        raise DataError(
            f"{len(bad)} of {len(answers)} questions have no label, or no features, without a reason (the first is "
            f"{answers[bad[0]].id!r}: {reasons[bad[0]]}); at most {MOST_UNEXPLAINED:.1%} may; run track again"
        )
    return reasons
