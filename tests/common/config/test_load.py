"""Every way in which a configuration can be wrong is one clear ConfigError; the order of precedence."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ghosttrack.common.config.load import CONFIG_FOLDER, available_configs, load_config
from ghosttrack.common.config.schema import Config, describe_layers
from ghosttrack.common.errors import ConfigError, ModelMismatchError

WriteConfig = Callable[..., Path]


def error_of(path: Path | str, *overrides: str, **options: object) -> str:
    with pytest.raises(ConfigError) as raised:
        load_config(str(path), overrides, **options)  # type: ignore[arg-type]
    assert raised.value.exit_code == 10
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_file_names_its_configuration(write_config: WriteConfig) -> None:
    config = load_config(str(write_config("mine")))
    assert config.name == "mine"
    assert config.layers == [0, 1, 2]
    assert config.value("sae.d_hidden") == 8


@pytest.mark.parametrize(
    ("changes", "key", "suggestion"),
    [
        ({"sae": {"d_hiden": 8}}, "sae.d_hiden", "sae.d_hidden"),
        ({"sae_trainng": {"epochs": 2}}, "sae_trainng", "sae_training"),
        ({"extract": {"batchsize": 2}}, "extract.batchsize", "extract.batch_size"),
    ],
)
def test_an_unknown_key_suggests_the_right_one(
    write_config: WriteConfig, changes: dict[str, object], key: str, suggestion: str
) -> None:
    message = error_of(write_config(**changes))
    assert f"there is no key '{key}'" in message
    assert suggestion in message
    assert "small.yaml" in message


def test_an_unknown_key_of_set_suggests_the_right_one(write_config: WriteConfig) -> None:
    path = write_config()
    message = error_of(path, "tracking.top_k=30")
    assert "--set tracking.top_k=30: there is no key 'tracking.top_k'" in message
    assert "tracking.top_k_features" in message
    assert "(did you mean 'sae.d_hidden'?)" in error_of(path, "d_hidden=3")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("extract.batch_size=many", "extract.batch_size = 'many'"),
        ("extract.batch_size=0", "extract.batch_size = 0"),
        ("extract.batch_size=1.5", "extract.batch_size = 1.5"),
        ("sae=big", "there is no key 'sae'"),
        ("model.dtype=float8", "float8"),
        ("data.held_out_fraction=1", "data.held_out_fraction = 1"),
        ("name=../../etc", "name = '../../etc'"),
        ("extract.batch_size", "has no value"),
        ("extract.batch_size=[", "not valid YAML"),
        (f"sae.d_hidden=0x{'f' * 5000}", "more than 1024 bits"),
    ],
)
def test_a_wrong_type_or_value_names_key_and_value(
    write_config: WriteConfig, override: str, expected: str
) -> None:
    assert expected in error_of(write_config(), override)


def test_a_section_of_the_wrong_type_is_named(write_config: WriteConfig) -> None:
    assert "sae = 'large'" in error_of(write_config(sae="large"))


@pytest.mark.parametrize("wrong", ["seed: yes", "extract: {batch_size: true}", "model: {layers: [true]}"])
def test_a_yes_is_no_number(tmp_path: Path, wrong: str) -> None:
    """It would be 1."""
    path = tmp_path / "a.yaml"
    path.write_text(f"sae: {{d_hidden: 8, target_l0: 2}}\n{wrong}\n")
    assert "is a yes or no, which it does not take" in error_of(path, "model.base_model=miniature")


def test_a_section_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """The second would take the place of all that the first says."""
    path = tmp_path / "a.yaml"
    path.write_text("data: {shots: 2}\nmodel: {base_model: miniature}\ndata: {max_questions: 9}\n")
    assert "the key 'data' stands twice" in error_of(path)


def test_values_that_do_not_fit_together_are_laid_on_what_set_them(write_config: WriteConfig) -> None:
    path = write_config("a")
    assert error_of(path, "seed=1", "sae.target_l0=1e6").startswith(
        f"{path} with --set sae.target_l0=1e6: sae"
    )
    assert error_of(path, "tracking.ladder=[none, foo]").startswith("--set tracking.ladder=[none, foo]: ")


def test_a_missing_key_is_named(write_config: WriteConfig) -> None:
    assert "the key 'model.base_model' is missing" in error_of(write_config(model={"n_layers": 2}))


def model_folder(folder: Path) -> Path:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "mpt", "d_model": 48, "n_layers": 5}')
    return folder


def test_a_model_s_sizes_are_read_from_it(write_config: WriteConfig, tmp_path: Path) -> None:
    source = str(model_folder(tmp_path / "model"))
    model = load_config(str(write_config(model={"base_model": source, "layers": "0-4"}))).model
    assert (model.d_model, model.n_layers) == (48, 5)
    assert "choose from 0-4" in error_of(write_config(model={"base_model": source, "layers": "0-5"}))


def test_given_sizes_are_held_against_the_model(write_config: WriteConfig, tmp_path: Path) -> None:
    source = str(model_folder(tmp_path / "model"))
    right = load_config(str(write_config(model={"base_model": source, "n_layers": 5, "d_model": 48})))
    assert right.model.n_layers == 5
    with pytest.raises(ModelMismatchError, match=r"model\.n_layers = 6, but .*model has 5"):
        load_config(str(write_config(model={"base_model": source, "n_layers": 6, "d_model": 48})))


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("data.questions", "new #2.jsonl"),
        ("data.corpus", "a: b, [c].txt"),
        ("paths.root", "run #2"),
        ("model.revision", "1e3"),
        ("data.questions_config", "2024-01-01"),
        ("detection.transfer", "'quoted'"),
        ("data.questions_split", "null"),
        ("data.questions_config", "yes"),
        ("data.columns.answer", "reply #1"),
    ],
)
def test_text_is_taken_as_it_stands(write_config: WriteConfig, key: str, text: str) -> None:
    config = load_config(str(write_config()), [f"{key}={text}"])
    assert config.value(key) == text


def test_a_list_of_texts_is_one_where_there_may_be_several(write_config: WriteConfig) -> None:
    config = load_config(str(write_config()), ["detection.transfer=[a/detection, 'b #2/detection']"])
    assert config.detection.transfers == ["a/detection", "b #2/detection"]


def test_text_that_may_be_none_is_none_by_null_and_the_environment_is_taken_as_it_stands(
    write_config: WriteConfig,
) -> None:
    path = write_config(data={"questions_config": "x"})
    assert load_config(str(path), ["data.questions_config=null"]).data.questions_config is None
    assert load_config(str(path), environ={"GHOSTTRACK_ROOT": "run #2"}).paths.root == "run #2"


@pytest.mark.parametrize(
    ("text", "layers"), [("0-2", [0, 1, 2]), ("2,0", [0, 2]), ("1", [1]), ("[2, 1, 2]", [1, 2])]
)
def test_layers_are_ranges_and_lists(write_config: WriteConfig, text: str, layers: list[int]) -> None:
    assert load_config(str(write_config()), [f"model.layers={text}"]).layers == layers


@pytest.mark.parametrize("text", ["0-3", "7", "2-1", "first", "[-1]", "[]"])
def test_a_layer_out_of_range_is_refused(write_config: WriteConfig, text: str) -> None:
    assert "layers" in error_of(write_config(), f"model.layers={text}")


def test_layers_out_of_range_say_what_there_is(write_config: WriteConfig) -> None:
    assert "choose from 0-2" in error_of(write_config(), "model.layers=1-3")


def test_more_active_latents_than_there_are_is_refused(write_config: WriteConfig) -> None:
    assert "target_l0" in error_of(write_config(sae={"d_hidden": 8, "target_l0": 9}))


def test_less_than_one_active_latent_is_refused(write_config: WriteConfig) -> None:
    assert "sae.target_l0 = 0.5" in error_of(write_config(sae={"d_hidden": 8, "target_l0": 0.5}))


def test_precedence_is_file_cluster_environment_set(write_config: WriteConfig, tmp_path: Path) -> None:
    path = write_config(extract={"batch_size": 1})
    cluster = tmp_path / "site.yaml"
    cluster.write_text(yaml.safe_dump({"config": {"extract": {"batch_size": 2, "shard_rows": 7}}}))
    environ = {"EXTRACT_BATCH_SIZE": "3", "TRAIN_BATCH_SIZE": ""}
    override = ["extract.batch_size=4"]

    def batch_size(**options: object) -> int:
        return load_config(str(path), **options).extract.batch_size  # type: ignore[arg-type]

    assert batch_size(environ={}) == 1
    assert batch_size(environ={}, cluster=str(cluster)) == 2
    assert batch_size(environ=environ, cluster=str(cluster)) == 3
    assert batch_size(environ=environ, cluster=str(cluster), overrides=override) == 4
    assert load_config(str(path), cluster=str(cluster), environ=environ).extract.shard_rows == 7
    assert load_config(str(path), environ=environ).sae_training.batch_size == 4096


def test_the_environment_is_checked_too(write_config: WriteConfig) -> None:
    path = write_config()
    message = error_of(path, environ={"EXTRACT_BATCH_SIZE": "big"})
    assert message.startswith("environment variable EXTRACT_BATCH_SIZE: extract.batch_size = 'big'")
    assert "EXTRACT_BATCH_SIZE" in error_of(path, environ={"EXTRACT_BATCH_SIZE": "["})


@pytest.mark.parametrize(
    ("profile", "expected"),
    [
        ({"config": {"extract": {"batchsize": 2}}}, "there is no key 'extract.batchsize'"),
        ({"konfig": {}}, "there is no key 'konfig' (did you mean 'config'?)"),
        ({"config": 3}, "config = 3"),
    ],
)
def test_a_bad_cluster_profile_is_named(
    write_config: WriteConfig, tmp_path: Path, profile: object, expected: str
) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(yaml.safe_dump(profile))
    message = error_of(write_config(), cluster=str(site))
    assert expected in message
    assert "site.yaml" in message


def test_an_unknown_cluster_profile_is_not_called_a_configuration(write_config: WriteConfig) -> None:
    message = error_of(write_config(), cluster="slurm-generik")
    assert message.startswith(
        "there is no cluster profile 'slurm-generik' (did you mean 'slurm-generic'?); there are "
    )
    assert "init" not in message


def test_a_stub_is_known_by_the_name_of_its_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_config("demo-stub", environ={}) == load_config("demo", environ={}, stub=True)
    monkeypatch.chdir(tmp_path)
    assert "there is no configuration 'own-stub'" in error_of("own-stub")
    text = (CONFIG_FOLDER / "model_configs/demo.yaml").read_text()
    (tmp_path / "own.yaml").write_text(text)
    assert load_config("own-stub", environ={}).name == "own-stub"
    (tmp_path / "own-stub.yaml").write_text(text)
    found = load_config("own-stub", environ={})
    assert (found.name, found.model.base_model) == (
        "own-stub",
        load_config("own", environ={}).model.base_model,
    )


def test_files_that_are_no_configuration(tmp_path: Path) -> None:
    assert "(did you mean 'demo'?)" in error_of("dmo")
    assert "there is no configuration file" in error_of(tmp_path / "none.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("model: [")
    assert "not valid YAML" in error_of(broken)
    broken.write_bytes(b"\xff\xfe\x00")
    assert "broken.yaml" in error_of(broken)
    broken.write_text("- a\n- b\n")
    assert "mapping" in error_of(broken)
    assert "(did you mean 'local'?)" in error_of("demo", cluster="locl")


def test_an_empty_section_takes_the_defaults(write_config: WriteConfig) -> None:
    path = write_config(extract=None)
    assert load_config(str(path)).extract.batch_size == 16
    assert load_config(str(path), ["extract.batch_size=3"]).extract.batch_size == 3


@pytest.mark.parametrize("name", available_configs())
def test_every_configuration_that_comes_with_the_product_loads(name: str) -> None:
    config = load_config(name, environ={})
    assert config.model.d_model > 0
    assert load_config(name, environ={}, cluster="local") == config
    stub = load_config(name, environ={}, stub=True)
    assert stub.model.base_model == "miniature"
    assert stub.name == f"{config.name}-stub"


def test_the_reference_configurations_have_the_reference_values() -> None:
    medium, small = load_config("gpt2-medium", environ={}), load_config("gpt2-small", environ={})
    assert (medium.model.base_model, medium.model.n_layers, medium.model.d_model) == ("gpt2-medium", 24, 1024)
    assert (medium.sae.d_hidden, medium.sae_training.batch_size, medium.sae_training.epochs) == (
        5120,
        128,
        20,
    )
    assert (medium.extract.batch_size, medium.extract.max_length) == (16, 512)
    assert medium.sae_training.learning_rate == 1e-4
    assert (small.model.n_layers, small.model.d_model, small.sae.d_hidden) == (12, 768, 3840)
    assert (small.extract.batch_size, small.sae_training.batch_size) == (32, 256)
    assert load_config("smollm2-135m", environ={}).layers == list(range(30))


def test_the_template_is_a_configuration_of_the_defaults_but_for_what_it_says() -> None:
    data = yaml.safe_load((CONFIG_FOLDER / "model_configs" / "model_template.yaml").read_text())
    bare = Config.model_validate(
        {"name": "model_template", "model": data["model"], "sae": {"d_hidden": 3840}}
    )
    changed = {"data": bare.data.model_copy(update={"max_questions": 5000})}
    assert load_config("model_template", environ={}) == bare.model_copy(update=changed)


def test_layers_are_described_in_short() -> None:
    assert describe_layers([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    assert describe_layers([]) == ""


def test_pretrained_saes_have_a_folder_for_each_layer(write_config: Callable[..., Path]) -> None:
    sae = load_config(str(write_config()), ["sae.pretrained=~/saes/{layer}/layer_{layer}"]).sae
    assert sae.pretrained_folder(7) == Path.home() / "saes/7/layer_7"
    with pytest.raises(ConfigError, match=r"sae\.pretrained = 'saes': it must hold \{layer\}"):
        load_config(str(write_config()), ["sae.pretrained=saes"])


def test_a_stub_run_trains_its_own_saes(write_config: Callable[..., Path]) -> None:
    path = write_config(sae={"d_hidden": 8, "target_l0": 2, "pretrained": "saes/layer_{layer}"})
    assert load_config(str(path)).sae.pretrained
    assert load_config(str(path), stub=True).sae.pretrained is None


@pytest.mark.parametrize(
    "text", ["001", "1e5", "no", "null ", "2001-01-01", "12:30:00", "a: b", "x #2", "~", "*x"]
)
def test_a_text_on_the_command_line_is_that_text(text: str) -> None:
    config = load_config(
        "demo", [f"data.questions={text}", f"data.relations=[{text.strip(' ')!r}, 007]"], environ={}
    )
    assert config.data.questions == text
    assert config.data.relations == [text.strip(" "), "007"]


def test_no_element_of_a_list_of_texts_is_a_number_or_a_no() -> None:
    config = load_config("demo", ["data.relations=[no, 2001, 1e5, null]", "tracking.stop=null"], environ={})
    assert config.data.relations == ["no", "2001", "1e5", "null"]
    assert config.tracking.stop is None
