"""What the store promises: the old complete result or the new one, never a mix, and no damage unnoticed."""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ghosttrack.common.engine import atomic, claims, verification
from ghosttrack.common.engine.claims import holder_of, process_start, work_group
from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.engine.manifest import digest_line
from ghosttrack.common.engine.storage import Entry, Store, storage_errors
from ghosttrack.common.errors import (
    BusyError,
    ConfigError,
    CorruptInputError,
    MissingInputError,
    StorageError,
)
from tests.common.results import manifest_of, publish, unit_of


@pytest.fixture
def store(tmp_path: Path) -> Store:
    root = tmp_path / "root"
    root.mkdir()
    return Store(str(root))


def public_files(store: Store, unit: Unit) -> dict[str, str]:
    folder = store.root / unit.folder
    return {name: (folder / name).read_text() for name in unit.writes if (folder / name).exists()}


def entry_of(store: Store, unit: Unit) -> Entry:
    entry = store.current(unit.config_name, unit.stage, unit.name)
    assert entry
    return entry


def test_work_that_somebody_removed_before_it_was_published_is_one_error(store: Store) -> None:
    unit = unit_of()
    key, statement = manifest_of(unit, {"a.txt": b"one", "b.txt": b"ONE"})
    store.staging(unit, key)
    shutil.rmtree(store.layout.staging(unit))
    with pytest.raises(StorageError, match="was removed while alpha/all was made"):
        store.publish(unit, key, statement)


def test_a_published_result_has_public_names_and_a_manifest(store: Store) -> None:
    unit = unit_of()
    publish(store, unit, "one")
    folder = store.root / "results/mine/alpha"
    assert public_files(store, unit) == {"a.txt": "one", "b.txt": "ONE"}
    assert not os.path.isabs(os.readlink(folder / "a.txt"))
    assert json.loads((folder / "manifest.json").read_text())["_type"] == "https://in-toto.io/Statement/v1"
    entry = entry_of(store, unit)
    subprocess.run(["sha256sum", "--check", "--quiet", "manifest.json.sha256"], cwd=entry.path, check=True)
    store.verify(entry, deep=True)
    assert store.links_are_whole(unit)
    assert not list((store.layout.folder / "staging/mine/alpha/all").iterdir())


def test_the_root_can_be_moved(store: Store, tmp_path: Path) -> None:
    unit = unit_of()
    publish(store, unit, "one")
    store.root.rename(tmp_path / "moved")
    moved = Store(str(tmp_path / "moved"))
    assert public_files(moved, unit) == {"a.txt": "one", "b.txt": "ONE"}
    moved.verify(entry_of(moved, unit))


class CrashError(Exception):
    """The power goes off."""


def crash_points(run: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Run again and again, dying before the first, the second, … change of the file system, until it gets through."""
    for survived in range(1000):
        left = survived

        def dying(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **options: Any) -> Any:
                nonlocal left
                if name == "open" and not any(set("wax") & set(str(a)) for a in arguments[1:2]):
                    return original(*arguments, **options)
                if left == 0:
                    raise CrashError(name)
                left -= 1
                return original(*arguments, **options)

            return call

        with monkeypatch.context() as patch:
            for name in (
                "rename",
                "replace",
                "unlink",
                "symlink_to",
                "mkdir",
                "chmod",
                "write_bytes",
                "open",
            ):
                patch.setattr(Path, name, dying(name, getattr(Path, name)))
            for name in ("fsync", "link"):
                patch.setattr(os, name, dying(name, getattr(os, name)))
            try:
                run()
                crashed = False
            except CrashError:
                crashed = True
        if not crashed:
            return
        yield survived
    raise AssertionError("never got through")


@pytest.mark.parametrize("before", [None, "old"])
def test_a_crash_at_any_step_leaves_the_old_result_or_the_new(
    store: Store, monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    unit = unit_of(seed=1)
    new = {"a.txt": "new", "b.txt": "NEW"}
    old = {"a.txt": "old", "b.txt": "OLD"} if before else {}
    saved = store.root.with_name("saved")
    if before:
        publish(store, unit_of(seed=0), before)
    shutil.copytree(store.root, saved, symlinks=True)
    seen = []

    def from_the_start() -> None:
        shutil.rmtree(store.root)
        shutil.copytree(saved, store.root, symlinks=True)
        publish(store, unit, "new")

    for _ in crash_points(from_the_start, monkeypatch):
        files = public_files(store, unit)
        assert files in (old, new) or (not before and files.items() <= new.items())
        if entry := store.current("mine", "alpha", "all"):
            store.verify(entry, deep=True)
            assert files.items() <= {n: entry.file(n).read_text() for n in unit.writes}.items()
        seen.append(files)
        publish(store, unit, "new")  # the next run gets through whatever was left behind
        assert public_files(store, unit) == new
        store.verify(entry_of(store, unit), deep=True)
        assert store.links_are_whole(unit)
    assert len(seen) > 20
    assert new in seen
    assert old in seen


@pytest.mark.parametrize(
    ("damage", "error", "expected"),
    [
        (lambda file: file.write_text("ONe"), CorruptInputError, "does not match its manifest"),
        (lambda file: file.write_text("ON"), CorruptInputError, "has 2 bytes and should have 3"),
        (lambda file: file.unlink(), MissingInputError, "gone"),
    ],
)
def test_a_damaged_file_is_named_with_the_mend(
    store: Store, damage: Callable[[Path], None], error: type[Exception], expected: str
) -> None:
    unit = unit_of()
    entry = publish(store, unit, "one")
    entry.file("b.txt").chmod(0o644)
    damage(entry.file("b.txt"))
    store.verify(entry, ["a.txt"])
    for deep in (False, True):
        with pytest.raises(error) as raised:
            store.verify(entry, deep=deep)
        assert expected in str(raised.value)
        assert str(entry.file("b.txt")) in str(raised.value)
        assert "ghosttrack run" in str(raised.value)


def test_damage_behind_an_unchanged_time_is_found(store: Store) -> None:
    entry = publish(store, unit_of(), "one")
    file = entry.file("a.txt")
    times = file.stat()
    file.chmod(0o644)
    file.write_text("two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    for deep in (False, True, False):
        with pytest.raises(CorruptInputError):
            store.verify(entry, deep=deep)


def test_what_is_read_is_hashed_again_after_a_while(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bits rot without a trace in the file's times: only a digest finds that."""
    entry = publish(store, unit_of(), "one")
    file, real = entry.file("a.txt"), verification.mark_of
    good = file.stat()
    file.chmod(0o644)
    file.write_text("two")

    def as_if_nothing_had_happened(path: Path) -> list[int]:
        mark = real(path)
        times = [good.st_size, good.st_mtime_ns, good.st_ctime_ns, good.st_ino]
        return [*times, mark[4]] if path == file else mark

    monkeypatch.setattr(verification, "mark_of", as_if_nothing_had_happened)
    store.verify(entry)  # nobody reads it now
    assert store.file(entry, "a.txt") == file  # made a moment ago
    in_an_hour = time.time_ns() + 3600 * 10**9
    with monkeypatch.context() as later:
        later.setattr(verification.time, "time_ns", lambda: in_an_hour)
        store.verify(entry)
        with pytest.raises(CorruptInputError, match=r"a.txt does not match"):
            store.file(entry, "a.txt")
    with pytest.raises(CorruptInputError, match=r"a.txt does not match"):
        store.verify(entry, trusted_for=0)
    in_eight_days = time.time_ns() + 8 * 86400 * 10**9
    with monkeypatch.context() as later:
        later.setattr(verification.time, "time_ns", lambda: in_eight_days)
        with pytest.raises(CorruptInputError):
            store.verify(entry)
    with monkeypatch.context() as set_back:
        set_back.setattr(verification.time, "time_ns", lambda: 10**18)
        with pytest.raises(CorruptInputError):  # a clock that was set back proves nothing
            store.verify(entry)


def test_a_file_is_hashed_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = publish(store, unit_of(), "one")
    shutil.rmtree(store.layout.folder / "verified")
    hashed: list[Path] = []
    original = verification.sha256_of

    def counting(path: Path) -> str:
        hashed.append(path)
        return original(path)

    monkeypatch.setattr(verification, "sha256_of", counting)
    with monkeypatch.context() as of_another:  # a store in which this reader may write nothing

        def refuse(*_: object) -> None:
            raise PermissionError

        of_another.setattr(atomic, "replace", refuse)
        for name in ("a.txt", "a.txt", "b.txt", "b.txt"):
            assert store.file(entry, name).name == name
    assert [path.name for path in hashed] == ["a.txt", "b.txt"]
    hashed.clear()
    again = Store(str(store.root))
    again.verify(entry, ["a.txt"])
    again.verify(entry)
    again.verify(entry)
    assert [path.name for path in hashed] == ["a.txt", "b.txt"]
    store.verify(entry, ["a.txt"], deep=True)
    store.verify(entry)
    assert [path.name for path in hashed] == ["a.txt", "b.txt", "a.txt"]


@pytest.mark.parametrize("how", ["digest", "its name", "content", "truncated", "no digest", "key", "moved"])
def test_a_damaged_manifest_is_refused(store: Store, how: str) -> None:
    unit = unit_of(seed=0)
    entry = publish(store, unit, "one")
    file, digest = entry.path / "manifest.json", entry.path / "manifest.json.sha256"
    if how == "digest":
        digest.write_text("0" * 64 + "  manifest.json\n")
    elif how == "its name":
        digest.write_text(digest.read_text().replace("json", "jsoo"))
    elif how == "content":
        file.write_text(file.read_text().replace('"seed": 0', '"seed": 1'))
    elif how == "truncated":
        file.write_bytes(file.read_bytes()[:100])
    elif how == "no digest":
        digest.unlink()
    elif how == "key":  # a forged manifest with the right digest
        _, other = manifest_of(unit_of(seed=7), {"a.txt": b"one"})
        file.write_bytes(other.to_bytes())
        digest.write_text(digest_line(other.to_bytes()))
    else:
        other = publish(store, unit_of(seed=7), "two")
        shutil.rmtree(entry.path)
        other.path.rename(entry.path)
        store.point(unit, entry.key)
    with pytest.raises(CorruptInputError, match=r"alpha/all: .*ghosttrack run"):
        store.current("mine", "alpha", "all")


def test_a_damaged_result_is_set_aside_when_made_again(store: Store) -> None:
    unit = unit_of()
    entry = publish(store, unit, "one")
    entry.file("a.txt").chmod(0o644)
    entry.file("a.txt").write_text("bad")
    assert store.kept(unit, entry.key) is None
    publish(store, unit, "one")
    store.verify(entry_of(store, unit), deep=True)
    aside = list((store.layout.folder / "alpha").glob("*.corrupt-*"))
    assert [path.joinpath("a.txt").read_text() for path in aside] == ["bad"]


def test_a_kept_result_can_be_pointed_to_again(store: Store) -> None:
    first, second = unit_of(seed=0), unit_of(seed=1)
    key = publish(store, first, "one").key
    publish(store, second, "two")
    assert public_files(store, first)["a.txt"] == "two"
    assert store.kept(first, key)
    store.point(first, key)
    assert public_files(store, first)["a.txt"] == "one"


def test_a_file_of_somebody_else_is_not_overwritten(store: Store) -> None:
    unit = unit_of()
    mine = store.root / "results/mine/alpha/a.txt"
    mine.parent.mkdir(parents=True)
    mine.write_text("precious")
    with pytest.raises(StorageError, match="move it away"):
        publish(store, unit, "one")
    assert mine.read_text() == "precious"


# ---- claims


def test_a_claim_keeps_others_out_and_is_given_back(store: Store) -> None:
    unit = unit_of()
    with store.claim(unit):
        holder = store.claim_holder(unit)
        assert holder
        assert holder.pid == os.getpid()
        with pytest.raises(BusyError, match=f"process {os.getpid()}") as raised, store.claim(unit):
            pass
        assert raised.value.exit_code == 18
        assert raised.value.group == work_group()
        with store.claim(unit_of("beta")):
            pass
    assert store.claim_holder(unit) is None
    with store.claim(unit):
        pass


def write_claim(store: Store, **holder: object) -> Path:
    """A claim of a process on another machine, renewed just now."""
    claim = store.layout.folder / "claims/mine/alpha/all.json"
    claim.parent.mkdir(parents=True)
    claim.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": 0.0, **holder}))
    return claim


def test_a_job_waits_for_a_claim_of_a_job_that_may_have_been_killed(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "18")
    monkeypatch.setattr(claims, "CLAIM_EXPIRES", 2.0)
    write_claim(store, group="slurm/17/0")
    with store.claim(unit_of()):
        pass


def test_a_job_does_not_wait_for_a_claim_that_is_renewed_or_its_own_job_s(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "18")
    claim = write_claim(store, group="slurm/17/0")
    monkeypatch.setattr(claims.time, "sleep", lambda _: os.utime(claim, (1, time.time() - 1)))
    with pytest.raises(BusyError, match="on elsewhere"), store.claim(unit_of()):
        pass
    claim.unlink()
    claim.parent.rmdir()
    write_claim(store, group=work_group())
    with pytest.raises(BusyError, match="on elsewhere"), store.claim(unit_of()):
        pass


HOLD = """
import sys
from ghosttrack.common.engine.storage import Store
from tests.common.results import unit_of
with Store(sys.argv[1]).claim(unit_of()):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_claim_of_another_process_holds_while_it_lives(store: Store) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(store.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(BusyError, match=f"process {holder.pid}"), store.claim(unit_of()):
        pass
    holder.kill()
    holder.communicate()
    claim = store.layout.folder / "claims/mine/alpha/all.json"
    assert claim.exists()
    assert not holder_of(claim)
    with store.claim(unit_of()):
        assert holder_of(claim)
    assert not claim.exists()


def test_a_claim_of_another_host_dies_without_signs_of_life(store: Store) -> None:
    claim = store.layout.folder / "claims/mine/alpha/all.json"
    claim.parent.mkdir(parents=True)
    claim.write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": 0.0}))
    with pytest.raises(BusyError, match="elsewhere"), store.claim(unit_of()):
        pass
    os.utime(claim, (0, 0))
    with store.claim(unit_of()):
        pass


def test_a_reused_process_id_is_not_the_holder(store: Store) -> None:
    claim = store.layout.folder / "claims/mine/alpha/all.json"
    claim.parent.mkdir(parents=True)
    mine = {"host": claims.socket.gethostname(), "pid": os.getpid(), "started": 1.0}
    claim.write_text(json.dumps(mine))
    with store.claim(unit_of()):
        pass


def test_when_a_process_started() -> None:
    assert process_start(os.getpid()) == process_start(os.getpid())
    assert process_start(2**22 + 1) is None
    started, own = process_start(os.getpid()), Path("/proc/self/comm")
    if own.exists():
        before = own.read_bytes()
        own.write_bytes(b"\xff) 1 Z")  # whatever it calls itself
        assert process_start(os.getpid()) == started
        own.write_bytes(before)


# ---- disks


def run_in_child(function: Callable[[], None]) -> None:
    """Run a function in a forked process that may lose rights or space; its exception becomes ours."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            function()
        except BaseException as error:
            os.write(writer, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        if message := file.read():
            raise AssertionError(message)
    os.waitpid(child, 0)


def test_a_read_only_folder_is_one_clear_error(store: Store) -> None:
    unit = unit_of(seed=1)
    publish(store, unit_of(seed=0), "old")
    for folder in [store.root, *(path for path in store.root.rglob("*") if path.is_dir())]:
        folder.chmod(0o555)

    def as_nobody() -> None:
        if os.getuid() == 0:  # root may write anywhere
            os.setgid(65534)
            os.setuid(65534)
        with pytest.raises(StorageError, match=r"permission denied.*paths.root") as raised:
            publish(store, unit, "new")
        assert raised.value.exit_code == 17
        with pytest.raises(StorageError), store.claim(unit):
            pass
        store.verify(entry_of(store, unit), deep=True)  # reading still works
        assert public_files(store, unit) == {"a.txt": "old", "b.txt": "OLD"}

    for parent in store.root.parents:  # let nobody through pytest's private folders
        if parent.stat().st_uid == os.getuid() and Path(tempfile.gettempdir()) in parent.parents:
            parent.chmod(parent.stat().st_mode | 0o055)
    try:
        run_in_child(as_nobody)
    finally:
        for folder in [store.root, *(path for path in store.root.rglob("*") if path.is_dir())]:
            folder.chmod(0o755)


def test_a_file_size_limit_is_one_clear_error_and_changes_nothing(store: Store) -> None:
    publish(store, unit_of(seed=0), "old")
    unit = unit_of(seed=1)
    key, _ = manifest_of(unit, {})
    out = store.staging(unit, key) / "out"

    def with_little_space() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with pytest.raises(StorageError) as raised, storage_errors(out):
            (out / "a.txt").write_bytes(b"x" * 5000)
        assert raised.value.exit_code == 17

    run_in_child(with_little_space)
    assert public_files(store, unit) == {"a.txt": "old", "b.txt": "OLD"}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a small disk here; the file size limit's test covers the error")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_full_disk_is_one_clear_error_and_changes_nothing(small_disk: Path) -> None:
    store = Store(str(small_disk))
    publish(store, unit_of(seed=0), "old")
    with pytest.raises(StorageError, match="disk is full") as raised, storage_errors(small_disk):
        publish(store, unit_of(seed=1), "new" * 100_000)
    assert raised.value.exit_code == 17
    for folder in small_disk.glob(".store/staging/*/*/*/*/out/*"):
        folder.unlink()
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"):
        filler.write_bytes(b"x" * 70_000)
    with pytest.raises(StorageError, match="disk is full"), storage_errors(small_disk):
        publish(store, unit_of(seed=2), "new")
    assert public_files(store, unit_of()) == {"a.txt": "old", "b.txt": "OLD"}
    filler.unlink()
    publish(store, unit_of(seed=2), "new")
    assert public_files(store, unit_of()) == {"a.txt": "new", "b.txt": "NEW"}


def test_nothing_is_written_through_what_a_container_left_in_the_work(store: Store, tmp_path: Path) -> None:
    unit, key, precious = unit_of(), "a" * 64, tmp_path / "precious"
    precious.write_text("kept")
    work = store.staging(unit, key)
    (work / "steps").mkdir()
    (work / "steps/one.json").write_text("{}")
    for name in ("usage_0.json", "part.npz", "out/a.txt", "steps/two.json"):
        (work / name).symlink_to(precious)
    os.mkfifo(work / "out/b.txt")
    assert store.staging(unit, key) == work
    assert {path.relative_to(work).as_posix() for path in work.rglob("*")} == {
        "out",
        "steps",
        "steps/one.json",
    }
    assert precious.read_text() == "kept"


# ---- attempts, openings, roots


def test_openings_are_counted_whatever_lies_in_the_place_of_their_record(store: Store) -> None:
    unit = unit_of()
    path = store.layout.openings(unit.config_name)
    path.parent.mkdir(parents=True)
    makers = (
        lambda: path.write_bytes(b"\xff\xfe\n"),
        lambda: os.mkfifo(path),
        lambda: path.symlink_to("/dev/zero"),
    )
    for make in makers:
        path.unlink(missing_ok=True)
        make()
        assert [store.count_opening(unit, "a", seen) for seen in ("1", "2", "1")] == [1, 2, 2]
    assert path.read_text() == "a 1\na 2\n"


def test_failed_attempts_are_kept_in_order(store: Store) -> None:
    unit = unit_of()
    assert store.failures(unit) == []
    store.record_failure(unit, {"error": "first"})
    store.record_failure(unit, {"error": "second"})
    assert [attempt["error"] for attempt in store.failures(unit)] == ["first", "second"]
    assert {attempt["actionStatus"] for attempt in store.failures(unit)} == {"FailedActionStatus"}


@pytest.mark.parametrize("root", ["s3://bucket/runs", "memory://x", "simplecache::s3://bucket", "foo://"])
def test_a_root_that_is_no_folder_is_refused(root: str) -> None:
    with pytest.raises(ConfigError, match=r"paths.root: .* is no folder") as raised:
        Store(root)
    assert raised.value.exit_code == 10


def test_a_root_whose_name_is_no_text_is_refused_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no text here"):
        Store(os.fsdecode(bytes(tmp_path) + b"/\xe8"))


def test_what_somebody_wants_written_is_there_whole_or_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, link = tmp_path / "new" / "file", tmp_path / "link"
    atomic.write(path, "one")
    link.symlink_to(path)
    atomic.write(link, "two")
    assert link.is_symlink()
    assert path.read_text() == "two"

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        atomic.write(path, "three")
    assert [(each.name, each.read_text()) for each in path.parent.iterdir()] == [("file", "two")]


def test_a_root_may_be_a_file_url(tmp_path: Path) -> None:
    assert Store(f"file://{tmp_path}").root == Store(str(tmp_path)).root == tmp_path


def test_a_release_frees_the_files_and_keeps_what_they_were(store: Store) -> None:
    unit = unit_of()
    publish(store, unit, "one")
    assert store.release(unit) == len("oneONE")
    entry = entry_of(store, unit)
    assert entry.released
    assert public_files(store, unit) == {}
    assert (store.root / unit.folder / "manifest.json").exists()
    assert sorted(entry.manifest.files) == ["a.txt", "b.txt"]
    assert store.kept(unit, entry.key) is None
    assert store.release(unit) == 0
    assert store.release(unit_of("nothing")) == 0


def test_a_released_result_that_is_made_again_is_whole(store: Store) -> None:
    unit = unit_of()
    publish(store, unit, "one")
    store.release(unit)
    publish(store, unit, "one")
    assert not entry_of(store, unit).released
    assert public_files(store, unit) == {"a.txt": "one", "b.txt": "ONE"}
    store.verify(entry_of(store, unit), deep=True)
    assert store.links_are_whole(unit)


def test_a_crash_in_a_release_is_gone_on_with(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = unit_of()
    saved = store.root.with_name("saved")
    publish(store, unit, "one")
    shutil.copytree(store.root, saved, symlinks=True)
    died = 0
    for _ in crash_points(lambda: store.release(unit), monkeypatch):
        died += 1
        entry = entry_of(store, unit)
        if entry.released:
            store.release(unit)
            assert public_files(store, unit) == {}
            assert not entry.file("a.txt").exists()
        else:
            store.verify(entry, deep=True)
            assert store.links_are_whole(unit)
        shutil.rmtree(store.root)
        shutil.copytree(saved, store.root, symlinks=True)
    assert died >= 4
