"""Configurations that mean harm or nothing: one clear error each, and no text of them becomes a command."""

import contextlib
import random
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ghosttrack.common.config.cluster import ClusterProfile
from ghosttrack.common.config.load import known_keys, load_config
from ghosttrack.common.config.yaml_text import parse_yaml
from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.errors import ConfigError, GhostTrackError
from ghosttrack.orchestrate.chain import Link, Task
from ghosttrack.orchestrate.plan import PlannedUnit
from ghosttrack.orchestrate.slurm.script import Setting, render, render_medic, render_whole
from tests.conftest import write_small_config
from tests.faults.conftest import SEED, WHOLE, Tally

KNOWN = sorted(set(known_keys()))
HOSTILE = [
    "2001-99-99", "0x_", "0b", "!!int x", "!!float x", "!!binary x", "!!timestamp x", "1:99:99", "[" * 5000, "{" * 5000,
    "&a [*a]", "!!python/object/apply:os.system [id]", "1" + "0" * 400, "1e309", ".inf", "-.inf", ".nan", "a" * 300,
    "foo://bar", "s3://bucket", "0-99999999999", "1000000000", "\x00", "a\nb", "\ud800", "null", "[]", "{}", "[[]]",
    "{a: {b: c}}", "-1", "''", "~", "? [a]", "<<: {a: 1}", "*a", "|\n x", "\ufeff", "\u2028", "$(id)", "`id`", "'; id #",
]  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_config(tmp_path_factory.mktemp("config"))


def is_refused_or_taken(small: Path, *overrides: str) -> bool:
    """A GhostTrackError in one line, or a configuration; within 5 seconds of computing."""
    started = time.process_time()
    message = ""
    try:
        load_config(str(small), overrides)
    except GhostTrackError as error:
        message = str(error)
    assert "\n" not in message
    assert len(message) < 3000
    return time.process_time() - started < 5


def test_every_key_takes_every_hostile_value(small: Path, tally: Tally) -> None:
    chance = random.Random(SEED)
    for key in KNOWN:
        for value in HOSTILE if WHOLE else chance.sample(HOSTILE, 5):
            tally("configuration: hostile value of a key", is_refused_or_taken(small, f"{key}={value}"))


def test_what_is_far_too_long_for_a_configuration_is_not_read(small: Path) -> None:
    long = small.with_name("long.yaml")
    with long.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ConfigError, match="longer than any configuration"):
        load_config(str(long))
    long.unlink()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.dates() | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def test_any_value_at_any_key(small: Path, tally: Tally) -> None:
    @given(st.sampled_from(KNOWN), VALUES)
    def any_value(key: str, value: Any) -> None:
        *sections, last = key.split(".")
        changed: dict[str, Any] = yaml.safe_load(small.read_text())
        place = changed
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
        other = small.with_name("other.yaml")
        other.write_text(yaml.safe_dump(changed), encoding="utf-8", errors="surrogatepass")
        tally("configuration: any value in a file", is_refused_or_taken(other))

    any_value()


def test_any_text_as_yaml(tally: Tally) -> None:
    @given(st.text(max_size=200) | st.text(alphabet="[]{}:,-&*!|>'\"#%@`\n a1", max_size=60))
    def any_text(text: str) -> None:
        with contextlib.suppress(ValueError):
            parse_yaml(text)
        tally("configuration: any text as YAML", True)

    any_text()


def test_aliases_of_aliases_are_no_bomb() -> None:
    laughs = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "\n".join(
        f"{name}: &{name} [{','.join(['*' + before] * 9)}]"
        for before, name in zip("abcdefghi", "bcdefghij", strict=True)
    )
    with pytest.raises(ValueError, match="more than"):
        parse_yaml(laughs)


def test_a_profile_whose_variable_has_no_name_is_refused() -> None:
    for name in ("A B", "A=1", "A;id", "1A", "A\nid", ""):
        with pytest.raises(ValueError, match=r"environment|control"):
            ClusterProfile.model_validate({"environment": {name: "x"}})


def commands_of(script: str) -> list[str]:
    """What bash would run of a script: every simple command, as a traced dry run with all programs replaced tells it."""
    stubs = "\n".join(
        f"{name}() {{ :; }}" for name in ("apptainer", "python", "module", "srun", "scontrol", "mkdir", "rm")
    )
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-c", f"PATH=/nonexistent\n{stubs}\neval \"$SCRIPT\"; true"],
        env={"SCRIPT": script, "SLURM_JOB_ID": "1"}, capture_output=True, text=True, errors="surrogateescape",
    )  # fmt: skip
    return done.stderr.splitlines()


NASTY = st.text(alphabet=st.characters(exclude_characters="\x00"), min_size=1, max_size=25) | st.sampled_from(
    ["$(touch PWNED)", "`touch PWNED`", "'; touch PWNED; '", '"; touch PWNED; "', "a\ntouch PWNED", "&& touch PWNED", "| touch PWNED",
     "> PWNED", "\\", "'", '"', "#", "%j", "\r", "\u2028touch PWNED"]
)  # fmt: skip


def test_no_text_of_a_profile_or_a_configuration_becomes_a_command(tmp_path: Path, tally: Tally) -> None:
    """Each text is put where it can reach a script; then the script is run where nothing but builtins can be."""
    marker = tmp_path / "PWNED"

    @given(
        st.sampled_from(["account", "partition", "qos", "constraint", "reservation", "options", "modules", "environment",
                         "folder", "working", "command", "name"]),
        NASTY,
    )  # fmt: skip
    def any_text(where: str, text: str) -> None:
        text = text.replace("touch PWNED", f": > {marker}").replace("> PWNED", f"> {marker}")
        slurm: dict[str, Any] = {}
        profile: dict[str, Any] = {}
        if where == "options":
            slurm["options"] = [text]
        elif where == "modules":
            profile["modules"] = [text]
        elif where == "environment":
            profile["environment"] = {"X": text}
        elif where not in ("folder", "working", "command", "name"):
            slurm[where] = text
        try:
            setting = Setting(
                name="small",
                folder=Path(f"/runs/{text}" if where == "folder" else "/runs/small"),
                working_folder=Path(f"/home/{text}" if where == "working" else "/home/me"),
                profile=ClusterProfile.model_validate({**profile, "slurm": slurm}),
                commands={"prepare": ["python", "-m", "x", "--set", text if where == "command" else "a=b"]},
                release_command=["python"],
                shares_work={"prepare": False},
            )
            name = text if where == "name" else "all"
            unit = Unit(
                config_name="small", stage="prepare", version=1, name=name, layer=None, reads=[], parameters={},
                folder="data", writes=["*"],
            )  # fmt: skip
            link = Link(
                "prepare", [Task(None, [PlannedUnit(unit, None, None, False, 1.0, 1.0)], [])], None, {}
            )
            resources = setting.profile.resources_of("prepare")
            scripts = [
                render(setting, link, resources),
                render_whole(setting, ["python", text if where == "command" else "x"], resources),
                render_medic(setting, ["python", text if where == "command" else "x"]),
            ]
        except (ValueError, GhostTrackError):
            tally("script: text of a configuration", True)
            return
        for script in scripts:
            commands_of(script)
            assert not marker.exists(), script
            for line in script.splitlines():
                if line.startswith("#SBATCH"):
                    assert len(shlex.split(line.removeprefix("#SBATCH "))) == 1
        tally("script: text of a configuration", True)

    any_text()
