"""The per-pool deployment, as Ray Serve runs it: several models that take turns on one device.

As with a replica of one model, torch and diffusers are imported only where models are opened.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from deployments.accelerator import free_bytes, share_bytes
from deployments.background import TaskSet
from deployments.catalog.entry import ModelEntry
from deployments.catalog.pools import Pool
from deployments.cluster import open_tracker
from deployments.jobs.records.jobs import Claim, JobPhase
from deployments.model.fault_watch import end_after_fault
from deployments.model.replica import announce_forever, announced_load
from deployments.pools.pool import ModelPool, Moved
from deployments.pools.residency import Move, MoveKind, Place, Residency
from deployments.private_files import keep_files_private
from deployments.settings.service import Settings
from deployments.telemetry import metrics
from deployments.telemetry.logs import configure_logs, use_live_log_level
from deployments.telemetry.measuring import ReplicaMeter, repeat
from deployments.telemetry.traces import configure_traces
from deployments.tracker.job_tracker import JobTracker
from deployments.tracker.progress import ProgressReporter

if TYPE_CHECKING:
    from deployments.pools.parked_model import ParkedModel

logger = logging.getLogger(__name__)

_REPORT_SECONDS = 0.2


class PoolReplica:
    """One replica of a pool.

    A subclass that overrides :meth:`_open_model` has models of another kind.

    Args:
        name: The pool's name in the catalog.
        pool: What the catalog says of it.
        entries: What the catalog says of its models, by id.
        settings: The service's settings.
    """

    async def __init__(  # type: ignore[misc] # Ray Serve awaits it
        self, name: str, pool: Pool, entries: Mapping[str, ModelEntry], settings: Settings
    ) -> None:
        keep_files_private()
        configure_logs(settings.logging, f"pool-{name}", settings.logs_dir, draws=True)
        configure_traces(settings.tracing, f"pool-{name}")
        self._name = name
        self._entries = entries
        self._settings = settings
        self._tracker = await asyncio.to_thread(open_tracker, settings)
        self._models = await asyncio.to_thread(self._open_models)
        memory = await asyncio.to_thread(_memory_of, pool)
        self._residency = Residency(entries, memory, pool.parked_memory, pool.residency_seconds, time.monotonic)
        self._pool = ModelPool(name, self._models, self._residency, self._note, self._announced)
        self._reporter = ProgressReporter(self._tracker, _REPORT_SECONDS)
        self._work = TaskSet()
        self._load_seconds: dict[str, float] = {}
        self._meters: dict[str, ReplicaMeter] = {}
        self._announcing: dict[str, asyncio.Task[None]] = {}
        self._measuring = asyncio.create_task(repeat(self._measure))
        self._watching = asyncio.create_task(end_after_fault(self.check_health, self._work))

    def _open_models(self) -> dict[str, ParkedModel]:
        return {
            model_id: self._open_model(model_id, entry, self._settings, self._tracker)
            for model_id, entry in self._entries.items()
        }

    def _open_model(self, model_id: str, entry: ModelEntry, settings: Settings, tracker: JobTracker) -> ParkedModel:
        """A model of the pool, not loaded yet."""
        # Both import torch.
        from deployments.model.image_model import ImageModel  # noqa: PLC0415
        from deployments.pools.parked_model import ParkedModel  # noqa: PLC0415

        return ParkedModel(ImageModel.opened(model_id, entry, settings, tracker))

    async def generate(self, claim: Claim) -> None:
        """Run a claimed job to its end, as soon as its model is on the device, and record that end with the tracker.

        The job does not depend on the caller: if the dispatcher goes away, it is finished all the same.
        """
        await asyncio.shield(self._work.start(self._run(claim)))

    def reconfigure(self, user_config: Any) -> None:
        """Ray Serve calls this with the deployment's ``user_config``, at the start and when it was changed."""
        use_live_log_level(self._settings.logging, user_config)

    async def describe(self) -> dict[str, Any]:
        """Where the replica's models are, and what each of their engines has done."""
        return {
            model_id: {"place": self._residency.tenants[model_id].place.value, **parked.model.loaded.describe()}
            for model_id, parked in self._models.items()
        }

    def check_health(self) -> None:
        """Raise if a model can make no more images; Ray Serve then replaces the replica."""
        for parked in self._models.values():
            parked.model.loaded.check_health()

    async def _run(self, claim: Claim) -> None:
        model_id = claim.request.model_id
        entering = asyncio.create_task(self._pool.enter(model_id))

        def stop() -> None:
            entering.cancel()

        with self._reporter.follow(claim, stop) as progress:
            progress.phase = JobPhase.LOADING_MODEL
            await asyncio.wait([entering])
        if entering.cancelled():
            await self._tracker.confirm_cancel(claim.job_id, claim.fence)
            return
        try:
            with self._meters[model_id].job(claim):
                await self._models[model_id].model.generate(claim)
        finally:
            self._pool.leave(model_id)

    def _announced(self, move: Move) -> AbstractAsyncContextManager[None]:
        """Announce the load of a model while it lasts."""
        return announced_load(self._tracker, move.model_id) if move.kind is MoveKind.LOAD else nullcontext()

    def _note(self, moved: Moved) -> None:
        model_id = moved.model_id
        if moved.failure:
            logger.error("Model %s is unavailable: %s", model_id, moved.failure)
        else:
            logger.info("Model %s: %s took %.2f s", model_id, moved.kind.value, moved.seconds)
        if moved.kind is MoveKind.LOAD:
            self._load_seconds[model_id] = moved.seconds
        if moved.kind is MoveKind.DROP:
            self._forget(model_id)
        if moved.failure or (moved.kind is MoveKind.BRING_IN and model_id not in self._meters):
            self._introduce(model_id, moved.failure)
        if moved.kind is MoveKind.BRING_IN and not moved.failure:
            metrics.POOL_SWAPS.add(pool=self._name, model=model_id)
            metrics.POOL_SWAP_SECONDS.observe(moved.seconds, pool=self._name, model=model_id)

    def _introduce(self, model_id: str, failure: str) -> None:
        """Begin to measure a model, and to announce it as loaded or unavailable."""
        self._forget(model_id)
        self._meters[model_id] = ReplicaMeter(model_id, self._load_seconds.get(model_id, 0.0), is_available=not failure)
        self._announcing[model_id] = asyncio.create_task(
            announce_forever(self._tracker, model_id, self._entries[model_id].fingerprint, failure)
        )

    def _forget(self, model_id: str) -> None:
        self._meters.pop(model_id, None)
        announcing = self._announcing.pop(model_id, None)
        if announcing is not None:
            announcing.cancel()

    async def _measure(self) -> None:
        for place in (Place.RESIDENT, Place.PARKED):
            metrics.POOL_WEIGHT_BYTES.set(self._residency.bytes_in(place), pool=self._name, place=place.value)
        for model_id, meter in self._meters.items():
            meter.note(self._models[model_id].model.loaded.describe())


def _memory_of(pool: Pool) -> int | None:
    """Most bytes of weights on the device; None for no limit."""
    if pool.memory is not None or pool.replicas.num_gpus == 0:
        return pool.memory
    free, share = free_bytes(), share_bytes(pool.replicas.num_gpus)
    return None if free is None or share is None else max(0, min(free, share) - pool.reserve)
