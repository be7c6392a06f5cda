"""Three tiny stages in a folder of their own, so that planning and running are tested in seconds.

`source/all` writes seed // 10, so that a small change of the seed changes the parameter and not the
output. `layers/base` and `layers/layer_<i>` read it and write their layer; `sink/all` joins them.
"""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from ghosttrack.orchestrate.request import Request

CONTRACTS = {
    "source": """
        stage: source
        phase: 0
        version: 1
        summary: Writes a number.
        gpu: false
        units:
          - name: all
            parameters: [seed]
            folder: data/cache/{name}/source
            writes: [number.txt]
        """,
    "layers": """
        stage: layers
        phase: 1
        version: 1
        summary: Writes a file a layer.
        gpu: false
        units:
          - name: base
            reads: {source/all: [number.txt]}
            parameters: [sae.d_hidden]
            folder: models/checkpoints/{name}
            writes: [base.txt]
          - name: "layer_{layer}"
            reads: {layers/base: [base.txt]}
            parameters: [sae.d_hidden]
            folder: models/checkpoints/{name}
            writes: ["layer_{layer}.txt"]
        """,
    "sink": """
        stage: sink
        phase: 2
        version: 1
        summary: Joins the layers.
        gpu: false
        units:
          - name: all
            reads: {"layers/layer_{layers}": ["layer_{layers}.txt"]}
            parameters: [tracking.top_k_features]
            folder: results/{name}/sink
            writes: [joined.json]
        """,
}

MAIN = """
    from ghosttrack.common.engine.stage import main

    main(__file__)
    """

COSTS = """
    from ghosttrack.common.engine.costs import Cost

    def cost(quantities, unit):
        return Cost()
    """

RUN = """
    import json, os, time
    from pathlib import Path
    from ghosttrack.common.errors import NumericError

    def run(job):
        root = Path(job.config.paths.root)
        trouble = root / f"trouble-{job.work.stage}-{job.unit}"
        with (root / "calls.txt").open("a") as file:
            file.write(job.work.label + "\\n")
        if trouble.exists():
            what = trouble.read_text()
            if what == "sleep":
                (root / "asleep").write_text(str(os.getpid()))
                time.sleep(600)
            if what.startswith("steps"):
                for number in range(int(what.removeprefix("steps") or 60)):
                    job.step(str(number), lambda: (time.sleep(0 if (root / "hurry").exists() else 0.1), (root / "steps.txt").open("a").write("x")))
            if what == "kill once":
                trouble.unlink()
            if what.startswith("kill"):
                os.kill(os.getpid(), 9)
            if not what.startswith("steps"):
                raise NumericError(what)
        texts = [job.entries[read.name].file(file).read_text() for read in job.work.reads for file in read.files]
        if job.work.stage == "source":
            job.output("number.txt").write_text(str(job.config.seed // 10))
        elif job.work.writes == ["joined.json"]:
            joined = {"parts": texts, "top": job.config.tracking.top_k_features}
            job.output("joined.json").write_text(json.dumps(joined))
        else:
            mine = job.config.sae.d_hidden if job.layer is None else job.layer
            job.output(job.work.writes[0]).write_text(" ".join([*texts, str(mine)]))
        return {"n": 1}
    """


class FakeProject:
    """A stages folder, a configuration file and a root under one temporary folder."""

    def __init__(
        self, folder: Path, config_file: Path, contracts: Mapping[str, str] = MappingProxyType(CONTRACTS)
    ) -> None:
        self.config_file = config_file
        self.root = folder / "root"
        self.root.mkdir()
        self.stages = folder / "code" / "stages"
        for stage, contract in contracts.items():
            home = self.stages / stage
            home.mkdir(parents=True)
            (home / "__init__.py").touch()
            (home / "contract.yaml").write_text(textwrap.dedent(contract))
            (home / "__main__.py").write_text(textwrap.dedent(MAIN).replace("{stage}", stage))
            (home / "run.py").write_text(textwrap.dedent(RUN))
            (home / "costs.py").write_text(textwrap.dedent(COSTS))
        (self.stages / "__init__.py").touch()

    def request(self, *overrides: str, cluster: str | None = None) -> Request:
        return Request.of(str(self.config_file), overrides, cluster=cluster, stages_folder=self.stages)

    def trouble(self, unit: str, what: str | None) -> None:
        """Let a unit fail with the message `what`; or "sleep", "kill", "steps" (sixty of them) or "steps 90"; None: all is well again."""
        path = self.root / f"trouble-{unit.replace('/', '-')}"
        if what is None:
            path.unlink()
        else:
            path.write_text(what)

    def hurry(self) -> None:
        """From now on "steps" take no time."""
        (self.root / "hurry").touch()

    def calls(self) -> list[str]:
        """The units that have run since the last call of this method."""
        file = self.root / "calls.txt"
        calls = file.read_text().split() if file.exists() else []
        file.unlink(missing_ok=True)
        return calls
