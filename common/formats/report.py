"""The report in words, and the pictures that are drawn from the final report alone."""

from ghosttrack.common.formats.file import File

REPORT_PAGE = File("report.md", "report/all", "the report in words and tables, with the pictures beside it")
_DRAWN = "drawn from final_report.json alone"
METRICS_PICTURE = File("metrics.png", "evaluate/all", _DRAWN)
ABLATION_PICTURE = File("ablation.png", "evaluate/all", _DRAWN)
ROC_PICTURE = File("roc_curve.png", "evaluate/all", _DRAWN)
CONFUSION_PICTURE = File("confusion_matrix.png", "evaluate/all", _DRAWN)
RELIABILITY_PICTURE = File("reliability.png", "evaluate/all", _DRAWN)
RISK_PICTURE = File("risk_coverage.png", "evaluate/all", _DRAWN)
EARLY_PICTURE = File("early_warning.png", "evaluate/all", _DRAWN)
PICTURES = (
    METRICS_PICTURE, ABLATION_PICTURE, ROC_PICTURE, CONFUSION_PICTURE, RELIABILITY_PICTURE, RISK_PICTURE, EARLY_PICTURE,
)  # fmt: skip
"""In the order of the page."""
