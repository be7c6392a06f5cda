import numpy as np
import pytest
import torch

from ghosttrack.common.models.language_model import load_language_model
from ghosttrack.stages.track.generate import (
    encode,
    encode_query,
    end_of_subject,
    ending_tokens,
    greedy_answers,
    prefix_cache,
    read_prompts,
    sampled_answers,
)
from tests.tiny_models import N_LAYERS, save_random_model


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request, tmp_path_factory):
    return load_language_model(save_random_model(tmp_path_factory.mktemp("model"), request.param))


def reference(model, ids, layers):
    """Log-probabilities and block outputs at the last of these tokens, by a whole forward pass without cache."""
    with torch.inference_mode():
        logits = model.model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    states = {}
    model.read_blocks(torch.tensor([ids]), torch.arange(len(ids))[None], layers,
                      lambda layer, output: states.__setitem__(layer, output[0, -1].clone()))  # fmt: skip
    return logits, torch.stack([states[layer] for layer in layers])


def never(model):
    return torch.zeros(model.unembedding.shape[0], dtype=torch.bool)


def ask(model, prefix, queries, layers, ends, limit, n_candidates=4):
    cache, length = prefix_cache(model, prefix)
    prompts = read_prompts(model, cache, length, queries, layers)
    return prompts, greedy_answers(model, prompts, queries, layers, ends, limit, n_candidates)


@pytest.mark.parametrize("prefix", ["", "one two\nthree"])
def test_a_batch_with_a_shared_prefix_equals_one_question_at_a_time_without_cache(model, prefix):
    """The reference recomputes the whole text for every token, one question a pass."""
    texts, subjects = ["abc", "what is this", "zz top"], ["b", "is", "not there"]
    queries = [encode_query(model, text, subject) for text, subject in zip(texts, subjects, strict=True)]
    layers = range(N_LAYERS)
    _, answers = ask(model, prefix, queries, layers, never(model), 5)
    for text, query, answer in zip(texts, queries, answers, strict=True):
        ids = encode(model, prefix) + encode(model, text)
        assert len(answer.token_ids) == 5
        states = list(answer.states)
        assert answer.positions == ([-1] if query.subject is not None else []) + list(range(6))
        if query.subject is not None:
            upto = len(encode(model, prefix)) + query.subject + 1
            torch.testing.assert_close(
                states.pop(0), reference(model, ids[:upto], layers)[1], rtol=1e-3, atol=1e-3
            )
        for step in range(6):
            logits, expected = reference(model, ids, layers)
            torch.testing.assert_close(states[step], expected, rtol=1e-3, atol=1e-3)
            likeliest = logits.topk(4)
            assert answer.candidates[step].tolist() == likeliest.indices.tolist()
            torch.testing.assert_close(
                answer.candidate_logprobs[step], likeliest.values, rtol=1e-3, atol=1e-3
            )
            if step == 5:
                break
            assert answer.token_ids[step] == int(logits.argmax())
            assert answer.logprobs[step] == pytest.approx(float(logits.max()), abs=1e-3)
            entropy = torch.distributions.Categorical(logits=logits).entropy()
            assert answer.entropies[step] == pytest.approx(float(entropy), abs=1e-3)
            ids.append(answer.token_ids[step])


def test_rows_leave_the_batch_at_their_ends_and_the_others_go_on_as_before(model):
    queries = [encode_query(model, text, "") for text in ("hello there", "abc", "some words more")]
    layers = [0, N_LAYERS - 1]
    _, whole = ask(model, "x\n", queries, layers, never(model), 6)
    ends = never(model)
    ends[whole[0].token_ids[2]] = True
    _, cut = ask(model, "x\n", queries, layers, ends, 6)
    lengths = set()
    for before, after in zip(whole, cut, strict=True):
        stops = [place for place, token in enumerate(before.token_ids) if ends[token]]
        length = stops[0] if stops else 6
        lengths.add(length)
        assert after.token_ids == before.token_ids[:length]
        assert len(after.states) == length + 1 == len(after.candidates)
        torch.testing.assert_close(after.states, before.states[: length + 1], rtol=1e-3, atol=1e-3)
    assert min(lengths) < 6


def test_samples_follow_the_distribution_and_only_their_own_draws(model):
    queries = [encode_query(model, text, "") for text in ("abc", "what is this")]
    prompts, _ = ask(model, "", queries, [0], never(model), 2)
    draws = np.random.default_rng(0).random((2, 400, 1))
    both = sampled_answers(model, prompts, never(model), 1, 1.0, draws)
    logits, _ = reference(model, encode(model, "abc"), [0])
    pieces = [model.tokenizer.decode([token]).strip() for token in range(len(logits))]
    likeliest = pieces[int(logits.argmax())]
    expected = sum(float(p) for piece, p in zip(pieces, logits.exp(), strict=True) if piece == likeliest)
    share = both[0].count(likeliest) / 400
    assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 400) ** 0.5 + 1e-3)
    first, _ = ask(model, "", queries[:1], [0], never(model), 2)
    assert sampled_answers(model, first, never(model), 1, 1.0, draws[:1]) == both[:1]
    cold = sampled_answers(model, prompts, never(model), 1, 1e-4, draws[:, :3])
    assert cold[0] == [likeliest] * 3


@pytest.mark.parametrize(
    ("query", "subject", "text_before"),
    [
        ("Rome is in Rome, is", "Rome", "Rome is in Rome"),
        ("Romeo and Rome, Romeo", "Rome", "Romeo and Rome"),  # whole words first
        ("the capital of the Bahamas is", "Bahamas", "the capital of the Bahamas"),
        ("The Hague is", "the hague", "The Hague"),
        ("Romeo", "Rome", "Rome"),
        ("a (b) c", "(b)", "a (b)"),
        ("nothing here", "Rome", None),
        ("nothing here", " ", None),
    ],
)
def test_the_subject_is_its_last_mention(model, query, subject, text_before):
    end = end_of_subject(query, subject)
    assert (None if end is None else query[:end]) == text_before
    found = encode_query(model, query, subject).subject
    assert found == (None if text_before is None else len(encode(model, text_before)) - 1)


def test_newlines_end_answers(model):
    ends = ending_tokens(model.tokenizer, model.unembedding.shape[0])
    assert [model.tokenizer.decode([token]) for token in ends.nonzero()[:, 0].tolist()] == ["\n"]
