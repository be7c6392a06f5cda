"""Memory and seconds of what follows the answers, by the number of questions: `python -m benchmarks.large [--quick]`.

Made-up files of a run (three positions a question, 30 layers; states a ninth as wide as the demo's, a twentieth of its nodes,
a quarter of its resamples, two folds) are published through their formats, of 2,500, 5,000 and 10,000 questions, and the real units are run on
them, each a process of its own:
`track/reasons`, `detect/all`, `evaluate/all`, `report/all`; a run is opened in Python, and the dashboard's blocks are made as
`serve` makes them. `corpus`: states of one layer are measured and drawn in batches as training does, so many tokens of them.

Ends with one line of JSON: of each its peak memory (GB) and processor seconds at each size, the exponent by which both grow from the
smallest to the largest, and what they come to at 100,000 questions (100 M tokens) by the straight line through the two last sizes.
"""

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ghosttrack.common.formats.account import ACCOUNT
from ghosttrack.common.formats.candidates import CANDIDATES
from ghosttrack.common.formats.evidence import EVIDENCE
from ghosttrack.common.formats.file import Table
from ghosttrack.common.formats.ladder import LADDER, Column, columns_of
from ghosttrack.common.formats.layers import LAYERS
from ghosttrack.common.formats.lens import LENS
from ghosttrack.common.formats.positions import POSITIONS
from ghosttrack.common.formats.tracks import TRACKS
from ghosttrack.common.formats.validation import VALIDATION
from tests.stages.report import synthetic

SIZES, QUICK = (2500, 5000, 10_000), (250, 500, 1000)
TOKENS, QUICK_TOKENS = (500_000, 1_000_000, 2_000_000), (50_000, 100_000, 200_000)
WANTED, WANTED_TOKENS = 100_000, 100_000_000
DEPTH, WIDTH, LATENTS, POSITIONS_EACH, TRACKS_EACH = 30, 64, 1152, 3, 10
RUNGS = ("none", "random")
A_PIECE = 100
"""Questions that are made up at a time."""
UNITS = ("track/reasons", "detect/all", "evaluate/all", "report/all")
SERVED = 30
"""Questions whose blocks are asked for."""
NAME = "large"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, to see that it works")
    parser.add_argument("--sizes", type=int, nargs="+", metavar="QUESTIONS")
    parser.add_argument(
        "--only", metavar="PART", help="one unit, `open`, `serve` or `corpus`, and what it needs"
    )
    parser.add_argument("--inside", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        name, *rest = options.inside
        INSIDE[name](*rest)
        print(json.dumps({"seconds": time.process_time(), "gb": _peak()}))
        return
    sizes = options.sizes or (QUICK if options.quick else SIZES)
    found: dict[str, list[tuple[int, float, float]]] = {}
    if options.only != "corpus":
        for questions in sizes:
            with tempfile.TemporaryDirectory() as folder:
                for part, gb, seconds in measure(Path(folder), questions, options.only):
                    found.setdefault(part, []).append((questions, gb, seconds))
                    print(f"{questions:,} {part}: {gb:.2f} GB, {seconds:.1f} s", file=sys.stderr)
    if options.only in (None, "corpus"):
        for tokens in QUICK_TOKENS if options.quick else TOKENS:
            with tempfile.TemporaryDirectory() as folder:
                gb, seconds = inside("corpus", folder, str(tokens))
            found.setdefault("corpus", []).append((tokens, gb, seconds))
    print(json.dumps({part: told(rows, part) for part, rows in found.items()}))


def told(rows: list[tuple[int, float, float]], part: str) -> dict[str, Any]:
    """Of rows of size, GB and seconds."""
    wanted = WANTED_TOKENS if part == "corpus" else WANTED
    (first, *low), (size, *high) = rows[0], rows[-1]
    before, *middle = rows[-2] if len(rows) > 1 else rows[-1]
    report: dict[str, Any] = {"sizes": [row[0] for row in rows]}
    for place, name in enumerate(("gb", "seconds")):
        slope = (high[place] - middle[place]) / max(size - before, 1)
        report[name] = [round(row[place + 1], 2) for row in rows]
        if len(rows) > 1:
            report[f"{name}_exponent"] = round(math.log(high[place] / low[place]) / math.log(size / first), 2)
            report[f"{name}_at_{wanted}"] = round(high[place] + slope * (wanted - size), 1)
    return report


def measure(root: Path, questions: int, only: str | None) -> Iterator[tuple[str, float, float]]:
    """Part, GB and seconds."""
    publish(root, questions)
    for unit in UNITS:
        stage, name = unit.split("/")
        command = [
            sys.executable,
            "-m",
            f"ghosttrack.stages.{stage}",
            "--config",
            str(root / f"{NAME}.yaml"),
            "--unit",
            name,
        ]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{unit} failed: {done.stderr[-2000:]}")
        manifest = root / ".store" / "current" / NAME / stage / name / "manifest.json"
        usage = json.loads(manifest.read_text("utf-8"))["predicate"]["resourceUsage"]
        yield unit, max(usage["treePeakMemory"] or 0, usage["maxRSS"]) / 1e9, usage["cpuSec"]
        if unit == only:
            return
    for part in ("open", "serve"):
        if only in (None, part):
            yield part, *inside(part, str(root))


def inside(part: str, *arguments: str) -> tuple[float, float]:
    """GB and seconds of a part, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.large", "--inside", part, *arguments]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{part} failed: {done.stderr[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    return found["gb"], found["seconds"]


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def publish(root: Path, questions: int) -> None:
    """All that the units read, with a configuration beside it."""
    config = {
        "name": NAME, "paths": {"root": str(root)}, "model": {"base_model": "made-up", "d_model": WIDTH, "n_layers": DEPTH},
        "sae": {"d_hidden": LATENTS}, "tracking": {"ladder": list(RUNGS)},
        "detection": {"repeats": 1, "folds": 2, "inner_folds": 2, "relation_folds": 0, "answer_folds": 0, "early_points": 1, "permutations": 10},
        "evaluation": {"bootstrap": 500},
    }  # fmt: skip
    (root / f"{NAME}.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    store, records = (
        synthetic.Store(str(root)),
        synthetic.generations(np.random.default_rng(0), questions, POSITIONS_EACH),
    )
    owner = np.array([(q, p) for q in range(questions) for p in range(-1, POSITIONS_EACH - 1)])
    tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[?]"}
    quality = synthetic.sae_quality(np.random.default_rng(1), DEPTH)
    units: list[tuple[str, synthetic.Files, tuple[str, ...]]] = [
        ("prepare/model", {"tokenizer.json": synthetic.tokenizer, "tokenizer_config.json": _json(tokenizer), "config.json": _json({"model_type": "llama"})}, ()),
        ("prepare/questions", {"questions.jsonl": _lines([{"relation": each["relation"], "shots": [[each["query"], each["gold"]]]} for each in records])}, ()),
        ("prepare/contexts", {"contexts.jsonl": _lines([])}, ()),
        ("sae_train/quality", {"sae_quality.json": _json(quality)}, ()),
        ("track/answers", {
            "generations.jsonl": _lines(records), "states.npy": lambda path: states(path, len(owner)),
            "positions.parquet": lambda path: POSITIONS.write(path, {"question": owner[:, 0].astype(np.int32), "position": owner[:, 1].astype(np.int16)}),
            "lens.parquet": _pieces(LENS, owner, lambda rng, cells: synthetic.lens(rng, cells, DEPTH)),
            "candidates.parquet": _pieces(CANDIDATES, owner, lambda rng, cells: synthetic.candidates(rng, cells, records)),
        }, ("prepare/model",)),
        ("track/contexts", {"contexts.parquet": lambda path: EVIDENCE.write(path, synthetic.evidence(np.random.default_rng(3), records))}, ()),
        ("track/all", {
            "tracks.parquet": _pieces(TRACKS, owner, nodes), "ladder.parquet": _pieces(_LADDER, owner, rungs),
            "layers.parquet": _pieces(LAYERS, owner, lambda rng, cells: _wide(synthetic.layer_table(rng, cells, DEPTH))),
        }, ("prepare/model",)),
        ("track/account", {"account.parquet": lambda path: account(path, owner)}, ()),
        ("track/causes", {"causes.parquet": lambda path: synthetic.pq.write_table(synthetic.pa.table(synthetic.causes(np.random.default_rng(4), 96)), path)}, ()),
        ("track/validation", {"validation.json": _json({**synthetic.validated(), "schema_version": VALIDATION.version})}, ()),
        ("detect/tokens", {"token_metrics.json": _json({"schema_version": 1, "why_not": "no answer has labelled spans", "tokens": 0, "methods": {}})}, ()),
    ]  # fmt: skip
    parameters = {
        "layers": list(range(DEPTH)), "model.base_model": "made-up", "model.d_model": WIDTH, "model.n_layers": DEPTH,
        "sae.d_hidden": LATENTS,
    }  # fmt: skip
    for layer in range(DEPTH):
        name = f"sae_layer_{layer}_metrics.json"
        units.insert(0, (f"sae_train/layer_{layer}", {name: _json({})}, ()))
    for unit, files, reads in units:
        stage, name = unit.split("/")
        synthetic.publish(store, NAME, stage, name, files, parameters, reads)


_LADDER = Table(
    LADDER.name, LADDER.unit, LADDER.content,
    tuple(Column(name, "float16" if name.endswith("link") else "int16") for name in columns_of(RUNGS)),
)  # fmt: skip


def _json(content: Any) -> Callable[[Path], object]:
    return lambda path: path.write_text(json.dumps(content), encoding="utf-8")


def _lines(records: list[dict[str, Any]]) -> Callable[[Path], object]:
    return lambda path: path.write_text(
        "".join(json.dumps(record) + "\n" for record in records), encoding="utf-8"
    )


def _pieces(
    table: Table, owner: np.ndarray, make: Callable[[np.random.Generator, np.ndarray], Mapping[str, Any]]
) -> Callable[[Path], None]:
    """Some questions after others, the same however many there are."""

    def write(path: Path) -> None:
        with table.in_pieces(path) as piece:
            for number, cells in enumerate(_cells(owner)):
                piece(make(np.random.default_rng(number), cells))

    return write


def _cells(owner: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(owner), A_PIECE * POSITIONS_EACH):
        yield owner[start : start + A_PIECE * POSITIONS_EACH]


def nodes(rng: np.random.Generator, cells: np.ndarray) -> dict[str, np.ndarray]:
    return synthetic.track_nodes(rng, cells, DEPTH, LATENTS, TRACKS_EACH)


def rungs(rng: np.random.Generator, cells: np.ndarray) -> dict[str, np.ndarray]:
    """Of the same nodes: the run's own tracks, without links, for every rung."""
    own = nodes(rng, cells)
    return {
        name: np.full(len(own["track"]), np.nan, dtype=np.float16) if name.endswith("link") else own["track"]
        for name in columns_of(RUNGS)
    }


def _wide(table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {
        name: values.astype(np.int32) if name in ("n_active", "births", "deaths") else values
        for name, values in table.items()
    }


def states(path: Path, rows: int) -> None:
    rng = np.random.default_rng(5)
    shape = (rows, DEPTH, WIDTH)
    file = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
    for start in range(0, rows, 512):
        file[start : start + 512] = rng.standard_normal(
            (min(512, rows - start), *shape[1:]), dtype=np.float32
        )
    file.flush()


def account(path: Path, owner: np.ndarray) -> None:
    pieces = []
    for number, cells in enumerate(_cells(owner)):
        pieces.append(path.with_name(f"{number}.piece"))
        ACCOUNT.write(pieces[-1], synthetic.account(np.random.default_rng(number), cells, DEPTH))
    ACCOUNT.join(path, pieces)
    for piece in pieces:
        piece.unlink()


def open_run(root: str) -> None:
    import ghosttrack as gt

    run = gt.open(NAME, root=root)
    assert len(run.scores)
    assert len(run.question(len(run) // 2).tracks)


def serve(root: str) -> None:
    """The list of questions, and of some all that there is to see."""
    from ghosttrack.stages.report.dashboard.slices import Slices
    from ghosttrack.stages.report.results import Results

    slices = Slices(Results.open(root, NAME, deep=False))
    slices.block("run")
    slices.block("questions")
    for number in np.linspace(0, len(slices.places) - 1, SERVED).astype(int):
        slices.block(f"q{number}")


def corpus(folder: str, tokens: str) -> None:
    """A layer's states, as wide as 64, measured and drawn from as one pass of training does."""
    import torch

    from ghosttrack.common.formats.states import StatesWriter, open_states, reserve
    from ghosttrack.stages.sae_train.batches import Batches
    from ghosttrack.stages.sae_train.normalise import fit_layer

    path, n = Path(folder) / "layer_0_states.pt", int(tokens)
    position = torch.arange(n, dtype=torch.int32) % 256
    reserve(path, n, 64, torch.float16)
    with StatesWriter(path) as writer:
        for start in range(0, n, 8192):
            writer.write(start, torch.randn(min(8192, n - start), 64))
    layer = fit_layer(0, open_states(path), position, position % 8 == 7)
    batches = Batches([layer], 4096, 0)
    for step in range(batches.steps(1)):
        batches.batch(step)


INSIDE: dict[str, Callable[..., None]] = {"open": open_run, "serve": serve, "corpus": corpus}


if __name__ == "__main__":
    main()
