"""Columns that a data set does not have are found by doctor, plan and run before anything is done."""

from pathlib import Path

import pytest

from ghosttrack.common.errors import DataError
from ghosttrack.orchestrate.doctor import columns
from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.request import Request
from ghosttrack.orchestrate.submitting import bring_up_to_date
from tests import hub

pytestmark = pytest.mark.slow


@pytest.fixture
def request_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    hub.stand_in(tmp_path, 12, documents=2)
    monkeypatch.chdir(tmp_path)
    return lambda *overrides: Request.of("gpt2-small", overrides)


def test_the_shipped_configuration_has_its_columns(request_of) -> None:  # type: ignore[no-untyped-def]
    request = request_of()
    [found] = columns(request, request.plan())
    assert found.level == "ok", found
    assert not Path(".store").exists()


@pytest.mark.parametrize(
    ("override", "words"),
    [("data.columns.answer=answer.val", "answer.val"), ("data.corpus_column=body", "'body'")],
)
def test_a_column_that_is_not_there(request_of, override: str, words: str) -> None:  # type: ignore[no-untyped-def]
    request = request_of(override, "data.max_tokens=2000")
    [found] = columns(request, request.plan())
    assert found.level == "trouble"
    assert words in found.seen
    assert "\n" not in found.seen
    Terminal().diagnosis(found)
    if "body" in words:
        with pytest.raises(DataError, match="'body'"):
            bring_up_to_date(request, "local", contained=False)
        assert not Path(".store").exists()
