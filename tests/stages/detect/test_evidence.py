"""States by place keep the type they are stored in, whose numbers may be too large for float16."""

import numpy as np
import pytest

from ghosttrack.common.errors import NumericError
from ghosttrack.stages.detect.evidence import States, states_by_place


@pytest.mark.parametrize(("kind", "largest"), [(np.float16, 60_000), (np.float32, 1e7)])
def test_states_keep_type_and_numbers(kind: type, largest: float) -> None:
    states: States = np.full((3, 2, 4), largest, dtype=kind)
    found = states_by_place(np.array([0, 0, 1]), np.array([0, 1, 0]), states, 2)
    assert found.dtype == kind
    assert (found[0, 1:] == kind(largest)).all()
    assert np.isnan(found[1, 2:]).all()


def test_states_that_are_not_finite_are_refused() -> None:
    states = np.full((1, 2, 4), np.inf, dtype=np.float32)
    with pytest.raises(NumericError, match="question 0"):
        states_by_place(np.array([0]), np.array([0]), states, 1)
