"""A model of GPT-2 Medium's shape with random weights, and questions of which it answers every other one right.

A random model knows nothing, so the gold answers are made from what it says: that, or something that nobody says.
"""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from ghosttrack.stages.prepare.factbook import facts, prose
from ghosttrack.stages.prepare.prompts import TEMPLATES

N_LAYERS, D_MODEL = 24, 1024
N_QUESTIONS = 48
RELATIONS = ("capital", "currency_code")
NEW_TOKENS = 4
"""Tokens of an answer; to be given as tracking.max_new_tokens."""


def build(folder: Path) -> list[str]:
    """Write `model/` and `questions.jsonl`; the `--set` values that let a configuration use them."""
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    # wider than GPT-2's initialisation, so that the answer depends on the question
    model = GPT2LMHeadModel(
        GPT2Config(
            n_embd=D_MODEL, n_layer=N_LAYERS, n_head=16, vocab_size=len(tokenizer), initializer_range=0.1,
            bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        )
    ).eval()  # fmt: skip
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    questions = folder / "questions.jsonl"
    records = [
        {"prompt": prompt, "relation": relation, "subject": subject, "answer": answer}
        for number, (relation, subject, prompt) in enumerate(_prompts())
        for answer in [_said(model, tokenizer, prompt) if number % 2 else f"nobody says {number}"]
    ]
    questions.write_text("".join(json.dumps(record) + "\n" for record in records))
    return [
        f"model.base_model={folder / 'model'}",
        f"data.questions={questions}",
        "data.corpus=factbook",
        f"data.max_questions={N_QUESTIONS}",
        f"tracking.max_new_tokens={NEW_TOKENS}",
    ]


def _tokenizer() -> PreTrainedTokenizerFast:
    """Byte pairs of some of the factbook's text."""
    pairs = Tokenizer(models.BPE())
    pairs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    pairs.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=4096, special_tokens=["<|end|>"], show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )  # fmt: skip
    pairs.train_from_iterator([document.text for document in prose()[::20]], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=pairs, bos_token="<|end|>", eos_token="<|end|>")


def _prompts() -> list[tuple[str, str, str]]:
    """Relation, subject and prompt; a subject once only."""
    chosen = {
        fact.subject: (relation, fact.subject, TEMPLATES[relation].format(subject=fact.subject))
        for number, relation in enumerate(RELATIONS)
        for fact in [fact for fact in facts() if fact.relation == relation][number :: len(RELATIONS)]
    }
    return list(chosen.values())[:: len(chosen) // N_QUESTIONS][:N_QUESTIONS]


@torch.inference_mode()
def _said(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, prompt: str) -> str:
    """The model's greedy answer."""
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    for _ in range(NEW_TOKENS):
        best = model(ids).logits[0, -1].argmax().view(1, 1)
        ids = torch.cat([ids, best], dim=1)
    return tokenizer.decode(ids[0, -NEW_TOKENS:]).strip()
