"""A model of a pool: an image model whose weights come and go."""

from __future__ import annotations

import gc

import torch
from diffusers import DiffusionPipeline

from deployments.accelerator import empty_cache, empty_host_cache
from deployments.model.image_model import ImageModel
from deployments.model.loading import device_of
from deployments.pipelines.exceptions import ModelLoadError
from deployments.pipelines.weights import Weights
from deployments.pools.residency import NoRoomError


class ParkedModel:
    """Moves the weights of one model of a pool, which must be on the device while the model's jobs run.

    Each method is called on a thread, one at a time in a pool. A model whose weights cannot be read, or brought in
    though there is room, is not tried again.

    Args:
        model: Runs its jobs; not loaded.

    Attributes:
        model: As given.
    """

    def __init__(self, model: ImageModel) -> None:
        self.model = model
        self._loaded = model.loaded
        self._pipeline: DiffusionPipeline | None = None
        self._held: Weights | None = None

    def load(self) -> int:
        """Read the weights into main memory; returns their bytes.

        Raises:
            ModelLoadError: They cannot be read.
        """
        with self._loaded.explaining_failure():
            self._pipeline = self._loaded.read(is_parked=True)
            self._held = Weights(self._pipeline, device_of(self._loaded.entry))
        return self._held.size

    def bring_in(self) -> None:
        """Copy the weights to the device; the first time, the engine starts there.

        Raises:
            NoRoomError: They do not fit beside the others there; they are where they were.
            ModelLoadError: The engine cannot be started.
        """
        if self._held is None or self._pipeline is None:
            raise ModelLoadError
        try:
            self._held.bring_in()
        except torch.OutOfMemoryError as error:
            raise NoRoomError from error
        except RuntimeError as error:
            self._loaded.note_error(error, device_of(self._loaded.entry))
            raise
        if self._loaded.engine is None:
            with self._loaded.explaining_failure():
                self._loaded.start_engine(self._pipeline)

    def park(self) -> None:
        """Take the weights from the device; they stay in main memory, and the engine waits."""
        if self._loaded.engine is not None:
            self._loaded.engine.forget_encodings()
        if self._held is not None:
            self._held.park()

    def drop(self) -> None:
        """Take the weights out of main memory too, and end the engine."""
        self._loaded.stop_engine()
        self._pipeline = self._held = None
        gc.collect()  # an engine and its gates refer to each other
        empty_cache()
        empty_host_cache()

    def give_up(self, reason: str) -> None:
        """Be unavailable from now on: every job fails with the reason."""
        self._loaded.failure = reason
        self.drop()
