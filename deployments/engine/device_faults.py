"""Tells errors after which a device is of no more use to the process from those of one forward."""

from __future__ import annotations

import torch


def is_device_fault(error: BaseException, device: torch.device) -> bool:
    """Whether an error has left the device unusable for this process, as an illegal memory access on a GPU does.

    Such an error is raised again by whatever is done on the device afterwards; errors of a kernel that could not be
    started, or of too little memory, are not. The type does not tell them apart, so the device is asked.

    Args:
        error: What a forward or a pipeline raised.
        device: On which it ran.
    """
    if device.type == "cpu" or not isinstance(error, RuntimeError) or isinstance(error, torch.OutOfMemoryError):
        return False
    try:
        torch.accelerator.synchronize(device)
    except RuntimeError:
        return True
    return False
