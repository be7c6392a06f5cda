"""How long the dashboard takes to build and to show: `python -m benchmarks.dashboard [--quick]`.

Made-up results of 5,000 questions on 30 layers, with as many track nodes a question as the demo has, are built into one
file, which a headless Chromium opens: from the start of loading until the first page is laid out, and from a click on a
question until its trajectory is laid out, over questions all over the file. Ends with one line of JSON.
"""

import argparse
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from stages.report.dashboard.build import build
from stages.report.results import Results
from tests.browser.chromium import Chromium
from tests.stages.report.synthetic import make_run

LAYERS, LATENTS, POSITIONS, TRACKS = 30, 1152, 5, 110
VISITS, LOADS = 40, 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="500 questions.")
    questions = 500 if parser.parse_args().quick else 5000
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_run(
            folder, questions=questions, layers=LAYERS, latents=LATENTS, positions=POSITIONS, tracks=TRACKS
        )
        start = time.perf_counter()
        results = Results.open(str(folder), "made-up")
        page = folder / "dashboard.html"
        page.write_text(build(results), encoding="utf-8")
        seconds = time.perf_counter() - start
        ids = [record["id"] for record in results.lines("track/answers", "generations.jsonl")]
        first, clicks = shown(page, ids)
        print(
            json.dumps(
                {
                    "build_seconds": round(seconds, 1),
                    "file_mb": round(page.stat().st_size / 1e6, 2),
                    "first_view_ms": round(statistics.median(first)),
                    "trajectory_ms_median": round(statistics.median(clicks), 1),
                    "trajectory_ms_most": round(max(clicks), 1),
                    "peak_memory_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2),
                    "questions": questions,
                    "nodes_mb": round(results.path("track/all", "tracks.parquet").stat().st_size / 1e6),
                }
            )
        )


def shown(page: Path, ids: list[str]) -> tuple[list[float], list[float]]:
    """Milliseconds until the first page is there, of each load, and until a question's trajectory is, of each visit."""
    first, clicks = [], []
    for _ in range(LOADS):
        with Chromium() as browser:
            browser.open(page)
            first.append(float(browser.run("document.documentElement.dataset.ready")))
    with Chromium() as browser:
        browser.open(page)
        browser.wait("document.readyState === 'complete'")
        for number in np.linspace(1, len(ids) - 1, VISITS).astype(int):
            clicks.append(browser.go("#/question/" + ids[number].replace("/", "%2F")))
            assert browser.run("document.querySelectorAll('svg.trajectory .lane').length") >= 5
    return first, clicks


if __name__ == "__main__":
    main()
