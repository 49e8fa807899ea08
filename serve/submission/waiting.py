"""Waits for jobs on behalf of clients whose request ends with its images, by the one subscription of this process."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from fastapi import Request

from deployments.background import TaskSet
from deployments.jobs.queue.views import JobView, ModelLoad
from deployments.jobs.records.jobs import Job, JobPhase, JobState
from deployments.tracker.model_state import ModelState
from serve.errors import ApiError
from serve.protection.identity import Identity
from serve.services.services import Services
from serve.submission.request import GenerateBody
from serve.submission.submit import submit_job

_UNKNOWN_LOAD_SECONDS = 30
_cancelling = TaskSet()


class JobFailedError(ApiError):
    """The job failed."""

    status = 500
    code = "job_failed"


class JobCancelledError(ApiError):
    """The job was cancelled."""

    status = 409
    code = "job_cancelled"


class ClientLeftError(ApiError):
    """The client did not wait for the answer."""

    status = 499
    code = "client_left"


class ModelLoadingError(ApiError):
    """The model is being loaded."""

    status = 503
    code = "model_loading"

    def __init__(self, model_id: str, load: ModelLoad | None) -> None:
        super().__init__(f"{model_id} is being loaded{_progress_of(load)}; send the request again.")
        rest = None if load is None else load.rest_seconds
        self.retry_after_seconds = _UNKNOWN_LOAD_SECONDS if rest is None else max(1, math.ceil(rest))


async def submit_for(
    request: Request, services: Services, body: GenerateBody, who: Identity, idempotency_key: str | None = None
) -> Job:
    """Queue a job, as :func:`submit_job`; whatever is answered from then on carries its id as ``X-Job-ID``.

    Args:
        request: It asks for the job.
        services: The parts behind the edge.
        body: What the job is.
        who: Who asks.
        idempotency_key: Of the client's choice.
    """
    job = await submit_job(services, body, who, idempotency_key)
    request.state.job_id = job.id
    return job


async def follow_job(services: Services, job_id: str) -> AsyncIterator[JobView]:
    """Give each newer view of a job, until it has ended; the last one is that of its completion.

    Raises:
        JobFailedError: It failed; the message is its reason.
        JobCancelledError: It was cancelled.
        UnknownJobError: It was removed.
    """
    with services.feed.watch_job(job_id) as watcher:
        while True:
            (view,) = await watcher.next()
            if view.job.state is JobState.FAILED:
                raise JobFailedError(view.job.message)
            if view.job.state is JobState.CANCELLED:
                raise JobCancelledError(view.job.message)
            yield view
            if view.job.state is JobState.COMPLETED:
                return


async def completed_job(services: Services, request: Request, job: Job, who: Identity) -> JobView:
    """Wait until a job has completed, for as long as the client waits too.

    Raises:
        ModelLoadingError: Its model is cold, and clients are not to wait for that. The load goes on, and the job is
            cancelled, unless a request with the same idempotency key can ask for it again.
        JobFailedError: It failed.
        JobCancelledError: It was cancelled.
        UnknownJobError: It was removed.
        ClientLeftError: The client has gone; the job was cancelled where that is configured.
    """
    with cancelled_without_client(services, job.id, who):
        ending = asyncio.create_task(_completion(services, request, job, who))
        leaving = asyncio.create_task(_departure(request))
        try:
            await asyncio.wait((ending, leaving), return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                raise ClientLeftError
            return ending.result()
        finally:
            ending.cancel()
            leaving.cancel()


@contextmanager
def cancelled_without_client(services: Services, job_id: str, who: Identity, *, always: bool = False) -> Iterator[None]:
    """Cancel a job when the request that waits for it is given up within, where that is configured.

    Args:
        services: The parts behind the edge.
        job_id: The job.
        who: Whose it is.
        always: Whether it is cancelled whatever is configured, as giving up is how the dialect says so.
    """
    try:
        yield
    except (asyncio.CancelledError, GeneratorExit, ClientLeftError):
        if always or services.settings.clients.cancel_on_disconnect:
            # A task of its own: nothing more can be awaited here.
            _cancelling.start(services.tracker.jobs.cancel(job_id, who.name))
        raise


async def read_images(services: Services, view: JobView) -> list[bytes]:
    """Return the files of a completed job's images, in their order.

    Raises:
        StorageError: One cannot be read.
    """
    return [await services.storage.read(image.key) for image in view.images]


async def _completion(services: Services, request: Request, job: Job, who: Identity) -> JobView:
    async for view in follow_job(services, job.id):
        last = view
        is_loading = view.job.phase is JobPhase.LOADING_MODEL
        if is_loading and not services.settings.clients.wait_for_load and await _is_cold(services, job):
            if "idempotency-key" not in request.headers:
                await services.tracker.jobs.cancel(job.id, who.name)
            raise ModelLoadingError(job.request.model_id, view.loading)
    return last


async def _is_cold(services: Services, job: Job) -> bool:
    """Whether no copy of a job's model is there: a job is said to wait for its model until a copy has taken it."""
    model_id = job.request.model_id
    conditions = await services.tracker.model_conditions({model_id: services.catalog.get(model_id).fingerprint})
    return conditions[model_id].state is ModelState.COLD


def _progress_of(load: ModelLoad | None) -> str:
    if load is None:
        return ""
    usual = "" if load.usual_seconds is None else f" of some {load.usual_seconds:.0f}"
    return f", since {load.seconds:.0f}{usual} seconds"


async def _departure(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
