"""A SLURM cluster of one node in a folder of its own, on ports of its own, with more CPUs than the machine has."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "scancel", "sinfo")
CPUS, MEMORY_MB = 8, 64_000
PURGED_AFTER = 6
"""Seconds after its end at which a job is forgotten."""
PATIENCE = 600
"""Seconds that a condition is waited for: only a test that fails waits so long, and a loaded machine needs its time."""
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1,sched_min_interval=100000,batch_sched_delay=0
SlurmdParameters=config_overrides
JobRequeue=1
MinJobAge={purged_after}
KillWait=5
MessageTimeout=5
TCPTimeout=2
InactiveLimit=0
GresTypes=gpu
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/ended.log
JobAcctGatherType=jobacct_gather/none
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:4 State=UNKNOWN
PartitionName=main Nodes=ALL Default=YES MaxTime=1-00:00:00 State=UP
PartitionName=short Nodes=ALL MaxTime=00:10:00 State=UP
PartitionName=scavenge Nodes=ALL GraceTime=2 PriorityTier=0 State=UP
PartitionName=members Nodes=ALL State=UP
JobSubmitPlugins=lua
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
"""

ACCOUNTS = """
function slurm_job_submit(job, partitions, user)
    if job.partition == "members" and job.account ~= "physics" then return slurm.ESLURM_INVALID_ACCOUNT end
    return slurm.SUCCESS
end
function slurm_job_modify(job, record, partitions, user) return slurm.SUCCESS end
return slurm.SUCCESS
"""
"""Sites without an accounting database have the controller itself check accounts so."""


class Cluster:
    """Use as a context manager; programs find it by `environment`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "slurm.conf"
        self.environment = {**os.environ, "SLURM_CONF": str(self.file)}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "Cluster":
        host = socket.gethostname().split(".")[0]
        for name in ("state", "munge"):
            (self.folder / name).mkdir(mode=0o700)
        (self.folder / "spool").mkdir(mode=0o755)  # every user's scripts are read from there
        controller, node = _free_ports(2)
        self.file.write_text(
            CONFIGURATION.format(
                folder=self.folder, host=host, controller_port=controller, node_port=node,
                cpus=CPUS, memory=MEMORY_MB, purged_after=PURGED_AFTER,
            )
        )  # fmt: skip
        (self.folder / "job_submit.lua").write_text(ACCOUNTS)
        devices = [self.folder / f"gpu{number}" for number in range(4)]  # nobody opens them
        for device in devices:
            device.touch()
        (self.folder / "gres.conf").write_text(f"NodeName={host} Name=gpu File={self.folder}/gpu[0-3]\n")
        key = self.folder / "munge" / "key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        try:
            self._start(
                "munged", "--foreground", "--force", f"--key-file={key}", f"--socket={self.folder}/munge.socket",
                f"--pid-file={self.folder}/munge/pid", f"--log-file={self.folder}/munge/log",
                f"--seed-file={self.folder}/munge/seed",
            )  # fmt: skip
            _until(lambda: (self.folder / "munge.socket").exists(), "munged")
            self.start_controller()
            self._start("slurmd", "-D", "-N", host, "-f", str(self.file))
            _until(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%t"), "the node to be idle")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(subprocess.SubprocessError, OSError):
            self.cancel_all()
        for daemon in reversed(self._daemons):
            daemon.send_signal(signal.SIGCONT)
            daemon.terminate()
        for daemon in self._daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def start_controller(self) -> None:
        self._controller = self._start("slurmctld", "-D", "-f", str(self.file))
        _until(lambda: "UP" in self.ask("scontrol", "ping"), "slurmctld")

    @contextlib.contextmanager
    def silent(self) -> Iterator[None]:
        """Within the context, the scheduler does not answer."""
        self._controller.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._controller.send_signal(signal.SIGCONT)
            _until(lambda: "UP" in self.ask("scontrol", "ping"), "slurmctld")

    def call(self, *command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=PATIENCE)

    def ask(self, *command: str) -> str:
        """What a command prints, both ways."""
        done = self.call(*command)
        return done.stdout + done.stderr

    def submit(self, *options: str, script: str) -> str:
        """Submit a batch script; its job id."""
        done = subprocess.run(
            ["sbatch", "--parsable", f"--output={self.folder}/%x-%A_%a.out", *options],
            env=self.environment, input=f"#!/bin/bash\n{script}\n", capture_output=True, text=True, check=True,
        )  # fmt: skip
        return done.stdout.strip().split(";")[0]

    def job(self, name: str) -> dict[str, str]:
        """The fields of a job or array element, as scontrol shows them; empty when it is forgotten."""
        for _ in range(10):
            done = self.call("scontrol", "show", "job", "-o", name)
            if done.returncode == 0:
                return dict(re.findall(r"(\w+)=(\S*)", done.stdout.splitlines()[0]))
            if "Invalid job id" in done.stderr:
                return {}
            time.sleep(1)
        raise TimeoutError(done.stderr)

    def wait(self, check: Callable[[], bool], what: str = "a change") -> None:
        _until(check, what, self.state)

    def ended(self, name: str) -> str:
        """The state in which a job or array element ended, also when it is forgotten; empty while it has not.

        A job that went back into the queue ended too, as REQUEUED or PREEMPTED, and then anew.
        """
        keys = ("ArrayJobId", "ArrayTaskId") if "_" in name else ("JobId",)
        log = self.folder / "ended.log"
        for line in reversed(log.read_text().splitlines() if log.exists() else []):
            fields = dict(re.findall(r"(\w+)=(\S*)", line))
            if "_".join(fields.get(key, "") for key in keys) == name:
                return fields.get("JobState", "")
        return ""

    def queue(self) -> Sequence[str]:
        return self.call("squeue", "-h", "-o", "%i %t %r").stdout.splitlines()

    def state(self) -> str:
        return "\n".join(self.queue())

    def cancel_all(self) -> None:
        ids = [line.split()[0] for line in self.queue()]
        if ids:
            self.call("scancel", *ids)

    def _start(self, *command: str) -> "subprocess.Popen[bytes]":
        program = shutil.which(command[0], path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert program
        log = (self.folder / f"{command[0]}.out").open("ab")
        daemon = subprocess.Popen(
            [program, *command[1:]], env=self.environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        self._daemons.append(daemon)
        return daemon


def missing_programs() -> list[str]:
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _until(check: Callable[[], bool], what: str, show: Callable[[], str] = lambda: "") -> None:
    end = time.monotonic() + PATIENCE
    while not check():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {PATIENCE} s for {what}\n{show()}")
        time.sleep(0.1)
