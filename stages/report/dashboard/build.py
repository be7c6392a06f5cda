"""The dashboard: one HTML file that holds a run's results, to be opened from a disk or sent by mail.

Nothing in it comes from the network: styles and code are inline and admitted by their digests alone (Content Security
Policy), so that text in questions could not run even if it were taken for markup. The data are blocks (`packing.py`) in
inert script elements after the code; the page decodes a block when it is looked at.
"""

import base64
import functools
import hashlib
import html
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ghosttrack.common.engine.progress import format_bytes
from ghosttrack.common.errors import DataError
from ghosttrack.common.foreign import uncollected
from ghosttrack.common.formats.file import File
from ghosttrack.common.formats.final_report import REPORT
from ghosttrack.common.formats.latent_contexts import LATENT_CONTEXTS
from ghosttrack.common.formats.latents import LATENTS
from ghosttrack.common.formats.saes import QUALITY
from ghosttrack.common.formats.token_scores import TOKEN_METRICS
from ghosttrack.common.formats.tracks import TRACKS
from ghosttrack.common.formats.validation import VALIDATION
from ghosttrack.common.package import package_file
from ghosttrack.stages.report import tables
from ghosttrack.stages.report.dashboard import run_card
from ghosttrack.stages.report.dashboard.asked import Record, read_questions, with_new
from ghosttrack.stages.report.dashboard.latents import LATENTS_A_BLOCK, LatentBook
from ghosttrack.stages.report.dashboard.measured import measurements, tokens_said
from ghosttrack.stages.report.dashboard.packing import pack
from ghosttrack.stages.report.dashboard.questions import (
    DETAILS,
    QUESTIONS_A_BLOCK,
    WIDTH,
    Detail,
    DrawnTracks,
    extent_of,
    index,
    latents_in,
    question_block,
    read_trajectories,
)
from ghosttrack.stages.report.dashboard.reasons import explanation
from ghosttrack.stages.report.results import Results

LIMIT = 38e6
"""Bytes that the file should stay under."""
SCRIPTS = ("data.js", "dom.js", "lists.js", "charts.js", "save.js", "trajectory.js", "overview.js", "sae.js", "results.js",
           "explorer.js", "latent.js", "live.js", "main.js")  # fmt: skip
LIBRARY = ("vendor/d3.min.js", "vendor/plot.umd.min.js")
"""What draws the charts, in the order in which they are run."""
REPORTS = (REPORT, QUALITY, TOKEN_METRICS, VALIDATION)
"""Files that the page holds whole, since it shows their numbers."""
SAMPLE = 6
"""Blocks packed to see how large a page gets."""


class Blocks:
    """The blocks of questions and of latents at any detail."""

    def __init__(self, records: Sequence[Record], found: DrawnTracks, book: LatentBook) -> None:
        self._records, self._found, self._book = records, found, book
        self.drawn = functools.cache(lambda tracks: latents_in(found, tracks))
        """Latents of the tracks that are drawn, of each cell so many."""
        self.shown = functools.cache(
            lambda tracks: np.union1d(self.drawn(tracks), book.named_by(self.drawn(tracks)))
        )
        """With what those name as neighbours, so that no link leads nowhere."""

    def questions(self, detail: Detail, some: slice = slice(None)) -> list[str]:
        def block(start: int) -> str:
            numbers = range(start, min(start + QUESTIONS_A_BLOCK, len(self._records)))
            return pack(*question_block(numbers, self._records, self._found, detail))

        return _in_threads(block, range(0, len(self._records), QUESTIONS_A_BLOCK)[some])

    def latents(self, detail: Detail, some: slice = slice(None)) -> list[str]:
        drawn, shown = self.drawn(detail.tracks), self.shown(detail.tracks)

        def block(start: int) -> str:
            latents = shown[start : start + LATENTS_A_BLOCK]
            return pack(
                [
                    self._book.page(latent, detail.contexts) if own else self._book.card(latent)
                    for latent, own in zip(latents.tolist(), np.isin(latents, drawn), strict=True)
                ]
            )

        return _in_threads(block, range(0, len(shown), LATENTS_A_BLOCK)[some])

    def size(self, detail: Detail) -> float:
        """Bytes that they take, from a sample."""
        total = 0.0
        for count, blocks in (
            (-(-len(self._records) // QUESTIONS_A_BLOCK), self.questions),
            (-(-len(self.shown(detail.tracks)) // LATENTS_A_BLOCK), self.latents),
        ):
            sample = blocks(detail, slice(None, None, max(1, count // SAMPLE)))
            total += count * float(np.mean([len(block) for block in sample])) if sample else 0.0
        return total


@uncollected()
def build(results: Results, limit: float = LIMIT) -> str:
    """The page. Raises CorruptInputError for a result that is not what its manifest says, DataError where the page has
    no room even for the least detail."""
    own, others, scored = read_questions(results)
    reasons = {score["id"]: explanation(score) for score in scored}
    measured = measurements(results, own)
    said = [token for each in measured for token in tokens_said(each)]
    found, texts = read_trajectories(results, own, said)
    own = [
        {**record, **of_it, "explanation": reasons.get(record["id"])}
        for record, of_it in zip(own, measured, strict=True)
    ]
    if new := results.of_new_questions():
        other, other_texts = read_trajectories(new, others)
        found, texts = with_new(found, other, len(own)), {**texts, **other_texts}
    records = [*own, *others]
    book = LatentBook(results, found.census, [record["id"] for record in own])
    run = run_data(results, len(own))
    questions, tokens = pack(index(records, scored, len(others))), pack(texts)
    room = limit - len(page(results.name, pack(run), {"questions": questions, "tokens": tokens})) - 1.6e5
    blocks = Blocks(records, found, book)
    detail = next((each for each in DETAILS if blocks.size(each) * 1.03 < room), DETAILS[-1])
    latents, drawn = blocks.shown(detail.tracks), blocks.drawn(detail.tracks)
    outdated = {entry["file"] for entry in run["absent"]}
    digests = {f"{unit}/{file}": results.digest(unit, file) for unit, file in sorted(results.read)}
    run["digests"] = {name: digest for name, digest in digests.items() if name not in outdated}
    run["extent"] = {
        **extent_of(found, len(records), detail),
        "latents": [len(drawn), book.n_latents],
        "contexts": [book.contexts_of(drawn, detail.contexts), book.n_contexts],
    }
    promoted, labels = ([of(latent) for latent in latents.tolist()] for of in (book.promoted, book.label))
    listed = {"a_block": LATENTS_A_BLOCK, "promoted": promoted, "label": labels}
    contents = {
        "questions": questions,
        "tokens": tokens,
        "latents": pack(listed, {"layer": latents // WIDTH, "latent": latents % WIDTH}),
        **{f"q{number}": block for number, block in enumerate(blocks.questions(detail))},
        **{f"f{number}": block for number, block in enumerate(blocks.latents(detail))},
    }
    whole = page(results.name, pack(run), contents)
    if len(whole) > limit:
        raise DataError(
            f"the dashboard of {results.name} takes {format_bytes(len(whole))} with as little detail as it can have, "
            f"more than the {format_bytes(limit)} that a browser opens quickly; lower data.max_questions"
        )
    return whole


def _in_threads(work: Callable[[int], str], items: Iterable[int]) -> list[str]:
    """Results in the order of the items; compression, the half of it, leaves the other thread to work."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(work, items))


def run_data(results: Results, questions: int, a_block: int = QUESTIONS_A_BLOCK) -> dict[str, Any]:
    """All that the pages about the whole run are made of. questions: of the run's own; a_block: in a block of questions."""
    reports = {file: results.json_if_there(file) for file in REPORTS}
    old: list[File] = [file for file, content in reports.items() if content and not file.is_current(content)]
    old += [
        table
        for table in (TRACKS, LATENTS, LATENT_CONTEXTS)
        if results.has(table) and not results.has_table(table)
    ]
    absent = results.absent(run_card.PARTS) + [
        {
            "what": "made by an earlier version",
            "file": f"{file.unit}/{file.name}",
            "mend": f"ghosttrack run {results.name}",
        }
        for file in old
    ]
    return {
        "name": results.name,
        "questions": questions,
        "questions_a_block": a_block,
        "titles": {"finding": tables.ASKED_OF, "figures": tables.FIGURES, "tokens": tables.TOKEN_FIGURES},
        "reports": {file.name: None if file in old else content for file, content in reports.items()},
        "stages": run_card.stage_cards(results),
        "provenance": run_card.provenance(results),
        "absent": absent,
    }


def page(name: str, run: str, blocks: dict[str, str], *, served: bool = False) -> str:
    """The page with its blocks; served: it asks for them where it was loaded from, and needs none here."""
    style = _web("style.css")
    script = '"use strict";\n(() => {\n' + "\n".join(_web(file) for file in SCRIPTS) + "\n})();\n"
    library = [_web(file) for file in LIBRARY]
    first = _inert("charting", pack({"scripts": library, "notice": _web("vendor/NOTICE.txt")}))
    first += "" if served else _inert("run", run)
    admitted = " ".join(map(_digest, [script, *library]))
    policy = f"default-src 'none'; style-src {_digest(style)}; script-src {admitted}; img-src blob:; base-uri 'none'; form-action 'none'"
    if served:
        policy += "; connect-src 'self'"
    head = _web("page.html")
    for key, value in {"POLICY": policy, "TITLE": html.escape(f"GhostTrack: {name}"), "STYLE": style, "SCRIPT": script,
                       "RUN": first, "SERVED": " data-served" * served}.items():  # fmt: skip
        head = head.replace(f"<!--{key}-->", value)
    return head + "\n".join(_inert(key, block) for key, block in blocks.items()) + "\n</body>\n</html>\n"


def _inert(key: str, block: str) -> str:
    return f'<script type="text/plain" id="block-{key}">{block}</script>'


def _web(file: str) -> str:
    return package_file(f"stages/report/dashboard/web/{file}").read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"
