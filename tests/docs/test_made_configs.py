"""docs/MODEL_CONFIGS.md is in step with the configuration and the estimator."""

import pytest

from docs.made_configs import DOCUMENT, Predicted, parts
from docs.made_files import filled
from ghosttrack.common.config.load import known_keys, load_cluster, load_config

PROFILE = load_cluster("example-a100")


@pytest.mark.parametrize("part", ["keys", "comparison", "batches"])
def test_the_document_has_what_the_code_says(part: str) -> None:
    assert parts()[part] in DOCUMENT.read_text(encoding="utf-8"), "run `python -m docs.made_configs`"


def test_every_key_is_documented_with_a_description() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    for key in known_keys():
        [line] = [line for line in text.splitlines() if line.startswith(f"| `{key}` |")]
        assert len(line.split(" | ")[2]) > 10, key


def test_a_document_out_of_step_is_mended() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert filled(text.replace("| `seed` | `0`", "| `seed` | `1`"), parts()) == text


def test_a_lost_mark_is_an_error() -> None:
    with pytest.raises(ValueError, match="keys"):
        filled("no marks here", {"keys": "x"})


def test_predictions_grow_with_what_they_are_made_of() -> None:
    def predicted(*overrides: str) -> Predicted:
        return Predicted(load_config("gpt2-medium", overrides, environ={}), PROFILE)

    plain = predicted()
    assert plain.states > predicted("extract.dtype=int8", "data.max_tokens=4800000").states * 1.9
    assert predicted("extract.batch_size=32").memory("extract") > plain.memory("extract")
    assert predicted("sae_training.batch_size=4096").memory("sae_train") > plain.memory("sae_train")
    assert sum(plain.by_stage.values()) == pytest.approx(plain.seconds)
