"""`ghosttrack serve` over HTTP: what it sends, to whom, and what it does with the model."""

import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import ghosttrack as gt
from ghosttrack.api.serving import TOKEN, Dashboard, serve
from ghosttrack.common.config.load import load_config
from ghosttrack.common.errors import ConfigError, MissingInputError
from tests.pipeline import CODE, Pipeline
from tests.stages.report.synthetic import make_run
from tests.stages.report.unpacking import unpack


def serving(config: Any) -> Iterator[Dashboard]:
    with Dashboard(config) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def made_up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    root = tmp_path_factory.mktemp("served")
    make_run(root, "demo", questions=6)
    yield from serving(load_config("demo", [f"paths.root={root}"], environ={}))


@pytest.fixture(scope="module")
def stub(stub_run: Pipeline) -> Iterator[Dashboard]:
    yield from serving(load_config("demo", [f"paths.root={stub_run.root}"], stub=True, environ={}))


def ask(
    server: Dashboard, method: str, path: str, body: Any = None, token: str | None = "", **headers: str
) -> tuple[int, dict[str, str], bytes]:
    """token: "" is the right one, None is none."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=120)
    secret = {} if token is None else {TOKEN: token or server.token}
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    connection.request(method, path, content, {**secret, **headers})
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return found


def test_the_page_and_its_blocks(made_up: Dashboard) -> None:
    status, headers, page = ask(made_up, "GET", f"/?token={made_up.token}", token=None)
    assert status == 200
    assert page.startswith(b'<!doctype html>\n<html lang="en" data-served>')
    assert b"connect-src 'self'" in page
    assert b"block-" not in page.split(b"</script>")[-1]
    assert headers["Cache-Control"] == "no-store"
    status, _, block = ask(made_up, "GET", "/block/questions")
    assert status == 200
    listed, _ = unpack(base64.b64encode(block).decode())
    assert len(listed) == 6
    assert ask(made_up, "GET", "/block/q6")[0] == 404
    assert ask(made_up, "GET", "/etc/passwd")[0] == 404


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/"), ("GET", "/block/run"), ("POST", "/ask"), ("POST", "/without")]
)
def test_nobody_without_the_token_gets_anything(made_up: Dashboard, method: str, path: str) -> None:
    body = {"question": "x"} if method == "POST" else None
    for token in (None, "wrong", made_up.token[:-1]):
        status, _, content = ask(made_up, method, path, body, token)
        assert status == 403
        assert "printed" in json.loads(content)["error"]


def test_a_name_that_leads_here_does_not_open_it(made_up: Dashboard) -> None:
    """DNS rebinding: a page of another site, whose name now means this machine, even if it had the token."""
    for host in ("evil.example", f"evil.example:{made_up.server_address[1]}", ""):
        assert ask(made_up, "GET", "/block/run", Host=host)[0] == 403
    assert ask(made_up, "GET", "/block/run", Host=f"localhost:{made_up.server_address[1]}")[0] == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"[1]", b"{", b"[" * 100_000, {"question": ""}, {"question": 3}, {"question": "x", "subject": 1}],
)
def test_what_is_no_question_is_refused_in_one_line(made_up: Dashboard, body: Any) -> None:
    status, _, content = ask(made_up, "POST", "/ask", body)
    assert status in (400, 422)
    assert json.loads(content)["error"].count("\n") == 0
    for wrong in ({"question": "capital/land 0", "tracks": []}, {"question": "no", "tracks": [1]},
                  {"question": "capital/land 0", "tracks": [1], "position": 3}):  # fmt: skip
        assert ask(made_up, "POST", "/without", wrong)[0] == 422


@pytest.mark.parametrize("length", [str(1 << 30), "9" * 5000, "\xb2", "-1", "x", ""])
def test_too_much_is_not_read(made_up: Dashboard, length: str) -> None:
    assert ask(made_up, "POST", "/ask", **{"Content-Length": length})[0] == 413


@pytest.mark.parametrize(
    "path", ["http://[/", "//[", "*", "/block/q\xb2", "/block/..%2f..%2fetc", "/?token=%ed%a0%80"]
)
def test_a_path_of_any_kind_is_answered(
    made_up: Dashboard, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_connection(("127.0.0.1", made_up.server_address[1]), timeout=20) as connection:
        host = f"Host: 127.0.0.1:{made_up.server_address[1]}\r\n{TOKEN}: {made_up.token}\r\nConnection: close\r\n\r\n"
        connection.sendall(f"GET {path} HTTP/1.1\r\n{host}".encode("latin-1"))
        assert b"".join(iter(lambda: connection.recv(4096), b"")).split()[1] in (b"404", b"403")
    assert not caplog.records


def test_a_port_that_is_taken_and_a_run_that_is_not_there(made_up: Dashboard, tmp_path: Path) -> None:
    config = load_config("demo", [f"paths.root={made_up.slices._results.store.root}"], environ={})
    with pytest.raises(ConfigError, match="choose another --port"):
        Dashboard(config, port=made_up.server_address[1])
    for host in ("a\0b", "\u00e9" * 70, "nowhere.invalid"):
        with pytest.raises(ConfigError, match="or --host"):
            Dashboard(config, host)
    for port in ("70000", "-1"):
        done = CliRunner().invoke(serve, ["--config", "demo", f"--port={port}"])
        assert (done.exit_code, "range 0<=x<=65535" in done.output) == (2, True)
    with pytest.raises(MissingInputError, match="ghosttrack run demo"):
        Dashboard(load_config("demo", [f"paths.root={tmp_path}"], environ={}))


@pytest.mark.slow
def test_a_question_is_asked_and_a_track_taken_out_as_the_api_does(
    stub: Dashboard, stub_run: Pipeline
) -> None:
    status, _, content = ask(stub, "POST", "/ask", {"question": "The capital of Norway is"})
    assert status == 200, content
    entry = json.loads(content)
    run = gt.open("demo-stub", root=stub_run.root)
    asked = run.ask("The capital of Norway is")
    assert entry["answer"] == asked.answer
    assert entry["scored"]["score"] == asked.probability
    [record], columns = unpack(base64.b64encode(ask(stub, "GET", f"/block/q{entry['number']}")[2]).decode())
    assert len(columns["nodes.latent"]) == len(asked.tracks)
    assert record["prompt"] == asked.prompt
    listed, _ = unpack(base64.b64encode(ask(stub, "GET", "/block/questions")[2]).decode())
    assert listed[entry["number"]]["id"] == entry["id"]
    track = int(asked.tracks.loc[asked.tracks["position"] == 0, "track"].iloc[0])
    for name, question in ((entry["id"], asked), (run.question(2).id, run.question(2))):
        status, _, content = ask(stub, "POST", "/without", {"question": name, "tracks": [track]})
        assert status == 200, content
        expected = question.without(track)
        found = json.loads(content)
        assert (found["new_answer"], found["control_answer"]) == (expected.answer, expected.control_answer)
        assert found["drop"] == pytest.approx(expected.drop, abs=1e-5)


@pytest.mark.parametrize(
    ("end", "code"),
    [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_the_command_says_where_the_page_is_and_ends_in_order_with_ctrl_c_or_with_who_started_it(
    made_up: Dashboard, end: signal.Signals, code: int
) -> None:
    root = made_up.slices._results.store.root
    command = [sys.executable, "-m", "ghosttrack.orchestrate", "serve", "demo", "--set", f"paths.root={root}"]
    running = subprocess.Popen(
        command, cwd=CODE, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=listening_to_ctrl_c,
    )  # fmt: skip
    assert running.stdout is not None
    line = running.stdout.readline()
    if not line.startswith("demo: open http://127.0.0.1:"):
        running.kill()
        pytest.fail(str(running.communicate()))
    if end == signal.SIGINT:  # a terminal sends it to all
        os.killpg(running.pid, end)
    else:
        running.send_signal(end)
    output, errors = running.communicate(timeout=60)
    assert (running.returncode, output, errors) == (code, "ended\n", "")


def listening_to_ctrl_c() -> None:
    """A process that was started in the background may not."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
