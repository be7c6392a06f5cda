"""A run's answers as a log of Inspect (https://inspect.aisi.org.uk/eval-logs.html), for its viewer and its data frames.

A sample a question: the prompt, the right answers, the model's own, and two scores, whether the answer is right and how
likely the detector holds it to be wrong. Only what the format demands is there, and what the run knows; the samples are
last, since lists of logs are made of what stands before them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ghosttrack.common.formats.answers import GENERATIONS
from ghosttrack.common.formats.final_report import REPORT
from ghosttrack.common.formats.hallucination_scores import SCORES
from ghosttrack.stages.report.results import Results

VERSION = 2
"""Of the format."""


def inspect_log(results: Results) -> tuple[str, str]:
    """The log's name, which begins with a moment as Inspect looks for it, and its JSON."""
    answers = results.lines(GENERATIONS)
    scores = {each["id"]: each for each in results.json(SCORES)["questions"]}
    model, entry = results.json(REPORT)["model"], results.entries[SCORES.unit]
    begun, ended = (
        results.entries[GENERATIONS.unit].manifest.predicate.run_details.metadata.started_on,
        entry.manifest.predicate.run_details.metadata.finished_on,
    )
    judged = [each["label"] for each in answers if each["label"] is not None]
    right = {"name": "accuracy", "value": judged.count(0) / max(len(judged), 1)}
    log = {
        "version": VERSION,
        "status": "success",
        "eval": {
            "created": begun, "task": results.name, "task_id": entry.key[:22], "model": model, "config": {},
            "dataset": {"name": results.name, "samples": len(answers), "sample_ids": [each["id"] for each in answers]},
        },
        "plan": {},
        "results": {
            "total_samples": len(answers), "completed_samples": len(answers),
            "scores": [{"name": "right", "scorer": "right", "scored_samples": len(judged), "metrics": {"accuracy": right}}],
        },
        "stats": {"started_at": begun, "completed_at": ended},
        "samples": [_sample(each, scores.get(each["id"], {}), model) for each in answers],
    }  # fmt: skip
    return f"{ended.replace(':', '-')}_{results.name}_{entry.key[:22]}.json", json.dumps(
        log, ensure_ascii=False
    )


def _sample(answer: Mapping[str, Any], scored: Mapping[str, Any], model: str) -> dict[str, Any]:
    said = answer["answer"]
    reply = {"role": "assistant", "content": said}
    found: dict[str, Any] = {}
    if answer["label"] is not None:
        found["right"] = {"value": "I" if answer["label"] else "C", "answer": said}
    if scored.get("score") is not None:
        found["probability_wrong"] = {"value": scored["score"], "answer": said}
    return {
        "id": answer["id"], "epoch": 1, "input": answer["prompt"], "target": answer["aliases"] or answer["gold"] or "",
        "messages": [{"role": "user", "content": answer["prompt"]}, reply],
        "output": {"model": model, "choices": [{"message": reply, "stop_reason": "stop"}]},
        "scores": found, "metadata": {name: answer[name] for name in ("relation", "subject", "group", "excluded")},
    }  # fmt: skip
