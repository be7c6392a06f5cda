"""The whole pipeline on the miniature model: end to end, again, changed, killed and damaged."""

import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import ghosttrack as gt
from ghosttrack.api.serving import Dashboard
from ghosttrack.common.config.load import load_config
from ghosttrack.common.engine.contract import load_contracts
from tests.commands import ghosttrack
from tests.pipeline import CODE, RESULTS, Pipeline, ran

pytestmark = pytest.mark.slow

STAGES = [contract.stage for contract in load_contracts()]


@pytest.fixture(scope="module")
def undisturbed(stub_run: Pipeline) -> Pipeline:
    """A pipeline that ran through in one go."""
    return stub_run


@pytest.fixture
def finished(undisturbed: Pipeline, tmp_path: Path) -> Pipeline:
    """A copy of it, to be changed."""
    shutil.copytree(undisturbed.root, tmp_path / "root", symlinks=True)
    return Pipeline(tmp_path / "root")


def test_every_output_is_there(undisturbed: Pipeline) -> None:
    for unit in undisturbed.units():
        folder = undisturbed.root / unit.folder
        for name in [] if unit.publishes_folder else unit.writes:
            assert (folder / name).stat().st_size > 0 or name == "left_out.jsonl"  # every row was read
        assert json.loads((folder / unit.manifest_name).read_text())["predicate"]["unit"] == unit.name
    scores = json.loads((undisturbed.root / RESULTS / "detection/hallucination_scores.json").read_text())
    assert scores


def test_a_second_run_has_nothing_to_do(undisturbed: Pipeline) -> None:
    before = undisturbed.digests()
    start = computed()
    output = undisturbed.run()
    assert "nothing is stale" in output
    assert ran(output) == []
    assert computed() - start < 10
    assert undisturbed.digests() == before


def computed() -> float:
    """Seconds that ended children of this process have computed, whatever else ran on the machine."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def test_a_tracking_parameter_reruns_tracking_and_what_follows(finished: Pipeline) -> None:
    output = finished.run("tracking.top_k_features=8")
    assert ran(output) == [
        "track/association", "track/all", "track/account", "track/shown", "track/causes", "track/reasons",
        "track/validation", "detect/all", "detect/tokens", "evaluate/all", "report/all",
    ]  # fmt: skip
    assert "param:tracking.top_k_features 12→8" in output


def test_a_tampered_layer_is_made_again_and_comes_out_the_same(finished: Pipeline) -> None:
    before = finished.digests()
    file = finished.root / "models/checkpoints/demo-stub/sae_layer_1_best.pt"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(0o644)
    file.write_bytes(content)
    output = finished.run()
    assert "corrupt:" in output
    assert ran(output) == ["sae_train/layer_1"]
    assert "came out the same" in output
    assert finished.digests() == before


def test_exported_saes_stand_in_for_extraction_and_training(finished: Pipeline, tmp_path: Path) -> None:
    options = ("--stub", "--set", f"paths.root={finished.root}", "--output", tmp_path / "saes")
    ghosttrack("sae", "export", "demo", *options, cwd=CODE)
    trained_on = finished.root / "results/demo-stub/detection"
    output = finished.run(
        "name=imported", f"sae.pretrained={tmp_path}/saes/layer_{{layer}}", f"detection.transfer={trained_on}"
    )
    assert re.search(r"imported: \d+ of \d+ units are taken from earlier runs", output)
    assert "prepare/model" not in ran(output)
    assert not [label for label in ran(output) if label.startswith(("extract/", "sae_train/base"))]
    assert {"sae_train/layer_0", "track/all", "report/all"} <= set(ran(output))
    trained, imported = (
        json.loads((finished.root / f"results/{name}/detection/hallucination_scores.json").read_text())[
            "questions"
        ]
        for name in ("demo-stub", "imported")
    )
    assert [question["id"] for question in imported] == [question["id"] for question in trained]
    assert [question["score"] for question in imported] == pytest.approx(
        [question["score"] for question in trained], abs=0.01
    )
    # A detector that was fitted with the trained SAEs knows the copies as the same.
    metrics = json.loads((finished.root / "results/imported/detection/detection_metrics.json").read_text())
    assert [each["from"] for each in metrics["transfers"]] == ["demo-stub"]


def kill_during(pipeline: Pipeline, stage: str, delay: float) -> int:
    """Start the pipeline, wait until a process works on `stage`, and kill it `delay` seconds later; exit code."""
    running = pipeline.start()
    units = [unit for unit in pipeline.units() if unit.stage == stage]
    while running.poll() is None:
        holders = [holder for unit in units if (holder := pipeline.store.claim_holder(unit))]
        if holders:
            time.sleep(delay)
            try:
                os.kill(holders[0].pid, 9)
            except ProcessLookupError:  # the stage was quicker
                running.kill()
            break
        time.sleep(0.01)
    running.communicate()
    return running.returncode


def test_killed_in_every_stage_it_comes_to_the_same_results(undisturbed: Pipeline, tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path / "root")
    seed = random.randrange(10**6)
    print(f"seed of the moments: {seed}")
    moments = random.Random(seed)
    for stage in STAGES:
        delay = moments.uniform(0, 3 if stage in ("prepare", "sae_train", "detect") else 1)
        code = kill_during(pipeline, stage, delay)
        print(f"{stage}: killed after {delay:.2f} s, exit code {code}")
    pipeline.run()
    assert pipeline.digests() == undisturbed.digests()
    assert "nothing is stale" in pipeline.run()


def test_new_questions_are_scored_as_the_run_scored_its_own(undisturbed: Pipeline, tmp_path: Path) -> None:
    """The stored detector has not seen the frozen test: asked again, its questions get the scores that the run gave them."""
    published = json.loads((undisturbed.root / RESULTS / "detection/hallucination_scores.json").read_text())
    frozen = {record["id"]: record for record in published["questions"] if record["split"] == "test"}
    lines = (undisturbed.root / "data/cache/demo-stub/questions/questions.jsonl").read_text().splitlines()
    again = [question for question in map(json.loads, lines) if question["id"] in frozen]
    asked = [
        {"id": q["id"], "prompt": q["query"], "relation": q["relation"], "subject": q["subject"],
         "answer": q["answer"], "aliases": q["aliases"]}
        for q in again
    ]  # fmt: skip
    asked.append({"question": "Who painted the harbour at night?"})
    (tmp_path / "new.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    options = ["--stub", "--set", f"paths.root={undisturbed.root}"]
    before = undisturbed.digests()
    options += ["--input", str(tmp_path / "new.jsonl"), "--output", str(tmp_path / "scores.jsonl")]
    done = ghosttrack("score", "demo", *options, cwd=CODE)
    assert re.search(r"AUROC on the \d+ whose right answer was given: [01]\.\d{3}", done.stdout)
    scores = [json.loads(line) for line in (tmp_path / "scores.jsonl").read_text().splitlines()]
    unlike = re.search(r"(\d+) of them to questions unlike", done.stdout)
    assert int(unlike[1] if unlike else 0) == sum(line["verdict"] == "unfamiliar" for line in scores)
    assert [line["id"] for line in scores] == [*(row["id"] for row in asked[:-1]), f"line_{len(asked)}"]
    assert scores[-1]["label"] is None
    for line in scores[:-1]:
        own = frozen[line["id"]]
        assert line["answer"] == own["answer"]
        assert line["label"] == own["label"]
        if line["scored"]:
            assert line["score"] == pytest.approx(own["score"], abs=1e-3)
            assert sum(line["contributions"].values()) + line["rest"] + line["intercept"] == pytest.approx(
                line["additive_log_odds"], abs=1e-3
            )
    after = undisturbed.digests()
    assert {path: digest for path, digest in after.items() if "/asked/" not in path} == before
    assert_tracks_of_asked_questions_are_taken_out(undisturbed, scores)


def assert_tracks_of_asked_questions_are_taken_out(scored: Pipeline, scores: list[dict[str, Any]]) -> None:
    """By the API, the served page and the command alike; their ids are those of questions of the run."""
    run = gt.open("demo-stub", root=scored.root)
    assert [(each.id, each.answer, each.probability) for each in run.asked] == [
        (line["id"], line["answer"], line["score"]) for line in scores
    ]
    question = run.asked[1]
    track = int(question.tracks.loc[question.tracks["position"] == 0, "track"].iloc[0])
    drop = question.without(track).drop
    config = load_config("demo", [f"paths.root={scored.root}"], environ={}, stub=True)
    with Dashboard(config) as server:
        found = server.live.without({"question": f"new:{question.id}", "tracks": [track]})
    assert found["drop"] == pytest.approx(drop, abs=1e-5)
    options = ("--stub", "--set", f"paths.root={scored.root}", "--track", track, "--json")
    done = ghosttrack("intervene", "demo", f"new:{question.id}", *options, cwd=CODE)
    assert json.loads(done.stdout)["drop"] == pytest.approx(drop, abs=1e-5)


def test_a_finished_run_is_opened_fitted_and_scored_from_python(undisturbed: Pipeline) -> None:
    """The same fold, seed and data: the detector that the run kept, fitted once more."""
    from ghosttrack.stages.detect.crossval import fit_side
    from ghosttrack.stages.detect.detector import keep, load
    from ghosttrack.stages.detect.opening import read_run, splits_of

    opened = gt.open("demo-stub", root=undisturbed.root)
    config = opened.config
    unit = next(unit for unit in undisturbed.units() if unit.label == "detect/all")
    run = read_run({read.name: opened.entry(read.name) for read in unit.reads}, config)
    fold = next(split for split in splits_of(run, config) if split.name == "test").folds[0]
    stored = load(undisturbed.root / RESULTS / "detection")
    stored.require(run.provenance)
    side, rows = fit_side(run.data, run.labels, fold), fold.train
    ids = [run.ids[row] for row in rows]
    again = keep(side, run.data.of(rows), run.provenance, ids, run.groups[rows], config.seed)
    asked = run.data.of(fold.test)
    np.testing.assert_allclose(again.score(asked), stored.score(asked), atol=1e-6)
    published = json.loads((undisturbed.root / RESULTS / "detection/hallucination_scores.json").read_text())
    expected = [published["questions"][row]["score"] for row in fold.test]
    np.testing.assert_allclose(stored.score(asked), expected, atol=1e-6)


def test_new_questions_need_a_finished_run(tmp_path: Path) -> None:
    (tmp_path / "new.jsonl").write_text('{"question": "Who?"}\n')
    done = subprocess.run(
        [sys.executable, "-m", "ghosttrack.orchestrate", "score", "demo", "--stub", "--set", f"paths.root={tmp_path}",
         "--input", tmp_path / "new.jsonl", "--output", tmp_path / "scores.jsonl"],
        cwd=CODE, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 13
    assert f"ghosttrack run demo --set paths.root={tmp_path} --stub`" in done.stderr  # a command that works
