"""Claims between processes, PID namespaces and file systems without locks; inputs that rot; other users' stores."""

import errno
import fcntl
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ghosttrack.common.config.load import load_config
from ghosttrack.common.engine import claims
from ghosttrack.common.engine.contract import load_contract
from ghosttrack.common.engine.storage import Store
from ghosttrack.common.errors import BusyError, CorruptInputError, StorageError
from ghosttrack.orchestrate.clean import clean
from ghosttrack.orchestrate.gc import rubbish
from ghosttrack.orchestrate.status import stage_statuses
from tests.common.engine.test_storage import run_in_child
from tests.common.results import publish, unit_of
from tests.faults.conftest import SEED, Tally, budget
from tests.faults.injection import run
from tests.faults.pipeline import Pipeline

HOLD = """
import sys
from pathlib import Path
from ghosttrack.common.engine.claims import held
with held(Path(sys.argv[1]), "the unit", Path(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pipeline, Path]:
    warm = Pipeline(tmp_path_factory.mktemp("warm"))
    assert warm.both() == 0
    pipeline = Pipeline(tmp_path_factory.mktemp("rot"))
    done = run(pipeline.both, pipeline.root)
    assert done.code == 0, done.said
    return pipeline, Path(
        shutil.copytree(pipeline.root, tmp_path_factory.mktemp("saved") / "root", symlinks=True)
    )


def check_one_writer(pipeline: Pipeline, *python: str | Path) -> None:
    """Beside a holder in another PID namespace: a second one, and `run`, `clean`, `gc` and `status` here; then it is killed.

    pipeline: finished. python: a command that starts Python in a new namespace.
    """
    store, unit = pipeline.store, pipeline.units[-1]
    claim, plan = store.layout.claim(unit), pipeline.plan()
    (store.layout.staging(unit) / ("0" * 64)).mkdir(parents=True)
    assert rubbish(store, plan)

    def start() -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*python, "-c", HOLD, claim, store.layout.temporary], cwd=Path(__file__).parents[2], text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    holder = start()
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    made = claims.Holder.model_validate_json(claim.read_bytes())
    assert made.namespace != claims.pid_namespace()
    assert made.boot == claims.boot_id()
    second = start()
    assert "BusyError" in second.communicate("")[1]
    with pytest.raises(BusyError), store.claim(unit):
        pass
    with pytest.raises(BusyError):
        clean(store, [], unit.config_name)
    assert rubbish(store, plan) == []
    store.layout.pointer_of(unit).unlink()
    assert unit.name in stage_statuses(store, pipeline.plan())[-1].running
    assert claim.exists()
    holder.kill()
    holder.communicate()
    for _ in range(600):  # the kernel ends what is left in the namespace
        if not store.claim_holder(unit):
            break
        time.sleep(0.1)
    assert start().communicate("")[0] == "held\n"


def test_a_claim_of_another_pid_namespace_holds_while_its_process_lives(
    finished: tuple[Pipeline, Path], tally: Tally
) -> None:
    if subprocess.run(["unshare", "--pid", "--fork", "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody make a PID namespace (unshare --pid)")
    pipeline, saved = finished
    pipeline.restore(saved)
    check_one_writer(pipeline, "unshare", "--pid", "--fork", "--kill-child", sys.executable)
    tally("claim: across PID namespaces", True)


def test_a_holder_without_a_lock_in_another_namespace_is_taken_for_another_host(
    tmp_path: Path, tally: Tally
) -> None:
    store = Store(str(tmp_path))
    claim = store.layout.claim(unit_of())
    claim.parent.mkdir(parents=True)
    holder = {
        "host": "x",
        "pid": os.getpid(),
        "started": 1.0,
        "boot": claims.boot_id(),
        "namespace": "pid:[1]",
    }
    claim.write_text(json.dumps(holder))
    with pytest.raises(BusyError), store.claim(unit_of()):
        pass
    os.utime(claim, (0, 0))  # no sign of life
    with store.claim(unit_of()):
        tally("claim: without a lock", True)


@pytest.mark.parametrize("jump", [-10 * 365 * 86400, -3600, 3600, 10 * 365 * 86400])
def test_a_clock_that_jumps_neither_frees_a_claim_nor_wedges_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: int, tally: Tally
) -> None:
    """Of a holder on another host, whose signs of life are all that is known; and of what was found good."""
    store = Store(str(tmp_path))
    claim = store.layout.claim(unit_of())
    claim.parent.mkdir(parents=True)
    claim.write_text(json.dumps({"host": "x", "pid": 1, "started": 1.0}))
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump)
    with pytest.raises(BusyError), store.claim(unit_of()):  # it has just given a sign of life
        pass
    os.utime(claim, (real() - jump, real() - jump))  # the last sign before a jump, whichever way
    with store.claim(unit_of()):
        tally("clock jump", True)
    entry = publish(store, unit_of(), "one")
    file = entry.file("a.txt")
    monkeypatch.setattr(time, "time_ns", lambda: int((real() - jump) * 1e9))
    rot(file, random.Random(SEED))
    with pytest.raises(CorruptInputError):
        store.verify(entry, trusted_for=600)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, tally: Tally
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    store = Store(str(tmp_path))
    with store.claim(unit_of()):
        holder = store.claim_holder(unit_of())
        assert holder
        assert not holder.locked
        with pytest.raises(BusyError), store.claim(unit_of()):
            pass
    with store.claim(unit_of()):
        tally("claim: without a lock", True)


def test_who_was_stopped_for_too_long_publishes_nothing_and_leaves_the_claim_of_the_next(
    tmp_path: Path, tally: Tally
) -> None:
    """Where there are no locks: a machine that slept, a process that was stopped, and goes on when another is at work."""
    store, unit = Store(str(tmp_path)), unit_of()
    claim = store.layout.claim(unit)
    with store.claim(unit):
        claim.unlink()
        claim.write_text(json.dumps({"host": "x", "pid": 1, "started": 1.0}))  # another one
        with pytest.raises(BusyError, match="taken over"):
            publish(store, unit, "one")
    assert claim.exists()
    claim.unlink()
    with store.claim(unit):
        publish(store, unit, "one")
    assert not claim.exists()
    tally("claim: lost while stopped", True)


def _race(root: str, start: Any, results: Any) -> None:
    start.wait()
    try:
        with Store(root).claim(unit_of()):
            results.put("held")
            start.wait()
    except BusyError:
        results.put("busy")
        start.wait()


def test_of_many_at_once_one_gets_a_dead_one_s_claim(tmp_path: Path, tally: Tally) -> None:
    fork = multiprocessing.get_context("fork")
    for number in range(budget(5, 400)):
        root = tmp_path / str(number)
        claim = Store(str(root)).layout.claim(unit_of())
        claim.parent.mkdir(parents=True)
        dead = {"host": claims.socket.gethostname(), "pid": os.getpid(), "started": 1.0}
        claim.write_text(
            json.dumps(dead if number % 2 else {**dead, "boot": claims.boot_id(), "locked": True})
        )
        start, results = fork.Barrier(4), fork.Queue()
        racers = [fork.Process(target=_race, args=(str(root), start, results)) for _ in range(4)]
        for racer in racers:
            racer.start()
        outcomes = sorted(results.get(timeout=60) for _ in racers)
        for racer in racers:
            racer.join()
        assert outcomes == ["busy", "busy", "busy", "held"]
        tally("claim: race of four", True)


def test_what_rots_is_found_before_it_is_used_and_made_again(
    finished: tuple[Pipeline, Path], tally: Tally
) -> None:
    """A bit of an input changes, its times do not; the reader has not run yet."""
    pipeline, saved = finished
    pipeline.restore(saved)
    expected = pipeline.public()
    chance = random.Random(SEED)
    upper = [unit for unit in pipeline.units if unit.stage == "upper"]
    for _ in range(budget(4, 300)):
        pipeline.restore(saved)
        shutil.rmtree(pipeline.root / ".store/lower")
        shutil.rmtree(pipeline.root / ".store/current/small/lower")
        [read] = [unit for unit in pipeline.units if unit.label == "lower/layer_0"]
        name, unit = chance.choice(
            [("text.jsonl", upper[1]), ("array.npy", upper[1]), ("words.txt", upper[0])]
        )
        entry = pipeline.store.current("small", "upper", unit.name)
        assert entry
        assert read.reads
        assert run(pipeline.work("upper"), pipeline.root).code == 0  # all of it was found good a moment ago
        rot(entry.file(name), chance)
        assert run(pipeline.work("lower"), pipeline.root).code == 14
        assert pipeline.store.current("small", "lower", "layer_0") is None
        done = run(pipeline.both, pipeline.root)
        assert done.code == 0, done.said
        assert pipeline.public() == expected
        assert pipeline.whole()
        tally("bit rot of an input, times kept", True)


def rot(file: Path, chance: random.Random) -> None:
    times = file.stat()
    content = bytearray(file.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    file.chmod(0o644)
    file.write_bytes(content)
    file.chmod(0o444)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))


def test_what_may_not_be_read_is_not_taken_for_gone(finished: tuple[Pipeline, Path], tally: Tally) -> None:
    """Another user's store, made under umask 077: one clear error before any work."""
    if os.getuid() != 0:
        pytest.skip("only root can become another user here")
    pipeline, saved = finished
    for place in (".store", ".store/current/small/upper", ".store/upper", "manifest.json", "text.jsonl"):
        pipeline.restore(saved)
        hidden = (
            [pipeline.root / place] if "/" in place or place == ".store" else list(pipeline.root.rglob(place))
        )
        for path in hidden:
            path.chmod(0o700 if path.is_dir() else 0o600)
        for parent in pipeline.root.parents:
            if parent.stat().st_uid == os.getuid() and len(parent.parts) > 2:
                parent.chmod(parent.stat().st_mode | 0o055)

        def read_all(store: Store) -> None:
            for unit in pipeline.units:
                if entry := store.current(unit.config_name, unit.stage, unit.name):
                    store.verify(entry, deep=True)

        def as_nobody() -> None:
            os.setgid(65534)
            os.setuid(65534)
            config = load_config(str(pipeline.config))
            store = Store(config.paths.root)
            with pytest.raises(StorageError, match="permission denied"):
                read_all(store)
            assert load_contract(pipeline.folders["upper"]).stage == "upper"

        run_in_child(as_nobody)
        tally("another user's store under umask 077", True)
