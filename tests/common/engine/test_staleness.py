"""Each reason for which a unit runs again, and the silence when there is none."""

import shutil
from pathlib import Path

import pytest

from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.engine.staleness import State, input_digests, input_entries, state
from ghosttrack.common.engine.storage import Store
from tests.common.results import publish, unit_of

READS = {"alpha/all": ["a.txt"]}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """alpha/all and beta/all, which reads alpha's a.txt."""
    store = Store(str(tmp_path))
    publish(store, unit_of("alpha", seed=0), "one")
    publish_beta(store, unit_of("beta", reads=READS, width=4))
    return store


def publish_beta(store: Store, unit: Unit) -> None:
    publish(store, unit, "two", input_digests(unit, input_entries(store, unit)))


def beta(store: Store, unit: Unit | None = None, stale: set[str] | None = None) -> State:
    return state(store, unit or unit_of("beta", reads=READS, width=4), stale or set())


def reason(store: Store, unit: Unit | None = None, stale: set[str] | None = None) -> str:
    return str(beta(store, unit, stale).reason)


def test_what_has_not_changed_is_not_stale(store: Store) -> None:
    found = beta(store)
    assert found.reason is None
    assert found.entry


def test_missing(store: Store) -> None:
    assert reason(store, unit_of("gamma")) == "missing"
    assert beta(store, unit_of("gamma")).entry is None


def test_a_missing_public_name(store: Store) -> None:
    (store.root / "results/mine/beta/a.txt").unlink()
    assert reason(store) == "missing:a public name"


def test_a_parameter_with_its_old_and_new_value(store: Store) -> None:
    assert reason(store, unit_of("beta", reads=READS, width=5)) == "param:width 4→5"
    assert reason(store, unit_of("beta", reads=READS, width=4, extra=1)) == "param:extra unset→1"
    assert reason(store, unit_of("beta", reads=READS)) == "param:width 4→unset"
    assert reason(store, unit_of("beta", reads=READS, width=None)) == "param:width 4→None"


def test_the_contract_s_version(store: Store) -> None:
    unit = unit_of("beta", reads=READS, width=4).model_copy(update={"version": 2})
    assert reason(store, unit) == "contract:1→2"


def test_an_input_that_will_change(store: Store) -> None:
    assert reason(store, stale={"alpha/all"}) == "input:alpha/all"
    assert reason(store, stale={"other/all"}) == "None"


def test_an_input_that_has_changed(store: Store) -> None:
    publish(store, unit_of("alpha", seed=1), "different")
    assert reason(store) == "input:alpha/all/a.txt"


def test_an_input_that_came_out_the_same(store: Store) -> None:
    publish(store, unit_of("alpha", seed=1), "one")
    assert reason(store) == "None"


def test_an_input_that_is_gone(store: Store) -> None:
    (store.layout.folder / "current/mine/alpha/all").unlink()
    assert "alpha/all, which has no published result" in reason(store)


@pytest.mark.parametrize("how", ["truncated", "tampered", "gone", "manifest"])
def test_damage(store: Store, how: str) -> None:
    entry = store.current("mine", "beta", "all")
    assert entry
    file = entry.file("manifest.json" if how == "manifest" else "b.txt")
    file.chmod(0o644)
    if how == "truncated":
        file.write_text("T")
    elif how == "tampered":
        file.write_text("OWT")
    elif how == "gone":
        file.unlink()
    else:
        file.write_text(file.read_text().replace("width", "wodth"))
    assert reason(store).startswith("corrupt:")
    assert file.name in reason(store)


def test_a_dangling_pointer_is_damage(store: Store) -> None:
    entry = store.current("mine", "beta", "all")
    assert entry
    shutil.rmtree(entry.path)
    assert reason(store).startswith("corrupt:")


def test_a_released_result_is_not_stale_until_its_parameters_change(store: Store) -> None:
    store.release(unit_of("alpha", seed=0))
    found = state(store, unit_of("alpha", seed=0))
    assert found.reason is None
    assert found.entry
    assert found.entry.released
    assert str(state(store, unit_of("alpha", seed=1)).reason) == "param:seed 0→1"
    assert beta(store).reason is None  # what was made from it still is
