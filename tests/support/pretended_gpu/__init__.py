"""A GPU that is not there: tensors stay on the CPU, but their storages carry the device that they would be on."""

from tests.support.pretended_gpu.device import Fault, Happening, PretendedGpu
from tests.support.pretended_gpu.pretending import pretend_gpu

__all__ = ["Fault", "Happening", "PretendedGpu", "pretend_gpu"]
