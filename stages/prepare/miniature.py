"""`--stub`: a tiny Llama, fitted in seconds, that truly knows one half of a small world of facts.

It sees the other half only as context and never learns its answers, so that the stages after it meet
real right and real wrong answers of a model. Not for science: 4 blocks of 64 dimensions.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from ghosttrack.common.maths.seeds import generator
from ghosttrack.common.models.sizes import MINIATURE_SIZES
from ghosttrack.common.models.source import MINIATURE
from ghosttrack.stages.prepare.factbook import facts as all_facts
from ghosttrack.stages.prepare.factbook import prose
from ghosttrack.stages.prepare.facts import Fact
from ghosttrack.stages.prepare.prompts import cloze, completion

NAME, SIZES = MINIATURE, MINIATURE_SIZES
_D_INNER = 128
_RELATIONS = ("capital", "city", "currency_code", "demonym")
_FACTS_PER_RELATION = 24
_VOCABULARY = 1000
_END = "<|end|>"
_STEPS = 140
_ROWS = 12
_LINES_A_ROW = 3
_UNLEARNED_LINES = 1
_PROSE_TOKENS = 24
_PEAK_RATE = 6e-3
_ENOUGH_LOSS = 0.02
"""Mean loss on answers (nats a token) at which the known half is known."""


def world(seed: int) -> list[Fact]:
    """The miniature's facts: plain short ones with answers that occur once, 24 in each of 4 relations."""
    by_relation: defaultdict[str, list[Fact]] = defaultdict(list)
    for fact in all_facts():
        if fact.relation in _RELATIONS and fact.answer.isascii() and len(f"{fact.subject}{fact.answer}") < 24:
            by_relation[fact.relation].append(fact)
    chosen = []
    for relation in _RELATIONS:
        answers: set[str] = set()
        members = by_relation[relation]
        for index in generator(seed, NAME, relation).permutation(len(members)):
            fact = members[index]
            if fact.answer not in answers and len(answers) < _FACTS_PER_RELATION:
                answers.add(fact.answer)
                chosen.append(fact)
    return chosen


def known(facts: Sequence[Fact]) -> list[Fact]:
    """The half that the miniature learns: every other fact of the world."""
    return list(facts[::2])


def build(seed: int) -> tuple[PreTrainedModel, Any]:
    """The fitted model (float32) and its tokenizer; the same for the same seed on the same machine."""
    facts = world(seed)
    texts = [text[:2000] for text in prose()[::40]]
    tokenizer = _tokenizer([_line(fact) for fact in facts for _ in range(40)] + texts)
    with torch.random.fork_rng(), _one_thread():
        torch.manual_seed(seed)
        model = _model(len(tokenizer), tokenizer.eos_token_id)
        _fit(model, tokenizer, facts, texts, generator(seed, NAME, "rows"))
    return model.eval(), tokenizer


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Threads only wait for one another in work this small, and their number would change the result."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _line(fact: Fact) -> str:
    return f"{cloze(fact)} {completion(fact)}\n"


def _tokenizer(texts: Sequence[str]) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bytes_to_pairs = Tokenizer(models.BPE())
    bytes_to_pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bytes_to_pairs.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=_VOCABULARY, special_tokens=[_END], initial_alphabet=alphabet, show_progress=False
    )
    bytes_to_pairs.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bytes_to_pairs, bos_token=_END, eos_token=_END, pad_token=_END
    )


def _model(vocabulary: int, end: int) -> PreTrainedModel:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=SIZES.d_model,
            intermediate_size=_D_INNER,
            num_hidden_layers=SIZES.n_layers,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=2048,
            tie_word_embeddings=True,
            initializer_range=0.05,
            bos_token_id=end,
            eos_token_id=end,
            pad_token_id=end,
        )
    )


def _fit(
    model: nn.Module, tokenizer: Any, facts: Sequence[Fact], texts: Sequence[str], random: np.random.Generator
) -> None:
    by_relation: dict[str, list[Fact]] = {}
    for fact in facts:
        by_relation.setdefault(fact.relation, []).append(fact)
    learned = set(known(facts))
    stems = {fact: tokenizer(cloze(fact)).input_ids for fact in facts}
    answers = {fact: tokenizer(f" {completion(fact)}\n").input_ids for fact in facts}
    passages = [tokenizer(text).input_ids for text in texts]
    passages = [tokens for tokens in passages if len(tokens) > _PROSE_TOKENS]
    optimiser = torch.optim.AdamW(model.parameters(), lr=_PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, _PEAK_RATE, total_steps=_STEPS, pct_start=0.1)
    recent = np.full(5, np.inf)
    for step in range(_STEPS):
        rows = []
        for _ in range(_ROWS):
            members = list(by_relation.values())[random.integers(len(by_relation))]
            order = [members[index] for index in random.permutation(len(members))]
            unlearned = [fact for fact in order if fact not in learned][:_UNLEARNED_LINES]
            lines = [*unlearned, *(fact for fact in order if fact in learned)][:_LINES_A_ROW]
            row: list[tuple[int, bool]] = []
            for index in random.permutation(len(lines)):
                row += [(token, False) for token in stems[lines[index]]]
                row += [(token, lines[index] in learned) for token in answers[lines[index]]]
            rows.append(row)
        for index in random.choice(len(passages), 2):
            start = random.integers(len(passages[index]) - _PROSE_TOKENS + 1)
            rows.append([(token, True) for token in passages[index][start : start + _PROSE_TOKENS]])
        inputs, targets = _pad(rows, tokenizer.pad_token_id)
        logits = model(input_ids=inputs).logits[:, :-1]
        losses = nn.functional.cross_entropy(logits.transpose(1, 2), targets[:, 1:], reduction="none")
        wanted = targets[:, 1:] >= 0
        optimiser.zero_grad()
        (losses.sum() / wanted.sum()).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        recent[step % 5] = float(losses[:_ROWS].detach().sum() / wanted[:_ROWS].sum())
        if recent.mean() < _ENOUGH_LOSS:
            break


def _pad(rows: Sequence[Sequence[tuple[int, bool]]], padding: int) -> tuple[Tensor, Tensor]:
    """Right-padded inputs [row, position] and targets, -100 where nothing is to be learned."""
    inputs = [torch.tensor([token for token, _ in row]) for row in rows]
    targets = [torch.tensor([token if wanted else -100 for token, wanted in row]) for row in rows]
    return (
        pad_sequence(inputs, batch_first=True, padding_value=padding),
        pad_sequence(targets, batch_first=True, padding_value=-100),
    )
