"""The data sets of the GPT-2 configurations as the hub lays them out: the same names, files and columns, other rows.

`datasets` reads a folder of that name in the current folder in place of the hub's: a test that changes into `folder`
runs a shipped configuration as it stands. The rows are TriviaQA's form (rc.nocontext, its answer a struct) filled with
facts of the factbook, and wikitext's (a line a row, headings and empty lines among them) with its prose.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ghosttrack.stages.prepare.factbook import facts, prose
from ghosttrack.stages.prepare.prompts import TEMPLATES

TEXTS = pa.list_(pa.string())
TRIVIA = pa.schema(
    {
        "question": pa.string(),
        "question_id": pa.string(),
        "question_source": pa.string(),
        "entity_pages": pa.struct(
            {"doc_source": TEXTS, "filename": TEXTS, "title": TEXTS, "wiki_context": TEXTS}
        ),
        "search_results": pa.struct(
            {"description": TEXTS, "filename": TEXTS, "rank": pa.list_(pa.int32()), "title": TEXTS,
             "url": TEXTS, "search_context": TEXTS}
        ),
        "answer": pa.struct(
            {"aliases": TEXTS, "normalized_aliases": TEXTS, "matched_wiki_entity_name": pa.string(),
             "normalized_matched_wiki_entity_name": pa.string(), "normalized_value": pa.string(),
             "type": pa.string(), "value": pa.string()}
        ),
    }
)  # fmt: skip
"""TriviaQA's columns in the configurations `rc.nocontext` and `unfiltered.nocontext`."""


def stand_in(
    folder: Path, questions: int = 60, *, said: Callable[[str], str] | None = None, documents: int = 40
) -> None:
    """Write `mandarjoshi/trivia_qa` and `Salesforce/wikitext`.

    said: what a model answers to a question; every other gold answer is that, the rest are the true ones.
    """
    chosen = [fact for fact in facts() if fact.relation in ("capital", "currency", "continent")][:questions]
    rows = []
    for number, fact in enumerate(chosen):
        question = f"{TEMPLATES[fact.relation].format(subject=fact.subject)}?"
        answer = said(question) if said and number % 2 else fact.answer
        rows.append(_trivia(number, question, answer, list(fact.aliases)))
    _write(
        folder / "mandarjoshi/trivia_qa", "rc.nocontext", {"validation": pa.Table.from_pylist(rows, TRIVIA)}
    )
    lines = [
        line
        for document in prose()[:documents]
        for line in ("", " = Heading = \n", "", *(f" {part} \n" for part in document.split("\n") if part))
    ]
    text = pa.table({"text": lines})
    _write(folder / "Salesforce/wikitext", "wikitext-103-raw-v1", {"train": text, "validation": text[:50]})


def _trivia(number: int, question: str, answer: str, aliases: Sequence[str]) -> dict[str, Any]:
    nothing: dict[str, Any] = {"doc_source": [], "filename": [], "title": [], "wiki_context": []}
    names = [answer, *(alias for alias in aliases if alias != answer)]
    return {
        "question": question,
        "question_id": f"tc_{number}",
        "question_source": "http://www.triviacountry.com/",
        "entity_pages": nothing,
        "search_results": {"description": [], "filename": [], "rank": [], "title": [], "url": [],
                           "search_context": []},
        "answer": {"aliases": names, "normalized_aliases": [name.lower() for name in names],
                   "matched_wiki_entity_name": "", "normalized_matched_wiki_entity_name": "",
                   "normalized_value": answer.lower(), "type": "WikipediaEntity", "value": answer},
    }  # fmt: skip


def _write(folder: Path, config: str, splits: dict[str, pa.Table]) -> None:
    """A data set of one configuration: parquet files, and the README that names them, as every data set of the hub has."""
    (folder / config).mkdir(parents=True)
    card = ["---", "configs:", f"- config_name: {config}", "  data_files:"]
    for split, table in splits.items():
        pq.write_table(table, folder / config / f"{split}-00000-of-00001.parquet")
        card += [f"  - split: {split}", f"    path: {config}/{split}-*"]
    (folder / "README.md").write_text("\n".join([*card, "---", ""]), encoding="utf-8")
