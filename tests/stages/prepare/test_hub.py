"""The shipped GPT-2 configurations read their data sets as the hub lays them out."""

from pathlib import Path

import pytest

from ghosttrack.common.config.load import load_config
from ghosttrack.common.errors import DataError
from ghosttrack.stages.prepare.run import corpus_texts, questions_of
from tests import hub


def test_a_folder_that_changed_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cache of `datasets` takes two folders of one name and one README for the same."""
    config = load_config("gpt2-small", environ={})
    for count in (12, 9):
        here = tmp_path / str(count)
        hub.stand_in(here, count)
        monkeypatch.chdir(here)
        assert len(questions_of(config)[1].facts) == count


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hub")
    hub.stand_in(folder, 12)
    return folder


@pytest.mark.parametrize("name", ["gpt2-small", "gpt2-medium"])
def test_trivia_and_wikitext_are_read(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    config = load_config(name, environ={})
    questions, spare, _ = questions_of(config)
    assert len(spare.facts) == 12
    assert len(questions) == 12 - config.data.shots  # which are the worked examples
    for question in questions:
        assert question.answer in question.aliases
        assert isinstance(question.answer, str)
        assert question.answer
    texts = corpus_texts(config)
    assert " = Heading = \n" in texts[:10]


def test_an_answer_that_is_a_struct_is_refused_by_the_names_in_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    config = load_config("gpt2-small", ["data.columns.answer=answer.val"], environ={})
    with pytest.raises(
        DataError, match=r"data\.columns\.answer = 'answer\.val'.*answer\.aliases.*answer\.value"
    ):
        questions_of(config)
