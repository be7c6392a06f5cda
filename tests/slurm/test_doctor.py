"""The doctor asks the real scheduler whether it would take what the profile asks for."""

from pathlib import Path

import pytest

from ghosttrack.common.config.cluster import ClusterProfile
from ghosttrack.orchestrate.doctor import cluster
from tests.slurm.cluster import Cluster

pytestmark = pytest.mark.slurm


def test_what_the_scheduler_would_take_is_ok(slurm: Cluster, tmp_path: Path) -> None:
    profile = ClusterProfile.model_validate({"resources": {"extract": {"cpus": 2, "gpus": 1}}})
    found = [d for d in cluster(profile, ["extract", "track"], tmp_path) if d.what.startswith("slurm")]
    assert [d.level for d in found] == ["ok", "ok"]
    assert "to start at" in found[0].seen
    assert not slurm.queue()  # nothing was submitted


@pytest.mark.parametrize(
    ("profile", "seen", "mend"),
    [({"slurm": {"partition": "nowhere"}}, "invalid partition", "slurm.partition"),
     ({"resources": {"track": {"cpus": 900}}}, "CPU count|node configuration|More processors", "resources"),
     ({"resources": {"track": {"gpus": 99}}}, "node configuration|gres", "resources"),
     ({"slurm": {"partition": "short"}, "resources": {"track": {"time": "9:00:00"}}}, "time limit", "less time")],
)  # fmt: skip
def test_what_it_would_refuse_is_trouble_with_the_mend(
    slurm: Cluster, tmp_path: Path, profile: dict[str, object], seen: str, mend: str
) -> None:
    import re

    [found, *_] = cluster(ClusterProfile.model_validate(profile), ["track"], tmp_path)
    assert found.level == "trouble", found
    assert re.search(seen, found.seen, re.IGNORECASE), found
    assert mend in found.mend, found
