"""`ghosttrack push` against a stand-in of the hub: what a repository holds afterwards, and that SAEs are read from it."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import datasets
import pytest
import torch
from huggingface_hub import DatasetCard, ModelCard, constants

from ghosttrack.common.errors import ConfigError, MissingInputError, StorageError
from ghosttrack.common.models.sae import JumpReLUSAE
from ghosttrack.common.models.saelens import read
from ghosttrack.orchestrate import cli, push
from tests.pipeline import Pipeline

pytestmark = pytest.mark.slow


class Hub(ThreadingHTTPServer):
    """The few calls of the hub that a commit is made of; files by repository and path."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Calls)
        self.files: dict[str, dict[str, bytes]] = {}
        self.token_wanted = "secret"


class Calls(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != f"Bearer {self.server.token_wanted}":
            return self._answer({"error": "who are you?"}, 401)
        parts = self.path.strip("/").split("/")  # api, models, owner, name, call, revision
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            kind = f"{asked.get('type', 'model')}s"
            name = f"{kind}/{asked['organization']}/{asked['name']}"
            self.server.files.setdefault(name, {})
            return self._answer({"url": f"{constants.ENDPOINT}/{name}", "name": asked["name"]})
        if self.path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        name = "/".join(parts[1:4])
        if parts[4] == "preupload":
            files = [{"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                     for file in json.loads(body)["files"]]  # fmt: skip
            return self._answer({"files": files})
        for line in body.splitlines():
            record = json.loads(line)
            if record["key"] == "file":
                self.server.files[name][record["value"]["path"]] = base64.b64decode(
                    record["value"]["content"]
                )
        return self._answer(
            {"commitUrl": f"{constants.ENDPOINT}/{name}/commit/1", "commitOid": "1", "success": True}
        )

    def do_GET(self) -> None:
        self._answer({"error": "who are you?"}, 401)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, data: object, status: int = 200) -> None:
        text = json.dumps(data).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with Hub() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("HF_TOKEN", server.token_wanted)
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", address)
        yield server
        server.shutdown()


def command(run: Pipeline, *arguments: str) -> None:
    options = ["--stub", "--set", f"paths.root={run.root}"]
    cli.ghosttrack.main(["push", "demo", *options, *arguments], standalone_mode=False)


def test_a_repository_holds_the_saes_the_detector_and_a_card(
    stub_run: Pipeline, hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(stub_run, "me/saes", "--answers", "me/answers")
    assert "me/saes" in capsys.readouterr().out
    model, answers = hub.files["models/me/saes"], hub.files["datasets/me/answers"]
    assert {"detector.json", "detector.npz", "final_report.json", "README.md"} <= set(model)
    for path, content in {**model, **answers}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    published = stub_run.root / "models/checkpoints/demo-stub/sae_layer_0_best.pt"
    own = JumpReLUSAE.load(published)
    d_model, d_hidden = own.W_enc.shape
    pushed = read(tmp_path / "layer_0", layer=0, d_model=d_model, d_hidden=d_hidden, target_l0=1.0).sae
    states = torch.randn(8, d_model, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(pushed.encode(states), own.encode(states))
    card = ModelCard(model["README.md"].decode())
    assert card.data.library_name == "saelens"
    assert 'SAE.from_pretrained("me/saes", "layer_0")' in card.text
    scores = json.loads((stub_run.root / "results/demo-stub/detection/hallucination_scores.json").read_text())
    rows = datasets.load_dataset(
        "json", data_files=str(tmp_path / push.ROWS), split="train", cache_dir=str(tmp_path / "c")
    )
    assert rows["id"] == [record["id"] for record in scores["questions"]]
    assert rows["score"] == [record["score"] for record in scores["questions"]]
    assert DatasetCard(answers["README.md"].decode()).data.configs[0]["data_files"][0]["path"] == push.ROWS


def test_a_look_at_the_folders_first_pushes_nothing(stub_run: Pipeline, hub: Hub, tmp_path: Path) -> None:
    command(stub_run, "me/saes", "--output", str(tmp_path / "look"))
    assert (tmp_path / "look/model/layer_0/cfg.json").exists()
    assert str(stub_run.root) not in (tmp_path / "look/model/README.md").read_text()
    assert not hub.files
    with pytest.raises(StorageError, match="is there already"):
        command(stub_run, "me/saes", "--output", str(tmp_path / "look"))


def test_a_hub_out_of_reach_is_one_error(
    stub_run: Pipeline, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    # nobody listens there
    monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConfigError, match=r"me/saes was not pushed: .*reaches the hub"):
        command(stub_run, "me/saes")


def test_what_the_hub_refuses_is_one_error(
    stub_run: Pipeline, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="not a name was not pushed"):
        command(stub_run, "not a name")
    monkeypatch.setenv("HF_TOKEN", "wrong")
    with pytest.raises(ConfigError, match=r"me/saes was not pushed: .*HF_TOKEN"):
        command(stub_run, "me/saes")
    with pytest.raises(MissingInputError, match="has no result"):
        command(Pipeline(tmp_path), "me/saes")
