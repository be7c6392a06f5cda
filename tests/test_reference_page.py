"""The page that the pipeline was ordered by, row by row: its commands, settings, files and figures, as it writes them."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ghosttrack.common.config.cluster import bytes_of, seconds_of
from ghosttrack.common.config.load import load_cluster, load_config
from ghosttrack.common.engine.contract import expand, load_contracts

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "jobs/gpt2_medium_full_pipeline.sbatch"
OUTPUTS = {
    "results/gpt2-medium/tracking": ["hypothesis_trajectories.json", "semantic_clusters.pkl", "feature_activations.pt"],
    "results/gpt2-medium/detection": ["hallucination_scores.json", "classifications.csv", "detection_metrics.json"],
    "results/gpt2-medium/evaluation": ["final_report.json", "confusion_matrix.png", "roc_curve.png"],
    "models/checkpoints/gpt2-medium": [f"sae_layer_{layer}_best.pt" for layer in range(24)],
    "data/cache/gpt2-medium/hidden_states": [f"layer_{layer}_states.pt" for layer in range(24)],
}  # fmt: skip


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.base_model", "gpt2-medium"),
        ("model.d_model", 1024),
        ("model.n_layers", 24),
        ("sae.d_hidden", 5120),
        ("sae_training.batch_size", 128),
        ("sae_training.epochs", 20),
        ("sae_training.learning_rate", 1e-4),
        ("extract.batch_size", 16),
        ("extract.max_length", 512),
        ("extract.num_workers", 8),
        ("data.max_tokens", 9_600_000),
    ],
)
def test_settings(key: str, value: object) -> None:
    assert load_config("gpt2-medium", environ={}).value(key) == value
    written = yaml.safe_load((ROOT / "config/model_configs/gpt2-medium.yaml").read_text())
    section, name = key.split(".")
    assert written[section].get(name, value) == value


def test_the_files_are_where_the_page_says() -> None:
    config = load_config("gpt2-medium", environ={})
    written: dict[str, set[str]] = {}
    for contract in load_contracts():
        for unit in expand(contract, config):
            written.setdefault(unit.folder, set()).update(unit.writes)
    for folder, files in OUTPUTS.items():
        assert set(files) <= written[folder]


def test_one_allocation_of_four_gpus_with_six_layers_each() -> None:
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", SCRIPT.read_text(), re.MULTILINE))
    assert options["job-name"] == "gpt2m-full"
    assert options["output"] == "gpt2m-full_%j.out"
    assert options["error"] == "gpt2m-full_%j.err"
    assert (options["gres"], options["ntasks-per-node"], options["cpus-per-task"]) == ("gpu:4", "4", "16")
    assert bytes_of(options["mem"]) == bytes_of("480G")
    assert 60 * 3600 <= seconds_of(options["time"]) <= 72 * 3600
    profile, config = load_cluster("a100-node"), load_config("gpt2-medium", cluster="a100-node", environ={})
    assert len(config.groups) == 1  # one forward pass
    for stage in ("extract", "sae_train"):
        assert profile.resources_of(stage).processes_per_node == 4
        assert len(config.layers) / profile.resources_of(stage).processes_per_node == 6


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files of a clone that are submitted, and programs that write down how they are called."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "bin").mkdir()
    shutil.copy(SCRIPT, tmp_path / "jobs")
    shutil.copy(ROOT / "launch_model_analysis.sh", tmp_path)
    for name in ("make", "sbatch"):
        program = tmp_path / "bin" / name
        program.write_text(
            f'#!/bin/sh\necho {name} "$@" batches=$EXTRACT_BATCH_SIZE/$TRAIN_BATCH_SIZE >>"$RECORD"\n'
            f'[ {name} != sbatch ] || SLURM_JOB_ID=7 SLURM_SUBMIT_DIR=$PWD exec bash "$@"\n'
        )
        program.chmod(0o755)
    return tmp_path


def called(clone: Path, *command: str, **environment: str) -> list[str]:
    record = clone / "record"
    path = f"{clone / 'bin'}:{os.environ['PATH']}"
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "CLUSTER"))}
    subprocess.run(
        command, cwd=clone, env={**clean, "PATH": path, "RECORD": str(record), **environment}, check=True
    )
    return record.read_text().splitlines()


def test_both_ways_to_launch_it_run_the_whole_pipeline(clone: Path) -> None:
    expected = "make gpt2-medium EXECUTOR=local CLUSTER=a100-node ARGS= batches=16/128"
    assert called(clone, "sbatch", "jobs/gpt2_medium_full_pipeline.sbatch")[-1] == expected
    said = called(clone, "./launch_model_analysis.sh", "gpt2-medium")
    assert said[-2].startswith("sbatch jobs/gpt2_medium_full_pipeline.sbatch")
    assert said[-1] == expected


@pytest.mark.parametrize(("extract", "train"), [("12", "96"), ("20", "160")])
def test_batch_sizes_are_variables_of_that_file_and_of_the_environment(
    clone: Path, extract: str, train: str
) -> None:
    script = "jobs/gpt2_medium_full_pipeline.sbatch"
    said = called(clone, "sbatch", script, EXTRACT_BATCH_SIZE=extract, TRAIN_BATCH_SIZE=train)
    assert said[-1].endswith(f"batches={extract}/{train}")
    environ = {"EXTRACT_BATCH_SIZE": extract, "TRAIN_BATCH_SIZE": train}
    config = load_config("gpt2-medium", environ=environ)
    assert (config.extract.batch_size, config.sae_training.batch_size) == (int(extract), int(train))
    text = (clone / script).read_text()
    assert "EXTRACT_BATCH_SIZE=${EXTRACT_BATCH_SIZE:-16}" in text
    (clone / script).write_text(text.replace("export EXTRACT_BATCH_SIZE=", "export EXTRACT_BATCH_SIZE=4 #"))
    assert called(clone, "sbatch", script)[-1].endswith("batches=4/128")


def test_a_job_that_is_told_to_stop_goes_back_into_the_queue(clone: Path) -> None:
    (clone / "bin/make").write_text(
        '#!/bin/sh\nkill -USR1 $PPID; until [ -e "$GHOSTTRACK_STOP_FILE" ]; do sleep 0.1; done; exit 2\n'
    )
    (clone / "bin/scontrol").write_text('#!/bin/sh\necho scontrol "$@" >>"$RECORD"; exit 1\n')
    (clone / "bin/scontrol").chmod(0o755)
    with pytest.raises(subprocess.CalledProcessError) as stopped:
        called(clone, "sbatch", "jobs/gpt2_medium_full_pipeline.sbatch")
    assert stopped.value.returncode == 2
    assert "scontrol requeue 7" in (clone / "record").read_text()


@pytest.mark.parametrize(
    ("script", "options"),
    [
        ("analysis/compare_models.py", ["--small", "--medium"]),
        ("visualization/dashboard.py", ["--results"]),
        ("scripts/export_paper_results.py", ["--config", "--output"]),
    ],
)
def test_the_closing_commands_have_the_pages_options(script: str, options: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, script, "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for option in options:
        assert option in done.stdout


def test_the_closing_commands_read_what_they_are_given(tmp_path: Path) -> None:
    lines: list[tuple[list[str], str]] = [
        (["analysis/compare_models.py", "--small", "./results/none-small", "--medium", "./results/none-medium"], "none-small"),
        (["visualization/dashboard.py", "--results", "./results/none-medium"], "none-medium"),
        (["scripts/export_paper_results.py", "--model", "none-medium", "--output", "./paper/results/"], "none-medium"),
    ]  # fmt: skip
    for line, named in lines:
        done = subprocess.run(
            [sys.executable, str(ROOT / line[0]), *line[1:]], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode != 0
        assert named in done.stderr
        assert "Traceback" not in done.stderr


def test_metrics_and_citation() -> None:
    schema = (ROOT / "docs/final_report.schema.json").read_text()
    scorecard = (ROOT / "stages/evaluate/scorecard.py").read_text()
    for metric in ("auroc", "precision", "recall", "f1"):
        assert f'"{metric}"' in schema + scorecard
    readme = (ROOT / "README.md").read_text()
    assert "@article{ghosttrack2024," in readme
    assert "GhostTrack: Multi-Hypothesis Tracking for Interpretable Hallucination Detection" in readme
    assert (ROOT / "docs/MODEL_CONFIGS.md").is_file()
