"""Marks on storages: device memory, and pinned memory of the host."""

from __future__ import annotations

from typing import Any

import torch

from tests.support.pretended_gpu.device import PretendedGpu
from tests.support.pretended_gpu.streams import Stream

_raw_device = torch.Tensor.device.__get__  # type: ignore[attr-defined]


class DeviceMemory:
    """Memory of the device, for as long as its storage lives.

    Raises:
        torch.OutOfMemoryError: If there is not so much left.
    """

    __slots__ = ("gpu", "nbytes", "written")

    def __init__(self, gpu: PretendedGpu, nbytes: int) -> None:
        self.gpu, self.nbytes = gpu, 0
        self.written: tuple[int, int] = (0, 0)
        gpu.take(nbytes)
        self.nbytes = nbytes

    def __del__(self) -> None:
        self.gpu.give_back(self.nbytes)


class PinnedMemory:
    """Memory of the host from which and to which the device copies by itself."""

    __slots__ = ("written",)

    def __init__(self) -> None:
        self.written: tuple[int, int] = (0, 0)


def memory_of(tensor: torch.Tensor) -> DeviceMemory | PinnedMemory | None:
    """The mark on a tensor's storage; None for the host's plain memory, and where there is no storage."""
    try:
        return getattr(tensor.untyped_storage(), "_pretended", None)
    except (RuntimeError, NotImplementedError):
        return None


def is_on_host(tensor: torch.Tensor) -> bool:
    """Whether it is a plain tensor of the real CPU, wherever it is pretended to be."""
    return bool(_raw_device(tensor).type == "cpu")


def raw_device(tensor: torch.Tensor) -> torch.device:
    """Where it really is."""
    device: torch.device = _raw_device(tensor)
    return device


def put_on_device(tensor: torch.Tensor, gpu: PretendedGpu) -> None:
    """Have a tensor's storage be the device's, unless it is already, or it has none."""
    if is_on_host(tensor) and not isinstance(memory_of(tensor), DeviceMemory):
        _mark(tensor, lambda nbytes: DeviceMemory(gpu, nbytes))


def pin(tensor: torch.Tensor) -> None:
    """Have a tensor's storage be pinned memory."""
    if memory_of(tensor) is None:
        _mark(tensor, lambda _: PinnedMemory())


def note_written(tensor: torch.Tensor, stream: Stream) -> None:
    """Remember which work writes a tensor."""
    memory = memory_of(tensor)
    if memory is not None:
        memory.written = (stream.stream_id, stream.position)


def _mark(tensor: torch.Tensor, make: Any) -> None:
    try:
        storage = tensor.untyped_storage()
    except (RuntimeError, NotImplementedError):
        return
    storage._pretended = make(storage.nbytes())
