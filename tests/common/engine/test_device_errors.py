"""What torch says of a device becomes one line with the mend; other errors stay what they are."""

import pytest

from ghosttrack.common.engine.device_errors import device_errors
from ghosttrack.common.errors import DeviceError


@pytest.mark.parametrize(
    ("text", "mend"),
    [
        ("CUDA error: unspecified launch failure\nCUDA kernel errors might be asynchronously reported", "nvidia-smi"),
        ("CUDA error: device-side assert triggered", "nvidia-smi"),
        ("Found no NVIDIA driver on your system. Please check", "nvidia-smi"),
        ("No CUDA GPUs are available", "nvidia-smi"),
        ("Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before", "nvidia-smi"),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(handle)`", "nvidia-smi"),
        ("CUDA out of memory. Tried to allocate 2.00 GiB", "batch_size"),
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", "batch_size"),
    ],
)  # fmt: skip
def test_a_device_in_trouble(text: str, mend: str) -> None:
    with pytest.raises(DeviceError, match=mend) as found, device_errors():
        raise RuntimeError(text)
    assert "\n" not in str(found.value)
    assert text.splitlines()[0] in str(found.value)


@pytest.mark.parametrize(
    "error",
    [RuntimeError("mat1 and mat2 shapes cannot be multiplied"), RuntimeError("the driver drops an item"), KeyError("CUDA error")],
)  # fmt: skip
def test_other_errors(error: Exception) -> None:
    with pytest.raises(type(error)) as found, device_errors():
        raise error
    assert found.value is error
