"""How long the dashboard takes to build and to show: `python -m benchmarks.dashboard [--quick]`.

Made-up results of 5,000 questions, as heavy as a real run's: at every position about 50 latents in each of 30 layers, and
contexts of a vocabulary that compresses as text does. They are built into one file, which a headless Chromium opens: from the
start of loading until the first page is painted, the same where the address is that of a question, and from a click on a
question until its trajectory is painted, over questions all over the file. Ends with one line of JSON; `met` says whether all
of it keeps within LIMITS.
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from ghosttrack.common.formats.answers import GENERATIONS
from ghosttrack.common.formats.tracks import TRACKS as TRACK_TABLE
from ghosttrack.stages.report.dashboard.build import build
from ghosttrack.stages.report.results import Results
from tests.browser.chromium import Chromium
from tests.stages.report.synthetic import make_run

LAYERS, LATENTS, POSITIONS = 30, 1152, 4
TRACKS = 230
"""Of a position; a made-up track has 6.6 nodes, so that these are 1,500 nodes."""
VOCABULARY = 4000
VISITS, LOADS = 40, 3
LIMITS = {
    "build_seconds": 60, "file_mb": 40, "first_view_ms_most": 2000, "deep_link_ms_most": 2000, "trajectory_ms_most": 200,
}  # fmt: skip
"""Of 5,000 questions."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="500 questions; says nothing of the limits.")
    quick = parser.parse_args().quick
    questions = 500 if quick else 5000
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_run(
            folder, questions=questions, layers=LAYERS, latents=LATENTS, positions=POSITIONS, tracks=TRACKS,
            vocabulary=words(VOCABULARY),
        )  # fmt: skip
        start = time.perf_counter()
        results = Results.open(str(folder), "made-up")
        page = folder / "dashboard.html"
        page.write_text(build(results), encoding="utf-8")
        seconds = time.perf_counter() - start
        ids = [record["id"] for record in results.lines(GENERATIONS)]
        first, deep, clicks = shown(page, ids)
        found = {
            "build_seconds": round(seconds, 1),
            "file_mb": round(page.stat().st_size / 1e6, 2),
            "first_view_ms": round(statistics.median(first)),
            "first_view_ms_most": round(max(first)),
            "deep_link_ms": round(statistics.median(deep)),
            "deep_link_ms_most": round(max(deep)),
            "trajectory_ms_median": round(statistics.median(clicks), 1),
            "trajectory_ms_most": round(max(clicks), 1),
            "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
            "questions": questions,
            "nodes_mb": round(results.path(TRACK_TABLE).stat().st_size / 1e6),
        }
        met = None if quick else all(found[name] <= limit for name, limit in LIMITS.items())
        print(json.dumps({**found, "met": met}))


def words(count: int) -> list[str]:
    """Made-up words of two to ten letters; the common ones are short, as in a text."""
    rng = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgk"))
    lengths = 2 + rng.binomial(8, np.linspace(0.15, 0.75, count))
    return ["".join(rng.choice(letters, length)) for length in lengths]


def shown(page: Path, ids: list[str]) -> tuple[list[float], list[float], list[float]]:
    """Milliseconds until the page is painted: of each load of the first page, each load of a question's, each visit of one."""

    def question(number: int) -> str:
        return "#/question/" + ids[number].replace("/", "%2F")

    def load(fragment: str) -> float:
        with Chromium() as browser:
            browser.open(page, fragment)
            return float(browser.run("document.documentElement.dataset.ready"))

    first = [load("") for _ in range(LOADS)]
    deep = [load(question(number)) for number in np.linspace(1, len(ids) - 1, LOADS).astype(int)]
    clicks = []
    with Chromium() as browser:
        browser.open(page)
        browser.wait("document.readyState === 'complete'")
        for number in np.linspace(1, len(ids) - 1, VISITS).astype(int):
            clicks.append(browser.go(question(number)))
            assert browser.run("document.querySelectorAll('svg.trajectory .lane').length") >= 5
    return first, deep, clicks


if __name__ == "__main__":
    main()
