"""The entry shape that all stages share: command line, input verification, steps, publishing.

A stage hands `main` a function `run(job) -> metrics` that does one unit. Everything about files,
manifests, claims and errors happens here, so that a stage is only its science.
"""

import contextlib
import functools
import importlib
import importlib.metadata
import itertools
import json
import logging
import os
import platform
import resource
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import click

from ghosttrack.common.config.load import load_config
from ghosttrack.common.config.schema import Config, describe_layers, parse_layers
from ghosttrack.common.engine import image, launch, logs, manifest, ranks, stop
from ghosttrack.common.engine.command import run_command
from ghosttrack.common.engine.contract import Contract, Unit, expand, load_contract, stage_module, task_key
from ghosttrack.common.engine.progress import Progress, format_bytes, format_seconds
from ghosttrack.common.engine.sampler import Sampler
from ghosttrack.common.engine.staleness import input_digests, input_entries
from ghosttrack.common.engine.staleness import state as unit_state
from ghosttrack.common.engine.storage import Entry, Store, storage_errors, work_group
from ghosttrack.common.errors import BusyError, ConfigError, MissingInputError, StopRequested
from ghosttrack.common.files import sha256_of

MEDIA_TYPES = {
    ".csv": "text/csv",
    ".json": "application/json",
    ".jsonl": "application/jsonl",
    ".md": "text/markdown",
    ".parquet": "application/vnd.apache.parquet",
    ".pkl": "application/x-python-pickle",
    ".png": "image/png",
    ".pt": "application/x-pytorch",
    ".safetensors": "application/vnd.safetensors",
    ".txt": "text/plain",
}


@dataclass
class Job:
    """One unit at work: its configuration, its verified inputs, where its outputs go."""

    config: Config
    work: Unit
    log: logging.Logger
    staging: Path
    entries: dict[str, Entry]
    internal: dict[str, Any] = field(default_factory=dict)
    """Facts about how the work was done that do not change its meaning, for the manifest."""
    rank: int = 0
    """This process's number among those that do the unit together."""
    ranks: int = 1
    """How many processes do the unit together."""

    @property
    def unit(self) -> str:
        return self.work.name

    @property
    def layer(self) -> int | None:
        return self.work.layer

    def input(self, unit: str, file: str) -> Path:
        """Path of a verified input, such as `input("prepare/corpus", "corpus.pt")`."""
        return self.entries[unit].file(file)

    def input_dir(self, unit: str) -> Path:
        """Folder of an input unit of which every file is read."""
        return self.entries[unit].path

    def output(self, name: str) -> Path:
        """Path to write an output file at; it is published when the unit is done."""
        return self.staging / "out" / name

    def scratch(self, name: str) -> Path:
        """Path for work in progress that is not published; it is there again after a crash."""
        path = self.staging / "scratch" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def done(self, step: str) -> bool:
        return (self.staging / "steps" / f"{step}.json").exists()

    def step(self, name: str, function: Callable[[], object]) -> bool:
        """Do a piece of work once; a run that was killed and starts again skips what is finished.

        The files that `function` writes must be complete and fsynced (or be replaced by rename) when
        it returns. Returns whether the work was done now. Where several processes do the unit together, each
        calls this for steps of its own. Raises StopRequested before the work if a stop was asked for.
        """
        if self.done(name):
            return False
        stop.check()
        function()
        receipt = self.staging / "steps" / f"{name}.json"
        receipt.parent.mkdir(parents=True, exist_ok=True)
        temporary = receipt.with_suffix(".new")
        with temporary.open("w") as file:
            json.dump({"finishedOn": _now()}, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(receipt)
        return True

    def once(self, name: str, function: Callable[[], object]) -> None:
        """A step that one process does for all; all go on when it is done."""
        if self.rank == 0:
            self.step(name, function)
        self.barrier()

    def barrier(self) -> None:
        """Wait for the other processes that do the unit. Raises RankLostError when one of them has failed."""
        if self.ranks > 1:
            ranks.barrier()

    def progress(self, total: float, unit: str = "it", what: str = "", initial: float = 0) -> Progress:
        """Rate and time left; of the processes that do a unit together, the first shows its own share."""
        return Progress(total, unit, f"{self.work.stage} {what or self.unit}", initial, shown=self.rank == 0)


Run = Callable[[Job], dict[str, Any]]
"""Does one unit; returns its metrics."""
RunTogether = Callable[[Sequence[Job]], list[dict[str, Any]]]
"""Does several units side by side; returns the metrics of each."""


def main(stage_folder: Path) -> None:
    """Run a stage's command line and end the process with its exit code.

    The stage's module `run` has the function `run` that does a unit and, where the contract lets a process do several
    units in one go, `run_together`; it is imported late, so that `--help` needs no torch. A module `commands` has in
    `COMMANDS` what the stage can be asked for besides its units.
    """
    contract, module = load_contract(stage_folder), stage_module(stage_folder)
    group = _command(contract, module)
    if (stage_folder / "commands.py").exists():
        for command in importlib.import_module(f"{module}.commands").COMMANDS:
            group.add_command(command)
    run_command(group, contract.stage, f"python -m {module}")


def run_units(
    contract: Contract,
    run: Run,
    config: Config,
    *,
    layers: list[int] | None = None,
    names: tuple[str, ...] = (),
    log: logging.Logger,
    run_together: RunTogether | None = None,
) -> None:
    """Do the units of a stage that are not up to date, in order.

    A unit whose files were released counts as up to date unless it is asked for by name.
    """
    store = Store(config.paths.root)
    units = expand(contract, config)
    if not units:
        raise ConfigError(f"{contract.stage} has nothing to do for {config.name}: sae.pretrained is set, so that no states "
                          "are extracted; go on with the next stage, or all with `ghosttrack run`")  # fmt: skip
    chosen = select_units(units, config, layers, names)
    together = contract.ranks == "shared" and ranks.count() > 1
    number = 0
    while number < len(chosen):
        unit = chosen[number]
        number += 1
        stop.check()
        if run_together and unit.together > 1:
            beside = [unit, *itertools.takewhile(lambda other: other.together > 1, chosen[number:])]
            number += len(beside) - 1
            _run_side_by_side(store, beside, run_together, config, log)
            continue
        label = unit.label if len(chosen) == 1 else f"{unit.label} ({number} of {len(chosen)})"
        alone = not together and unit.layer is None
        if alone:
            ranks.barrier()  # what the others have of the units before it is done
        found = unit_state(store, unit)
        if together or alone:
            ranks.barrier()  # all have seen the same state before one of them changes it
        if found.reason is None and not (found.entry and found.entry.released and unit.name in names):
            if ranks.rank() == 0:
                log.info(f"{label}: up to date", extra={"unit": unit.name})
        elif together:
            with store.claim(unit) if ranks.rank() == 0 else contextlib.nullcontext():
                _run_unit(store, unit, run, config, log, label, ranks.rank(), ranks.count())
        elif ranks.count() > 1:
            _run_apart(store, unit, run, config, log, label)
        else:
            with store.claim(unit):
                _run_unit(store, unit, run, config, log, label)


def _run_side_by_side(
    store: Store, units: list[Unit], run: RunTogether, config: Config, log: logging.Logger
) -> None:
    """Do units that may share a process, so many at a time; with several ranks, each takes its share of them."""
    stale = [unit for unit in units if unit_state(store, unit).reason is not None]
    ranks.barrier()  # all have counted before one of them changes something
    size = min(units[0].together, -(-len(stale) // ranks.count()))
    for unit in units:
        if unit not in stale and ranks.rank() == 0:
            log.info(f"{unit.label}: up to date", extra={"unit": unit.name})
    while stale:
        stop.check()
        with contextlib.ExitStack() as stack:
            works: list[_Work] = []
            while stale and len(works) < size:
                unit = stale.pop(0)
                try:
                    stack.enter_context(store.claim(unit))
                except BusyError as error:
                    if ranks.count() == 1 or error.group != work_group():
                        raise
                    continue  # another rank has it
                if unit_state(store, unit).reason is not None:  # not done since it was looked at
                    work = stack.enter_context(_at_work(store, unit, config, log, unit.label))
                    works += [work] if work else []
            if works:
                found = run([work.job for work in works])
                for work, metrics in zip(works, found, strict=True):
                    work.finish(metrics, share=len(works))


def _run_apart(store: Store, unit: Unit, run: Run, config: Config, log: logging.Logger, label: str) -> None:
    """Do a unit unless another rank has it. What is not of one layer the first rank does, while the others wait."""
    try:
        if unit.layer is not None or ranks.rank() == 0:
            with store.claim(unit):
                if unit_state(store, unit).reason is not None:  # not done since it was looked at
                    _run_unit(store, unit, run, config, log, label)
    except BusyError as error:
        if error.group != work_group():
            raise  # not one of those that work beside this one
        log.debug(f"{label}: another process has it", extra={"unit": unit.name})
    if unit.layer is None:
        ranks.barrier()  # what reads it may start


def select_units(
    units: list[Unit], config: Config, layers: list[int] | None, names: tuple[str, ...]
) -> list[Unit]:
    """The units with these names, and of the per-layer units those of these layers. Raises ConfigError.

    A unit that reads units of all layers of its own stage is left out where not all are chosen.
    """
    if names:
        unknown = sorted(set(names) - {unit.name for unit in units})
        if unknown:
            raise ConfigError(
                f"there is no unit {unknown[0]!r}; there are {', '.join(u.name for u in units)}"
            )
        units = [unit for unit in units if unit.name in names]
    if layers is None:
        return units
    stage = units[0].stage
    if all(unit.layer is None for unit in units):
        raise ConfigError(
            f"{stage} works on all layers at once, so --layers means nothing to it; "
            "choose layers for the whole run with --set model.layers=0-5"
        )
    if outside := sorted(set(layers) - set(config.layers)):
        raise ConfigError(
            f"--layers: layer {outside[0]} is out of range; {config.name} studies layers "
            f"{describe_layers(config.layers)}"
        )
    left_out = {unit.label for unit in units if unit.layer is not None and unit.layer not in layers}
    return [
        unit
        for unit in units
        if unit.label not in left_out and not any(read.name in left_out for read in unit.reads)
    ]


def _run_unit(
    store: Store,
    unit: Unit,
    run: Run,
    config: Config,
    log: logging.Logger,
    label: str,
    rank: int = 0,
    count: int = 1,
) -> None:
    """rank, count: of the processes that do this unit together."""
    with _at_work(store, unit, config, log, label, rank, count) as work:
        if work:
            work.finish(run(work.job))


class _Work:
    """A unit at work, from the check of its inputs until it is published."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.metrics: dict[str, Any] = {}
        self._start, self._cpu = time.monotonic(), _cpu_seconds()

    def finish(self, metrics: dict[str, Any], share: int = 1) -> None:
        """It is done. share: the units that were done in this time."""
        self.metrics = metrics
        used = _resource_usage((time.monotonic() - self._start) / share, (_cpu_seconds() - self._cpu) / share)
        (self.job.staging / f"usage_{self.job.rank}.json").write_text(json.dumps(used))


@contextlib.contextmanager
def _at_work(
    store: Store,
    unit: Unit,
    config: Config,
    log: logging.Logger,
    label: str,
    rank: int = 0,
    count: int = 1,
) -> Iterator[_Work | None]:
    """A unit with its inputs verified, published at the end of the block; None where an earlier run has made it."""
    entries = input_entries(store, unit)
    digests = input_digests(unit, entries)
    for read in unit.reads:
        if entries[read.name].released:
            raise MissingInputError(
                f"{unit.label} needs {read.name}, whose files were removed after everything was made from them; "
                "`ghosttrack run` makes them again"
            )
        prefix = f"{read.name}/"
        store.verify(entries[read.name], [name[len(prefix) :] for name in digests if name.startswith(prefix)])
    key = task_key(unit, digests)
    kept = store.kept(unit.stage, key)
    if count > 1:
        ranks.barrier()
    if kept:
        if rank == 0:
            store.point(unit, key)
        log.info(f"{label}: taken from an earlier run", extra={"unit": unit.name, "taskKey": key})
        yield None
        return
    if rank == 0:
        store.staging(unit, key)
    if count > 1:
        ranks.barrier()
    staging = store.staging(unit, key)
    job = Job(config, unit, log, staging, entries, rank=rank, ranks=count)
    resumed = store.finished_steps(unit, key)
    if rank == 0:
        log.info(
            f"{label}: " + (f"goes on after {resumed} finished steps" if resumed else "starts"),
            extra={"unit": unit.name, "taskKey": key},
        )
    started, work, sampler = _now(), _Work(job), Sampler()
    try:
        with sampler, storage_errors(store.root):
            yield work
            job.barrier()
            if rank > 0:
                ranks.barrier()  # until the first has published
                return
            subjects = [
                _subject(job.output(name)) for name in sorted(p.name for p in (staging / "out").iterdir())
            ]
        _check_outputs(unit, {subject.name for subject in subjects})
    except StopRequested:
        raise
    except BaseException as error:
        store.record_failure(
            unit, {"stage": unit.stage, "unit": unit.name, "taskKey": key, "error": f"{type(error).__name__}: {error}",
                   "startedOn": started, "finishedOn": _now(), "invocationId": invocation_id()}
        )  # fmt: skip
        raise
    usage = _together([json.loads((staging / f"usage_{each}.json").read_text()) for each in range(count)])
    statement = manifest.Manifest(
        subject=subjects,
        predicate=manifest.Predicate(
            stage=unit.stage,
            contract_version=unit.version,
            unit=unit.name,
            task_key=key,
            build_definition=manifest.BuildDefinition(
                build_type=f"https://ghosttrack.dev/stage/{unit.stage}/v{unit.version}",
                external_parameters=unit.parameters,
                internal_parameters=job.internal,
                resolved_dependencies=_dependencies(digests, entries),
            ),
            run_details=manifest.RunDetails(
                builder=_builder(),
                metadata=manifest.Metadata(
                    invocation_id=invocation_id(), started_on=started, finished_on=_now()
                ),
            ),
            container_image=image.container_image(),
            environment=_environment(),
            resource_usage={**usage, **sampler.usage(), "processes": float(count)},
            metrics=work.metrics,
        ),
    )
    store.publish(unit, key, statement)
    job.barrier()
    size = sum(subject.size for subject in subjects)
    log.info(
        f"{label}: done in {format_seconds(usage['elapsedSec'] or 0.0)}, {len(subjects)} files, {format_bytes(size)}",
        extra={"unit": unit.name, "taskKey": key, "metrics": work.metrics},
    )


def _check_outputs(unit: Unit, written: set[str]) -> None:
    if unit.publishes_folder:
        return
    if written != set(unit.writes):
        missing, extra = sorted(set(unit.writes) - written), sorted(written - set(unit.writes))
        raise RuntimeError(f"{unit.label} broke its contract: missing files {missing}, unknown files {extra}")


def _subject(path: Path) -> manifest.Subject:
    annotations: dict[str, Any] = {"size": path.stat().st_size}
    if path.suffix == ".pt":
        import torch

        content = torch.load(path, mmap=True, weights_only=True)
        if isinstance(content, dict):
            annotations["tensors"] = {
                name: {"shape": list(value.shape), "dtype": str(value.dtype).removeprefix("torch.")}
                for name, value in content.items()
                if isinstance(value, torch.Tensor)
            }
    return manifest.Subject(
        name=path.name,
        digest={"sha256": sha256_of(path)},
        media_type=MEDIA_TYPES.get(path.suffix, "application/octet-stream"),
        annotations=annotations,
    )


def _dependencies(digests: dict[str, str], entries: dict[str, Entry]) -> list[manifest.Dependency]:
    files = [
        manifest.Dependency(name=name, uri=f"../{name.split('/')[0]}/{entries[unit].key}/{file}",
                            digest={"sha256": digest}, annotations={"inTaskKey": True})
        for name, digest in digests.items()
        for unit, file in [name.rsplit("/", 1)]
    ]  # fmt: skip
    manifests = [
        manifest.Dependency(name=f"{unit}/manifest.json", uri=f"../{unit.split('/')[0]}/{entry.key}/manifest.json",
                            digest={"sha256": entry.manifest_sha256})
        for unit, entry in entries.items()
    ]  # fmt: skip
    return files + manifests + _code()


@functools.cache
def _code() -> list[manifest.Dependency]:
    """The commit that the code was at, when it runs from a checkout or in an image that was built from one."""
    if revision := image.facts().get("revision"):
        return [_code_at(revision.removesuffix("-dirty"), dirty=revision.endswith("-dirty"))]
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        dirty = bool(git("status", "--porcelain", "--untracked-files=no"))
        return [_code_at(git("rev-parse", "HEAD"), dirty)]
    return []


def _code_at(commit: str, dirty: bool) -> manifest.Dependency:
    return manifest.Dependency(
        name="code", uri="git+ghosttrack", digest={"gitCommit": commit}, annotations={"dirty": dirty}
    )


def _builder() -> manifest.Builder:
    versions = {"ghosttrack": image.facts().get("version") or _version("ghosttrack") or "source"}
    return manifest.Builder(id="slurm" if os.environ.get("SLURM_JOB_ID") else "local", version=versions)


def invocation_id() -> str:
    """`<cluster>/<job>/<restart>` under SLURM, else `<host>/<pid>/<start>`."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return f"{socket.gethostname()}/{os.getpid()}/{_PROCESS_START:.0f}"
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    name = f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else job
    cluster = os.environ.get("SLURM_CLUSTER_NAME", "slurm")
    return f"{cluster}/{name}/{os.environ.get('SLURM_RESTART_COUNT', '0')}"


def _environment() -> dict[str, str | None]:
    facts: dict[str, str | None] = {
        "host": socket.gethostname(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        **{name: _version(name) for name in ("torch", "transformers", "numpy", "scikit-learn")},
        "cuda": None,
        "gpu": None,
        "threads": None,
    }
    if torch := sys.modules.get("torch"):
        facts["threads"] = str(torch.get_num_threads())
        if torch.cuda.is_available():
            facts["cuda"], facts["gpu"] = torch.version.cuda, torch.cuda.get_device_name()
    return facts


def _cpu_seconds() -> float:
    """Of this process and of the children that it has waited for, since they began."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _resource_usage(elapsed: float, cpu: float) -> dict[str, float | None]:
    """Of one process on one unit. maxRSS: bytes, the most since the process began."""
    scale = 1 if sys.platform == "darwin" else 1024
    gpu = None
    if (torch := sys.modules.get("torch")) and torch.cuda.is_available():
        gpu = float(torch.cuda.max_memory_allocated())
    return {
        "elapsedSec": round(elapsed, 3),
        "cpuSec": round(cpu, 3),
        "maxRSS": float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale),
        "gpuPeakBytes": gpu,
    }


def _together(usages: list[dict[str, float | None]]) -> dict[str, float | None]:
    """Of the processes that did a unit together: the longest time, and the sum of all that they used."""
    known = {name: [value for usage in usages if (value := usage[name]) is not None] for name in usages[0]}
    total = {name: sum(values) if values else None for name, values in known.items()}
    return total | {"elapsedSec": max(known["elapsedSec"])}


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None


def _now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


_PROCESS_START = time.time()


def parse_layer_option(context: click.Context, parameter: click.Parameter, value: str | None) -> Any:
    try:
        return parse_layers(value)
    except ValueError as error:
        raise ConfigError(f"--layers: {error}") from error


def _command(contract: Contract, module: str) -> click.Group:
    @click.group(invoke_without_command=True, help=_help(contract))
    @click.option(
        "--config",
        "config_name",
        metavar="NAME",
        help="A name from config/model_configs, or the path of a YAML file.",
    )
    @click.option(
        "--set",
        "overrides",
        multiple=True,
        metavar="KEY=VALUE",
        help="Override one key of the configuration; may be repeated.",
    )
    @click.option(
        "--cluster", metavar="NAME", help="A profile from config/clusters, or the path of a YAML file."
    )
    @click.option("--layers", callback=parse_layer_option, metavar="0-5", help="Only these layers' units.")
    @click.option("--unit", "names", multiple=True, metavar="UNIT", help="Only this unit; may be repeated.")
    @click.option(
        "--stub",
        is_flag=True,
        help="Do the real work on a miniature model, in seconds, under the name NAME-stub.",
    )
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
                      run_together=getattr(stage, "run_together", None))  # fmt: skip
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
