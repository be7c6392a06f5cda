"""The store as a stage in a container has it: bound read-only, so that a publisher outside (`orchestrate/publisher.py`) changes it.

A claim is a connection to the publisher, which holds the claim until the connection's last end is closed, however the process
ends. Connections are handed to it through a socket that is the container's standard input, so that no folder has to hold one.
"""

import contextlib
import functools
import io
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from ghosttrack.common import errors
from ghosttrack.common.engine.claims import work_group
from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.engine.entry import Entry, open_entry
from ghosttrack.common.engine.manifest import Manifest
from ghosttrack.common.engine.storage import Store

VARIABLE = "GHOSTTRACK_PUBLISHER"
"""Is set in a container whose standard input leads to a publisher."""


class Order(BaseModel):
    """What a stage asks the publisher to do about one of its units: a line of JSON."""

    model_config = ConfigDict(extra="forbid")
    do: Literal["claim", "publish", "point", "record_failure", "count_opening"]
    unit: str
    key: str = ""
    manifest: Manifest | None = None
    record: dict[str, Any] = {}
    what: str = Field("", pattern=r"^[0-9a-f]*$")
    seen: str = Field("", pattern=r"^[0-9a-f]*$")


class Reply(BaseModel):
    """What came of an order: a line of JSON."""

    model_config = ConfigDict(extra="forbid")
    error: str = ""
    """The class of the error that there was."""
    message: str = ""
    ours: bool = False
    """Of a unit that is claimed already: by a process that works together with this one."""
    count: int = 0


Ask = Callable[[Order], Reply]


def store_of(root: str) -> Store:
    """The store to work in, from within a container or without one. Raises as `Store` does."""
    return _contained(root) if VARIABLE in os.environ else Store(root)


@functools.cache
def _contained(root: str) -> Store:
    return ContainedStore(root)


class ContainedStore(Store):
    """Reads what is there, and has a publisher make the changes."""

    def __init__(self, root: str) -> None:
        super().__init__(root)
        try:
            # In a process that multiprocessing forks, 0 is another.
            self._door = socket.socket(fileno=os.dup(0))
        except OSError as error:
            raise errors.ConfigError(
                f"{VARIABLE} is set, but the standard input leads to no publisher; unset it, or start the stage by `ghosttrack run`"
            ) from error
        self._claims: dict[str, Ask] = {}
        threading.Thread(target=self._end_with_publisher, daemon=True).start()

    @contextlib.contextmanager
    def claim(self, unit: Unit) -> Iterator[None]:
        with self._connection() as ask:
            ask(Order(do="claim", unit=unit.name))
            self._claims[unit.name] = ask
            try:
                yield
            finally:
                del self._claims[unit.name]

    def publish(self, unit: Unit, key: str, manifest: Manifest, out: Path | None = None) -> Entry:
        self._ask(Order(do="publish", unit=unit.name, key=key, manifest=manifest))
        return open_entry(self.layout, self.layout.result(unit.stage, key), unit.label, unit.stage)

    def point(self, unit: Unit, key: str) -> None:
        self._ask(Order(do="point", unit=unit.name, key=key))

    def record_failure(self, unit: Unit, record: Mapping[str, Any]) -> None:
        with contextlib.suppress(errors.StorageError):
            self._ask(Order(do="record_failure", unit=unit.name, record=dict(record)))

    def count_opening(self, unit: Unit, what: str, seen: str) -> int:
        return self._ask(Order(do="count_opening", unit=unit.name, what=what, seen=seen)).count

    def _ask(self, order: Order) -> Reply:
        if ask := self._claims.get(order.unit):
            return ask(order)
        with self._connection() as ask:
            return ask(order)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Ask]:
        mine, theirs = socket.socketpair()
        with mine:
            with theirs, _publisher_lives():
                socket.send_fds(self._door, [b"."], [theirs.fileno()])
            with mine.makefile("rwb") as file:
                yield lambda order: _ask(file, order)
            with contextlib.suppress(OSError):
                mine.shutdown(socket.SHUT_WR)
                mine.recv(1)  # its end: the claim is given back

    def _end_with_publisher(self) -> None:
        """Without the publisher, its claims are free for others: nothing may go on working under them."""
        with contextlib.suppress(OSError):
            while self._door.recv(1):
                pass
        os.kill(os.getpid(), signal.SIGKILL)


def _ask(file: io.BufferedRWPair, order: Order) -> Reply:
    with _publisher_lives():
        file.write(order.model_dump_json(by_alias=True).encode() + b"\n")
        file.flush()
        reply = Reply.model_validate_json(file.readline() or b'{"error": "StorageError"}')
    if reply.error == "BusyError":
        raise errors.BusyError(reply.message, work_group() if reply.ours else None)
    if reply.error:
        raise getattr(errors, reply.error)(reply.message)
    return reply


@contextlib.contextmanager
def _publisher_lives() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise errors.StorageError(
            "what publishes for this container has ended; give the command again to go on from the finished steps"
        ) from error
