"""What the user asked for: a configuration with its overrides, and how to hand it to a stage."""

import itertools
import os
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ghosttrack.common.config.cluster import ClusterProfile
from ghosttrack.common.config.load import (
    environment_overrides,
    given_sizes,
    load_cluster,
    load_config,
    of_stub,
)
from ghosttrack.common.config.schema import SIZES, Config
from ghosttrack.common.engine.contract import STAGES_FOLDER, Contract, load_contracts, stage_module
from ghosttrack.common.engine.image import inputs_of
from ghosttrack.common.engine.storage import Store
from ghosttrack.orchestrate.plan import Plan, make_plan
from ghosttrack.orchestrate.submission import read_submission


@dataclass(frozen=True)
class Request:
    config: Config
    contracts: list[Contract]
    options: list[str]
    """Command line options that give a stage the same configuration."""
    profile: ClusterProfile = field(default_factory=ClusterProfile)
    """What is particular to the machine."""
    stages_folder: Path = field(default=STAGES_FOLDER)
    strict_code: bool = False
    """Whether what other code or another image than there is now has made must run again."""
    contained: bool = False
    """Whether stages run in their images."""

    @classmethod
    def of(
        cls,
        config_name: str,
        overrides: Sequence[str] = (),
        *,
        stub: bool = False,
        cluster: str | None = None,
        stages_folder: Path = STAGES_FOLDER,
    ) -> "Request":
        """Raises ConfigError as `ghosttrack.common.config.load.load_config` does.

        What environment variables override becomes an override like others, so that jobs and containers, which have an
        environment of their own, and a later `rerun` compute the same.
        """
        config_name, stub = of_stub(config_name, stub)
        config = load_config(config_name, overrides, cluster=cluster, stub=stub)
        options = ["--config", config_name]
        given = [*environment_overrides(), *overrides]
        for override in reversed(dict.fromkeys(reversed(given))):  # without repeats, the last of each
            options += ["--set", override]
        if cluster is not None:
            options += ["--cluster", cluster]
        if stub:
            options.append("--stub")
        profile = ClusterProfile() if cluster is None else load_cluster(cluster)
        contained = (os.environ.get("GHOSTTRACK_CONTAINER") or profile.container) == "apptainer"
        contracts = load_contracts(stages_folder)
        return cls(config, contracts, options, profile, stages_folder, contained=contained)

    @classmethod
    def as_submitted(
        cls,
        config_name: str,
        overrides: Sequence[str] = (),
        *,
        stub: bool = False,
        cluster: str | None = None,
    ) -> "Request":
        """With what is not given as it was when the configuration was last submitted: overrides and profile."""
        given = cls.of(config_name, overrides, stub=stub, cluster=cluster)
        submission = read_submission(given.folder)
        if submission is None:
            return given
        merged = [*submission.overrides, *overrides]  # of a key that is there twice the last one counts
        return cls.of(config_name, merged, stub=stub, cluster=cluster or submission.cluster)

    def with_override(self, override: str) -> "Request":
        """The same with one key=value more. Raises ConfigError."""
        return Request.of(
            self.options[1],
            [*self.overrides, override],
            stub="--stub" in self.options,
            cluster=self.cluster,
            stages_folder=self.stages_folder,
        )

    @property
    def overrides(self) -> list[str]:
        """`key=value` of everything that is not as the configuration file says."""
        pairs = itertools.pairwise(self.options)
        return [value for option, value in pairs if option == "--set"]

    @property
    def cluster(self) -> str | None:
        """The profile's name or path."""
        at = self.options.index("--cluster") if "--cluster" in self.options else None
        return None if at is None else self.options[at + 1]

    @property
    def store(self) -> Store:
        """Where its results are."""
        return Store(self.config.paths.root)

    @property
    def folder(self) -> Path:
        """What is kept of the run besides its results: logs, job scripts, what was submitted."""
        return self.store.root / "runs" / self.config.name

    @property
    def logs(self) -> Path:
        """Folder of the logs: a JSON lines file and a raw output file a stage."""
        return self.folder / "logs"

    def log_of(self, stage: str) -> Path:
        """The structured log that a stage's processes write."""
        return self.logs.resolve() / f"{stage}.jsonl"

    def plan(self) -> Plan:
        """The state of things now."""
        images = {}
        if self.contained:
            folder = Path(self.profile.images)
            images = {each.stage: inputs_of(folder / f"{each.stage}.sif") for each in self.contracts}
        strict = self.strict_code
        return make_plan(self.config, self.contracts, self.profile, strict_code=strict, images=images)

    @property
    def name(self) -> str:
        """The configuration as the user named it, with the options that belong to it: to be typed after a command."""
        return shlex.join(self.options[1:])

    def contract_of(self, stage: str) -> Contract:
        return next(contract for contract in self.contracts if contract.stage == stage)

    def processes_of(self, stage: str) -> int:
        """Processes of a stage on a machine, where the profile gives it several and it can share its work."""
        contract = self.contract_of(stage)
        return 1 if contract.ranks == "none" else self.profile.resources_of(stage).processes_per_node

    def stage_arguments(self, stage: str, units: Sequence[str] = ()) -> list[str]:
        """What a stage is called with, whichever way it is started. units: only these; all when empty."""
        arguments = [*self.options, *self.sizes(), "--log-file", str(self.log_of(stage))]
        if self.strict_code:
            arguments.append("--strict-code")
        if (processes := self.processes_of(stage)) > 1:
            arguments += ["--processes", str(processes)]
        for unit in units:
            arguments += ["--unit", unit]
        return arguments

    def sizes(self) -> list[str]:
        """The model's sizes where its configuration leaves them out: a stage need not reach the model to know them."""
        if "--stub" in self.options:
            return []
        missing = set(SIZES) - given_sizes(self.options[1])
        settings = [f"model.{key}={getattr(self.config.model, key)}" for key in SIZES if key in missing]
        return [part for setting in settings for part in ("--set", setting)]

    def own_command(self, command: str, *arguments: str) -> list[str]:
        """The command line of a command of the orchestrator about this configuration."""
        return [sys.executable, "-m", "ghosttrack.orchestrate", command, *self.options[1:], *arguments]

    def module_command(self, module: str, *arguments: str) -> list[str]:
        """The command line of a module that takes a configuration like the orchestrator's commands."""
        return [sys.executable, "-m", module, *self.options[1:], *arguments]

    def stage_command(self, stage: str, units: Sequence[str] = ()) -> list[str]:
        """The command line of a stage's process on this machine, without a container."""
        module = stage_module(self.stages_folder / stage)
        return [sys.executable, "-m", module, *self.stage_arguments(stage, units)]
