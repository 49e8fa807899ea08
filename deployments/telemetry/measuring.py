"""Turns the state of the parts of the service into metrics, at intervals."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from deployments.background import repeat_forever
from deployments.jobs.queue.counts import QueueCounts
from deployments.jobs.records.jobs import Claim
from deployments.telemetry import metrics

logger = logging.getLogger(__name__)

# Ray forgets a gauge that is not set again within two of its report intervals, 20 seconds.
MEASURE_SECONDS = 5.0

_ENGINE_COUNTERS = {
    "steps": metrics.DENOISING_STEPS,
    "step_seconds": metrics.DENOISING_SECONDS,
    "rows": metrics.DENOISING_ROWS,
    "padded_rows": metrics.PADDED_ROWS,
}


class ReplicaMeter:
    """Measures one replica of a model.

    Args:
        model_id: The model's key in the catalog.
        load_seconds: How long the model took to load, or to fail.
        is_available: Whether it could be loaded.
    """

    def __init__(self, model_id: str, load_seconds: float, *, is_available: bool) -> None:
        self._model_id = model_id
        self._load_seconds = load_seconds
        self._is_available = is_available
        self._loaded_at = time.time()
        self._counted: dict[str, float] = {}

    def note(self, description: Mapping[str, Any]) -> None:
        """Set the metrics of the replica.

        Args:
            description: What :meth:`LoadedModel.describe` returns.
        """
        model = self._model_id
        metrics.MODEL_AVAILABLE.set(float(self._is_available), model=model)
        if not self._is_available:
            return
        metrics.COLD_START_TIME.set(self._loaded_at, model=model)
        metrics.LOAD_SECONDS.set(self._load_seconds, model=model)
        metrics.IMAGES_IN_PROGRESS.set(description["images"], model=model)
        metrics.FORWARD_SHARE.set(description["forward_share"], model=model)
        for name, counter in _ENGINE_COUNTERS.items():
            counter.add(description[name] - self._counted.get(name, 0), model=model)
            self._counted[name] = description[name]

    @contextmanager
    def job(self, claim: Claim) -> Iterator[None]:
        """Measure an attempt at a job, from its arrival to its end."""
        metrics.JOB_WAIT_SECONDS.observe(_age(claim), model=self._model_id)
        try:
            with metrics.JOB_RUN_SECONDS.timing(model=self._model_id):
                yield
        finally:
            metrics.JOB_SECONDS.observe(_age(claim), model=self._model_id)


def note_queue(counts: QueueCounts, limit: int) -> None:
    """Set the metrics of the queue.

    Args:
        counts: Of the job store.
        limit: Pending jobs above which new ones are refused.
    """
    metrics.QUEUE_LIMIT.set(limit)
    for model_id, of_model in counts.models.items():
        for state, jobs in of_model.model_dump().items():
            metrics.JOBS.set(jobs, model=model_id, state=state)


def note_rejection(error: Exception) -> None:
    """Count a request that is answered with an error, under its class's name: ``queue_full`` of QueueFullError."""
    name = type(error).__name__.removesuffix("Error")
    metrics.REJECTED_REQUESTS.add(reason=re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower())


async def repeat(measure: Callable[[], Awaitable[None]], every_seconds: float = MEASURE_SECONDS) -> None:
    """Measure at intervals, until cancelled, while metrics are recorded.

    Args:
        measure: What to do.
        every_seconds: The pause between two measurements.
    """

    async def measure_if_taken() -> None:
        if metrics.is_recording():
            await measure()

    failure = "Metrics could not be gathered"
    await repeat_forever(measure_if_taken, every_seconds, logger, failure, level=logging.WARNING)


def _age(claim: Claim) -> float:
    return (datetime.now(UTC) - claim.created_at).total_seconds()
