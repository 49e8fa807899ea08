"""A pipeline's weights as a whole: always in main memory, and on the device while they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from diffusers import DiffusionPipeline
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from deployments.accelerator import empty_cache


class Weights:
    """Copies the weights of a pipeline to its device and frees the copy again.

    Making images does not change them, so what is in main memory stays there, and taking them from the device only
    frees the copy: that costs no time. Where weights are tensors of tensors, as those of torchao are, torch itself
    moves them, there and back.

    Args:
        pipeline: On the CPU.
        device: Where it computes, as torch names it.
        copy: Puts a tensor on the device; left out, torch does.
    """

    def __init__(
        self,
        pipeline: DiffusionPipeline,
        device: str,
        copy: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._device = torch.device(device)
        self._copy = copy or (lambda tensor: tensor.to(self._device))
        tensors = list(_tensors_of(pipeline))
        self.size = sum(map(_bytes_of, tensors))
        self._are_plain = not any(map(is_traceable_wrapper_subclass, tensors))
        self._kept = [(tensor, tensor.data) for tensor in tensors] if self._are_plain else []

    def bring_in(self) -> None:
        """Put them on the device.

        Raises:
            OutOfMemoryError: They do not fit; then none of them is there.
        """
        try:
            if not self._are_plain:
                self._pipeline.to(self._device)
            for tensor, kept in self._kept:
                tensor.data = self._copy(kept)
        except BaseException:
            self.park()
            raise

    def park(self) -> None:
        """Take them from the device."""
        if not self._are_plain:
            self._pipeline.to("cpu", silence_dtype_warnings=True)
        for tensor, kept in self._kept:
            tensor.data = kept
        if self._device.type != "cpu":
            empty_cache()


def _tensors_of(pipeline: DiffusionPipeline) -> Iterator[torch.Tensor]:
    """Each parameter and buffer once, whatever modules share it."""
    seen: set[int] = set()
    for module in pipeline.components.values():
        if isinstance(module, torch.nn.Module):
            for tensor in [*module.parameters(), *module.buffers()]:
                if id(tensor) not in seen:
                    seen.add(id(tensor))
                    yield tensor


def _bytes_of(tensor: torch.Tensor) -> int:
    if is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()
        return sum(_bytes_of(getattr(tensor, name)) for name in names)
    return tensor.nbytes
