"""The per-model deployment, as Ray Serve runs it.

It imports torch and diffusers only where a model is loaded: whoever builds or routes to the deployment does without.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from deployments.background import repeat_forever
from deployments.catalog.entry import ModelEntry
from deployments.cluster import open_tracker
from deployments.jobs.records.jobs import Claim
from deployments.model.fault_watch import end_after_fault
from deployments.private_files import keep_files_private
from deployments.settings.service import Settings
from deployments.telemetry.logs import configure_logs, use_live_log_level
from deployments.telemetry.measuring import ReplicaMeter, repeat
from deployments.telemetry.traces import configure_traces
from deployments.tracker.job_tracker import JobTracker
from deployments.tracker.model_state import ANNOUNCE_SECONDS

if TYPE_CHECKING:
    from deployments.model.image_model import ImageModel

logger = logging.getLogger(__name__)


class ModelReplica:
    """One replica of one model.

    Args:
        model_id: The model's key in the catalog.
        entry: What the catalog says of it.
        settings: The service's settings.
    """

    async def __init__(self, model_id: str, entry: ModelEntry, settings: Settings) -> None:  # type: ignore[misc]
        keep_files_private()
        configure_logs(settings.logging, f"model-{model_id}", settings.logs_dir, draws=True)
        configure_traces(settings.tracing, f"model-{model_id}")
        logger.info("A replica of %s starts", model_id)
        self._settings = settings
        tracker = await asyncio.to_thread(open_tracker, settings)
        began = time.monotonic()
        async with announced_load(tracker, model_id):
            self._model: ImageModel = await asyncio.to_thread(_load, model_id, entry, settings, tracker)
        self._meter = ReplicaMeter(model_id, time.monotonic() - began, is_available=not self._model.loaded.failure)
        self._measuring = asyncio.create_task(repeat(self._measure))
        self._watching = asyncio.create_task(end_after_fault(self.check_health, self._model.work))
        self._announcing = asyncio.create_task(
            announce_forever(tracker, model_id, entry.fingerprint, self._model.loaded.failure)
        )

    async def generate(self, claim: Claim) -> None:
        """Run a claimed job to its end, and record that end with the tracker."""
        with self._meter.job(claim):
            await self._model.generate(claim)

    def reconfigure(self, user_config: Any) -> None:
        """Ray Serve calls this with the deployment's ``user_config``, at the start and when it was changed."""
        use_live_log_level(self._settings.logging, user_config)

    async def describe(self) -> dict[str, Any]:
        """What the replica's engine has done."""
        return self._model.loaded.describe()

    def check_health(self) -> None:
        """Raise if the replica can make no more images; Ray Serve then replaces it."""
        self._model.loaded.check_health()

    async def _measure(self) -> None:
        self._meter.note(self._model.loaded.describe())


async def announce_forever(
    tracker: JobTracker, model_id: str, fingerprint: str, load_failure: str, every_seconds: float = ANNOUNCE_SECONDS
) -> None:
    """Announce a model's state to the tracker at intervals, which keeps it in memory and forgets silent replicas.

    Args:
        tracker: The job tracker.
        model_id: The model's key in the catalog.
        fingerprint: Of its entry there.
        load_failure: Why the model could not be loaded; empty if it was.
        every_seconds: Between two calls.
    """
    replica = str(uuid4())
    announce = partial(tracker.announce_model, model_id, fingerprint, load_failure, replica)
    await repeat_forever(announce, every_seconds, logger, f"The tracker was not told the state of {model_id}")


@asynccontextmanager
async def announced_load(
    tracker: JobTracker, model_id: str, every_seconds: float = ANNOUNCE_SECONDS
) -> AsyncIterator[None]:
    """Report to the tracker while the block loads a model, and at its end how long that took.

    Args:
        tracker: The job tracker.
        model_id: The model's key in the catalog.
        every_seconds: Between two calls.
    """
    replica = str(uuid4())
    began = time.monotonic()

    async def report(*, is_over: bool) -> None:
        try:
            await tracker.announce_load(model_id, replica, time.monotonic() - began, is_over=is_over)
        except Exception:
            logger.warning("The tracker was not told that %s is being loaded", model_id, exc_info=True)

    async def report_forever() -> None:
        while True:
            await report(is_over=False)
            await asyncio.sleep(every_seconds)

    reporting = asyncio.create_task(report_forever())
    try:
        yield
    finally:
        reporting.cancel()
        await asyncio.wait([reporting])
    await report(is_over=True)


def _load(model_id: str, entry: ModelEntry, settings: Settings, tracker: JobTracker) -> ImageModel:
    began = time.monotonic()
    from deployments.model.image_model import ImageModel  # noqa: PLC0415 - it imports torch

    logger.info("torch and diffusers were imported in %.1f s", time.monotonic() - began)
    model = ImageModel.opened(model_id, entry, settings, tracker)
    model.loaded.load()
    return model
