"""Starts a stage in its container and publishes what it makes: the container sees all of the store read-only but for the folders
in which its units' work is done.

`python -m ghosttrack.orchestrate.publisher CONFIG --stage STAGE --image IMAGE -- apptainer run … IMAGE …`. It holds the units' claims
(`common/engine/contained.py`), and believes nothing that comes out of the container: a result is taken out of its reach, must be
of the unit and the inputs that count here, and consist of the files, with the digests, that its manifest names.
"""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import FrameType

import click
from pydantic import ValidationError

from ghosttrack.common.engine import atomic
from ghosttrack.common.engine.claims import work_group
from ghosttrack.common.engine.command import run_command
from ghosttrack.common.engine.contained import Order, Reply
from ghosttrack.common.engine.contract import Unit, expand, load_contracts, task_key
from ghosttrack.common.engine.entry import broken_promise, key_of_manifest
from ghosttrack.common.engine.manifest import Manifest, Subject
from ghosttrack.common.engine.parent import end_with_parent
from ghosttrack.common.engine.staleness import input_digests, input_entries
from ghosttrack.common.engine.storage import Store, storage_errors
from ghosttrack.common.errors import BusyError, CorruptInputError, GhostTrackError, ImageError
from ghosttrack.common.files import LONGEST_RECORD, sha256_of
from ghosttrack.common.foreign import whole
from ghosttrack.orchestrate.container import bind_option
from ghosttrack.orchestrate.options import takes_config
from ghosttrack.orchestrate.request import Request


class Publisher:
    """Does for a container what it may ask for about its units."""

    def __init__(self, store: Store, units: Iterable[Unit]) -> None:
        self.store = store
        self._units = {unit.name: unit for unit in units}
        self._threads: list[threading.Thread] = []

    @property
    def writable(self) -> list[Path]:
        """Folders of the units' work, which are made here. They stay, since what is a mount of a container must."""
        folders = [self.store.layout.staging(unit).resolve() for unit in self._units.values()]
        with storage_errors(self.store.root):
            for folder in folders:
                folder.mkdir(parents=True, exist_ok=True)
        return folders

    def attend(self, command: Sequence[str]) -> int:
        """Run a command with a socket to this publisher as its standard input; its exit code, when all its orders are done."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            with theirs:
                try:
                    child = subprocess.Popen(command, stdin=theirs.fileno(), preexec_fn=end_with_parent())
                except OSError as error:
                    raise ImageError(
                        f"{command[0]} cannot be started ({error.strerror}); install it or load its module, or run with --container none"
                    ) from error

            def pass_on(number: int, _: FrameType | None) -> None:
                with contextlib.suppress(ProcessLookupError):
                    child.send_signal(number)

            signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal tells the container itself
            signal.signal(signal.SIGTERM, pass_on)
            threading.Thread(target=self.accept, args=(ours,), daemon=True).start()
            code = child.wait()
            ours.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        return code if code >= 0 else 128 - code

    def accept(self, door: socket.socket) -> None:
        """Serve connections that come through a socket, until its other end is closed."""
        with contextlib.suppress(OSError):
            while True:
                sent, descriptors, _, _ = socket.recv_fds(door, 1, 1)
                if not sent:
                    return
                for descriptor in descriptors:
                    with contextlib.suppress(OSError):  # it is no socket
                        connection = socket.socket(fileno=descriptor)
                        self._threads.append(threading.Thread(target=self._serve, args=(connection,)))
                        self._threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        """Follow the orders of one connection; what it has claimed is given back at its end."""
        claimed: set[str] = set()
        with (
            connection,
            contextlib.suppress(OSError, ValidationError),
            contextlib.ExitStack() as claims,
            connection.makefile("rwb") as file,
        ):
            while line := file.readline(LONGEST_RECORD):
                order = Order.model_validate_json(line)
                try:
                    with (
                        whole(Path(order.unit), "run again", "order of a container"),
                        storage_errors(self.store.root),
                    ):
                        reply = Reply(count=self._do(order, claims, claimed))
                except GhostTrackError as error:
                    ours = isinstance(error, BusyError) and error.group == work_group()
                    reply = Reply(error=type(error).__name__, message=str(error), ours=ours)
                file.write(reply.model_dump_json().encode() + b"\n")
                file.flush()

    def _do(self, order: Order, claims: contextlib.ExitStack, claimed: set[str]) -> int:
        unit = self._units.get(order.unit)
        if unit is None or (order.do in ("publish", "point") and order.unit not in claimed):
            raise CorruptInputError(f"the container asks to {order.do} {order.unit!r}, which it does not do")
        if order.do == "claim":
            claims.enter_context(self.store.claim(unit))
            claimed.add(unit.name)
        elif order.do == "record_failure":
            self.store.record_failure(unit, order.record)
        elif order.do == "count_opening":
            return self.store.count_opening(unit, order.what, order.seen)
        else:
            if order.key != task_key(unit, input_digests(unit, input_entries(self.store, unit))):
                raise CorruptInputError(f"{unit.label}: the container worked with other parameters or inputs than count here; "
                                        "run again")  # fmt: skip
            if order.manifest:
                self._publish(unit, order.key, order.manifest)
            elif self.store.kept(unit, order.key):
                self.store.point(unit, order.key)
            else:
                raise CorruptInputError(f"{unit.label}: the container has found a result that is not there")
        return 0

    def _publish(self, unit: Unit, key: str, manifest: Manifest) -> None:
        with self._out_of_reach(unit, key) as out:
            names = {path.name for path in out.iterdir()}
            wrong = broken_promise(unit, names) or (
                "other files than its manifest" if names != set(manifest.files) else None
            )
            for name, subject in manifest.files.items():
                if wrong is None and not _is(out / name, subject):
                    wrong = f"another {name} than its manifest says"
            if wrong or key_of_manifest(manifest) != key:
                raise CorruptInputError(
                    f"{unit.label}: the container made {wrong or 'a manifest of something else'}"
                )
            self.store.publish(unit, key, manifest, out)

    @contextlib.contextmanager
    def _out_of_reach(self, unit: Unit, key: str) -> Iterator[Path]:
        """A unit's outputs in a folder that no container has; they are put back where they cannot be published.

        No link on the way is followed: the container could exchange any of its own folders for one at any moment.
        """
        apart = atomic.fresh_path(self.store.layout.temporary)
        folder = os.open(self.store.layout.staging(unit), os.O_DIRECTORY)
        try:
            work = os.open(key, os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            try:
                os.utime("out", dir_fd=work, follow_symlinks=False)  # temporary files are swept after an hour
                os.rename("out", apart, src_dir_fd=work)
                try:
                    if not stat.S_ISDIR(apart.lstat().st_mode):
                        raise CorruptInputError(f"{unit.label}: the container's outputs are in no folder")
                    yield apart
                except BaseException:
                    with contextlib.suppress(OSError):
                        os.rename(apart, "out", dst_dir_fd=work)
                    raise
            finally:
                os.close(work)
        finally:
            os.close(folder)


def _is(path: Path, subject: Subject) -> bool:
    status = path.lstat()
    plain = stat.S_ISREG(status.st_mode) and status.st_nlink == 1 and status.st_size == subject.size
    return plain and sha256_of(path) == subject.sha256


@click.command()
@takes_config
@click.option("--stage", required=True)
@click.option("--image", required=True)
@click.option("--stages", type=click.Path(path_type=Path), help="Folder of the stages.")
@click.argument("command", nargs=-1, required=True)
@click.pass_context
def publish(
    context: click.Context,
    request: Request,
    stage: str,
    image: str,
    stages: Path | None,
    command: tuple[str, ...],
) -> None:
    """Run COMMAND, which starts a stage in its image, and publish what it makes."""
    contracts = load_contracts(stages) if stages else request.contracts
    [contract] = [contract for contract in contracts if contract.stage == stage]
    at = command.index(image)
    names = [
        name for option, name in zip(command[at:], command[at + 1 :], strict=False) if option == "--unit"
    ]
    units = expand(contract, request.config)
    publisher = Publisher(request.store, [u for u in units if u.name in names or not names])
    binds = [part for folder in publisher.writable for part in bind_option(str(folder), "rw")]
    context.exit(publisher.attend([*command[:at], *binds, *command[at:]]))


if __name__ == "__main__":
    run_command(publish, "publisher", "python -m ghosttrack.orchestrate.publisher")
