"""Why does a language model hallucinate? Follow its latents across layers as competing hypothesis tracks.

    import ghosttrack as gt

    run = gt.open("demo")                   # a finished run, from any folder with root="…"
    run.scores                              # how likely each answer is wrong: a DataFrame
    question = run.question(run.scores.index[0])
    question.tracks, question.candidates    # DataFrames
    question.plot()
    question.without(question.tracks["track"].iloc[0])  # what the model says without that track
    run.ask("What is the capital of Norway?")

Nothing here loads torch, or pandas, before it is needed.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ghosttrack.api.asked import Asked
    from ghosttrack.api.making import run
    from ghosttrack.api.question import Question
    from ghosttrack.api.run import Run, RunNotice, open_run
    from ghosttrack.api.without import Without

    open = open_run

_PLACES = {
    "Asked": "asked.Asked",
    "Question": "question.Question",
    "Run": "run.Run",
    "RunNotice": "run.RunNotice",
    "Without": "without.Without",
    "open": "run.open_run",
    "run": "making.run",
}
__all__ = ["Asked", "Question", "Run", "RunNotice", "Without", "open", "run"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'ghosttrack' has no attribute {name!r}")
    from importlib import import_module

    module, _, found = _PLACES[name].partition(".")
    return getattr(import_module(f"ghosttrack.api.{module}"), found)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
