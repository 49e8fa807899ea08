"""Values on their way from the device to the host, which nobody waits for."""

from __future__ import annotations

import torch


class Readback:
    """A copy of a tensor to the host that runs behind the device's work, so that the host never waits.

    Args:
        tensor: On any device. It may be freed at once: the copy is in the device's queue already.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        # Asked not to block, a copy from a device goes into pinned memory.
        self._host = tensor.to("cpu", non_blocking=True)
        self._event: torch.Event | None = None
        if tensor.device.type != "cpu":
            self._event = torch.Event(device=tensor.device)
            self._event.record()

    @property
    def is_ready(self) -> bool:
        """Whether the copy is complete."""
        if self._event is not None and self._event.query():
            self._event = None
        return self._event is None

    def value(self) -> torch.Tensor:
        """The copy, on the host. Waits for the device where it is not ready."""
        if self._event is not None:
            self._event.synchronize()
            self._event = None
        return self._host
