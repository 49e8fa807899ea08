"""Where the checks run: the device, the time that is left, and the models that fit."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from diffusers import DiffusionPipeline

from benchmarks.gpu_check.models import FULL_SIZE, Model, small_models


@dataclass(frozen=True)
class Bench:
    """The device and the time for its checks.

    Attributes:
        device: Where everything is computed.
        deadline: In seconds of ``time.monotonic``; no check starts after it.
    """

    device: torch.device
    deadline: float

    @property
    def is_accelerator(self) -> bool:
        """Whether the models are of full size; on a CPU they are tiny."""
        return self.device.type != "cpu"

    @property
    def is_cuda(self) -> bool:
        """Whether CUDA's own checks can run: synchronizations, and a device fault."""
        return self.device.type == "cuda"

    @property
    def seconds_left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def models(self) -> list[Model]:
        """The models to measure: those of full size that fit with a third to spare, or tiny ones on a CPU."""
        if not self.is_accelerator:
            return small_models()
        free, _ = torch.accelerator.get_memory_info(self.device)
        return [model for model in FULL_SIZE if model.weight_bytes * 1.5 < free]

    @contextmanager
    def loaded(self, model: Model) -> Iterator[DiffusionPipeline]:
        """A model's pipeline with random weights, for as long as the block lasts."""
        pipeline = model.build(self.device)
        try:
            yield pipeline
        finally:
            del pipeline
            self.free_memory()

    def free_memory(self) -> None:
        """Give memory that nothing uses back to the device."""
        gc.collect()
        if self.is_accelerator:
            torch.accelerator.empty_cache()

    def synchronize(self) -> None:
        """Wait for the device; a CPU is never behind."""
        if self.is_accelerator:
            torch.accelerator.synchronize(self.device)
