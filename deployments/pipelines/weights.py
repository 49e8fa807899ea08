"""A pipeline's weights as a whole: always in main memory, and on the device while they are needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers import DiffusionPipeline
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from deployments.accelerator import KINDS_WITH_STREAMS, empty_cache
from deployments.pipelines.pieces import Piece, PieceMaker

# A pinned allocation of torch takes the next power of two.
_PIECE_BYTES = 1 << 30


class Weights:
    """Copies the weights of a pipeline to its device and frees the copy again.

    Making images does not change them, so what is in main memory stays there, and taking them from the device only
    frees the copy: that costs no time. The weights of each component lie in few large pieces of pinned memory, each of
    which comes to the device as one copy. Where weights are tensors of tensors, as those of torchao are, torch itself
    moves them, there and back. On the CPU nothing is moved.

    Args:
        pipeline: On the CPU.
        device: Where it computes, as torch names it.
        piece_bytes: Most bytes of a piece; a larger tensor has one of its own.
    """

    def __init__(self, pipeline: DiffusionPipeline, device: str, *, piece_bytes: int = _PIECE_BYTES) -> None:
        self._pipeline = pipeline
        self._device = torch.device(device)
        components = list(_tensors_by_component(pipeline))
        self.size = sum(_bytes_of(tensor) for tensors in components for tensor in tensors)
        self._are_plain = not any(is_traceable_wrapper_subclass(tensor) for tensors in components for tensor in tensors)
        self._pieces: list[Piece] = []
        if self._are_plain and self._device.type != "cpu":
            maker = PieceMaker(piece_bytes, is_pinned=self._device.type in KINDS_WITH_STREAMS)
            recast = _recast_tensors(pipeline)
            for tensors in components:
                self._pieces += maker.pieces_of([each for each in tensors if id(each) not in recast], joined=True)
                self._pieces += maker.pieces_of([each for each in tensors if id(each) in recast], joined=False)

    def bring_in(self) -> None:
        """Put them on the device.

        Raises:
            OutOfMemoryError: They do not fit; then none of them is there.
        """
        try:
            if not self._are_plain:
                self._pipeline.to(self._device)
            # All memory is taken before the copies wait for those who used it before.
            there = [torch.empty_like(piece.here, device=self._device) for piece in self._pieces]
            with _beside_the_computation(self._device):
                for piece, memory in zip(self._pieces, there, strict=True):
                    memory.copy_(piece.here, non_blocking=True)
            for piece, memory in zip(self._pieces, there, strict=True):
                piece.point_to(memory)
        except BaseException:
            self.park()
            raise

    def park(self) -> None:
        """Take them from the device."""
        if not self._are_plain:
            self._pipeline.to("cpu", silence_dtype_warnings=True)
        for piece in self._pieces:
            piece.point_to(piece.here)
        if self._device.type != "cpu":
            empty_cache()


@contextmanager
def _beside_the_computation(device: torch.device) -> Iterator[None]:
    """Within this, copies run beside what other models compute on the device; at its end they are done."""
    if device.type not in KINDS_WITH_STREAMS:
        yield
        return
    stream = torch.Stream(device)
    stream.wait_stream(torch.accelerator.current_stream())
    with stream:
        yield
    stream.synchronize()


def _tensors_by_component(pipeline: DiffusionPipeline) -> Iterator[list[torch.Tensor]]:
    """Each parameter and buffer once, whatever modules share it."""
    seen: set[int] = set()
    for module in pipeline.components.values():
        if isinstance(module, torch.nn.Module):
            all_of_it = {id(tensor): tensor for tensor in [*module.parameters(), *module.buffers()]}
            yield [tensor for key, tensor in all_of_it.items() if key not in seen]
            seen.update(all_of_it)


def _recast_tensors(pipeline: DiffusionPipeline) -> set[int]:
    """The ids of those that a hook of diffusers replaces in each forward, as layerwise casting does."""
    modules = [module for module in pipeline.components.values() if isinstance(module, torch.nn.Module)]
    hooked = [
        layer
        for module in modules
        for layer in module.modules()
        if layer is not module and getattr(getattr(layer, "_diffusers_hook", None), "hooks", None)
    ]
    return {id(tensor) for layer in hooked for tensor in [*layer.parameters(), *layer.buffers()]}


def _bytes_of(tensor: torch.Tensor) -> int:
    if is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()
        return sum(_bytes_of(getattr(tensor, name)) for name in names)
    return tensor.nbytes
