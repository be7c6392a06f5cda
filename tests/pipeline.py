"""`ghosttrack run demo --stub` under a root of its own, for the tests of the whole pipeline and of the API."""

import re
import subprocess
import sys
from pathlib import Path

from ghosttrack.common.config.load import load_config
from ghosttrack.common.engine.contract import Unit, expand, load_contracts
from ghosttrack.common.engine.storage import Store
from ghosttrack.common.files import sha256_of

CODE = Path(__file__).parents[1]
RESULTS = "results/demo-stub"


class Pipeline:
    """`ghosttrack run demo --stub` under a root of its own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = Store(str(root))

    def command(self, *overrides: str) -> list[str]:
        options = [part for each in (f"paths.root={self.root}", *overrides) for part in ("--set", each)]
        return [sys.executable, "-m", "ghosttrack.orchestrate", "run", "demo", "--stub", *options]

    def start(self, *overrides: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command(*overrides), cwd=CODE, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def run(self, *overrides: str) -> str:
        """What the command printed; it must succeed."""
        running = self.start(*overrides)
        output, _ = running.communicate()
        assert running.returncode == 0, output
        return output

    def units(self) -> list[Unit]:
        config = load_config("demo", [f"paths.root={self.root}"], stub=True, environ={})
        return [unit for contract in load_contracts() for unit in expand(contract, config)]

    def digests(self) -> dict[str, str]:
        """Of every published file whose content is science; models are compared through what is made of them."""
        return {
            path.relative_to(self.root).as_posix(): sha256_of(path)
            for folder in ("models/checkpoints/demo-stub", RESULTS, "data/cache/demo-stub/hidden_states")
            for path in sorted((self.root / folder).rglob("*"))
            if path.suffix in (".pt", ".json", ".jsonl", ".csv", ".parquet") and "manifest" not in path.name
        }


def ran(output: str) -> list[str]:
    """The units that a run worked on."""
    return re.findall(r"^\w+: (\S+)(?: \(\d+ of \d+\))?: (?:starts|goes on)", output, flags=re.MULTILINE)
