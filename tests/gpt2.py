"""A model of GPT-2 Medium's shape with random weights, and the data sets of its configuration as the hub lays them out.

A random model knows nothing, so every other gold answer is made from what it says to the question.
"""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from ghosttrack.stages.prepare.factbook import prose
from tests import hub

N_LAYERS, D_MODEL = 24, 1024
N_QUESTIONS = 48
NEW_TOKENS = 4
"""Tokens of an answer; to be given as tracking.max_new_tokens."""


def build(folder: Path) -> list[str]:
    """Write `model/` and the two data sets; the `--set` values that let a configuration use them."""
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
    hub.stand_in(folder, N_QUESTIONS, said=lambda question: _said(model, tokenizer, f"Q: {question}\nA:"))
    return [
        f"model.base_model={folder / 'model'}",
        f"data.questions=hub:{folder / 'mandarjoshi/trivia_qa'}",
        f"data.corpus=hub:{folder / 'Salesforce/wikitext'}",
        "data.shots=0",
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


@torch.inference_mode()
def _said(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, prompt: str) -> str:
    """The model's greedy answer."""
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    for _ in range(NEW_TOKENS):
        best = model(ids).logits[0, -1].argmax().view(1, 1)
        ids = torch.cat([ids, best], dim=1)
    return tokenizer.decode(ids[0, -NEW_TOKENS:]).strip()
