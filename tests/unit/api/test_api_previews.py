"""Pictures of what running jobs are becoming."""

from __future__ import annotations

import io

import numpy as np
import PIL.Image

from deployments.jobs.records.jobs import JobPhase, ProgressReport
from deployments.tracker.previews import Previews, encode_preview
from tests.support.api_service import sentence

UNKNOWN = "00000000-0000-4000-8000-000000000000"


class TestPreview:
    async def test_a_running_job_shows_what_it_is_becoming(self, service):
        job_id = await service.submit()
        claim = await service.start()
        picture = encode_preview(np.full((8, 8, 3), (200, 30, 30), np.uint8))
        report = ProgressReport(job_id=job_id, fence=claim.fence, phase=JobPhase.GENERATING, step=1, preview=picture)
        await service.tracker.report([report])

        path = (await service.http.get(f"/api/status/{job_id}")).json()["preview"]
        response = await service.http.get(path)

        assert path == f"/api/jobs/{job_id}/preview"
        assert (response.status_code, response.content) == (200, picture)
        assert response.headers["Content-Type"] == "image/webp"
        assert response.headers["Cache-Control"] == "no-store"
        pixels = np.asarray(PIL.Image.open(io.BytesIO(response.content)).convert("RGB"))
        assert np.abs(pixels.astype(int) - (200, 30, 30)).max() < 20

    async def test_the_report_of_a_stale_attempt_shows_nothing(self, service):
        job_id = await service.submit()
        claim = await service.start()
        report = ProgressReport(
            job_id=job_id, fence=claim.fence + 1, phase=JobPhase.GENERATING, step=1, preview=b"stale"
        )
        await service.tracker.report([report])

        assert "no preview" in sentence(await service.http.get(f"/api/jobs/{job_id}/preview"), 404)

    async def test_a_job_that_waits_has_none(self, service):
        job_id = await service.submit()

        assert "no preview" in sentence(await service.http.get(f"/api/jobs/{job_id}/preview"), 404)
        assert (await service.http.get(f"/api/status/{job_id}")).json()["preview"] is None

    async def test_an_unknown_job_is_404(self, service):
        message = sentence(await service.http.get("/api/jobs/00000000-0000-4000-8000-000000000000/preview"), 404)

        assert "preview" not in message

    def test_only_the_newest_are_remembered(self):
        previews = Previews(most=2)
        for job_id in ("a", "b", "a", "c"):
            previews.keep(job_id, job_id.encode())
        assert (previews.get("a"), previews.get("b"), previews.get("c")) == (b"a", None, b"c")
