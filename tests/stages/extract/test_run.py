"""The stage from files to files: exact bytes, waves and sample, processes, kills, and troubles on the way."""

import errno
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.side_by_side import side_by_side
from ghosttrack.common.engine.storage import Store
from ghosttrack.common.errors import (
    ConfigError,
    CorruptInputError,
    DataError,
    ModelMismatchError,
    NumericError,
    StorageError,
)
from ghosttrack.common.formats.states import open_states
from ghosttrack.stages.extract import run as stage
from ghosttrack.stages.extract.forward import write_states
from tests.commands import python
from tests.stages.extract.corpora import LENGTH, TOKENS, configured, digests, extract, packed, prepare, result
from tests.tiny_models import D_MODEL, N_LAYERS, save_large_model

CODE = Path(__file__).parents[3]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    config = configured(tmp_path / "root")
    prepare(config)
    return config


def metrics_of(config: Config) -> dict[str, Any]:
    entry = result(config)
    assert entry
    return entry.manifest.predicate.metrics


def internal_of(config: Config) -> dict[str, Any]:
    entry = result(config)
    assert entry
    return entry.manifest.predicate.build_definition.internal_parameters


def test_every_token_of_every_layer_is_stored_beside_what_it_is(config: Config) -> None:
    extract(config)
    folder, corpus = Path(config.paths.root) / "data/cache/tiny/hidden_states", packed()
    for layer in range(N_LAYERS):
        states = open_states(folder / f"layer_{layer}_states.pt")
        assert states.shape == (TOKENS, D_MODEL)
        assert (states[0:TOKENS].abs().sum(1) > 0).all()
    index = torch.load(folder / "index_layers_0-2.pt", weights_only=True)
    documents = corpus["doc"].long()
    assert torch.equal(index["token"], corpus["tokens"])
    assert torch.equal(index["doc"], corpus["doc"])
    assert torch.equal(index["position"], corpus["position"])
    assert torch.equal(index["held_out"], corpus["doc_held_out"][documents])
    assert torch.equal(index["kind"], corpus["doc_kind"][documents])
    metrics = metrics_of(config)
    assert (metrics["tokens"], metrics["layers"], metrics["d_model"]) == (TOKENS, N_LAYERS, D_MODEL)
    assert metrics["tokens_per_second"] > 0
    assert 0 < metrics["model_flop_utilisation"] < 1
    internal = internal_of(config)
    assert (internal["batchSize"], internal["batchSizeUsed"]) == (2, 2)
    assert "attention sink" in internal["positionZero"]


def test_waves_hold_what_one_wave_holds_and_the_sample_is_rows_of_it(config: Config) -> None:
    extract(config)
    whole = Path(config.paths.root) / "data/cache/tiny/hidden_states"
    waves = configured(Path(config.paths.root).with_name("waves"), layers_per_wave=2)
    prepare(waves)
    extract(waves)
    folder = Path(waves.paths.root) / "data/cache/tiny/hidden_states"
    for layer in range(N_LAYERS):
        file = f"layer_{layer}_states.pt"
        assert torch.equal(open_states(folder / file)[0:TOKENS], open_states(whole / file)[0:TOKENS])
    index = torch.load(folder / "sample/index_sample.pt", weights_only=True)
    everything = torch.load(whole / "index_layers_0-2.pt", weights_only=True)
    count = -(-100 // LENGTH)  # 90 tokens to train on are 100 of all, in whole rows
    assert len(index["token"]) == count * LENGTH
    rows = [
        row for row in range(TOKENS // LENGTH)
        if any(all(torch.equal(index[name][at : at + LENGTH], everything[name][row * LENGTH : (row + 1) * LENGTH])
                   for name in everything) for at in range(0, count * LENGTH, LENGTH))
    ]  # fmt: skip
    assert len(rows) == count
    chosen = (torch.tensor(rows)[:, None] * LENGTH + torch.arange(LENGTH)).flatten()
    for layer in range(N_LAYERS):
        file = f"layer_{layer}_states.pt"
        sample = open_states(folder / "sample" / file)[0 : len(chosen)]
        torch.testing.assert_close(sample, open_states(whole / file)[chosen], rtol=1e-4, atol=1e-4)


def test_the_plan_knows_the_bytes(config: Config) -> None:
    """But for the headers of the files."""
    from ghosttrack.common.engine.contract import expand, load_contract
    from ghosttrack.orchestrate.estimate import Estimator

    for changes in ({}, {"dtype": "int8"}, {"dtype": "float16", "layers_per_wave": 2}):
        settings = configured(Path(config.paths.root).with_name(f"root-{len(changes)}"), **changes)
        prepare(settings)
        extract(settings)
        for unit in expand(load_contract(CODE / "stages/extract"), settings):
            entry = result(settings, unit.name)
            assert entry
            size = sum(subject.size for subject in entry.manifest.subject)
            predicted = Estimator(settings, {}).predict(unit)[1]
            assert 0 <= size - predicted <= 4096 * len(entry.manifest.subject)


def test_processes_are_made_where_memory_has_room(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a batch in memory; a scheduler's job was given memory for one."""
    seen = list[int]()

    def spy(pieces: Any, do: Any, threads: int, set_threads: Any) -> Any:
        seen.append(threads)
        return side_by_side(pieces, do, threads, set_threads)

    monkeypatch.setattr("ghosttrack.common.models.steps.side_by_side", spy)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    extract(config)
    for name in ("job", "full"):
        other = configured(Path(config.paths.root).with_name(name))
        prepare(other)
        with monkeypatch.context() as here:
            if name == "job":
                here.setenv("SLURM_JOB_ID", "1")
            else:
                here.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1000))
            extract(other)
        assert digests(other) == digests(config)
    assert seen == [torch.get_num_threads(), 1, 1]


@pytest.mark.slow
def test_two_processes_write_the_bytes_of_one(config: Config, tmp_path: Path) -> None:
    import yaml

    alone, together = (configured(tmp_path / name, dtype="float16") for name in ("alone", "together"))
    for each in (alone, together):
        prepare(each)
    extract(alone)
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(together.model_dump(mode="json", exclude={"name"})))
    python("-m", "ghosttrack.stages.extract", "--config", file, "--processes", "2", cwd=CODE)
    assert digests(alone) == digests(together)
    entry = result(together)
    assert entry
    assert entry.manifest.predicate.resource_usage["processes"] == 2
    assert internal_of(together)["shardsDoneNow"] == 6  # the first rank's half of 11


@pytest.mark.slow
def test_a_rank_that_is_killed_is_named_and_its_shards_are_done_by_the_next_run(tmp_path: Path) -> None:
    """With states of eight bits, which two processes write as one does, too."""
    import psutil
    import yaml

    alone, together = (
        configured(tmp_path / name, shard_rows=1, dtype="int8") for name in ("alone", "together")
    )
    for each in (alone, together):
        prepare(each, packed(LENGTH * 400))
    extract(alone)
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(together.model_dump(mode="json", exclude={"name"})))
    command = [sys.executable, "-m", "ghosttrack.stages.extract", "--config", str(file), "--processes", "2"]
    running = subprocess.Popen(command, cwd=CODE, stderr=subprocess.PIPE, text=True)
    while len(steps(together)) < 20:
        assert running.poll() is None
        time.sleep(0.01)
    ranks = [
        each
        for each in psutil.Process(running.pid).children()
        if "ghosttrack.stages.extract" in each.cmdline()
    ]
    assert len(ranks) == 2
    ranks[1].kill()
    assert running.wait(timeout=60) == 137
    assert running.stderr
    assert re.search(r"error: process \d was killed \(SIGKILL\)", running.stderr.read())
    assert result(together) is None
    done = len(steps(together))
    subprocess.run(command, cwd=CODE, check=True, capture_output=True)
    assert digests(together) == digests(alone)
    assert internal_of(together)["shardsDoneNow"] <= 201 - done / 4  # of the first rank


def run_and_say_so(config: Config, started: Any) -> None:
    torch.set_num_threads(1)
    started.set()
    extract(config)


def steps(config: Config) -> dict[str, int]:
    folder = Path(config.paths.root) / ".store/staging/tiny/extract"
    return {path.name: path.stat().st_mtime_ns for path in folder.glob("*/*/steps/*.json")}


@pytest.mark.slow
def test_twenty_kills_change_nothing_and_no_shard_is_done_twice(tmp_path: Path) -> None:
    undisturbed, killed = (configured(tmp_path / name, shard_rows=1) for name in ("one", "other"))
    corpus = packed(LENGTH * 600)
    processes = multiprocessing.get_context("forkserver")  # each starts with everything imported
    processes.set_forkserver_preload(["tests.stages.extract.corpora"])
    for each in (undisturbed, killed):
        prepare(each, corpus)
    extract(undisturbed)
    started = processes.Event()
    luck, seen = random.Random(5), dict[str, int]()
    for kill in range(20):
        started.clear()
        run = processes.Process(target=run_and_say_so, args=(killed, started))
        run.start()
        started.wait()
        # Every fourth at any moment of its start, the others some way further into the shards.
        further = luck.randrange(1, 26) if kill % 4 else 0
        while len(steps(killed)) < len(seen) + further:
            assert run.is_alive(), "it came to its end too early"
            time.sleep(0.005)
        time.sleep(luck.uniform(0, 0.01 if further else 0.5))
        os.kill(run.pid or 0, signal.SIGKILL)
        run.join()
        now = steps(killed)
        assert seen.items() <= now.items()  # no receipt was written anew
        seen = now
    assert len(seen) < 600
    extract(killed)
    assert digests(undisturbed) == digests(killed)


class Crowded:
    """A forward pass for which memory is enough up to so many rows."""

    def __init__(self, rows: int) -> None:
        self.rows, self.seen = rows, list[tuple[int, int]]()

    def __call__(
        self, model: Any, tokens: Any, positions: Any, batch: tuple[int, int, int], out: Any, **options: Any
    ) -> Any:
        if batch[1] > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")
        self.seen.append(batch[:2])
        return write_states(model, tokens, positions, batch, out, **options)


def test_where_memory_runs_out_the_batch_is_halved(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = configured(Path(config.paths.root), batch_size=8, shard_rows=8)
    crowded = Crowded(3)
    monkeypatch.setattr(stage, "write_states", crowded)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # in this process, where `seen` is
    extract(settings)
    internal = internal_of(settings)
    assert (internal["batchSize"], internal["batchSizeUsed"]) == (8, 2)
    assert sorted(crowded.seen) == sorted(set(crowded.seen))  # nothing twice
    assert sum(rows for _, rows in crowded.seen) == 22
    monkeypatch.undo()
    plain = configured(Path(config.paths.root).with_name("plain"), batch_size=2, shard_rows=8)
    prepare(plain)
    extract(plain)
    assert digests(plain) == digests(settings)


def test_where_no_row_fits_into_memory_it_says_so(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "write_states", Crowded(0))
    with pytest.raises(ConfigError, match=r"one row .*extract\.max_length"):
        extract(config)
    assert result(config) is None


def test_a_broken_state_names_layer_shard_and_row_and_publishes_nothing(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = stage.load_language_model

    def broken(*arguments: Any, **options: Any) -> Any:
        model = load(*arguments, **options)
        calls = []

        def poison(module: object, inputs: object, output: torch.Tensor) -> None:
            calls.append(1)
            if len(calls) == 4:
                output[1, 3] = float("nan")

        model.blocks[2].register_forward_hook(poison)
        return model

    monkeypatch.setattr(stage, "load_language_model", broken)
    with pytest.raises(NumericError, match=rf"shard 3, layer 2, row {7 * LENGTH + 3}: .*NaN"):
        extract(config)
    assert result(config) is None
    assert not (Path(config.paths.root) / "data/cache/tiny/hidden_states").exists()
    monkeypatch.undo()
    extract(config)
    assert internal_of(config)["shardsDoneNow"] == 8  # of 11


def test_a_disk_that_fills_up_half_way_loses_nothing(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, calls = os.pwrite, []

    def filling(*arguments: Any) -> int:
        calls.append(1)
        if len(calls) > 20:
            raise OSError(errno.ENOSPC, "No space left on device")
        return whole(*arguments)

    monkeypatch.setattr(os, "pwrite", filling)
    with pytest.raises(StorageError, match="the disk is full"):
        extract(config)
    assert result(config) is None
    monkeypatch.undo()
    extract(config)
    assert 0 < internal_of(config)["shardsDoneNow"] < 11


def test_a_disk_that_is_too_small_is_noticed_before_the_forward_pass(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    from types import SimpleNamespace

    monkeypatch.setattr(stage.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(StorageError, match=r"need 131 kB .* 1 kB free; .*extract\.dtype=int8"):
        extract(config)


def test_what_a_kill_while_reserving_left_is_cleared_away(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve = stage.states.reserve

    def killed(path: Path, *others: Any) -> None:
        reserve(path, *others)
        path.with_name("tmpabc").write_bytes(b"a sparse file's place")
        raise KeyboardInterrupt

    monkeypatch.setattr(stage.states, "reserve", killed)
    with pytest.raises(KeyboardInterrupt):
        extract(config)
    monkeypatch.undo()
    extract(config)
    assert result(config)


def test_states_that_others_still_have_count_against_the_bound(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wave that failed half way keeps its states, and the scheduler starts the next one."""
    bound = 2.6 * TOKENS * D_MODEL * 4 / 1e9  # of three layers, one a wave
    waves = configured(Path(config.paths.root).with_name("waves"), layers_per_wave=1, max_disk_gb=bound)
    prepare(waves)
    whole, calls = os.pwrite, []

    def filling(*arguments: Any) -> int:
        calls.append(1)
        if len(calls) > 5:
            raise OSError(errno.EIO, "Input/output error")
        return whole(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", filling)
        with pytest.raises(StorageError, match="input/output"):
            extract(waves, "layers_0")
    extract(waves, "layers_1")
    with pytest.raises(StorageError, match=r"layers_2: .*max_disk_gb allows .*ghosttrack rerun tiny"):
        extract(waves, "layers_2")
    extract(waves, "layers_0")
    assert result(waves, "layers_0")


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [({"tokens": torch.zeros(0, dtype=torch.int32), "doc": torch.zeros(0, dtype=torch.int32),
       "position": torch.zeros(0, dtype=torch.int32)}, DataError, "no tokens"),
     ({"tokens": torch.full((TOKENS,), 50_000, dtype=torch.int32)}, ModelMismatchError, "another tokenizer"),
     ({"tokens": torch.zeros(5, dtype=torch.int32)}, CorruptInputError, "differ in length"),
     ({"doc": torch.full((TOKENS,), 9999, dtype=torch.int32)}, CorruptInputError, "not a whole packed corpus")],
)  # fmt: skip
def test_a_corpus_that_is_none_is_one_clear_error(
    tmp_path: Path, changes: dict[str, torch.Tensor], error: type[Exception], message: str
) -> None:
    config = configured(tmp_path / "root")
    prepare(config, packed() | changes)
    with pytest.raises(error, match=message):
        extract(config)


def test_released_states_come_out_as_they_were(config: Config) -> None:
    extract(config)
    before = digests(config)
    store = Store(config.paths.root)
    entry = result(config)
    assert entry
    from ghosttrack.common.engine.contract import expand, load_contract

    [unit] = expand(load_contract(CODE / "stages/extract"), config)
    assert store.release(unit) > TOKENS * D_MODEL * N_LAYERS * 4
    extract(config)
    assert result(config).released  # type: ignore[union-attr]
    extract(config, unit.name)
    assert digests(config) == before
    assert not result(config).released  # type: ignore[union-attr]


def stored_types(config: Config) -> list[torch.dtype]:
    folder = Path(config.paths.root) / "data/cache/tiny/hidden_states"
    files = [folder / f"layer_{layer}_states.pt" for layer in range(N_LAYERS)]
    return [torch.load(file, mmap=True, weights_only=True)["states"].dtype for file in files]


def test_auto_stores_each_layer_in_a_type_that_holds_it(tmp_path: Path) -> None:
    config = configured(tmp_path / "root", dtype="auto")
    prepare(config, write_model=lambda out: save_large_model(out, 1e6))
    extract(config)
    assert stored_types(config) == [torch.float16, torch.bfloat16, torch.bfloat16]
    folder = Path(config.paths.root) / "data/cache/tiny/hidden_states"
    largest = open_states(folder / "layer_1_states.pt")[0:TOKENS].abs().max()
    assert 65_504 < largest < float("inf")


def test_auto_writes_the_bytes_of_float16_where_that_has_room(config: Config, tmp_path: Path) -> None:
    written = []
    for dtype in ("auto", "float16"):
        settings = configured(tmp_path / dtype, dtype=dtype)
        prepare(settings)
        extract(settings)
        written.append(digests(settings))
    assert written[0] == written[1]
