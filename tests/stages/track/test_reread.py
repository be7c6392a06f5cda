"""Teacher forcing on cached prefixes against whole forward passes, one text at a time."""

from itertools import product

import numpy as np
import pytest
import torch

from ghosttrack.common.formats.answers import Answer
from ghosttrack.common.formats.contexts import Context
from ghosttrack.common.formats.evidence import EVIDENCE
from ghosttrack.common.models import branching
from ghosttrack.common.models.language_model import load_language_model
from ghosttrack.stages.detect.features.contexts import context_features
from ghosttrack.stages.track.generate import Ends
from ghosttrack.stages.track.hypotheses import Standing, rows_of
from ghosttrack.stages.track.outputs import columns_of
from ghosttrack.stages.track.reread import ContextReader
from ghosttrack.stages.track.run_contexts import ContextPrompt, _metrics, read_batch, told
from tests.tiny_models import WINDOW, save_random_model

LIMIT = 5


@pytest.fixture(scope="module", params=["gpt2", "llama", "gemma3_text", "gpt_neox"])
def model(request, tmp_path_factory):
    return load_language_model(save_random_model(tmp_path_factory.mktemp("model"), request.param))


def logprobs(model, tokens):
    with torch.inference_mode():
        return model.model(torch.tensor([tokens])).logits[0].float().log_softmax(-1)


def plain(model, prompt, answer, ends):
    """Evidence and log-probability of the end, by one pass over all of it."""
    values = logprobs(model, prompt + answer)
    places = range(len(prompt) - 1, len(prompt) + len(answer) - 1)
    evidence = sum(float(values[place, token]) for place, token in zip(places, answer, strict=True))
    end = float(values[-1][ends.tokens].logsumexp(-1)) if len(answer) < LIMIT else 0.0
    return evidence, end


def plain_greedy(model, prompt, ends):
    said = []
    while len(said) < LIMIT:
        token = int(logprobs(model, prompt + said)[-1].argmax())
        if ends.tokens[token]:
            break
        said.append(token)
    return said


class SomeEnds(Ends):
    """Ends that greedy answers meet: every fifth token."""

    def __init__(self, model):
        self._longer = []
        self.tokens = torch.zeros(model.n_vocabulary, dtype=torch.bool)
        self.tokens[::5] = True


QUERIES = [[70, 71, 72, 73], [80], [90, 91, 92, 93, 94, 95, 96]]
ANSWERS = [[10], [11, 12, 13], [14, 15, 16, 17, 18]]


@pytest.mark.parametrize("prefix", [[], [30, 31, 32], list(range(30, 30 + 2 * WINDOW))])
def test_forcing_equals_whole_passes(model, prefix, monkeypatch):
    monkeypatch.setattr(branching, "LONG", WINDOW)  # so that one is read as a tree, and one as any text
    ends = SomeEnds(model)
    prompts = [prefix + query for query in QUERIES]
    other = [[40, *prefix, *query] for query in QUERIES[:2]]
    reader = ContextReader(model, [prompts, other], ends, LIMIT)
    greedy = reader.greedy(dict(enumerate([*ANSWERS, ANSWERS[0]])))
    assert greedy == {n: plain_greedy(model, text, ends) for n, text in enumerate([*prompts, other[0]])}
    forced = reader.score([[answer] for answer in [*ANSWERS, *ANSWERS[1:]]])
    for text, answer, [one] in zip([*prompts, *other], [*ANSWERS, *ANSWERS[1:]], forced, strict=True):
        assert tuple(one) == pytest.approx(plain(model, text, answer, ends), abs=2e-4)
    several = [[[10], [11, 12]], [], [[13, 14, 15, 16], [], [17]]]
    afresh = ContextReader(model, [prompts], ends, LIMIT).score(several)
    for query, answers, found, again in zip(
        QUERIES, several, reader.score([*several, [], []]), afresh, strict=False
    ):
        for answer, one, other in zip(answers, found, again, strict=True):
            assert tuple(other) == pytest.approx(tuple(one), abs=2e-4)
            assert tuple(one) == pytest.approx(plain(model, prefix + query, answer, ends), abs=2e-4)


def test_an_answer_that_the_context_gives_too_is_seen_as_its_greedy_one(model):
    ends = SomeEnds(model)
    prompts = [[40, 41, *query] for query in QUERIES]
    reader = ContextReader(model, [prompts], ends, LIMIT)
    given = [plain_greedy(model, [40, 41, *query], ends) for query in QUERIES]
    shortened = [tokens[:1] or [10] for tokens in given]
    assert [*reader.greedy(dict(enumerate(tokens or [10] for tokens in given))).values()] == given
    assert [*reader.greedy(dict(enumerate(shortened))).values()] == given


def test_every_hypothesis_is_read_in_every_context(model):
    ends = SomeEnds(model)
    prefixes = [[30, 31], [33, 34, 35], [30, 31, 36]]
    prompts = [[ContextPrompt("", prefix + query) for prefix in prefixes] for query in QUERIES]
    standings = read_batch(model, ends, LIMIT, prompts, ANSWERS)
    for standing, mine, own in zip(standings, prompts, ANSWERS, strict=True):
        assert standing.spellings()[0] == tuple(own)
        assert standing.greedy[1:] == [tuple(plain_greedy(model, prompt.tokens, ends)) for prompt in mine[1:]]
        for context, tokens in product(range(3), standing.spellings()):
            expected = plain(model, mine[context].tokens, list(tokens), ends)
            assert standing.known[context, tokens] == pytest.approx(expected, abs=2e-4)


def test_a_context_that_does_not_fit_the_window_is_left_out(model):
    ends = SomeEnds(model)
    long = list(range(1, 126))
    [standing] = read_batch(
        model,
        ends,
        LIMIT,
        [[ContextPrompt("", QUERIES[0]), ContextPrompt("", long), ContextPrompt("", [3, 4])]],
        [[10]],
    )
    assert [tokens is None for tokens in standing.greedy] == [False, True, False]
    assert {row["context"] for row in rows_of(0, standing, str)} == {0, 2}


def test_an_answer_that_ends_with_the_window_is_read_in_its_own_prompt_alone(model):
    ends = SomeEnds(model)
    longest = model.longest or 128
    prompt, answer = [*range(1, longest - 1)], [11, 12]
    [standing, other] = read_batch(
        model, ends, LIMIT, [[ContextPrompt("", prompt), ContextPrompt("", [3, 4])], [ContextPrompt("", [5]), ContextPrompt("", [3, 4])]], [answer, [10]]
    )  # fmt: skip
    if model.longest:
        assert standing.greedy == [(11, 12), None]
        assert [(row["context"], row["text"]) for row in rows_of(0, standing, str)] == [(0, "(11, 12)")]
    assert standing.known[0, (11, 12)] == pytest.approx(plain(model, prompt, answer, ends), abs=2e-4)
    assert other.greedy[1] is not None


def test_spellings_of_one_answer_are_joined_and_a_prefix_of_another_is_not():
    texts = {(1,): "New", (2,): "New York", (3,): "new york."}
    standing = Standing((2,), [(2,), (1,), (3,)], ["", "New York is big".lower(), ""])
    standing.known = {
        (context, tokens): (evidence, -0.5)
        for context in range(3)
        for tokens, evidence in (((1,), -1.0), ((2,), -2.0), ((3,), -3.0))
    }
    rows = rows_of(7, standing, lambda tokens: texts[tuple(tokens)])
    assert [(row["context"], row["hypothesis"], row["text"]) for row in rows[:2]] == [
        (0, 0, "New York"),
        (0, 1, "New"),
    ]
    joined = torch.logsumexp(torch.tensor([-2.5, -3.5]), 0)
    assert rows[0]["total"] == pytest.approx(float(joined))
    assert rows[0]["evidence"] == -2.0
    assert rows[1]["total"] == -1.5
    assert [row["greedy"] for row in rows] == [True, False, False, True, True, False]
    assert [row["shows"] for row in rows] == [False, False, True, True, False, False]


def test_what_is_out_of_the_ordinary_is_counted_by_reason():
    """Planted: an ordinary question, one all of whose contexts show the answer, one of whose contexts is too long, one without
    contexts, an empty answer, and one with another answer in every context."""
    texts = {(1,): "Rome", (2,): "Oslo", (3,): "Lima", (): ""}
    ordinary, shown, long, alone, empty, restless = (
        Standing((1,), [(1,), (1,), (2,)], ["", "", ""]),
        Standing((1,), [(1,), (1,), (2,)], ["", "in rome", "rome it is"]),
        Standing((1,), [(1,), None, (1,)], ["", "", ""]),
        Standing((1,), [(1,)], [""]),
        Standing((), [(), (), (1,)], ["", "", ""]),
        Standing((1,), [(1,), (2,), (3,)], ["", "", ""]),
    )
    standings = [ordinary, shown, long, alone, empty, restless]
    rows = []
    for number, standing in enumerate(standings):
        standing.known = {
            (c, tokens): (-1.0, -0.5) for c in range(len(standing.greedy)) for tokens in standing.spellings()
        }
        rows += rows_of(number, standing, lambda tokens: texts[tuple(tokens)])
    context = Context(relation="r", context=1, kind="examples", prefix="")
    metrics = _metrics(
        columns_of(EVIDENCE, rows),
        [Answer.model_construct(token_ids=list(standing.own)) for standing in standings],
        [[context] * (len(standing.greedy) - 1) for standing in standings],
    )
    assert metrics["left_out"] == {"no_context": 1, "too_long_for_the_model": 1}
    assert (metrics["every_context_shows_the_answer"], metrics["empty_answers"]) == (1, 1)
    assert metrics["every_context_another_answer"] == 1
    assert told(metrics) == (
        "1 questions without another context, 1 contexts that do not fit the model, 1 answers that every context shows, "
        "1 questions with another answer in every context, 1 empty answers"
    )
    features = context_features(columns_of(EVIDENCE, rows), len(standings))
    assert np.isfinite(features.values).all()


def test_an_answer_at_its_limit_does_not_hold_up_those_that_go_on(model):
    """One is guessed whole and done at once; nothing of the other is guessed, so that it takes a step a token."""

    class NoEnds(SomeEnds):
        def __init__(self, model):
            super().__init__(model)
            self.tokens[:] = False

    ends = NoEnds(model)
    expected = {number: plain_greedy(model, query, ends) for number, query in enumerate(QUERIES[:2])}
    reader = ContextReader(model, [QUERIES[:1], QUERIES[1:2]], ends, LIMIT)
    assert reader.greedy({0: expected[0], 1: []}) == expected
