"""Hidden states on a bounded disk: how many waves of layers may be there at a time, or why not even one."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ghosttrack.common.config.schema import Config
from ghosttrack.common.engine.contract import Unit
from ghosttrack.common.engine.progress import format_bytes
from ghosttrack.orchestrate.estimate import Estimator


@dataclass(frozen=True)
class Waves:
    """What the hidden states of a configuration take on disk, in bytes."""

    total: float
    """All waves and the pooled sample."""
    sample: float
    wave: float
    """The largest wave."""
    count: int
    limit: float | None
    """`extract.max_disk_gb`."""

    @property
    def bounded(self) -> bool:
        """Whether they must not all be there at once."""
        return self.limit is not None and self.total > self.limit

    @property
    def at_a_time(self) -> int:
        """Waves that the limit has room for."""
        if self.limit is None or not self.bounded:
            return self.count
        return int((self.limit - self.sample) // self.wave)

    @property
    def peak(self) -> float:
        """The most that is there at any time."""
        return self.sample + min(self.at_a_time, self.count) * self.wave


def waves_of(config: Config, units: Iterable[Unit], size: Callable[[Unit], float] | None = None) -> Waves:
    """The waves of hidden states that will be on disk. units: those of the plan; only what is temporary is looked at.
    size: bytes of each, by its stage's formula."""
    size = size or Estimator(config, {}).size
    sizes = [(size(unit), bool(unit.layers)) for unit in units if unit.temporary]
    waves = [size for size, is_wave in sizes if is_wave]
    sample = sum(size for size, is_wave in sizes if not is_wave)
    limit = config.extract.max_disk_gb
    limit = None if limit is None else limit * 1e9
    return Waves(sample + sum(waves), sample, max(waves, default=0.0), len(waves), limit)


def refusal(config: Config, waves: Waves, needed: float, free: float) -> str | None:
    """Why the states cannot be kept on this disk, with what can be done; None where they can.

    needed: bytes of those that will be there at a time. free: bytes that the disk has for them.
    """
    if waves.at_a_time >= 1 and needed <= free:
        return None
    room = min(free, waves.limit or free)
    by = "the disk has" if room == free else "extract.max_disk_gb allows"
    least = waves.sample + waves.wave
    return (
        f"the hidden states take {format_bytes(waves.total)} in all, {format_bytes(least)} for a wave of layers and the "
        f"sample of the others, and {by} {format_bytes(room)}. What would help: "
        + "; ".join(_alternatives(config, waves, room))
    )


def _alternatives(config: Config, waves: Waves, room: float) -> Iterable[str]:
    gigabytes = int(room / 1e8) / 10
    least = waves.sample + waves.wave
    if waves.count > 1 and least <= room:
        yield f"a lower bound, so that fewer waves are there at a time: extract.max_disk_gb={gigabytes}"
    a_layer = waves.wave / max(max(map(len, config.groups)), 1)
    layers = int((room - waves.sample) / a_layer) if a_layer else 0
    if 1 <= layers < (config.extract.layers_per_wave or len(config.layers)):
        yield f"fewer layers a wave: extract.layers_per_wave={layers} with extract.max_disk_gb={gigabytes}"
    if config.extract.dtype != "int8":
        yield f"a smaller type: extract.dtype=int8 (now {config.extract.dtype})"
    # the sample is as large
    share = (room - waves.sample) / waves.wave if room > waves.sample else room / least
    if share < 1:
        yield f"fewer tokens: data.max_tokens={int(config.data.max_tokens * share)} (now {config.data.max_tokens})"
