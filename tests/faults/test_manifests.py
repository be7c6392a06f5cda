"""Manifests, claims and records that somebody else wrote: nothing leaves the store by them, and none is a traceback."""

import contextlib
import hashlib
import itertools
import json
import os
import random
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ghosttrack.common.engine.contract import load_contract
from ghosttrack.common.engine.logs import set_up
from ghosttrack.common.engine.manifest import digest_line
from ghosttrack.common.engine.staleness import state
from ghosttrack.common.engine.storage import Store, storage_errors
from ghosttrack.common.errors import CorruptInputError, GhostTrackError, StorageError
from ghosttrack.orchestrate.clean import clean
from ghosttrack.orchestrate.gc import releasable, remove, rubbish
from ghosttrack.orchestrate.runs import summaries
from ghosttrack.orchestrate.status import stage_statuses
from ghosttrack.orchestrate.usage import advice, disk_use
from ghosttrack.orchestrate.verify import verify_units
from tests.common.engine.test_storage import entry_of
from tests.common.results import manifest_of, publish, unit_of
from tests.faults.conftest import SEED, Tally, budget
from tests.faults.injection import run
from tests.faults.pipeline import Pipeline

HOSTILE: list[Any] = [
    None, True, -1, 0, 10**400, 1e308, "", "x" * 5000, "../../../precious", "/etc/passwd", "a/b", "..", ".", "a\nb", "\ud800",
    "2001-99-99T00:00:00Z", [], {}, [[]], {"a": {"b": []}}, float("nan"), "\u202e", "manifest.json",
]  # fmt: skip


def rewrite(folder: Path, content: bytes) -> None:
    """Put a manifest into a result, with a digest that is right."""
    for name, data in (("manifest.json", content), ("manifest.json.sha256", digest_line(content).encode())):
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_bytes(data)


@pytest.mark.parametrize("name", ["../../../../precious", "/precious", "..", "a/b", "", "b\n", "a\\b"])
def test_a_name_that_leaves_the_store_is_no_manifest(tmp_path: Path, name: str, tally: Tally) -> None:
    store, unit = Store(str(tmp_path / "a/b/c")), unit_of()
    entry = publish(store, unit, "one")
    precious = tmp_path / "precious"
    precious.write_text("kept")
    data = json.loads((entry.path / "manifest.json").read_bytes())
    data["subject"][0].update(
        name=name, digest={"sha256": hashlib.sha256(b"kept").hexdigest()}, annotations={"size": 4}
    )
    rewrite(entry.path, json.dumps(data).encode())
    for use in (lambda: entry_of(store, unit), lambda: store.release(unit)):
        with pytest.raises(CorruptInputError):
            use()
    assert verify_units(store, [unit], deep=True).findings
    assert precious.read_text() == "kept"
    tally("manifest: name that leaves the store", True)


def test_a_manifest_with_fewer_or_other_files_than_the_contract_says_is_not_complete(
    tmp_path: Path, tally: Tally
) -> None:
    store, unit = Store(str(tmp_path)), unit_of()
    for files in (
        {"a.txt": b"x"},
        {"a.txt": b"x", "b.txt": b"y", "c.txt": b"z"},
        {"a.txt": b"x", "c.txt": b"z"},
        {},
    ):
        publish(store, unit, "one")
        _, other = manifest_of(unit, files)
        rewrite(entry_of(store, unit).path, other.to_bytes())
        found = state(store, unit)
        assert found.reason
        assert found.reason.kind == "corrupt"
        assert store.kept(unit, entry_of(store, unit).key) is None
        assert verify_units(store, [unit]).findings
        tally("manifest: files that are not the contract's", True)
        shutil.rmtree(tmp_path / ".store")


def test_a_pointer_that_leaves_the_store_is_refused(tmp_path: Path, tally: Tally) -> None:
    store, unit = Store(str(tmp_path / "root")), unit_of()
    entry = publish(store, unit, "one")
    outside = tmp_path / "outside" / entry.key
    shutil.copytree(entry.path, outside)
    pointer = store.layout.pointer_of(unit)
    pointer.unlink()
    pointer.symlink_to(outside)
    with pytest.raises(CorruptInputError, match="leads out of the store"):
        store.release(unit)
    assert (outside / "a.txt").exists()
    tally("manifest: pointer that leaves the store", True)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    pipeline = Pipeline(tmp_path_factory.mktemp("manifests"))
    done = run(pipeline.both, pipeline.root)
    assert done.code == 0, done.said
    return pipeline


def uses(pipeline: Pipeline) -> Iterator[Callable[[], object]]:
    """All that reads manifests, claims and records without doing work."""
    yield pipeline.plan
    yield lambda: verify_units(pipeline.store, pipeline.units, deep=True)
    plan = pipeline.plan()
    yield lambda: stage_statuses(pipeline.store, plan)
    yield lambda: disk_use(pipeline.store, plan)
    yield lambda: advice(plan, {})
    yield lambda: rubbish(pipeline.store, plan)
    yield lambda: summaries(pipeline.store)
    yield lambda: releasable(plan)


def reads_without_a_traceback(pipeline: Pipeline) -> bool:
    for use in uses(pipeline):
        try:
            use()
        except GhostTrackError as error:
            if "\n" in str(error):
                return False
    return True


def test_code_without_a_digest_is_not_on_record(finished: Pipeline, tally: Tally) -> None:
    unit = finished.units[0]
    entry = finished.store.current(unit.config_name, unit.stage, unit.name)
    assert entry
    before = (entry.path / "manifest.json").read_bytes()
    data = json.loads(before)
    code = {"name": f"{unit.stage}/code", "uri": "", "digest": {"gitCommit": "x"}}
    data["predicate"]["buildDefinition"]["resolvedDependencies"].append(code)
    rewrite(entry.path, json.dumps(data).encode())
    try:
        assert reads_without_a_traceback(finished)
    finally:
        rewrite(entry.path, before)
    tally("manifest: hostile value", True)


def nodes(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield way
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from nodes(inner, (*way, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from nodes(inner, (*way, number))


def test_a_manifest_of_any_shape(finished: Pipeline, tally: Tally) -> None:
    chance = random.Random(SEED)
    for _ in range(budget(40, 800)):
        unit = chance.choice(finished.units)
        entry = finished.store.current(unit.config_name, unit.stage, unit.name)
        assert entry
        before = (entry.path / "manifest.json").read_bytes()
        data = json.loads(before)
        *way, last = chance.choice([way for way in nodes(data) if way])
        place = data
        for step in way:
            place = place[step]
        if chance.random() < 0.2:
            del place[last]
        else:
            place[last] = chance.choice(HOSTILE)
        rewrite(entry.path, json.dumps(data).encode(errors="surrogatepass"))
        try:
            assert reads_without_a_traceback(finished), (way, last, place)
        finally:
            rewrite(entry.path, before)
        tally("manifest: hostile value", True)


@pytest.mark.parametrize(
    "place",
    ["", "stage", "staging", "staging/small", "staging/small/lower", "current", "attempts", "../runs"],
)
def test_a_link_in_the_store_gives_nothing_outside_away(
    finished: Pipeline, tmp_path: Path, place: str, tally: Tally
) -> None:
    """Who may write the store of several people puts a link there to somebody's folders, and waits until they clean."""
    saved = shutil.copytree(finished.root, tmp_path / "saved", symlinks=True)
    names = (
        "small",
        "lower",
        "layer_0",
        "all",
        "photos",
        *(("a" * 64, "a" * 64 + ".corrupt-1", "out") if place else ()),
    )
    precious = [
        tmp_path.joinpath("home", *each, "kept")
        for each in itertools.product(names, names, ("out", "layer_1"))
    ]
    for path in precious:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    link = finished.root / ".store" / place
    shutil.rmtree(link, ignore_errors=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(tmp_path / "home")
    store = finished.store
    try:
        with contextlib.suppress(GhostTrackError):
            for item in rubbish(store, finished.plan()):
                remove(store, item)
        for unit in finished.units:
            store.abandon(unit)
            with contextlib.suppress(GhostTrackError):
                store.staging(unit, "a" * 64)
        with contextlib.suppress(GhostTrackError):
            clean(store, [load_contract(folder) for folder in finished.folders.values()], "small")
        assert all(path.exists() for path in precious)
        tally("link in the store that leads out", True)
    finally:
        finished.restore(saved)


@pytest.mark.parametrize(
    "place", ["manifest.json", "manifest.json.sha256", "claims", "verified", "attempts", "text.jsonl"]
)
def test_what_is_no_file_is_not_waited_for(
    finished: Pipeline, tmp_path: Path, place: str, tally: Tally
) -> None:
    """A pipe, a socket or a device where a record or an output should be, or one that is far too long; a run mends it."""
    unit, saved = finished.units[1], shutil.copytree(finished.root, tmp_path / "saved", symlinks=True)
    store, makers = finished.store, {
        "pipe": os.mkfifo,
        "socket": lambda path: os.mknod(path, stat.S_IFSOCK | 0o600),
        "endless": lambda path: path.symlink_to("/dev/zero"),
        "long": lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_WRONLY), 3 << 30),
    }  # fmt: skip
    for what, make in makers.items():
        entry = store.current(unit.config_name, unit.stage, unit.name)
        assert entry
        path = {
            "claims": store.layout.claim(unit),
            "verified": store.layout.verified(unit.stage, entry.key),
            "attempts": store.layout.attempts(unit) / "0001.json",
        }.get(place, entry.path / place)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        make(path)
        os.utime(path, (0, 0), follow_symlinks=False)  # a claim that has just been made would be waited for
        try:
            looked = run(lambda: 0 if reads_without_a_traceback(finished) else 1, finished.root, limit=300)
            assert looked.code == 0, f"{what}: {looked.said}"
            done = run(finished.both, finished.root, limit=300)
            assert done.code == 0, f"{what}: {done.said}"
            assert finished.whole()
        finally:
            finished.restore(saved)
        tally("no file where one should be", True)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_in_the_place_of_an_empty_one_is_not_waited_for(
    tmp_path: Path, make: Callable[[Path], None], tally: Tally
) -> None:
    """Its size, none, is that of the file."""
    store, unit = Store(str(tmp_path)), unit_of()
    path = publish(store, unit, "").file("a.txt")
    path.unlink()
    make(path)
    done = run(lambda: 0 if verify_units(store, [unit]).findings else 1, tmp_path, limit=120)
    assert done.code == 0, done.said
    tally("no file where one should be", True)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to(path.with_name("another"))])
def test_a_log_is_not_written_by_a_link_nor_a_pipe_waited_for(
    tmp_path: Path, make: Callable[[Path], None], tally: Tally
) -> None:
    log = tmp_path / "alpha.jsonl"
    make(log)

    def begin() -> int:
        with pytest.raises(StorageError), storage_errors(log):
            set_up("alpha", log)
        return 0

    done = run(begin, tmp_path, limit=120)
    assert done.code == 0, done.said
    assert not (tmp_path / "another").exists()
    tally("no file where one should be", True)


@pytest.mark.parametrize("kind", ["claims", "verified", "attempts"])
def test_a_record_of_any_shape(finished: Pipeline, kind: str, tally: Tally) -> None:
    chance = random.Random(SEED)
    contents = [b"", b"[" * 100_000, b"{", b"null", b"[]", b'"x"', b"{}", b'{"pid": "x"}', b"\xff\xfe", b'{"a": 1e999}',
                b'{"host": 5, "pid": [], "started": {}}', json.dumps({"host": "h", "pid": 10**400}).encode()]  # fmt: skip
    contents += [json.dumps({"text.jsonl": value}).encode() for value in HOSTILE if value not in ("\ud800",)]
    for content in contents if budget(0, 1) else chance.sample(contents, 12):
        for unit in finished.units[:3]:
            entry = finished.store.current(unit.config_name, unit.stage, unit.name)
            assert entry
            path = {
                "claims": finished.store.layout.claim(unit),
                "verified": finished.store.layout.verified(unit.stage, entry.key),
                "attempts": finished.store.layout.attempts(unit) / "0001.json",
            }[kind]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        assert reads_without_a_traceback(finished)
        tally(f"record of any shape: {kind}", True)
    for folder in ("claims", "attempts"):
        shutil.rmtree(finished.root / ".store" / folder, ignore_errors=True)
