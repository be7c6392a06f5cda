"""Job scripts: one for each link of the chain, readable, and able to be submitted by hand.

A script holds everything but its dependencies (`sbatch --dependency=afterok:… script`). It ends with its stage's exit
code. When the time limit or a preemption comes near, SLURM signals the batch shell, which makes a stop-file; the stage
sees it, ends at its next step with exit code 75, and the script puts itself back into the queue.
"""

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ghosttrack.common.config.cluster import ClusterProfile, Resources, bytes_of, seconds_of
from ghosttrack.common.config.schema import describe_layers, refuse_control_characters
from ghosttrack.common.errors import ConfigError, ImageError
from ghosttrack.orchestrate.chain import Link, Task
from ghosttrack.orchestrate.slurm.scheduler import requests

PASSED_ON = (
    "HOME", "USER", "PATH", "LANG", "HF_HOME", "HF_TOKEN_PATH", "XDG_CACHE_HOME",
)  # fmt: skip
"""Variables that a job has as they were at submission; a job's environment holds nothing else of the submitter's."""
KEPT = (
    "SLURM*", "TMPDIR", "*_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "MODULE*", "LMOD*", "BASH_ENV", "KRB5CCNAME",
)  # fmt: skip
"""Patterns of variables that a job keeps of its environment."""
RUN_TIME = (
    "GHOSTTRACK_STOP_FILE", "GHOSTTRACK_DEADLINE", "GHOSTTRACK_GRACE", "OMP_NUM_THREADS", "CUDA_VISIBLE_DEVICES",
    "SLURM_JOB_ID", "SLURM_ARRAY_JOB_ID", "SLURM_ARRAY_TASK_ID", "SLURM_CLUSTER_NAME", "SLURM_RESTART_COUNT",
    "SLURM_PROCID",
)  # fmt: skip
"""Variables that are known in the job only, and that a stage in a container must see."""
MOST_RESTARTS = 50
TERMINATED = 143
"""Exit code of a script that the scheduler ended."""
MEDIC = "retry"
MEDIC_RESOURCES = Resources(cpus=1, memory="1G", time="0:15:00")
OWN_NODE = (
    "export APPTAINERENV_SLURM_PROCID=$SLURM_PROCID "
    '${CUDA_VISIBLE_DEVICES:+"APPTAINERENV_CUDA_VISIBLE_DEVICES=$CUDA_VISIBLE_DEVICES"}; exec "$@"'
)
"""On each of several nodes: a container gets the number and the GPUs of its own node, not the batch script's."""
PORTS = "$((20000 + SLURM_JOB_ID % 20000))"


@dataclass(frozen=True)
class Setting:
    """What all scripts of a run have in common."""

    name: str
    """The configuration's."""
    folder: Path
    """The run's, absolute."""
    working_folder: Path
    profile: ClusterProfile
    commands: Mapping[str, Sequence[str]]
    """Stage to its command line without units."""
    release_command: Sequence[str]
    """The command line to which `--unit LABEL` is added to remove states that are not needed any more."""
    shares_work: Mapping[str, bool]
    """Stage to whether it can run as several processes."""
    images: Mapping[str, tuple[Path, str]] = field(default_factory=dict)
    """Stage to its image and that file's sha256, where stages run in containers."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Further variables of every job."""

    @property
    def contained(self) -> bool:
        return bool(self.images)


def job_name(setting: Setting, link: Link) -> str:
    return f"{setting.name}.{link.name}"


def resources_of(profile: ClusterProfile, link: Link) -> Resources:
    """What the link's jobs ask for: of its stages, the most of each."""
    return most_of([profile.resources_of(stage) for stage in link.stages])


def most_of(asked: Sequence[Resources]) -> Resources:
    """The most of each: GPUs and nodes as who asks for most of them, and where that is, the partition."""
    return max(asked, key=lambda r: (r.gpus * r.nodes, r.cpus)).model_copy(
        update={
            "time": max(asked, key=lambda r: seconds_of(r.time)).time,
            "memory": max(asked, key=lambda r: bytes_of(r.memory)).memory,
            "cpus": max(r.cpus for r in asked),
        }
    )


def render(setting: Setting, link: Link, resources: Resources) -> str:
    """The script of a link."""
    tasks = [_task(setting, task) for task in link.tasks]
    about = [
        f"{link.name} ({', '.join(link.stages)}). Written by ghosttrack; by hand:",
        f"#   sbatch [--dependency=afterok:JOB] {setting.folder}/jobs/{link.name}.sbatch",
    ]
    work = [
        *(line for stage in link.stages for line in _function(setting, stage, resources)),
        *(_by_index(link.tasks, tasks) if link.is_array else tasks[0]),
    ]
    array = f"--array={_array(setting, link)}" if link.is_array else None
    return _script(setting, job_name(setting, link), resources, about, work, array)


def render_whole(setting: Setting, command: Sequence[str], resources: Resources) -> str:
    """One script that runs the whole chain in one job, one stage after another. command: that runs it."""
    about = ["the whole pipeline in one job. Written by ghosttrack; submit it with `sbatch`."]
    return _script(setting, setting.name, resources, about, [f"attend {shlex.join(command)}"])


def render_medic(setting: Setting, command: Sequence[str]) -> str:
    """The script of the small job that retries by cause. command: that does it."""
    about = ["looks why a job has failed, and submits what is left, with more of what it lacked."]
    name = f"{setting.name}.{MEDIC}"
    return _script(setting, name, MEDIC_RESOURCES, about, [f"attend {shlex.join(command)}"])


def _script(
    setting: Setting, name: str, resources: Resources, about: Sequence[str], work: Sequence[str], array: str | None = None
) -> str:  # fmt: skip
    """about: lines of the comment, the first of which goes on after the run's name."""
    head = _header(setting, name, resources, array)
    comment, *more = about
    prepared = _preparation(setting, resources)
    return "\n".join([*head, "", f"# {setting.name}: {comment}", *more, *prepared, "", *work, ""])


def _header(setting: Setting, name: str, resources: Resources, array: str | None) -> list[str]:
    """The first lines, of which bash reads nothing: a line break in them would start a command."""
    slurm, job = setting.profile.slurm, "%A_%a" if array else "%j"
    log = str(setting.folder).replace("%", "%%") + f"/logs/%x-{job}.out"
    options = [
        f"--job-name={name}",
        f"--output={log}",
        "--open-mode=append",
        f"--chdir={setting.working_folder}",
        "--export=ALL",  # NIL is not known before 23.02, NONE reads the user's login files; the script cleans up
        "--requeue",
        f"--signal=B:USR1@{slurm.grace}",
        array,
        *(f"--{name}={value}" for name, value in requests(slurm, resources).items()),
        "--kill-on-invalid-dep=yes" if slurm.kill_on_invalid_dependency else None,
        *slurm.options,
    ]
    lines = ["#!/bin/bash", *(f"#SBATCH {shlex.quote(option)}" for option in options if option)]
    for text in (*lines, str(setting.folder)):
        try:
            refuse_control_characters("a line of the job script", text)
        except ValueError as error:
            raise ConfigError(f"{error}: {text!r}") from error
    return lines


def _preparation(setting: Setting, resources: Resources) -> list[str]:
    profile, folder = setting.profile, shlex.quote(str(setting.folder))
    variables = {name: os.environ[name] for name in PASSED_ON if os.environ.get(name)}
    variables |= {"LC_ALL": "C.UTF-8", **setting.environment}
    threads = max(1, resources.cpus // resources.processes_per_node)
    return [
        "set -euo pipefail",
        "",
        "# Of the environment of whoever submits this nothing counts but the scheduler's own variables and the modules'.",
        "for name in $(compgen -e); do",
        f'    case $name in {"|".join(KEPT)}) ;; *) unset "$name" ;; esac',
        "done",
        *(f"export {name}={shlex.quote(value)}" for name, value in variables.items()),
        f"export OMP_NUM_THREADS={threads}",
        *(f"export {name}={shlex.quote(value)}" for name, value in profile.environment.items()),
        *(f"module load {shlex.quote(module)}" for module in profile.modules),
        *profile.setup,
        "",
        f"run={folder}",
        "job=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}",
        'mkdir -p "$run/jobs/stop" "$run/jobs/ended"',
        "",
        "# A stage stops at its next step when this file is there, or when the deadline comes near.",
        'export GHOSTTRACK_STOP_FILE="$run/jobs/stop/$job"',
        f"export GHOSTTRACK_GRACE={profile.slurm.grace}",
        f"export GHOSTTRACK_DEADLINE=${{SLURM_JOB_END_TIME:-$(($(date +%s) + {seconds_of(resources.time)}))}}",
        'rm -f "$GHOSTTRACK_STOP_FILE" "$run/jobs/ended/$job.json"',
        "signalled=0",
        "trap 'signalled=1; touch \"$GHOSTTRACK_STOP_FILE\"' USR1",
        f"trap 'exit {TERMINATED}' TERM  # cancelled, out of time, or preempted; else the exit code would be 0",
        *(
            [
                "",
                "# Of these variables nothing else gets into a container.",
                f"for name in {' '.join(RUN_TIME)}; do",
                '    [ -z "${!name:-}" ] || export "APPTAINERENV_$name=${!name}"',
                "done",
                "",
                "# Ends the job where an image is not what it was at submission; the manifests name its sha256.",
                "unchanged() {",
                '    echo "$2  $1" | sha256sum --check --status && return',
                '    echo "error: $1 is missing or was changed since submission; submit again, with what it is now" >&2',
                f"    exit {ImageError.exit_code}",
                "}",
            ]
            if setting.contained
            else []
        ),
        "",
        "started=$(date -u +%FT%TZ)",
        "at_end() {",
        "    code=$?",
        "    trap - EXIT",
        '    printf \'{"exitCode": %d, "startedOn": "%s", "endedOn": "%s", "restarts": %d, "node": "%s"}\\n\' \\',
        '        "$code" "$started" "$(date -u +%FT%TZ)" "${SLURM_RESTART_COUNT:-0}" "${SLURMD_NODENAME:-}" \\',
        '        > "$run/jobs/ended/.$job" && mv "$run/jobs/ended/.$job" "$run/jobs/ended/$job.json"',
        f"    if [ $code -eq 75 ] && [ ${{SLURM_RESTART_COUNT:-0}} -lt {MOST_RESTARTS} ]; then",
        '        echo "stopped as it was asked to; back into the queue, from where it goes on"',
        '        scontrol requeue "$job" && sleep 60',
        "    fi",
        "    exit $code",
        "}",
        "trap at_end EXIT",
        "",
        "# Runs a command in the background, so that the signal is heard at once; its exit code.",
        "attend() {",
        "    local code child",
        '    "$@" &',
        "    child=$!",
        "    while signalled=0; code=0; wait $child || code=$?; [ $signalled -eq 1 ] && [ $code -gt 128 ]; do :; done",
        "    return $code",
        "}",
    ]


def _function(setting: Setting, stage: str, resources: Resources) -> list[str]:
    """A shell function that runs units of a stage."""
    command = list(setting.commands[stage])
    several = setting.shares_work[stage] and resources.nodes > 1
    if several:
        command = [
            "srun",
            "--export=ALL",
            f"--ntasks={resources.nodes}",
            "--ntasks-per-node=1",
            f"--cpus-per-task={resources.cpus}",  # not inherited from SLURM 22.05 to 23.02
            "--kill-on-bad-exit=0",  # all of them stop when they are asked to, with the same exit code
            "--wait=60",
            *(["bash", "-c", OWN_NODE, "node"] if setting.contained else []),
            *command,
            "--machines",
            str(resources.nodes),
        ]
    lines, main = [], ""
    if stage in setting.images:
        lines.append(f"    unchanged {shlex.join(map(str, setting.images[stage]))}")
    if several:
        lines.append('    local main; main=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)')
        main = f' --main-process "$main:{PORTS}"'
    return [f"{stage}() {{", *lines, f'    attend {shlex.join(command)}{main} "$@"', "}", ""]


def _task(setting: Setting, task: Task) -> list[str]:
    lines = [
        f"{stage} " + " ".join(f"--unit {shlex.quote(unit)}" for unit in units)
        for stage, units in task.stages.items()
    ]
    if task.release:
        release = [*setting.release_command]
        for planned in task.release:
            release += ["--unit", planned.unit.label]
        lines.append(f"attend {shlex.join(release)}")
    return lines


def _by_index(tasks: Sequence[Task], bodies: Sequence[Sequence[str]]) -> list[str]:
    lines = ["case $SLURM_ARRAY_TASK_ID in"]
    for task, body in zip(tasks, bodies, strict=True):
        lines += [f"{task.index})", *(f"    {line}" for line in body), "    ;;"]
    return [*lines, '*) echo "there is no task $SLURM_ARRAY_TASK_ID" >&2; exit 2 ;;', "esac"]


def _array(setting: Setting, link: Link) -> str:
    """`0-5,8`, or `0-5,8%3` where only so many may run at a time: for the disk's sake, or the site's."""
    bounds = [bound for bound in (link.throttle, setting.profile.slurm.throttle) if bound]
    return describe_layers(link.indices) + (f"%{min(bounds)}" if bounds else "")
