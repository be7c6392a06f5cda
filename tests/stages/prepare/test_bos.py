import pytest
import torch
from tokenizers import processors
from transformers import AutoTokenizer

from ghosttrack.common.errors import ConfigError
from ghosttrack.stages.prepare import bos
from tests.tiny_models import bos_tokenizer, byte_tokenizer, random_model


class Needs(torch.nn.Module):
    """Predicts the true next token where the text begins with this token, or where it does not."""

    def __init__(self, token: int, wanted: bool) -> None:
        super().__init__()
        self.token, self.wanted = token, wanted
        self.config = random_model("llama").config

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> object:
        logits = torch.zeros(*input_ids.shape, 264)
        if (int(input_ids[0, 0]) == self.token) == self.wanted:
            logits.scatter_(2, input_ids.roll(-1, dims=1)[..., None], 5.0)
        return type("Output", (), {"logits": logits})


def forgetful():
    """Knows a BOS and does not put it there."""
    return bos.beginning_with(bos_tokenizer(), [], afresh=True)


@pytest.mark.parametrize("make", [bos_tokenizer, forgetful])
@pytest.mark.parametrize("needed", [True, False])
def test_auto_takes_what_the_model_needs_and_the_snapshot_keeps_it(make, needed, tmp_path):
    tokenizer = make()
    token, text = tokenizer.bos_token_id, "some text"
    chosen, found = bos.decide(Needs(token, needed), tokenizer, "auto")
    assert found["bos"] == needed
    assert (found["loss_with_bos"] < found["loss_without_bos"]) == needed
    chosen.save_pretrained(tmp_path)
    own = byte_tokenizer()(text).input_ids
    assert AutoTokenizer.from_pretrained(tmp_path)(text).input_ids == ([token, *own] if needed else own)


def test_what_the_tokenizer_begins_texts_with_is_measured_whatever_it_calls_it():
    """As XGLM and BioGPT: `</s>` before every text, and a BOS of another name that no text has."""
    tokenizer = bos_tokenizer()
    start = tokenizer.bos_token_id
    tokenizer.bos_token, tokenizer.eos_token = "<eos>", "<bos>"
    chosen, found = bos.decide(Needs(start, True), tokenizer, "auto")
    assert chosen is tokenizer
    assert (found["bos"], found["tokenizer_adds_bos"]) == (True, True)
    assert found["loss_with_bos"] < found["loss_without_bos"]
    assert (
        bos.decide(Needs(start, False), tokenizer, "auto")[0]("a").input_ids
        == byte_tokenizer()("a").input_ids
    )


def test_without_a_clear_difference_the_tokenizer_is_left_as_it_is():
    model = random_model("llama").eval()
    for make in (bos_tokenizer, forgetful):
        tokenizer = make()
        chosen, found = bos.decide(model, tokenizer, "auto")
        if abs(found["loss_with_bos"] - found["loss_without_bos"]) <= bos.CLEARLY:
            assert chosen is tokenizer
    assert bos.decide(model, bos_tokenizer(), "never")[0]("a").input_ids == byte_tokenizer()("a").input_ids
    assert bos.decide(model, forgetful(), "always")[0]("a").input_ids == bos_tokenizer()("a").input_ids


def test_a_model_that_is_worse_than_guessing_does_not_decide():
    """Random weights: what they prefer by chance is no need."""

    class Worse(Needs):
        def forward(self, input_ids: torch.Tensor, use_cache: bool) -> object:
            output = super().forward(input_ids, use_cache)
            output.logits = -output.logits.scatter(
                2, input_ids.roll(-1, dims=1)[..., None], 1.0, reduce="add"
            )
            return output

    for needed in (True, False):
        for make in (bos_tokenizer, forgetful):
            tokenizer = make()
            chosen, found = bos.decide(Worse(tokenizer.bos_token_id, needed), tokenizer, "auto")
            assert abs(found["loss_with_bos"] - found["loss_without_bos"]) > bos.CLEARLY
            assert chosen is tokenizer


def closing_tokenizer(single: str):
    """As some finetunes: every text ends with the end token, a prompt too."""
    tokenizer = bos_tokenizer()
    names = ("<bos>", "<eos>")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[(name, tokenizer.convert_tokens_to_ids(name)) for name in names]
    )
    return tokenizer


@pytest.mark.parametrize("single", ["<bos> $A <eos>", "$A <eos>", "<eos> $A <eos>"])
@pytest.mark.parametrize("goes_on", [True, False])
def test_a_prompt_is_left_open_where_the_model_does_not_go_on_behind_the_closing_token(
    single, goes_on, tmp_path
):
    class Closes(Needs):
        def forward(self, input_ids: torch.Tensor, use_cache: bool) -> object:
            output = super().forward(input_ids, use_cache)
            output.logits[(input_ids == self.token).cumsum(1) > single.startswith("<eos>")] = 0.0
            return output

    tokenizer = closing_tokenizer(single)
    end = tokenizer.eos_token_id
    model = Needs(-1, False) if goes_on else Closes(end, False)
    if not goes_on and single.startswith("<eos>"):
        model.token, model.wanted = end, True
    chosen, found = bos.decide(model, tokenizer, "auto")
    assert (found["tokenizer_closes"], found["closed"]) == (True, goes_on)
    chosen.save_pretrained(tmp_path)
    tokens = AutoTokenizer.from_pretrained(tmp_path)("some text").input_ids
    assert tokens == tokenizer("some text").input_ids[: None if goes_on else -1]


def test_a_bos_that_does_not_exist_cannot_be_demanded():
    with pytest.raises(ConfigError, match="neither the tokenizer nor"):
        bos.decide(random_model("llama"), byte_tokenizer(), "always")


def test_prose_is_read_as_far_as_the_model_s_context_goes():
    """Learned positions end there: of a small model of one's own, before the first sentence does."""
    tokenizer = bos_tokenizer()
    _, found = bos.decide(random_model("gpt2", n_positions=16), tokenizer, "auto")
    assert found["loss_with_bos"] > 0
    assert found["loss_without_bos"] > 0
