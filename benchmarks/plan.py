"""How long planning takes, and how often the scheduler is called: `python benchmarks/plan.py [--quick]`.

Plans 100 models of 48 layers, each layer a wave of its own that reads 200 shards of the corpus: 960,000 files. The
contracts are the real ones, but for the shards; nothing is published yet. Then submits the chain of one model, and asks
for its status, with stand-ins for sbatch and squeue that count how often they are called. Ends with one line of JSON.
"""

import argparse
import contextlib
import io
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

from ghosttrack.common.config.load import load_config
from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.contract import Contract, load_contracts
from ghosttrack.orchestrate.plan import Plan, make_plan
from ghosttrack.orchestrate.render import Terminal
from ghosttrack.orchestrate.request import Request
from ghosttrack.orchestrate.slurm.submit import SlurmExecutor
from ghosttrack.orchestrate.watching import overview

MODELS, LAYERS, SHARDS = 100, 48, 200
REPEATS = 3
STAND_IN = """#!/bin/sh
echo "$0 $*" >> "{folder}/calls"
{answer}
"""


def main() -> None:
    options = arguments()
    models = 10 if options.quick else MODELS
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        contracts = [with_shards(contract) for contract in load_contracts()]
        configs = [synthetic(folder, number) for number in range(models)]
        seconds = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            plans = [make_plan(config, contracts) for config in configs]
            seconds.append(time.perf_counter() - start)
        sbatch_calls, status_calls = scheduler_calls(folder)
    print(
        json.dumps(
            {
                "plan_seconds": round(statistics.median(seconds), 3),
                "plan_seconds_each": [round(each, 3) for each in seconds],
                "sbatch_calls": sbatch_calls,
                "status_calls": status_calls,
                "models": models,
                "layers": LAYERS,
                "shards": SHARDS,
                "units": sum(len(plan.units) for plan in plans),
                "files_read": sum(map(files_read, plans)),
            }
        )
    )


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="10 models, to see that it works")
    return parser.parse_args()


def with_shards(contract: Contract) -> Contract:
    """The contract with a corpus in shards, which every wave reads."""
    shards = [f"shard_{number:03}.pt" for number in range(SHARDS)]
    units = [
        template.model_copy(
            update={
                "reads": {
                    source: shards if source == "prepare/corpus" else files
                    for source, files in template.reads.items()
                },
                "writes": shards
                if (contract.stage, template.name) == ("prepare", "corpus")
                else template.writes,
            }
        )
        for template in contract.units
    ]
    return contract.model_copy(update={"units": units})


def synthetic(folder: Path, number: int) -> Config:
    """A model of 48 layers in as many waves, under a name of its own."""
    config = load_config("gpt2-medium", overrides(folder))
    return config.model_copy(update={"name": f"model-{number}"})


def overrides(folder: Path) -> list[str]:
    return [f"paths.root={folder / 'root'}", f"model.n_layers={LAYERS}", "extract.layers_per_wave=1"]


def scheduler_calls(folder: Path) -> tuple[int, int]:
    """Calls of sbatch that submit a whole chain, and calls to the scheduler of one status."""
    programs, calls = folder / "bin", folder / "calls"
    programs.mkdir()
    for name, answer in {"sbatch": f'wc -l < "{calls}"', "squeue": "true"}.items():
        program = programs / name
        program.write_text(STAND_IN.format(folder=folder, answer=answer))
        program.chmod(0o755)
    os.environ["PATH"] = f"{programs}{os.pathsep}{os.environ['PATH']}"
    request = Request.of("gpt2-medium", overrides(folder))
    with contextlib.redirect_stdout(io.StringIO()):
        SlurmExecutor(Terminal()).submit(request, request.plan())
    submitted = calls.read_text().splitlines()
    calls.unlink()
    overview(request)
    return sum("sbatch" in line.split()[0] for line in submitted), len(calls.read_text().splitlines())


def files_read(plan: Plan) -> int:
    return sum(len(read.files) for planned in plan.units for read in planned.unit.reads)


if __name__ == "__main__":
    main()
