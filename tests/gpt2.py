"""A model of GPT-2's shape with random weights, and the data sets of its configuration as the hub lays them out.

A random model knows nothing, so every other gold answer is made from what it says to the question.
"""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from ghosttrack.stages.prepare.factbook import prose
from tests import hub

N_QUESTIONS = 48
NEW_TOKENS = 4
"""Tokens of an answer; to be given as tracking.max_new_tokens."""
LITTLE = [
    "data.max_tokens=2000", "sae_training.epochs=1", "sae_training.splice_tokens=128", "sae_training.base_tokens_per_layer=200",
    "tracking.contexts=1", "tracking.causes=2",
]  # fmt: skip
"""Less of everything but layers and widths."""
LEAST = [
    "extract.max_length=64", "sae_training.splice_tokens=32", "tracking.fit_tokens=512", "tracking.top_k_features=12", "tracking.clusters=4",
    "detection.repeats=1", "detection.folds=2", "detection.inner_folds=2", "detection.permutations=5", "detection.answer_folds=0",
    "detection.early_points=2", "evaluation.bootstrap=100",
]  # fmt: skip
"""The same where time counts more."""


def build(folder: Path, n_layers: int, d_model: int) -> list[str]:
    """Write `model/` and the two data sets; the `--set` values that let a configuration use them."""
    torch.manual_seed(0)
    tokenizer = _tokenizer()
    # wider than GPT-2's initialisation, so that the answer depends on the question
    model = GPT2LMHeadModel(
        GPT2Config(
            n_embd=d_model, n_layer=n_layers, n_head=d_model // 64, vocab_size=len(tokenizer), initializer_range=0.1,
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
        *LITTLE,
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
    pairs.train_from_iterator(prose()[::20], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=pairs, bos_token="<|end|>", eos_token="<|end|>")


@torch.inference_mode()
def _said(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, prompt: str) -> str:
    """The model's greedy answer."""
    ids = tokenizer(prompt, return_tensors="pt").input_ids
    for _ in range(NEW_TOKENS):
        best = model(ids).logits[0, -1].argmax().view(1, 1)
        ids = torch.cat([ids, best], dim=1)
    return tokenizer.decode(ids[0, -NEW_TOKENS:]).strip()
