"""A device that is gone, at fault or full, said in one line: torch raises RuntimeErrors of many lines for all of them."""

import contextlib
import re
from collections.abc import Iterator

from ghosttrack.common.errors import DeviceError

_FULL = re.compile(r"out of memory|CUBLAS_STATUS_ALLOC_FAILED|CUDNN_STATUS_ALLOC_FAILED")
_LOST = re.compile(
    r"(?:CUDA|HIP|XPU|NCCL|CUBLAS|CUDNN|driver)\b.{0,40}\berror|cuda(?:Error|GetDeviceCount)|device (?:is )?(?:lost|unavailable|removed)|"
    r"no (?:CUDA|NVIDIA|HIP) (?:GPU|device|driver)|found no NVIDIA driver|CUBLAS_STATUS_|CUDNN_STATUS_|devices? unavailable|GPU is lost",
    re.IGNORECASE,
)  # fmt: skip


@contextlib.contextmanager
def device_errors() -> Iterator[None]:
    """Within the context, what torch raises for a device is a DeviceError that names the mend."""
    try:
        yield
    except RuntimeError as error:
        if found := device_error(error):
            raise found from error
        raise


def device_error(error: RuntimeError) -> DeviceError | None:
    """None for what has nothing to do with a device."""
    text = str(error)
    said = (text.strip().splitlines() or [type(error).__name__])[0][:200]
    if _FULL.search(text):
        return DeviceError(
            f"memory is not enough ({said}); lower tracking.batch_size and extract.batch_size, or take model.dtype=bfloat16 or "
            "model.offload=memory"
        )
    if _LOST.search(text):
        return DeviceError(
            f"the device does not answer, or cannot do what is asked ({said}); look at it with nvidia-smi, then give the same "
            "command again, on another node if need be, or with CUDA_VISIBLE_DEVICES= on the CPU: finished work is kept"
        )
    return None
