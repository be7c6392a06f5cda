"""`ghosttrack init`: the configuration that it writes, and what it refuses."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from ghosttrack.common.config.cluster import ClusterProfile
from ghosttrack.common.config.load import load_config, with_sizes
from ghosttrack.common.errors import ConfigError, GhostTrackError, ModelSourceError
from ghosttrack.common.models.sizes import Sizes
from ghosttrack.orchestrate import initialise
from ghosttrack.orchestrate.cli import ghosttrack
from ghosttrack.orchestrate.doctor import refuse_model
from ghosttrack.orchestrate.initialise import Machine, choose, spread
from tests.tiny_gguf import save_tiny_gguf
from tests.tiny_models import D_MODEL, N_LAYERS, save_random_model


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_random_model(folder / "phi", "phi")
    save_tiny_gguf(folder / "tiny.gguf")
    return folder


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(initialise, "refuse_model", lambda *_: None)  # a process with transformers each time


def init(*arguments: str) -> Result:
    result = CliRunner().invoke(ghosttrack, ["init", *arguments])
    if isinstance(result.exception, GhostTrackError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize("source", ["phi", "tiny.gguf"])
def test_a_model_of_which_nothing_is_known_gets_a_configuration_that_loads(
    models: Path, source: str, tmp_path: Path
) -> None:
    (tmp_path / "my #1 questions.jsonl").write_text('{"question": "Who?", "answer": "I"}\n')
    said = init("mine", "--model", str(models / source), "--questions", "my #1 questions.jsonl")
    assert "units to run, about" in said.output  # the plan's cost
    assert "`ghosttrack run mine`" in said.output
    config = load_config("mine", environ={})  # found by its name where it lies
    assert (config.model.d_model, config.model.n_layers) == (D_MODEL, N_LAYERS)
    assert config.data.questions == str(tmp_path / "my #1 questions.jsonl")
    assert Path(config.model.base_model) == models / source
    assert config.extract.max_length <= 128  # what it sees


def test_columns_of_other_names_are_written_down_and_no_more_questions_than_there_are(
    models: Path, tmp_path: Path
) -> None:
    rows = [{"質問": f"{n}番の国の首都はどこですか？", "答え": f"都{n}"} for n in range(30)]
    (tmp_path / "q.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    said = init("mine", "--model", str(models / "phi"), "--questions", "q.jsonl")
    assert "question = '質問', answer = '答え'" in said.output
    config = load_config("mine", environ={})
    assert config.data.columns == {"question": "質問", "answer": "答え"}
    assert config.data.max_questions == 30


def test_a_folder_that_the_run_could_not_read_is_told_at_once(models: Path, tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows/train.jsonl").write_text('{"question": "Who?", "answer": "I"}\n')
    said = " ".join(init("mine", "--model", str(models / "phi"), "--questions", "rows").output.split())
    assert "'validation' cannot be loaded" in said
    assert "choose one of them with data.questions_split" in said


def test_columns_that_nothing_tells_are_asked_for(models: Path, tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text(
        '{"x": "Who?", "y": "I", "z": "You"}\n{"x": "When?", "y": "now", "z": "then"}\n'
    )
    arguments = ["mine", "--model", str(models / "phi"), "--questions", "q.jsonl"]
    with pytest.raises(
        ConfigError, match=r"has the columns x, y, z, none of which .* --column question=… --column answer=…"
    ):
        init(*arguments)
    init(*arguments, "--column", "question=x", "--column", "answer=z")
    assert load_config("mine", environ={}).data.columns == {"question": "x", "answer": "z"}
    with pytest.raises(ConfigError, match="write FIELD=COLUMN"):
        init(*arguments, "--force", "--column", "x")


def test_too_few_hours_are_told_with_fewer_layers(models: Path) -> None:
    said = init("mine", "--model", str(models / "phi"), "--hours", "0.001")
    assert "longer than the hours given" in said.output
    assert spread(24, 3) == [6, 12, 18]


@pytest.mark.parametrize("hours", ["nan", "inf", "-1", "0"])
def test_hours_that_nothing_can_take_are_refused_in_a_line(models: Path, hours: str) -> None:
    arguments = ["init", "mine", "--model", str(models / "phi"), "--hours", hours]
    said = CliRunner().invoke(ghosttrack, arguments)
    assert said.exit_code == 2
    assert said.output.splitlines()[-1].startswith("Error: Invalid value for '--hours': ")


def test_it_writes_where_it_is_told_and_replaces_nothing_unasked(models: Path, tmp_path: Path) -> None:
    arguments = ["mine", "--model", str(models / "phi"), "--folder", "configs"]
    said = init(*arguments)
    assert "`ghosttrack run configs/mine.yaml`" in said.output
    (tmp_path / "configs/mine.yaml").write_text("changed")
    with pytest.raises(ConfigError, match=r"there is a configs/mine\.yaml already"):
        init(*arguments)
    init(*arguments, "--force")
    assert yaml.safe_load((tmp_path / "configs/mine.yaml").read_text())["model"]["n_layers"] == N_LAYERS


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["mine", "--model", "model", "--questions", "none.csv"],
            r"--questions none.csv: there is no such file or folder",
        ),
        (["demo", "--model", "."], "comes with GhostTrack"),
        (["a b", "--model", "."], "is no name for folders"),
        (["mine", "--model", "./none"], "no such model folder"),
        (["mine", "--model", "."], "has no config.json"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(arguments: list[str], words: str) -> None:
    with pytest.raises((ConfigError, ModelSourceError), match=words) as caught:
        init(*arguments)
    assert "\n" not in str(caught.value)
    assert not list(Path().glob("*.yaml"))


def test_a_model_that_the_run_could_not_read_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(initialise, "refuse_model", refuse_model)
    save_tiny_gguf(tmp_path / "odd.gguf", add=lambda writer: writer.add_logit_scale(0.5))
    with pytest.raises(ModelSourceError, match=r"logit_scale is 0\.5.* give the folder with") as caught:
        init("mine", "--model", "odd.gguf")
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("*.yaml"))


@pytest.mark.parametrize(
    ("context", "memory", "shots", "offload"),
    [(4096, 64e9, None, None), (128, 2e8, 1, "disk"), (64, 64e9, 0, None)],
)
def test_a_short_context_has_fewer_examples_and_a_large_model_lies_elsewhere(
    context: int, memory: float, shots: int | None, offload: str | None
) -> None:
    sizes = Sizes(d_model=64, n_layers=2, architecture="llama", context=context, parameters=100_000_000)
    model = with_sizes({"base_model": "some/model", "d_model": 64, "n_layers": 2})
    data = {"questions": "factbook", "corpus": "factbook"}
    found = choose("x", model, data, sizes, Machine(memory, False), ClusterProfile(), 1e6)
    assert found["data"].get("shots") == shots
    assert found["model"].get("offload") == offload


def test_more_time_is_more_text_and_less_memory_smaller_batches() -> None:
    sizes = Sizes(d_model=2048, n_layers=16, architecture="llama", context=4096)
    model = with_sizes({"base_model": "some/model", "d_model": 2048, "n_layers": 16})
    data = {"questions": "factbook", "corpus": "factbook"}

    def chosen(memory: float, hours: float, gpu: bool = False) -> dict[str, dict[str, int]]:
        return choose("x", model, data, sizes, Machine(memory, gpu), ClusterProfile(), hours)

    little, much = chosen(64e9, 0.01), chosen(64e9, 1e6)
    assert little["data"]["max_tokens"] < much["data"]["max_tokens"] <= 200_000
    assert chosen(64e9, 1e6, gpu=True)["data"]["max_tokens"] > 200_000
    assert chosen(14e9, 1e6)["extract"]["batch_size"] < chosen(400e9, 1e6)["extract"]["batch_size"]
