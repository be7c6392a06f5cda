"""A stage's command line, the same for all: `python -m ghosttrack.stages.<name> --config NAME`.

A stage is `run(job) -> metrics` in its module `run`, which does one unit. All about files, manifests, claims and errors
is done around it, so that a stage is only its science.
"""

import importlib
import json
import logging
import sys
from pathlib import Path
from typing import NoReturn

import click

from ghosttrack.common.config.load import load_config
from ghosttrack.common.config.options import NAME, chosen_layers, takes_overrides
from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine import launch, logs, ranks
from ghosttrack.common.engine.command import end_after, run_command
from ghosttrack.common.engine.contract import Contract, load_contract, stage_module
from ghosttrack.common.engine.job import Job, Run, RunTogether
from ghosttrack.common.engine.runner import run_units
from ghosttrack.common.engine.storage import storage_errors
from ghosttrack.common.errors import ConfigError

__all__ = ["Job", "Run", "RunTogether", "main", "run_stage", "run_units"]


def main(file: str) -> NoReturn:
    """Run a stage's command line and end the process with its exit code. file: a module in the stage's folder."""
    end_after(lambda: run_stage(file))


def run_stage(file: str) -> None:
    """The same in a process that goes on where all went well. Raises SystemExit with the code otherwise.

    The stage's module `run` has the function `run` that does a unit and, where the contract lets a process do several
    units in one go, `run_together`; it is imported late, so that `--help` needs no torch. A module `commands` has in
    `COMMANDS` what the stage can be asked for besides its units.
    """
    stage_folder = Path(file).parent
    contract, module = load_contract(stage_folder), stage_module(stage_folder)
    group = _command(contract, module)
    if (stage_folder / "commands.py").exists():
        for command in importlib.import_module(f"{module}.commands").COMMANDS:
            group.add_command(command)
    run_command(group, contract.stage, f"python -m {module}")


def _command(contract: Contract, module: str) -> click.Group:
    @click.group(invoke_without_command=True, help=_help(contract))
    @click.option("--config", "config_name", metavar="NAME", help=NAME)
    @takes_overrides
    @click.option("--layers", callback=chosen_layers, metavar="0-5", help="Only these layers' units.")
    @click.option("--unit", "names", multiple=True, metavar="UNIT", help="Only this unit; may be repeated.")
    @click.option("--strict-code", is_flag=True, help="Do again what other code or another image has made.")
    @click.option(
        "--log-file",
        type=click.Path(dir_okay=False, path_type=Path),
        help="Append structured logs (JSON lines) here.",
    )
    @click.option(
        "--processes",
        type=click.IntRange(min=1),
        default=1,
        help="Processes on this machine, by accelerate launch.",
    )
    @click.option(
        "--machines", type=click.IntRange(min=1), default=1, help="Machines that this is started on, by srun."
    )
    @click.option(
        "--main-process", metavar="HOST:PORT", help="The first of several machines, and a free port there."
    )
    @click.pass_context
    def group(
        context: click.Context,
        config_name: str | None,
        overrides: tuple[str, ...],
        cluster: str | None,
        layers: list[int] | None,
        names: tuple[str, ...],
        strict_code: bool,
        stub: bool,
        log_file: Path | None,
        processes: int,
        machines: int,
        main_process: str | None,
    ) -> None:
        if context.invoked_subcommand:
            return
        if config_name is None:
            raise click.UsageError("which configuration? give --config NAME")
        config = load_config(config_name, overrides, cluster=cluster, stub=stub)
        if processes * machines > 1 and ranks.count() == 1:
            if contract.ranks == "none":
                raise ConfigError(
                    f"{contract.stage} runs as one process; leave out --processes and --machines"
                )
            context.exit(
                launch.launch(module, sys.argv[1:], processes=processes, machines=machines,
                              main_process=main_process)
            )  # fmt: skip
        with storage_errors(log_file or Path()):
            log = logs.set_up(contract.stage, log_file)
        try:
            stage = importlib.import_module(f"{module}.run")
            ranks.join()
            if "torch" in sys.modules:
                from ghosttrack.common.maths import seeds

                seeds.seed_everything(config.seed)
            run_units(contract, stage.run, config, layers=layers, names=names, log=log,
                      run_together=getattr(stage, "run_together", None), strict_code=strict_code)  # fmt: skip
            ranks.leave()
        except Exception as error:
            for handler in log.handlers[1:]:  # the terminal gets the one clear line from main()
                handler.handle(
                    log.makeRecord(log.name, logging.ERROR, __file__, 0, str(error), (), sys.exc_info())
                )
            raise

    @group.command(help="What this stage reads, writes and depends on.")
    @click.option("--json", "as_json", is_flag=True, help="As JSON, for programs.")
    def describe(as_json: bool) -> None:
        description = {
            **contract.model_dump(mode="json"),
            "contractVersion": contract.version,
            "parameterSchema": Config.model_json_schema(),
        }
        click.echo(json.dumps(description, indent=2) if as_json else _help(contract).replace("\b\n", ""))

    return group  # fmt: skip


def _help(contract: Contract) -> str:
    lines = [contract.summary, ""]
    for unit in contract.units:
        lines += ["\b", f"Unit {unit.name}"]
        lines += [f"  reads   {source}: {', '.join(files)}" for source, files in unit.reads.items()]
        lines += [f"  writes  {unit.folder}/{name}" for name in unit.writes]
        lines += [f"  depends on {', '.join(unit.parameters)}", ""]
    return "\n".join(lines)
