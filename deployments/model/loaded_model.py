"""A model's pipeline and engine: loaded, started and stopped apart from the jobs that use them."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from deployments.catalog.entry import ModelEntry
from deployments.engine.costs import ForwardCosts
from deployments.engine.device_faults import is_device_fault
from deployments.engine.device_notes import DeviceNotes
from deployments.engine.engine import Engine
from deployments.memory_plan.choice import MemoryFit
from deployments.model.loading import load_model
from deployments.model.memory import settle_memory
from deployments.model.metadata import ModelFacts
from deployments.pipelines.attention import check_attention
from deployments.pipelines.exceptions import EngineError, ModelLoadError, one_line
from deployments.pipelines.loading import device_name, execution_device
from deployments.telemetry.logs import about

logger = logging.getLogger(__name__)


class LoadedModel:
    """A model of the catalog; its constructor loads nothing.

    A model of its own replica is loaded by :meth:`load`. One that shares a device is read first, and its engine starts
    when the weights come to the device.

    Args:
        model_id: The model's key in the catalog.
        entry: What the catalog says of it.
        notes_file: Where the engine keeps what it learns of the device, as the costs of forwards; None for nowhere.

    Attributes:
        model_id: As given.
        entry: As given.
        engine: Makes the images; None while there is none.
        facts: For the images' metadata; None until the pipeline was read.
        fit: How its memory was planned; None where it was not.
        failure: Why the model could not be loaded; empty if it was, or was not tried.
    """

    def __init__(self, model_id: str, entry: ModelEntry, notes_file: Path | None = None) -> None:
        self.model_id = model_id
        self.entry = entry
        self.engine: Engine | None = None
        self.facts: ModelFacts | None = None
        self.fit: MemoryFit | None = None
        self.failure = ""
        self._notes_file = notes_file
        self._fault = ""

    def load(self) -> None:
        """Read the pipeline onto its device and start the engine.

        A failure does not take the replica down: it is noted, and the model's jobs fail with the reason. Raised, it
        would have Ray Serve try a few more times and then give up, with no reason for clients to read.
        """
        began = time.monotonic()
        with about(model=self.model_id):
            try:
                with self.explaining_failure():
                    self.start_engine(self.read())
            except ModelLoadError as error:
                self.failure = str(error)
            else:
                logger.info("Model %s was loaded in %.1f s", self.model_id, time.monotonic() - began)

    def read(self, *, is_parked: bool = False) -> DiffusionPipeline:
        """Read the pipeline and collect the facts about it.

        Args:
            is_parked: Whether the weights stay in main memory, from where the pool copies them to the device.

        Raises:
            ModelLoadError: It cannot be read.
        """
        _leave_a_core_free(self.entry.replicas.num_cpus)
        settled = settle_memory(self.entry, os.environ)
        self.fit = settled.fit
        pipeline = load_model(settled.entry, os.environ, is_parked=is_parked)
        self.facts = ModelFacts.of(settled.entry, pipeline)
        return pipeline

    def start_engine(self, pipeline: DiffusionPipeline) -> None:
        """Start the engine of a pipeline that was read.

        Raises:
            ModelLoadError: The catalog asks for a step cache that the pipeline cannot have, or for attention kernels
                that compute something else than torch's own.
        """
        check_attention(pipeline, self.entry)
        device = f"{device_name(execution_device(pipeline))}, torch {torch.__version__}"
        self.engine = Engine(
            pipeline,
            max_batch=self.entry.max_batch,
            name=f"engine-{self.model_id}",
            costs=ForwardCosts(DeviceNotes(self._notes_file, device)),
            exact_rows=None if self.entry.exact_rows == "auto" else self.entry.exact_rows,
            has_step_cache=self.entry.step_cache.maximum > 0,
            most_images=None if self.fit is None else self.fit.most_images,
            most_decoded=None if self.fit is None else self.fit.most_decoded,
        )

    def stop_engine(self) -> None:
        """Abort the images that the engine makes, and end it."""
        engine, self.engine = self.engine, None
        if engine is not None:
            engine.stop()

    @contextmanager
    def explaining_failure(self) -> Iterator[None]:
        """Log what the block raises, and raise it with a reason that clients can read.

        Raises:
            ModelLoadError: The block failed.
        """
        try:
            yield
        except ModelLoadError as error:
            logger.error("Model %s is unavailable: %s", self.model_id, error)  # noqa: TRY400 - one line, no traceback
            raise
        except Exception as error:
            logger.exception("Model %s is unavailable", self.model_id)
            reason = f"{self.entry.repo} could not be loaded: {type(error).__name__}: {one_line(error)}"
            raise ModelLoadError(reason) from error

    def check_health(self) -> None:
        """Raise if the engine has ended, as after a fault of its device; Ray Serve then replaces the replica."""
        engine = self.engine
        if self._fault:
            raise EngineError(self._fault)
        if engine is not None and not engine.is_alive:
            raise EngineError(engine.failure or "The engine has stopped.")

    def note_error(self, error: Exception, device: str) -> None:
        """Note what was raised while weights came to a device; after a fault of it, health checks fail."""
        if is_device_fault(error, torch.device(device)):
            self._fault = f"The device failed: {type(error).__name__}: {one_line(error)}"

    def describe(self) -> dict[str, Any]:
        """What the engine has done, for tests and operators."""
        engine = self.engine
        if engine is None:
            return {"model_id": self.model_id, "load_failure": self.failure}
        statistics = engine.statistics
        return {
            "model_id": self.model_id,
            "widest_batch": statistics.widest_batch,
            "grouped_share": statistics.grouped_share,
            "forward_share": statistics.forward_share,
            "steps": statistics.steps,
            "step_seconds": statistics.step_seconds,
            "rows": statistics.rows,
            "padded_rows": statistics.padded_rows,
            "rows_computed_per_row_asked": statistics.rows_computed_per_row_asked,
            "cached_encodings": statistics.cached_encodings,
            "images": statistics.images,
            "memory": None if self.fit is None else self.fit.reason,
            "pid": os.getpid(),
        }


def _leave_a_core_free(num_cpus: float) -> None:
    """Torch takes every core it can; then the proxy starves and fails its health checks."""
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(max(1, min(cores - 1, round(num_cpus) or 1)))
