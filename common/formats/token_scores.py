"""The risk of every token of long answers whose spans are labelled, and how good it is."""

from ghosttrack.common.formats.file import POSITION, QUESTION, Column, Json, Table

TOKEN_SCORES = Table(
    "token_scores.parquet",
    "detect/tokens",
    "a row a labelled answer token, sorted by question and position",
    (
        QUESTION,
        POSITION,
        Column("token", "string"),
        Column("label", "int8", "1 in a wrong span, 0 not"),
        Column(
            "risk",
            "float32",
            "of the detector, from a fit without the token's document; higher: more likely wrong",
        ),
        Column("logprob", "float32", "nats"),
        Column("entropy", "float32", "nats"),
    ),
)
TOKEN_METRICS = Json(
    "token_metrics.json",
    "detect/tokens",
    "`methods`: of each method [value, low, high] of `token_auroc, token_auprc, recall_at_0.1_false_alarms, span_f1, "
    "answer_auroc` (by the riskiest token), and of profiles `token_auroc_within_relation`; `detector_less`: the detector's figure less each other method's, paired; counts; "
    "`why_not` where nothing is labelled",
    1,
)
