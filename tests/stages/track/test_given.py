"""Given answers: read as if the model had given them, in pieces, with labels by character."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ghosttrack.common.models.language_model import LanguageModel, load_language_model
from ghosttrack.common.models.prompts import encode_prompt
from ghosttrack.stages.track import given
from ghosttrack.stages.track.generate import Ends, give_answers, read_prompts
from ghosttrack.stages.track.questions import SHARD_CHARACTERS, plan_shards
from ghosttrack.stages.track.spans import labels_given, labels_in, unmarked
from tests.tiny_models import save_random_model

LAYERS = [0, 2]
PROMPT = "The cat sat on"


def asked(prompt: str) -> dict[str, str]:
    return {"prefix": "", "query": prompt}


@pytest.fixture(scope="module", params=["llama", "gpt2"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return load_language_model(save_random_model(tmp_path_factory.mktemp("m"), request.param), "float32")


def test_the_model_s_own_answer_given_back_is_read_as_it_was_given(model: LanguageModel) -> None:
    prompt = encode_prompt(model, PROMPT, "cat")
    [own], _ = give_answers(
        model, [prompt], read_prompts(model, [prompt], LAYERS), LAYERS, Ends(model, [], []), 6, 5
    )
    tokens = own.token_ids
    response = given.Response(prompt.tokens, tokens, [(n, n + 1) for n in range(len(tokens))], True)
    read = given.read_response(model, prompt, response, LAYERS, 5)
    assert read.token_ids == own.token_ids
    assert read.positions == own.positions
    torch.testing.assert_close(read.states, own.states, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.tensor(read.logprobs), torch.tensor(own.logprobs), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(
        torch.tensor(read.entropies), torch.tensor(own.entropies), rtol=1e-4, atol=1e-4
    )
    assert torch.equal(read.candidates, own.candidates)


def test_a_token_is_scored_by_the_model_s_whole_distribution(model: LanguageModel) -> None:
    prompt = encode_prompt(model, PROMPT, "cat")
    response = given.encode_response(model, asked(PROMPT), "the mat.")
    assert response.exact
    assert [PROMPT[-1], " the mat."[: len(response.tokens)]] == ["n", " the mat."]
    read = given.read_response(model, prompt, response, LAYERS, 5)
    ids = torch.tensor([[*response.prompt, *response.tokens]])
    with torch.inference_mode():
        expected = model.model(ids).logits[0].double().log_softmax(-1)  # transformers' own, in one go
    for place, token in enumerate(response.tokens):
        row = expected[len(response.prompt) - 1 + place]
        assert read.logprobs[place] == pytest.approx(float(row[token]), abs=1e-4)
        assert int(read.candidates[place, 0]) == token
        others = read.candidates[place, 1:].tolist()
        assert others == [one for one in row.topk(5).indices.tolist() if one != token][:4]


def test_a_response_of_four_thousand_tokens_is_unembedded_in_pieces(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    if model.model.config.model_type == "gpt2":
        pytest.skip("has 128 learned positions")
    most: list[int] = []
    real = LanguageModel.logits
    monkeypatch.setattr(
        LanguageModel, "logits", lambda self, states: (most.append(len(states)), real(self, states))[1]
    )
    response = given.encode_response(model, asked(PROMPT), "word " * 799 + "last.")
    read = given.read_response(model, encode_prompt(model, PROMPT, "cat"), response, LAYERS, 5)
    assert len(read.token_ids) == 4001  # a token a byte, and the space in front
    assert sum(most) == 4002
    assert max(most) <= given.PIECE
    assert read.candidates.shape == (4002, 5)


def test_what_a_response_takes_grows_with_its_length_and_no_faster(model: LanguageModel) -> None:
    """The largest array made on the way, an element a token: attention of all tokens to all would have more the longer it is."""
    if model.model.config.model_type == "gpt2":
        pytest.skip("has 128 learned positions")

    class Largest(TorchDispatchMode):
        elements = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            made = func(*args, **(kwargs or {}))
            for tensor in made if isinstance(made, (tuple, list)) else (made,):
                if isinstance(tensor, torch.Tensor) and tensor.dtype != torch.bool:
                    self.elements = max(
                        self.elements, tensor.untyped_storage().nbytes() // tensor.element_size()
                    )
            return made

    found = []
    for words in (100, 200, 400):
        response = given.encode_response(model, asked(PROMPT), "word " * words + "last.")
        with Largest() as largest:
            given.read_response(model, encode_prompt(model, PROMPT, "cat"), response, LAYERS, 5)
        found.append(largest.elements / len(response.tokens))
    assert found[2] <= 1.1 * found[1] <= 1.21 * found[0]


def test_offsets_are_characters_of_the_response(model: LanguageModel) -> None:
    response = given.encode_response(model, asked("Q:\nA:"), "é b")
    assert [response.offsets[0], response.offsets[-1]] == [(0, 0), (2, 3)]  # the space in front is none of it


def test_a_token_is_wrong_where_it_shares_a_character_with_a_wrong_span() -> None:
    offsets = [(0, 2), (2, 5), (5, 6), (6, 9)]
    assert labels_in(offsets, [(3, 5, 1)], 0) == [0, 1, 0, 0]
    assert labels_in(offsets, [(0, 2, 0), (4, 6, 1)], None) == [0, 1, 1, None]
    assert labels_given(offsets, [], None) == [0, 0, 0, 0]  # although other rows mark right ones
    assert labels_given(offsets, [(0, 2, 0)], None) == [0, None, None, None]


def test_tokens_in_no_span_are_right_only_where_no_row_of_the_file_marks_right_ones() -> None:
    wrong, none, right = {"spans": [(3, 5, 1)]}, {"spans": []}, {"spans": [(0, 2, 0)]}
    assert unmarked([wrong, none, {}]) == 0
    assert unmarked([wrong, none, right]) is None


def test_a_shard_holds_no_more_given_text_than_fits() -> None:
    shards = plan_shards(
        [""] * 5, 128, 2, [SHARD_CHARACTERS // 2, SHARD_CHARACTERS // 2, 1, SHARD_CHARACTERS * 2, 0]
    )
    assert [[number for batch in shard for number in batch.numbers] for shard in shards] == [
        [0, 1],
        [2],
        [3],
        [4],
    ]
