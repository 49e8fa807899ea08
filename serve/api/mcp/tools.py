"""The tools: generate images, follow and cancel jobs, list models and images."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from fastapi import Request
from mcp.server.context import ServerRequestContext
from mcp.types import CallToolResult, ContentBlock, ImageContent, TextContent
from mcp.types.version import MODERN_PROTOCOL_VERSIONS

from deployments.jobs.images.gallery import GalleryFilter
from deployments.jobs.queue.views import JobView
from deployments.jobs.records.jobs import Job, JobState
from serve.api.cyberimage import service
from serve.api.cyberimage.bodies import StatusAnswer, image_path
from serve.api.cyberimage.parameters import own_view
from serve.api.mcp.arguments import (
    Arguments,
    CancelJobArguments,
    GenerateArguments,
    GetJobArguments,
    ListModelsArguments,
    SearchGalleryArguments,
)
from serve.http.access import MAY_CHANGE, MAY_SUBMIT, identity_of
from serve.protection.identity import Identity
from serve.services.services import Services
from serve.submission.waiting import cancelled_without_client, follow_job, read_images, submit_for


@dataclass(frozen=True)
class Call:
    """A call of a tool.

    Attributes:
        context: The request of the protocol's library.
        request: The HTTP request.
    """

    context: ServerRequestContext[Any, Any]
    request: Request

    @property
    def services(self) -> Services:
        """The parts behind the edge."""
        services: Services = self.request.app.state.services
        return services

    @property
    def who(self) -> Identity:
        """The caller."""
        return identity_of(self.request)

    @property
    def ends_with_its_stream(self) -> bool:
        """Whether closing the stream cancels the call; in older versions of the protocol it does not."""
        return self.context.protocol_version in MODERN_PROTOCOL_VERSIONS


async def generate_image(call: Call, arguments: GenerateArguments) -> CallToolResult:
    """Draw images from a prompt. Progress is told while it lasts; the answer has the images and the job's id."""
    await MAY_SUBMIT(call.request)
    job = await submit_for(call.request, call.services, arguments.job_body(call.services), call.who)
    if not arguments.wait:
        return _result({"job_id": job.id, "status": job.state})
    with cancelled_without_client(call.services, job.id, call.who, always=call.ends_with_its_stream):
        await _tell_progress(call, job, 0)
        async for view in follow_job(call.services, job.id):
            if not view.job.state.is_terminal:
                await _tell_progress(call, view.job, view.job.step)
        return await _job_result(call, view, include_images=True)


async def get_job(call: Call, arguments: GetJobArguments) -> CallToolResult:
    """Look up a job: its state, its progress, and the images of a completed one."""
    view = await own_view(call.services, call.who, arguments.job_id)
    return await _job_result(call, view, include_images=arguments.include_images)


async def cancel_job(call: Call, arguments: CancelJobArguments) -> CallToolResult:
    """Cancel a job: at once while it waits, at its next step while it runs. One that has ended stays as it is."""
    await MAY_CHANGE(call.request)
    view = await own_view(call.services, call.who, arguments.job_id)
    await call.services.tracker.jobs.cancel(view.job.id, call.who.name)
    return await _job_result(call, await call.services.tracker.view(view.job.id), include_images=False)


async def list_models(call: Call, _arguments: ListModelsArguments) -> CallToolResult:
    """List the models, what each can be asked for, and which one is the default."""
    return _result((await service.models(call.services)).model_dump(mode="json"))


async def search_gallery(call: Call, arguments: SearchGalleryArguments) -> CallToolResult:
    """Find images that were made before, newest first, by words of their prompts."""
    wanted = GalleryFilter(search=arguments.search, model_id=arguments.model, client=call.who.limited_to(None))
    page = await call.services.tracker.gallery.page(wanted, arguments.page, arguments.limit)
    found = [
        {"id": image.id, "job_id": image.job_id, "url": await _url(call, image.id), "metadata": image.metadata}
        for image in page.images
    ]
    return _result({"images": found, "page": arguments.page, "total": page.total})


Tool = Callable[[Call, Any], Awaitable[CallToolResult]]
TOOLS: dict[str, tuple[type[Arguments], Tool]] = {
    "generate_image": (GenerateArguments, generate_image),
    "get_job": (GetJobArguments, get_job),
    "cancel_job": (CancelJobArguments, cancel_job),
    "list_models": (ListModelsArguments, list_models),
    "search_gallery": (SearchGalleryArguments, search_gallery),
}


async def _tell_progress(call: Call, job: Job, step: int) -> None:
    where = "waits" if job.state is JobState.PENDING else f"is {job.phase or 'starting'}"
    await call.context.session.report_progress(step, job.total_steps, f"Job {job.id} {where}.")


async def _job_result(call: Call, view: JobView, *, include_images: bool) -> CallToolResult:
    answer = StatusAnswer.of(view).model_dump(mode="json")
    answer["job_id"] = answer.pop("id")
    for image in answer["images"]:
        image["url"] = await _url(call, image["id"])
    pictures = await read_images(call.services, view) if include_images else []
    shown = [
        ImageContent(data=b64encode(content).decode(), mime_type=image.media_type)
        for image, content in zip(view.images, pictures, strict=False)
    ]
    return _result(answer, shown)


async def _url(call: Call, image_id: str) -> str:
    link = await call.services.protection.links.link_to(image_path(image_id))
    return link.seen_from(call.request)


def _result(data: dict[str, Any], pictures: list[ImageContent] | None = None) -> CallToolResult:
    """Return a result, with the data as text too, for clients that read only text."""
    content: list[ContentBlock] = [TextContent(text=json.dumps(data)), *(pictures or [])]
    return CallToolResult(content=content, structured_content=data)
