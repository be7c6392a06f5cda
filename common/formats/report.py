"""The report in words, and the pictures that are drawn from the final report alone."""

from ghosttrack.common.formats.file import File

REPORT_PAGE = File("report.md", "report", "the report in words and tables, with the pictures beside it")
_DRAWN = "drawn from final_report.json alone"
METRICS_PICTURE = File("metrics.png", "evaluate", _DRAWN)
ABLATION_PICTURE = File("ablation.png", "evaluate", _DRAWN)
ROC_PICTURE = File("roc_curve.png", "evaluate", _DRAWN)
CONFUSION_PICTURE = File("confusion_matrix.png", "evaluate", _DRAWN)
RELIABILITY_PICTURE = File("reliability.png", "evaluate", _DRAWN)
RISK_PICTURE = File("risk_coverage.png", "evaluate", _DRAWN)
EARLY_PICTURE = File("early_warning.png", "evaluate", _DRAWN)
PICTURES = (
    METRICS_PICTURE, ABLATION_PICTURE, ROC_PICTURE, CONFUSION_PICTURE, RELIABILITY_PICTURE, RISK_PICTURE, EARLY_PICTURE,
)  # fmt: skip
"""In the order of the page."""
