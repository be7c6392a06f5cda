"""How many waves of hidden states a disk has room for, and what is said where it has none."""

import re

import pytest

from ghosttrack.common.config.load import load_config
from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.contract import Unit, expand, load_contracts
from ghosttrack.orchestrate.waves import Waves, refusal, waves_of

GB = 1e9


def states_of(*overrides: str) -> tuple[Config, Waves]:
    config = load_config("gpt2-medium", overrides, environ={})
    units: list[Unit] = [unit for contract in load_contracts() for unit in expand(contract, config)]
    return config, waves_of(config, units)


def test_the_shipped_configuration_fits_the_200_gb_of_the_reference_page() -> None:
    config, waves = states_of()
    assert (waves.count, waves.at_a_time) == (4, 3)
    assert waves.wave == (6 * 1028 + 14) * 9_600_000  # 59 GB
    assert waves.bounded
    assert waves.peak < 200 * GB < waves.total
    assert refusal(config, waves, waves.peak, free=200 * GB) is None


def test_without_a_limit_all_waves_are_there_at_once() -> None:
    config, waves = states_of("extract.max_disk_gb=null")
    assert not waves.bounded
    assert (waves.at_a_time, waves.peak) == (4, waves.total)
    assert refusal(config, waves, waves.peak, free=300 * GB) is None
    assert "the disk has" in str(refusal(config, waves, waves.peak, free=200 * GB))


def test_a_limit_that_is_never_reached_changes_nothing() -> None:
    _, waves = states_of("data.max_tokens=100000")
    assert not waves.bounded


def test_what_does_not_fit_is_refused_with_what_would() -> None:
    config, waves = states_of("extract.max_disk_gb=50")
    text = str(refusal(config, waves, waves.peak, free=1000 * GB))
    assert "extract.max_disk_gb allows 50 GB" in text
    assert waves.at_a_time == 0
    proposals = re.findall(r"\b(?:extract|data)\.\w+=\w+[^;(]*", text)
    assert len(proposals) == 2
    for proposal in proposals:
        settings = proposal.replace("with", "").split()
        other, smaller = states_of("extract.max_disk_gb=50", *settings)
        assert refusal(other, smaller, smaller.peak, free=1000 * GB) is None, proposal


@pytest.mark.parametrize("free", [10 * GB, 100 * GB])
def test_a_disk_that_is_smaller_than_the_limit_counts(free: float) -> None:
    config, waves = states_of()
    assert "the disk has" in str(refusal(config, waves, waves.peak, free=free))


def test_a_lower_bound_is_proposed_where_a_wave_fits() -> None:
    config, waves = states_of()
    text = str(refusal(config, waves, waves.peak, free=100 * GB))
    assert "extract.max_disk_gb=100.0" in text
    assert "fewer tokens" not in text  # all of them would fit
    other, lower = states_of("extract.max_disk_gb=100.0")
    assert lower.at_a_time == 1
    assert refusal(other, lower, lower.peak, free=100 * GB) is None
