"""Figures of the report from resamples, and what an interval of a difference says.

All methods, and all repeats of a cross-validation, see the same resamples, and the figure of a resample is the mean over
its repeats, so that repeats make a figure steadier without making a question count more than once.
"""

from __future__ import annotations

from ghosttrack.common.formats.final_report import Figure, Verdict
from ghosttrack.common.maths.bootstrap import Floats, interval


def figure(values: Floats, confidence: float) -> Figure:
    """values: [1 + B], the sample's own first; see `ghosttrack.common.maths.bootstrap.interval`."""
    return Figure(**interval(values, confidence)._asdict())


def verdict(difference: Figure) -> Verdict:
    """Whether the interval of a difference excludes zero."""
    if difference.low is None or difference.high is None:
        return "undefined"
    return "better" if difference.low > 0 else "worse" if difference.high < 0 else "no clear difference"
