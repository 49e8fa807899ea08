"""Sends images as events: previews of the steps, then the images."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, Literal

from sse_starlette import ServerSentEvent

from deployments.decoding.workers import TooManyPicturesError
from deployments.jobs.queue.views import JobView
from deployments.jobs.records.exceptions import JobError
from deployments.jobs.records.jobs import Job
from deployments.storage.base import StorageError
from serve.api.openai.bodies import GenerationBody
from serve.api.openai.errors import error_body
from serve.api.openai.translation import in_base64, quality_of, seconds_of, size_of, usage_of
from serve.errors import ApiError
from serve.http.errors import problem_of
from serve.protection.identity import Identity
from serve.services.services import Services
from serve.submission.waiting import cancelled_without_client, follow_job, read_images

Kind = Literal["image_generation", "image_edit"]


class PartialImages:
    """Chooses the previews to send: as many as requested, spread over the steps, none twice.

    Args:
        most: The number requested; a job that is faster than its previews has fewer.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._last: bytes | None = None
        self.sent = 0

    def due(self, view: JobView) -> bytes | None:
        """Return the preview to send now; None where none is due."""
        preview, job = view.preview, view.job
        is_time = job.step * (self._most + 1) >= job.total_steps * (self.sent + 1)
        if job.state.is_terminal or preview in (None, self._last) or self.sent >= self._most or not is_time:
            return None
        self._last = preview
        self.sent += 1
        return preview


async def image_events(
    services: Services, who: Identity, asked: GenerationBody, job: Job, kind: Kind
) -> AsyncIterator[ServerSentEvent]:
    """Yield the events of a job: ``partial_image`` ones, one ``completed`` for each image; or one ``error``.

    Args:
        services: The parts behind the edge.
        who: The job's owner.
        asked: The request.
        job: The queued job.
        kind: The prefix of the events' names.
    """
    partials = PartialImages(asked.partial_images or 0)
    settings = job.request.settings
    try:
        with cancelled_without_client(services, job.id, who):
            async for view in follow_job(services, job.id):
                index = partials.sent
                if (preview := partials.due(view)) is not None:
                    more = {"partial_image_index": index}
                    with suppress(TooManyPicturesError):  # clients can do without it
                        picture = await services.picture_workers.enlarge(
                            who.rate_key, preview, settings, settings.output_format
                        )
                        yield _event(f"{kind}.partial_image", asked, view.job, picture, more)
                if view.job.state.is_terminal:
                    usage = {"usage": usage_of(view.job).model_dump()}
                    for content in await read_images(services, view):
                        yield _event(f"{kind}.completed", asked, view.job, content, usage)
    except (ApiError, JobError, StorageError) as error:
        body = error_body(problem_of(error))
        yield ServerSentEvent(body.model_dump_json(), event="error")


def _event(name: str, asked: GenerationBody, job: Job, picture: bytes, more: dict[str, Any]) -> ServerSentEvent:
    settings = job.request.settings
    data = {
        "type": name,
        "b64_json": in_base64(picture),
        "created_at": seconds_of(job),
        "size": size_of(settings),
        "quality": quality_of(asked),
        "background": "opaque",
        "output_format": settings.output_format,
        **more,
    }
    return ServerSentEvent(json.dumps(data), event=name)
