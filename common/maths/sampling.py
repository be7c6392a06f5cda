"""How large the pooled sample of all layers' states is, for the stage that writes it and the plan that predicts it."""

import math


def sampled_rows(
    n_tokens: int, row_length: int, train_tokens_wanted: float, held_out_fraction: float
) -> int | None:
    """Whole rows of the packed corpus in a sample with about so many tokens to train on; None: take everything.

    Held-out documents are in it with their share, so that a base can be measured on them.
    """
    rows = math.ceil(train_tokens_wanted / (1 - held_out_fraction) / row_length)
    return rows if rows < n_tokens // row_length else None
