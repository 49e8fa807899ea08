"""A model of a pool: an image model whose weights come and go."""

from __future__ import annotations

import gc

import torch
from diffusers import DiffusionPipeline

from deployments.model.image_model import ImageModel
from deployments.model.loading import device_of
from deployments.pipelines.exceptions import ModelLoadError
from deployments.pipelines.weights import Weights
from deployments.pools.pool import NoRoomError


class ParkedModel(ImageModel):
    """Runs the jobs of one model of a pool, which must be on the device while they run."""

    _pipeline: DiffusionPipeline | None = None
    _held: Weights | None = None

    def _load(self) -> None:
        """It is loaded when its first job comes."""

    def load(self) -> int:
        """Read the weights into main memory; returns their bytes.

        Raises:
            ModelLoadError: They cannot be read.
        """
        with self._noting_failure():
            self._pipeline = self._read(is_parked=True)
            self._held = Weights(self._pipeline, device_of(self._entry))
        self._require_success()
        return 0 if self._held is None else self._held.size

    def bring_in(self) -> None:
        """Copy the weights to the device; the first time an engine is started there.

        Raises:
            NoRoomError: They do not fit.
            ModelLoadError: The engine cannot be started.
        """
        if self._held is None or self._pipeline is None:
            raise ModelLoadError
        try:
            self._held.bring_in()
        except torch.OutOfMemoryError as error:
            raise NoRoomError from error
        if self._engine is None:
            with self._noting_failure():
                self._start_engine(self._pipeline)
        self._require_success()

    def park(self) -> None:
        """Take the weights from the device; they stay in main memory, and the engine waits."""
        if self._engine is not None:
            self._engine.forget_encodings()
        if self._held is not None:
            self._held.park()

    def drop(self) -> None:
        """Take the weights out of main memory too, and end the engine."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.stop()
        del engine
        self._pipeline = self._held = None
        gc.collect()  # an engine and its gates refer to each other
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def give_up(self, reason: str) -> None:
        """Be unavailable from now on: every job fails with the reason."""
        self.drop()
        self._load_failure = reason

    def _require_success(self) -> None:
        if self._load_failure:
            raise ModelLoadError(self._load_failure)
