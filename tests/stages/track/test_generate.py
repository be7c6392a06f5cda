import pytest
import torch

from common.language_model import load_language_model
from stages.track.generate import answer_batch, encode, ending_tokens, prefix_cache
from tests.tiny_models import N_LAYERS, save_random_model


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request, tmp_path_factory):
    return load_language_model(save_random_model(tmp_path_factory.mktemp("model"), request.param))


@pytest.mark.parametrize("prefix", ["", "one two\nthree"])
def test_a_batch_with_a_shared_prefix_equals_one_question_at_a_time_without_cache(model, prefix):
    """The reference recomputes the whole text for every token, one question a pass."""
    queries = ["abc", "what is this", "zz top"]
    layers = range(N_LAYERS)
    never = torch.zeros(model.unembedding.shape[0], dtype=torch.bool)
    cache, length = prefix_cache(model, prefix)
    answers = answer_batch(model, cache, length, [encode(model, q) for q in queries], layers, never, 5)
    for query, answer in zip(queries, answers, strict=True):
        ids = encode(model, prefix) + encode(model, query)
        assert len(answer.token_ids) == 5
        for step in range(6):
            with torch.inference_mode():
                logits = model.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            states = {}
            model.read_blocks(torch.tensor([ids]), torch.arange(len(ids))[None], layers,
                              lambda layer, output, states=states: states.__setitem__(layer, output[0, -1].clone()))  # fmt: skip
            expected = torch.stack([states[layer] for layer in layers])
            torch.testing.assert_close(answer.states[step], expected, rtol=1e-3, atol=1e-3)
            if step == 5:
                break
            assert answer.token_ids[step] == int(logits.argmax())
            assert answer.logprobs[step] == pytest.approx(float(logits.max()), abs=1e-3)
            entropy = torch.distributions.Categorical(logits=logits).entropy()
            assert answer.entropies[step] == pytest.approx(float(entropy), abs=1e-3)
            ids.append(answer.token_ids[step])


def test_an_answer_ends_before_the_ending_token(model):
    never = torch.zeros(model.unembedding.shape[0], dtype=torch.bool)
    cache, length = prefix_cache(model, "")
    queries = [encode(model, "hello there")]
    whole = answer_batch(model, cache, length, queries, [0], never, 6)[0]
    ends = never.clone()
    third = whole.token_ids[2]
    ends[third] = True
    cut = answer_batch(model, cache, length, queries, [0], ends, 6)[0]
    assert cut.token_ids == whole.token_ids[: whole.token_ids.index(third)]
    assert len(cut.states) == len(cut.token_ids) + 1 == len(cut.logprobs) + 1


def test_newlines_end_answers(model):
    ends = ending_tokens(model.tokenizer, model.unembedding.shape[0])
    assert [model.tokenizer.decode([token]) for token in ends.nonzero()[:, 0].tolist()] == ["\n"]
