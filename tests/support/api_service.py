"""The HTTP API over a real tracker, a real storage and a real catalog; the tests play the model replica."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import numpy as np
from fastapi import FastAPI

from deployments.catalog.catalog import Catalog, load_catalog
from deployments.catalog.entry import ModelEntry
from deployments.catalog.limits import SizeLimits, StepCacheLimits, StepLimits
from deployments.jobs.records.jobs import Claim, Job, JobPhase, NewImage, ProgressReport
from deployments.model.saving import save_image
from deployments.settings.service import Settings
from deployments.storage.base import Storage
from deployments.storage.local import LocalStorage
from deployments.tracker.job_tracker import JobTracker
from serve.application import build_api
from serve.services.job_feed import Rhythm
from serve.services.services import Services
from tests.support.job_databases import write_job_database
from tests.support.job_trackers import job_tracker

PROJECT = Path(__file__).parents[2]
CPU_CATALOG = load_catalog(PROJECT / "configs" / "cpu.yaml", {})
WIDE_CATALOG = Catalog(
    default="large",
    models={
        "large": ModelEntry(
            repo="owner/large",
            size=SizeLimits(
                default_width=1024, default_height=1024, multiple_of=16, minimum=250, maximum=2050, max_pixels=2**21
            ),
            max_sequence_length=512,
            schedulers=("DDIMScheduler", "EulerDiscreteScheduler"),
            step_cache=StepCacheLimits(maximum=0.3, default=0.1),
        ),
        "fast": ModelEntry(repo="owner/fast", steps=StepLimits(fixed=2)),
    },
)
PICTURE = np.full((8, 8, 3), (1.0, 0.0, 0.0))
PROMPT = "a large red circle on a blue background"
AT_ONCE = Rhythm(rest=0.0)


@dataclass
class ApiService:
    app: FastAPI
    http: httpx.AsyncClient
    tracker: JobTracker
    storage: Storage
    images_dir: Path

    async def submit(self, **body: Any) -> str:
        """Submit a job and return its id."""
        body = {"model_id": "shapes", "prompt": PROMPT} | body
        response = await self.http.post("/api/generate", json=body)
        assert response.status_code == 200, response.text
        return response.json()["job_id"]

    async def start(self, model_id: str = "shapes") -> Claim:
        """Claim the next job, as its replica."""
        (claim,) = await self.tracker.claim({model_id: 1}, "replica", str(uuid4()))
        return claim

    async def report(self, claim: Claim, phase: JobPhase, step: int = 0) -> set[str]:
        return await self.tracker.report(
            [ProgressReport(job_id=claim.job_id, fence=claim.fence, phase=phase, step=step)]
        )

    async def finish(self, claim: Claim) -> list[NewImage]:
        """Store the images of a claimed job and complete it."""
        settings = claim.request.settings
        images = []
        for index in range(settings.num_images):
            metadata = {
                "model_id": claim.request.model_id,
                "prompt": claim.request.prompt,
                "negative_prompt": claim.request.negative_prompt,
                "settings": settings.model_dump(exclude_none=True) | {"seed": settings.seed_of(index)},
                "image_number": index + 1,
                "total_images": settings.num_images,
            }
            images.append(await save_image(self.storage, claim, index, PICTURE, metadata))
        assert await self.tracker.complete(claim.job_id, claim.fence, images)
        return images

    async def make_image(self, **body: Any) -> tuple[NewImage, bytes]:
        """Bring a job to its end; gives its first image and that one's bytes."""
        await self.submit(**body)
        image = (await self.finish(await self.start()))[0]
        return image, await self.storage.read(image.key)

    async def job(self, job_id: str) -> Job:
        return await self.tracker.jobs.get(job_id)


@asynccontextmanager
async def api_service(
    folder: Path,
    catalog: Catalog = CPU_CATALOG,
    tracker: Any = None,
    storage: Any = None,
    queue_limit: int = 1000,
    queue_limit_per_client: int | None = None,
    rhythm: Rhythm = AT_ONCE,
    **settings: Any,
) -> AsyncIterator[ApiService]:
    """An API with everything behind it.

    Args:
        folder: For the database and the images.
        catalog: The models.
        tracker: In place of a real one.
        storage: In place of a real one.
        queue_limit: Of the real tracker.
        queue_limit_per_client: Of the real tracker.
        rhythm: Of the job feed.
        settings: Further settings of the service.
    """
    known = Settings(data_dir=folder, **settings)
    database = folder / "cyberimage.db"
    if not database.exists():
        write_job_database(database)
    real = job_tracker(
        known.resolved_database_url, quota=known.quota, limit=queue_limit, limit_per_client=queue_limit_per_client
    )
    files = LocalStorage(known.images_dir)
    services = Services(known, catalog, tracker or real, storage or files, rhythm)
    app = build_api(services)
    # It raises what the application lets escape.
    transport = httpx.ASGITransport(app, client=("10.1.2.3", 4567))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
        yield ApiService(app, http, real, storage or files, known.images_dir)
    await services.feed.close()
    await real.close()


def sentence(response: httpx.Response, status: int) -> str:
    """Return the message of an error answer, whose form is checked."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert list(body) == ["status", "message"]
    assert body["status"] == "error"
    message = body["message"]
    assert message.endswith((".", "?"))
    assert "\n" not in message
    assert "Traceback" not in message
    assert response.headers["X-Request-ID"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    return message
