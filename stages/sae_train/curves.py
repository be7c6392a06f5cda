"""Training curves to look at while they grow, in a tracker of the user's choice: accelerate's own classes, one process at a time."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ghosttrack.common.errors import ConfigError

Log = Callable[[Mapping[str, float], int], None]
"""Called with the values and the step that they are of."""


@contextmanager
def tracker(kind: str, run: str, what: str, folder: Path) -> Iterator[Log]:
    """Within the context, where training curves are sent. kind: of `sae_training.log_with`; run: project or
    experiment; what: a training of it; folder: where TensorBoard's files go.

    Raises ConfigError where the tracker is not installed or cannot be started.
    """
    if kind == "none":
        yield lambda values, step: None
        return
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    PartialState()  # what accelerate says goes through it

    if kind not in map(str, get_available_trackers()):
        raise ConfigError(
            f"sae_training.log_with is {kind}, which is not installed here; `pip install {kind}`, or none"
        )
    named: dict[str, dict[str, Any]] = {
        "tensorboard": {"run_name": what.replace(" ", "_"), "logging_dir": str(folder)},
        "mlflow": {"experiment_name": run, "run_name": what},
    }
    found = LOGGER_TYPE_TO_CLASS[kind](**named.get(kind, {"run_name": run, "name": what}))
    found.main_process_only = False  # each process trains layers of its own
    try:
        found.start()
    except Exception as error:
        raise ConfigError(
            f"sae_training.log_with: {kind} does not start ({' '.join(str(error).split())[:200]})"
        ) from error
    try:
        yield lambda values, step: found.log(dict(values), step=step)
    finally:
        found.finish()
