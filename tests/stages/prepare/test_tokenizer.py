"""Tokens that were added to a tokenizer beyond the embeddings of its model, as gemma-3-1b has one."""

from pathlib import Path

from transformers import AutoTokenizer

from ghosttrack.common.models.language_model import load_language_model
from ghosttrack.stages.prepare import snapshot
from ghosttrack.stages.prepare.tokenizer import without_beyond
from tests.tiny_models import bos_tokenizer, byte_tokenizer, random_model

TEXT = "<bos> is said <picture> here"


def test_added_tokens_beyond_the_embeddings_are_left_out_and_no_text_makes_them(tmp_path: Path) -> None:
    tokenizer = bos_tokenizer()
    tokenizer.chat_template = "{{ messages[0].content }}"
    plain = tokenizer(TEXT).input_ids
    n_embeddings = len(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<picture>"]})
    assert tokenizer(TEXT).input_ids != plain
    changed, beyond = without_beyond(tokenizer, n_embeddings)
    changed.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    assert beyond == ["<picture>"]
    for one in (changed, again):
        assert one(TEXT).input_ids == plain
        assert max(one.get_vocab().values()) < n_embeddings
        assert (one.bos_token, one.eos_token, one.chat_template) == (
            "<bos>",
            "<eos>",
            tokenizer.chat_template,
        )


def test_a_model_whose_tokenizer_has_one_token_more_is_loaded(tmp_path: Path) -> None:
    model, tokenizer = random_model("gemma3_text"), byte_tokenizer()
    n_embeddings = model.get_input_embeddings().weight.shape[0]
    tokenizer.add_tokens([f"<unused{number}>" for number in range(n_embeddings - len(tokenizer) + 1)])
    changed, beyond = without_beyond(tokenizer, n_embeddings)
    assert len(beyond) == 1
    snapshot.check(model, changed, "here", 32, 3)
    snapshot.save(model, changed, tmp_path)
    assert len(load_language_model(tmp_path).tokenizer) == n_embeddings


def test_a_tokenizer_whose_own_vocabulary_goes_beyond_is_another_model_s() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.add_tokens(["<more>"])
    assert without_beyond(tokenizer, 200) == (tokenizer, [])
    assert without_beyond(tokenizer, 257) == (tokenizer, [])
