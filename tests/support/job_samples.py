"""Jobs to test with, and the short way to bring one where a test begins."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from deployments.jobs.queue.attempts import Completion
from deployments.jobs.queue.limits import QueueLimits
from deployments.jobs.records.jobs import (
    Claim,
    Job,
    JobPhase,
    JobRequest,
    JobState,
    NewImage,
    ProgressReport,
)
from deployments.jobs.store import JobStore
from deployments.parameters import GenerationSettings

LEASE = timedelta(seconds=60)
LIMIT = QueueLimits(total=1000)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, **parts: float) -> None:
        self.now += timedelta(**parts)


def request(model_id="tiny", client="ann", prompt="a red circle", num_images=2, steps=10) -> JobRequest:
    settings = GenerationSettings(
        num_images=num_images, num_inference_steps=steps, guidance_scale=7.5, width=64, height=64, seed=2**63 - 1
    )
    return JobRequest(model_id=model_id, prompt=prompt, settings=settings, client=client)


def image(job_id: str, index: int = 0) -> NewImage:
    return NewImage(
        id=f"{job_id}-{index}",
        index=index,
        key=f"2030/01/01/{job_id}-{index}.png",
        media_type="image/png",
        byte_count=3,
        sha256="0" * 64,
        metadata={"seed": index},
    )


async def submit(store: JobStore, job_id: str, wanted: JobRequest, limits: QueueLimits) -> Job:
    (job,) = await store.queue.submit({job_id: wanted}, limits)
    return job


async def reported(store: JobStore, reports: Sequence[ProgressReport], lease: timedelta) -> set[str]:
    """Report jobs, as their one reporter; gives the ids of those that it must stop."""
    (stop,) = await store.claims.report([reports], lease)
    return stop


async def complete(store: JobStore, job_id: str, fence: int, images: Sequence[NewImage]) -> bool:
    (completed,) = await store.attempts.complete([Completion(job_id, fence, images)])
    return completed


async def submitted(store: JobStore, *job_ids: str, **fields) -> None:
    for job_id in job_ids:
        await submit(store, job_id, request(**fields), LIMIT)


async def claimed(store: JobStore, claim_id: str, count: int = 1, model_id: str = "tiny") -> list[Claim]:
    return await store.claims.claim({model_id: count}, "replica", claim_id, LEASE)


async def processing(store: JobStore, job_id: str = "a") -> int:
    """Submit one job and claim it; gives its fence."""
    await submitted(store, job_id)
    (claim,) = await claimed(store, f"claim of {job_id}")
    assert claim.job_id == job_id
    return claim.fence


async def state(store: JobStore, job_id: str = "a") -> JobState:
    return (await store.jobs.get(job_id)).state


def report(job_id: str, fence: int, step: int = 0, phase: JobPhase = JobPhase.GENERATING) -> ProgressReport:
    return ProgressReport(job_id=job_id, fence=fence, phase=phase, step=step)
