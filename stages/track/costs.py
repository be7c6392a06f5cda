"""Costs of `track`: with Q questions of some answer tokens, n layers of h latents, K contexts, F tokens to fit to.

Reading a token takes 2·P FLOP for the model's P block parameters, encoding its states n·2·d·h, and a product with the
unembedding 2·V·d; of the tracked latents k are followed a scan, for each associator of the ladder.
"""

from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.engine.costs import FLOAT, INTERPRETER_BYTES, TOKENS_PER_PROMPT, Cost, Quantities

EFFICIENCY = 1.4
"""Share of the float32 matrix product's rate by these counts, measured on two CPU cores."""
GPU_EFFICIENCY = 0.7
VALIDATION_TOKENS = 4096
CAUSES_A_QUESTION = 30
"""Interventions, each of some four tokens."""


def cost(q: Quantities, unit: Unit) -> Cost | None:
    encoding = 2 * q.d_model * q.d_hidden * q.layers
    unembedding = 2 * q.d_model * q.vocabulary
    reading = 2 * q.block_parameters + encoding
    validated = min(q["tracking.fit_tokens"], VALIDATION_TOKENS)
    fitting = 1.2e-4 * q["tracking.fit_tokens"] * q.layers
    answers = q.questions * (1 + q.answer)
    asked = q.questions * (1 + q["tracking.contexts"])
    tokens = TOKENS_PER_PROMPT + q.answer * (1 + q["detection.samples"])
    return {
        "answers": Cost(
            flop=q.questions * 2 * q.model_parameters * tokens + answers * q.layers * unembedding,
            size=answers * q.layers * (2.0 * q.d_model + 24),
        ),
        "contexts": Cost(
            flop=asked * 2 * (q.block_parameters * TOKENS_PER_PROMPT + q.model_parameters * q.answer),
            size=60.0 * asked,
        ),
        "association": Cost(
            flop=q["tracking.fit_tokens"] * reading + q.layers * q.d_hidden * unembedding,
            seconds=1 + fitting,
            size=600.0 * q.layers * q.d_hidden,
        ),
        "all": Cost(
            flop=answers * encoding,
            seconds=answers * q.layers * (1 + len(q["tracking.ladder"])) * 1.6e-5,
            size=24.0 * answers * q.layers * q["tracking.top_k_features"],
        ),
        "independent": Cost(
            flop=answers * encoding + q["tracking.fit_tokens"] * reading,
            seconds=answers * q.layers * 5e-5 + fitting,
            size=12.0 * answers * q.layers * q["tracking.top_k_features"],
        ),
        "account": Cost(
            flop=q.questions * 2 * q.block_parameters * (TOKENS_PER_PROMPT + q.answer)
            + 3 * answers * encoding,
            seconds=0.01 * q.questions,
            size=answers * q.layers * (34.0 * q["tracking.candidates"] + 10.0 * q["tracking.top_k_features"]),
        ),
        "shown": Cost(seconds=0.5 + 0.0045 * q.questions, size=40e3 * q.questions),
        "causes": Cost(
            flop=q["tracking.causes"] * CAUSES_A_QUESTION * 4 * 2 * q.block_parameters,
            seconds=1 + 0.17 * q["tracking.causes"],
        ),
        "reasons": Cost(seconds=0.0006 * q.questions, size=600.0 * q.questions),
        "validation": Cost(flop=validated * reading, seconds=2.7e-4 * validated * q.layers),
        "asked_answers": Cost(),  # nobody has counted the new questions
        "asked_contexts": Cost(),
        "asked": Cost(),
        "asked_account": Cost(),
    }.get(unit.name)


def memory(q: Quantities) -> float:
    """All layers' SAEs beside the model, and a batch's latents."""
    sae = FLOAT * 2 * q.d_model * q.d_hidden
    batch = FLOAT * q["tracking.batch_size"] * q.answer * q.layers * q.d_hidden
    return INTERPRETER_BYTES + FLOAT * q.model_parameters + q.layers * sae + batch
