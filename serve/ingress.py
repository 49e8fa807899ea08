"""The ingress deployment: the HTTP edge and a dispatcher, in every replica."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI

from deployments.catalog.catalog import Catalog
from deployments.cluster import open_tracker, require_reachable_images
from deployments.doctor.files import exposed
from deployments.private_files import keep_files_private
from deployments.settings.service import Settings
from deployments.storage.opening import open_storage
from deployments.telemetry.logs import configure_logs
from deployments.telemetry.traces import configure_traces
from deployments.upkeep.retention import Retention
from deployments.upkeep.sweep import Upkeep
from serve.application import build_api
from serve.dispatch import Dispatcher
from serve.http.disconnects import Disconnects
from serve.reconfiguration import apply_live_settings
from serve.services.services import Services

logger = logging.getLogger(__name__)


class Ingress:
    """Answers HTTP and dispatches jobs.

    Args:
        settings: The service's settings.
        catalog: The models.
        models: Handles of the model deployments, by model id.
    """

    async def __init__(  # type: ignore[misc] # Ray Serve awaits it
        self, settings: Settings, catalog: Catalog, models: dict[str, Any]
    ) -> None:
        keep_files_private()
        configure_logs(settings.logging, "ingress", settings.logs_dir)
        for finding in await asyncio.to_thread(exposed, settings):
            logger.warning("%s Mend it with: %s", finding.sentence, finding.remedy)
        configure_traces(settings.tracing, "ingress")
        # Nodes may have come since the application was built.
        await asyncio.to_thread(require_reachable_images, settings)
        tracker = await asyncio.to_thread(open_tracker, settings)
        storage = await asyncio.to_thread(open_storage, settings.storage, settings.images_dir)
        self._services = Services(settings, catalog, tracker, storage)
        self._retention = Retention(tracker, storage, settings.retention)
        self._upkeep = Upkeep(tracker.upkeep, storage, settings.upkeep)
        self._dispatcher = Dispatcher(
            tracker,
            models,
            capacity={key: entry.replicas.max * entry.most_ongoing_jobs for key, entry in catalog.models.items()},
            poll_seconds=settings.dispatch.poll_seconds,
            report_seconds=min(2.0, settings.queue.lease_seconds / 4),
        )

    async def reconfigure(self, user_config: Any) -> None:
        """Ray Serve calls this with the deployment's ``user_config``, at the start and when it was changed."""
        await apply_live_settings(self._services, user_config)

    def __serve_build_asgi_app__(self) -> FastAPI:
        """Ray Serve calls this once the replica is constructed."""
        app = build_api(self._services, self._lifespan)
        app.add_middleware(Disconnects)
        return app

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        self._dispatcher.start()
        self._retention.start()
        self._upkeep.start()
        yield
        await self._upkeep.close()
        await self._retention.close()
        await self._dispatcher.close()
        await self._services.feed.close()
