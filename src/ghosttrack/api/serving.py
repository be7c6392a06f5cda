"""`ghosttrack serve`: the dashboard of a run of any size, over HTTP on this machine.

The page is the one of the single file; it asks for its blocks (`stages/report/dashboard/slices.py`) when it looks at them,
and can ask the model (`live.py`). Whoever may use it has the token of its address: a page of another site can neither read
nor change anything, also where a name of its own leads to this machine (DNS rebinding).
"""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import secrets
import signal
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

import click

from ghosttrack.api.live import Live
from ghosttrack.api.run import opened
from ghosttrack.common.config.options import takes_config
from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.command import run_command
from ghosttrack.common.errors import ConfigError, GhostTrackError
from ghosttrack.common.foreign import in_short
from ghosttrack.stages.report.dashboard.build import page
from ghosttrack.stages.report.dashboard.slices import Slices
from ghosttrack.stages.report.results import Results

LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
LARGEST = 1 << 20
"""Bytes of what may be sent to it."""
TOKEN = "X-GhostTrack-Token"
_LOG = logging.getLogger("ghosttrack.serve")


class Dashboard(ThreadingHTTPServer):
    """A thread a request. `address`: where the page is, with the token that it wants."""

    daemon_threads = True

    def __init__(self, config: Config, host: str = "127.0.0.1", port: int = 0) -> None:
        results = Results.open(config.paths.root, config.name, deep=False)
        self.slices = Slices(results)
        self.live = Live(opened(config.name, config.paths.root, config), results, self.slices)
        self.token = secrets.token_urlsafe(24)
        self.page = page(config.name, "", {}, served=True).encode()
        try:
            super().__init__((host, port), Handler)
        except (OSError, TypeError) as error:  # TypeError: of what cannot be the name of a host
            raise ConfigError(
                f"{host}:{port} cannot be listened on ({in_short(error)}); choose another --port or --host"
            ) from error

    @property
    def address(self) -> str:
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}/?token={self.token}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that leaves before it has its answer is no fault."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            _LOG.exception("a request from %s", client_address)

    def hosts(self) -> set[str] | None:
        """What a request may call this machine; None where it is open to others, which have their own names for it."""
        host, port = self.server_address[:2]
        return {f"{name}:{port}" for name in LOOPBACK} if f"{host!s}" in ("127.0.0.1", "::1") else None


class Handler(BaseHTTPRequestHandler):
    """`/` the page; `/block/<name>` a block; `/ask` and `/without` take JSON."""

    server: Dashboard
    protocol_version = "HTTP/1.1"
    timeout = 60

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/":
            if self._may((parse_qs(query).get("token") or [""])[0]):
                self._send(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
        elif path.startswith("/block/"):
            if self._may(self.headers.get(TOKEN, "")):
                self._answer(lambda: self.server.slices.block(path.removeprefix("/block/")))
        elif path == "/favicon.ico":  # browsers ask for one whatever the page says
            self._send(HTTPStatus.NO_CONTENT, b"", "image/x-icon")
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")

    def do_POST(self) -> None:
        work = {"/ask": self.server.live.ask, "/without": self.server.live.without}.get(self.path)
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or len(length) > len(str(LARGEST)) or int(length) > LARGEST:
            self.close_connection = True
            return self._refuse(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"send at most {LARGEST} bytes, and say how many"
            )
        body = self.rfile.read(int(length))
        if not self._may(self.headers.get(TOKEN, "")):
            return None
        if work is None:
            return self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here")
        try:
            wanted = json.loads(body)
        except (ValueError, RecursionError):
            wanted = None
        if not isinstance(wanted, dict):
            return self._refuse(HTTPStatus.BAD_REQUEST, "send one JSON object")
        return self._answer(lambda: json.dumps(work(wanted)).encode(), "application/json")

    def _may(self, token: str) -> bool:
        """Whether the request comes from the page: it has the token, and was sent to this machine by a name of this machine."""
        hosts = self.server.hosts()
        named = hosts is None or self.headers.get("Host", "") in hosts
        if named and hmac.compare_digest(token.encode(), self.server.token.encode()):
            return True
        self._refuse(
            HTTPStatus.FORBIDDEN, "open the address that `ghosttrack serve` has printed, with its token"
        )
        return False

    def _answer(self, make: Callable[[], bytes], kind: str = "application/octet-stream") -> None:
        try:
            content = make()
        except KeyError:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such block")
        except GhostTrackError as error:
            self._refuse(HTTPStatus.UNPROCESSABLE_ENTITY, str(error))
        except Exception as error:  # the page says it, and the others go on
            _LOG.exception(self.path)
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: {error}")
        else:
            self._send(HTTPStatus.OK, content, kind)

    def _refuse(self, status: HTTPStatus, why: str) -> None:
        self._send(status, json.dumps({"error": why}).encode(), "application/json")

    def _send(self, status: HTTPStatus, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(content))),
            ("Cache-Control", "no-store"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("X-Frame-Options", "DENY"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *arguments: Any) -> None:
        _LOG.debug(format, *arguments)


@click.command()
@takes_config
@click.option(
    "--port", default=0, type=click.IntRange(0, 65535), help="Where to listen; a free one when left out."
)
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Who can reach it; 0.0.0.0 is everybody who has the token.",
)
def serve(config: Config, port: int, host: str) -> None:
    """Serve the dashboard until Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or its temporary files would stay
    with Dashboard(config, host, port) as server, contextlib.suppress(KeyboardInterrupt):
        click.echo(f"{config.name}: open {server.address} in a browser; Ctrl-C ends it")
        sys.stdout.flush()
        server.serve_forever()
    click.echo("ended")


if __name__ == "__main__":
    run_command(serve, "ghosttrack serve", "ghosttrack serve")
