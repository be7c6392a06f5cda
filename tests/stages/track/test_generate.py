import numpy as np
import pytest
import torch

from ghosttrack.common.models.language_model import load_language_model
from ghosttrack.common.models.prompts import encode, encode_prompt
from ghosttrack.stages.track.generate import Ends, Sampling, give_answers, read_prompts, shared_prefix
from ghosttrack.stages.track.speak import speak
from tests.tiny_models import FAMILIES, N_LAYERS, save_random_model

PREFIX = "one two\nthree"  # longer than the tiny models' windows


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def any_model(request, tmp_path_factory):
    return load_language_model(save_random_model(tmp_path_factory.mktemp("model"), request.param))


@pytest.fixture(scope="module", params=["gpt2", "gemma2"])
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
    return Ends(model, [], [])


def ask(model, prompts, layers, ends, limit, n_candidates=4):
    read = read_prompts(model, prompts, layers, shared_prefix(model, prompts))
    return give_answers(model, prompts, read, layers, ends, limit, n_candidates)[0]


def draw(model, prompts, ends, limit, temperature, draws):
    read = read_prompts(model, prompts, [0], shared_prefix(model, prompts))
    return give_answers(model, prompts, read, [0], ends, limit, 4, Sampling(temperature, draws))[1]


def prompts_of(model, prefix, texts, subjects=None):
    subjects = subjects or [""] * len(texts)
    return [
        encode_prompt(model, prefix + text, subject, len(prefix))
        for text, subject in zip(texts, subjects, strict=True)
    ]


def test_greedy_tokens_are_those_of_generate(any_model):
    """transformers' own generation, one prompt at a time; ours in a batch of mixed lengths that share a prefix."""
    model = any_model
    prompts = prompts_of(model, PREFIX, ["abc", "what is this", "zz top and a longer one"])
    answers = ask(model, prompts, [0], never(model), 8)
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([prompt.tokens])
        expected = model.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, pad_token_id=0
        )
        assert answer.token_ids == expected[0, ids.shape[1] :].tolist()
    for prompt, answer in zip(prompts, answers, strict=True):
        assert [one.token for one in speak(model, prompt, never(model), 8)] == answer.token_ids


@pytest.mark.parametrize("prefix", ["", PREFIX])
def test_a_batch_with_a_shared_prefix_equals_one_question_at_a_time_without_cache(model, prefix):
    """The reference recomputes the whole text for every token, one question a pass."""
    texts, subjects = ["abc", "what is this", "zz top"], ["b", "is", "not there"]
    prompts = prompts_of(model, prefix, texts, subjects)
    layers = range(N_LAYERS)
    answers = ask(model, prompts, layers, never(model), 5)
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = list(prompt.tokens)
        assert len(answer.token_ids) == 5
        states = list(answer.states)
        assert answer.positions == ([-1] if prompt.subject is not None else []) + list(range(6))
        if prompt.subject is not None:
            torch.testing.assert_close(
                states.pop(0), reference(model, ids[: prompt.subject + 1], layers)[1], rtol=1e-3, atol=1e-3
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
    prompts = prompts_of(model, "x\n", ["hello there", "abc", "some words more"])
    layers = [0, N_LAYERS - 1]
    whole = ask(model, prompts, layers, never(model), 6)
    end = whole[0].token_ids[2]
    cut = ask(model, prompts, layers, Ends(model, [], [end]), 6)
    lengths = set()
    for before, after in zip(whole, cut, strict=True):
        stops = [place for place, token in enumerate(before.token_ids) if token == end]
        length = stops[0] if stops else 6
        lengths.add(length)
        assert after.token_ids == before.token_ids[:length]
        assert len(after.states) == length + 1 == len(after.candidates)
        torch.testing.assert_close(after.states, before.states[: length + 1], rtol=1e-3, atol=1e-3)
    assert min(lengths) < 6


def test_samples_follow_the_distribution_and_only_their_own_draws(model):
    prompts = prompts_of(model, "", ["abc", "what is this"])
    draws = np.random.default_rng(0).random((2, 400, 1))
    both = draw(model, prompts, never(model), 1, 1.0, draws)
    logits, _ = reference(model, encode(model, "abc").tokens, [0])
    pieces = [model.tokenizer.decode([token]).strip() for token in range(len(logits))]
    likeliest = pieces[int(logits.argmax())]
    expected = sum(float(p) for piece, p in zip(pieces, logits.exp(), strict=True) if piece == likeliest)
    share = both[0].count(likeliest) / 400
    assert share == pytest.approx(expected, abs=4 * (expected * (1 - expected) / 400) ** 0.5 + 1e-3)
    assert draw(model, prompts[:1], never(model), 1, 1.0, draws[:1]) == both[:1]
    cold = draw(model, prompts, never(model), 1, 1e-4, draws[:, :3])
    assert cold[0] == [likeliest] * 3


def test_samples_are_those_of_whole_forward_passes(any_model):
    """One sample at a time, the whole text read again for every token; some of them begin alike, with the greedy answer too."""
    model, temperature = any_model, 0.5
    prompts = prompts_of(model, PREFIX, ["abc", "what is this", "zz top"])
    draws = np.random.default_rng(3).random((3, 4, 5))
    draws[:, 1, :2] = draws[:, 0, :2]  # two go on together for two tokens, two to the end
    draws[:, 3] = draws[:, 2]
    found = draw(model, prompts, never(model), 5, temperature, draws)
    for prompt, own, texts in zip(prompts, draws, found, strict=True):
        assert texts[2] == texts[3]
        for uniform, text in zip(own[:3], texts, strict=False):
            ids = list(prompt.tokens)
            for one in uniform:
                with torch.inference_mode():
                    logits = model.model(torch.tensor([ids])).logits[0, -1]
                total = (logits.double() / temperature).softmax(-1).cumsum(-1).numpy()
                ids.append(min(int(np.searchsorted(total, one, side="right")), len(total) - 1))
            assert text == model.tokenizer.decode(ids[len(prompt.tokens) :]).strip()


def test_a_text_to_stop_at_may_be_part_of_a_token_or_several(model):
    ends = Ends(model, ["\n", "END"], [5])
    n, e, d, newline = (model.tokenizer(text).input_ids[0] for text in ("N", "E", "D", "\n"))
    answers = [[], [e, n], [n, e], []]
    assert ends.reached(answers, torch.tensor([newline, d, d, 5])).tolist() == [True, True, False, True]
