"""Starts a stage as several processes with `accelerate launch`, on one machine or on several.

Accelerate's launcher is called inside this process, so that the exit code is that of the first rank that
failed (its command line ends with 1 and a page of traces whatever went wrong).
"""

import logging
import os
import signal
import sys
from collections.abc import Sequence

import click

from ghosttrack.common.config.load import CONFIG_FOLDER
from ghosttrack.common.errors import ConfigError

CONFIG_FILE = CONFIG_FOLDER / "accelerate.yaml"


def launch(
    module: str,
    arguments: Sequence[str],
    *,
    processes: int,
    machines: int = 1,
    main_process: str | None = None,
) -> int:
    """Run `python -m module arguments…` as `processes` processes on this machine; the exit code.

    machines: how many machines this is called on; their ranks are SLURM's task numbers. main_process: HOST:PORT
    of the first of them, where there are several. Raises ConfigError for what cannot be.
    """
    options = launch_options(processes, machines, main_process)
    # the rank's own error is told by the rank
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    parsed = launch_command_parser().parse_args([*options, "-m", module, *arguments])
    try:
        launch_command(parsed)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        if failure.exitcode > 0:
            return int(failure.exitcode)
        name = signal.Signals(-failure.exitcode).name
        click.echo(
            f"{module}: error: process {rank} was killed ({name}), and the others were ended; out of memory, if nobody "
            "did it. Give the command again to go on from the finished steps",
            err=True,
        )
        return 128 - int(failure.exitcode)
    return 0


def launch_options(processes: int, machines: int = 1, main_process: str | None = None) -> list[str]:
    """The options of `accelerate launch`. A free port is chosen where there is one machine."""
    options = ["--config_file", str(CONFIG_FILE), "--num_processes", str(processes * machines)]
    options += ["--num_machines", str(machines)]
    if machines == 1:
        options += ["--machine_rank", "0", "--main_process_port", "0"]
    else:
        host, separator, port = (main_process or "").partition(":")
        if not (host and separator and port.isdigit()):
            raise ConfigError("several machines need --main-process HOST:PORT, the same on all of them")
        number = os.environ.get("SLURM_PROCID")
        if number is None:
            raise ConfigError(
                "several machines take their number from SLURM_PROCID: start the stage with `srun`, one task a node"
            )
        options += ["--machine_rank", number, "--main_process_ip", host, "--main_process_port", port]
    return [*options, "--num_cpu_threads_per_process", str(threads_per_process(processes))]


def threads_per_process(processes: int) -> int:
    """The user's OMP_NUM_THREADS (its first level: `4,2` is one), or an equal share of the cores that this process may use."""
    chosen = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if chosen.isdecimal() and int(chosen):
        return int(chosen)
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, cores // processes)
