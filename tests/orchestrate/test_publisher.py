"""Stages in containers whose store is read-only: their publisher believes nothing of what comes out.

An `apptainer` of our own stands for the real one, which `tests/apptainer` and `tests/slurm` use: it mounts what it is told to, for
this kernel to enforce, and starts the stage with this machine's Python.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from ghosttrack.common.engine.contained import VARIABLE, store_of
from ghosttrack.common.engine.storage import Store
from ghosttrack.common.errors import ConfigError, ImageError, StageFailedError
from ghosttrack.orchestrate.container import container_command, images_of
from ghosttrack.orchestrate.local import LocalExecutor, code_variables
from ghosttrack.orchestrate.publisher import Publisher
from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.request import Request
from tests.common.results import manifest_of, unit_of
from tests.fake_project import FakeProject

APPTAINER = f"""#!{sys.executable}
import os, sys
words = sys.argv[1:]
given = {{option: [v for o, v in zip(words, words[1:]) if o == option] for option in ("--bind", "--env")}}
[at] = [n for n, word in enumerate(words) if word.endswith(".sif") and "=" not in word]
mounts = "set -e\\n"
for bind in given["--bind"]:
    source, place, mode = bind.split(":")
    mounts += f'mount --bind "{{source}}" "{{place}}"; mount -o remount,bind,{{mode}} "{{place}}"\\n'
os.environ.update(pair.split("=", 1) for pair in given["--env"])
stage = os.path.basename(words[at]).removesuffix(".sif")
command = [sys.executable, "-m", f"stages.{{stage}}", *words[at + 1 :]]
os.execvp("unshare", ["unshare", "--mount", "sh", "-c", mounts + 'exec "$@"', "sh", *command])
"""

HONEST = """
import json, os, time
from pathlib import Path
from ghosttrack.common.engine import contained

def run(job):
    store = Path(job.config.paths.root, ".store")
    file = job.output(job.work.writes[0])
    texts = [job.entries[read.name].file(name).read_text() for read in job.work.reads for name in read.files]
    mine = job.config.sae.d_hidden if job.layer is None else job.layer
    file.write_text(" ".join([*texts, str(mine)]))
    {deed}
    return {}
"""


@pytest.fixture
def contained(
    finished: FakeProject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Request]:
    """What asks for the layers to be made anew, in containers that do a deed once they have written their output."""
    if os.getuid() != 0 or subprocess.run(["unshare", "--mount", "true"], capture_output=True).returncode:
        pytest.skip("only root can mount here")
    programs, images = tmp_path / "bin", tmp_path / "images"
    programs.mkdir()
    images.mkdir()
    (programs / "apptainer").write_text(APPTAINER)
    (programs / "apptainer").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    for stage in ("source", "layers", "sink"):
        (images / f"{stage}.sif").write_text(stage)

    def request(deed: str = "") -> Request:
        (finished.stages / "layers/run.py").write_text(HONEST.replace("{deed}", deed.replace("\n", "\n    ")))
        asked = finished.request("sae.d_hidden=16")
        return replace(asked, profile=asked.profile.model_copy(update={"images": str(images)}))

    return request


def start(request: Request, *names: str) -> None:
    images = images_of(request.profile, ["source", "layers", "sink"])
    LocalExecutor(Terminal(), images).run_stage(request, "layers", list(names))


def made(request: Request) -> dict[str, str]:
    folder = Path(request.config.paths.root) / "models/checkpoints/small"
    return {path.name: path.read_text() for path in folder.glob("*.txt")}


@pytest.mark.slow
def test_a_container_can_write_where_its_units_work_and_nowhere_else_in_the_store(
    contained: Callable[[str], Request], finished: FakeProject
) -> None:
    deed = """
places = [store.parent, store, *(store / kind for kind in ("claims", "verified", "attempts", "temporary", "openings", "layers", "source",
          "current/small/layers", "staging", "staging/small/layers", f"staging/small/layers/{job.unit}",
          "staging/small/layers/layer_2")), store.parent / "models/checkpoints/small"]
wrote = []
for place in places:
    try:
        (place / "new").touch()
        wrote.append(place.relative_to(store).as_posix())
    except (FileNotFoundError, PermissionError, OSError):
        pass
job.internal["wrote"] = wrote"""
    for kind in ("claims", "verified", "attempts", "temporary", "openings", "staging/small/layers/layer_2"):
        (finished.root / ".store" / kind).mkdir(parents=True, exist_ok=True)
    request = contained(deed)
    start(request, "base", "layer_1")
    store = Store(request.config.paths.root)
    for name in ("base", "layer_1"):
        entry = store.current("small", "layers", name)
        assert entry
        store.verify(entry, deep=True)
        internal = entry.manifest.predicate.build_definition.internal_parameters
        others = {f"staging/small/layers/{other}" for other in ("base", "layer_1")}
        assert {f"staging/small/layers/{name}"} <= set(internal["wrote"]) <= others
    assert made(request)["base.txt"] == "0 16"
    assert made(request)["layer_1.txt"] == "0 16 1"
    assert not list(store.at_work())
    assert not list((store.layout.folder / "temporary").iterdir())
    assert [planned.unit.name for planned in request.plan().stale_of("layers")] == ["layer_0", "layer_2"]


DEEDS = {
    "a link for a file": "file.unlink()\nfile.symlink_to('/etc/hostname')",
    "a file that it keeps a name of": "os.link(file, job.staging / 'kept')",
    "other bytes than its manifest says": "before.append(lambda: file.write_text('other'))",
    "a file that is not in its manifest": "before.append(lambda: file.with_name('more').touch())",
    "another folder for its outputs": "before.append(lambda: (file.parent.rename(job.staging / 'x'), file.parent.symlink_to(precious)))",
    "another folder for its work":
        "before.append(lambda: (job.staging.rename(job.staging.parent / 'x'), job.staging.symlink_to(precious.parent)))",
    "a key of something else": "order.update(key='a' * 64)",
    "another unit": "order.update(unit='layer_0')",
}  # fmt: skip
ALTERED = """
precious = Path({precious!r})
before, order, ask = [], {}, contained._ask
def altered(file, sent):
    if sent.do == "publish":
        for step in before:
            step()
        sent = sent.model_copy(update=order)
    return ask(file, sent)
contained._ask = altered
"""


@pytest.mark.slow
def test_what_a_container_asks_for_beyond_its_work_is_refused(
    contained: Callable[[str], Request], tmp_path: Path
) -> None:
    """One container after another, each with what the one before has left behind; then an honest one gets through."""
    precious = tmp_path / "precious/out"
    precious.mkdir(parents=True)
    (precious / "base.txt").write_text("precious")
    before = made(contained(""))
    for name, deed in DEEDS.items():
        with pytest.raises(StageFailedError) as raised:
            start(contained(ALTERED.replace("{precious!r}", repr(str(precious))) + deed), "base")
        assert raised.value.exit_code in (14, 17), name
        assert made(contained("")) == before, name
        assert [path.read_text() for path in precious.iterdir()] == ["precious"], name
    start(contained(""), "base")
    assert made(contained(""))["base.txt"] == "0 16"


@pytest.mark.slow
def test_a_container_does_not_outlive_its_publisher_nor_the_claim_its_container(
    contained: Callable[[str], Request], tmp_path: Path
) -> None:
    """Whichever of them is killed; the next run gets through."""
    request = contained("time.sleep(600)")
    images = images_of(request.profile, ["layers"])
    store, mark = Store(request.config.paths.root), str(request.logs)
    command = container_command(images["layers"], request, ["base"])

    def at_work() -> list[psutil.Process]:
        return [
            p
            for p in psutil.process_iter(["cmdline"])
            if "stages.layers" in (p.info["cmdline"] or []) and mark in str(p.info["cmdline"])
        ]

    def wait_for(condition: Callable[[], object]) -> None:
        for _ in range(600):
            if condition():
                return
            time.sleep(0.1)
        raise AssertionError("it has waited for a minute")

    for victim in ("publisher", "stage"):
        publisher = subprocess.Popen(command, env={**os.environ, **code_variables(request)})
        wait_for(lambda: list(store.at_work()))
        (publisher if victim == "publisher" else at_work()[-1]).send_signal(signal.SIGKILL)
        publisher.wait()
        wait_for(lambda: not at_work())
        assert not list(store.at_work())
    start(contained(""), "base")
    assert made(request)["base.txt"] == "0 16"


def test_a_container_runtime_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"nothing-here cannot be started \(No such file.*--container none"):
        Publisher(Store(str(tmp_path)), []).attend(["nothing-here", "run"])


def test_the_variable_without_a_publisher_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "1")
    kept = os.dup(0)
    try:
        with (tmp_path / "no socket").open("w") as file:
            os.dup2(file.fileno(), 0)
        with pytest.raises(ConfigError, match="leads to no publisher; unset it"):
            store_of(str(tmp_path))
    finally:
        os.dup2(kept, 0)
        os.close(kept)


def test_orders_of_any_kind_change_nothing_and_an_honest_one_is_done_after_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, unit = Store(str(tmp_path)), unit_of()
    files = {"a.txt": b"one", "b.txt": b"two"}
    key, manifest = manifest_of(unit, files)
    raised: list[object] = []
    monkeypatch.setattr(threading, "excepthook", raised.append)
    door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    threading.Thread(target=Publisher(store, [unit]).accept, args=(door,), daemon=True).start()

    def ask(*lines: object) -> list[Any]:
        ours, other = socket.socketpair()
        with ours:
            with other:
                socket.send_fds(theirs, [b"."], [other.fileno()])
            ours.settimeout(20)
            with ours.makefile("rwb") as stream, contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for line in lines:
                    stream.write((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n")
                stream.flush()
                ours.shutdown(socket.SHUT_WR)
                return [json.loads(line) for line in stream]
            return []

    def order(do: str, **more: object) -> dict[str, object]:
        return {"do": do, "unit": "all", **more}

    def altered(*way: str | int, value: object) -> dict[str, Any]:
        place = data = json.loads(manifest.to_bytes())
        for step in way[:-1]:
            place = place[step]
        place[way[-1]] = value
        return {"do": "publish", "unit": "all", "key": key, "manifest": data}

    out = store.staging(unit, key) / "out"
    for name, content in files.items():
        (out / name).write_bytes(content)
    claim, nan = order("claim"), float("nan")
    hostile: list[tuple[object, ...]] = [
        (b"",), (b"null",), (b"[" * 100_000,), (b"\xff\xfe",), (order("die"),), ({**claim, "unit": "../x"},), (order("publish", key=key),),
        (claim, order("publish", key="../../.."), order("publish", key=key)), (claim, order("point", key=key)),
        (claim, altered("subject", 0, "name", value="../x")), (claim, altered("subject", 0, "annotations", "size", value=9)),
        (claim, altered("subject", value=[])),
        (claim, altered("predicate", "buildDefinition", "externalParameters", value={"a": nan})),
        (order("count_opening", what="a\nb", seen="0"),), (order("count_opening", what="\u2028"),), (order("record_failure", record=[]),),
    ]  # fmt: skip
    for lines in hostile:
        assert not [reply for reply in ask(*lines)[len(lines) - 1 :] if not reply["error"]], lines
    with (tmp_path / "no socket").open("w") as file:
        socket.send_fds(theirs, [b"."], [file.fileno()])
    assert store.current("mine", "alpha", "all") is None
    assert not store.layout.openings("mine").exists()
    honest = {"do": "publish", "unit": "all", "key": key, "manifest": json.loads(manifest.to_bytes())}
    assert [reply["error"] for reply in ask(claim, honest, order("point", key=key))] == ["", "", ""]
    entry = store.current("mine", "alpha", "all")
    assert entry
    store.verify(entry, deep=True)
    assert not raised
