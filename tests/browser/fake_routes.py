"""The routes of the fake service."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from deployments.jobs.images.gallery import MOST_COUNTED
from serve.http.page import add_page
from tests.browser.fake_models import PREVIEW_SIZE, draw

if TYPE_CHECKING:
    from tests.browser.fake_service import FakeService

Answer = dict[str, Any]
STATES = ("pending", "processing", "completed", "failed", "cancelled")
CURSOR = "after-"


def build_app(service: FakeService) -> FastAPI:
    app = FastAPI()
    add_page(app, ())

    @app.middleware("http")
    async def ask_for_key(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
        wanted = service.key and request.url.path.startswith("/api/") and "signature" not in request.query_params
        if wanted and request.headers.get("Authorization") != f"Bearer {service.key}":
            return refuse(401, "An API key is needed: Authorization: Bearer KEY.")
        return await call_next(request)

    for router in (_jobs(service), _images(service), _administration(service)):
        app.include_router(router)
    return app


def refuse(status: int, sentence: str) -> JSONResponse:
    return JSONResponse({"status": "error", "message": sentence}, status)


def _jobs(service: FakeService) -> APIRouter:
    router = APIRouter()

    @router.get("/api/models")
    async def models() -> Answer:
        return {"models": service.models, "default": "shapes"}

    @router.get("/api/service")
    async def about() -> Answer:
        return {"version": "0.1.0", "enrich": service.enriches, "links": service.links}

    @router.post("/api/prompts/count")
    async def count(body: dict[str, str]) -> Answer:
        if body["model_id"] != "shapes":
            return {"tokens": None, "limit": None}
        return {"tokens": len(body["prompt"].split()) + 2, "limit": 40}

    @router.post("/api/generate")
    async def generate(request: Request) -> Response:
        body = await request.json()
        service.requests.append(body)
        if service.refusal:
            return refuse(*service.refusal)
        job = service.submit(body, request.headers["Idempotency-Key"])
        count = job["settings"]["num_images"]
        return JSONResponse({"job_id": job["id"], "status": "pending", "num_images": count, "message": "Queued"})

    @router.post("/api/enrich")
    async def enrich(body: dict[str, str]) -> Response:
        enriched = f"{body['prompt']}, finely detailed, {body.get('style', 'soft light')}"
        return JSONResponse({"original_prompt": body["prompt"], "enriched_prompt": enriched, "style": None})

    @router.post("/api/inputs")
    async def inputs(request: Request) -> Response:
        content = await request.body()
        if not content.startswith(b"\x89PNG"):
            return refuse(415, "The file is not a PNG, JPEG or WebP picture.")
        input_id = str(uuid.uuid4())
        service.inputs[input_id] = content
        return JSONResponse({"id": input_id, "width": 64, "height": 64})

    @router.get("/api/events")
    async def events() -> Response:
        if not service.streams:
            return refuse(503, "No events today.")
        return StreamingResponse(_read(service), media_type="text/event-stream")

    @router.get("/api/status/{job_id}")
    async def status(job_id: str) -> Response:
        return JSONResponse(service.jobs[job_id]) if job_id in service.jobs else refuse(404, "No such job")

    @router.delete("/api/jobs/{job_id}")
    async def cancel(job_id: str) -> Answer:
        service.cancel(service.jobs[job_id])
        return service.jobs[job_id]

    @router.get("/api/jobs/{job_id}/preview")
    async def preview(job_id: str) -> Response:
        return Response(draw(PREVIEW_SIZE), media_type="image/png")

    return router


async def _read(service: FakeService) -> AsyncIterator[str]:
    reader = service.listen()
    try:
        yield ": here\r\n\r\n"
        while (text := await reader.get()) is not None:
            yield text
    finally:
        service.leave(reader)


def _images(service: FakeService) -> APIRouter:
    router = APIRouter()

    @router.get("/api/gallery")
    async def gallery(request: Request) -> Answer:
        asked = request.query_params
        found = [image for image in service.images if _matches(image, dict(asked))]
        first = int(asked.get("cursor", f"{CURSOR}0").removeprefix(CURSOR))
        last = first + int(asked.get("limit", 20))
        more = last < len(found)
        return {
            "images": found[first:last],
            "page": 1,
            "limit": int(asked.get("limit", 20)),
            "has_more": more,
            "total": min(len(found), MOST_COUNTED) if asked.get("search") else len(found),
            "next_cursor": f"{CURSOR}{last}" if more else None,
        }

    def find(image_id: str) -> dict[str, Any]:
        return next((image for image in service.images if image["id"] == image_id), {})

    @router.get("/api/image/{image_id}")
    @router.get("/api/image/{image_id}/thumbnail")
    async def image(image_id: str) -> Response:
        made = find(image_id)
        if not made:
            return refuse(404, "There is no such image.")
        return Response(draw(hue=37 * int(made["settings"]["seed"])), media_type="image/png")

    @router.get("/api/image/{image_id}/metadata")
    async def metadata(image_id: str) -> Response:
        made = find(image_id)
        if not made:
            return refuse(404, "There is no such image.")
        negative = {"negative_prompt": "blur", "image_number": 1, "total_images": 1}
        return JSONResponse({key: made[key] for key in ("model_id", "prompt", "settings")} | negative)

    @router.get("/api/image/{image_id}/link")
    async def link(image_id: str) -> Answer:
        return {"url": f"{service.url}/api/image/{image_id}?signature=1", "expires_at": None}

    @router.api_route("/api/image/{image_id}/favourite", methods=["PUT", "DELETE"])
    async def favourite(image_id: str, request: Request) -> Answer:
        find(image_id)["favourite"] = request.method == "PUT"
        return {"status": "success", "message": "The image is a favourite."}

    @router.api_route("/api/image/{image_id}/tags/{tag}", methods=["PUT", "DELETE"])
    async def tags_of(image_id: str, tag: str, request: Request) -> Answer:
        made = find(image_id)
        others = {other for other in made["tags"] if other != tag.lower()}
        made["tags"] = sorted(others | {tag.lower()} if request.method == "PUT" else others)
        return {"tags": made["tags"]}

    @router.get("/api/tags")
    async def tags() -> Answer:
        every = [tag for image in service.images for tag in image["tags"]]
        return {"tags": [{"tag": tag, "images": every.count(tag)} for tag in sorted(set(every))]}

    @router.post("/api/images/delete")
    async def delete_many(body: dict[str, list[str]]) -> Answer:
        service.images = [image for image in service.images if image["id"] not in body["ids"]]
        return {"status": "success", "deleted": body["ids"], "missing": [], "message": ""}

    @router.post("/api/images/download")
    async def download_many(body: dict[str, list[str]]) -> Response:
        return Response(f"{len(body['ids'])} images".encode(), media_type="application/zip")

    @router.delete("/api/image/{image_id}")
    async def delete(image_id: str) -> Answer:
        service.images = [image for image in service.images if image["id"] != image_id]
        return {"status": "success", "message": "The image was deleted."}

    return router


def _matches(image: dict[str, Any], asked: dict[str, str]) -> bool:
    text = f"{image['prompt']} {image['model_id']}".lower()
    words = asked.get("search", "").lower().split()
    return (
        all(word in text for word in words)
        and asked.get("model", image["model_id"]) == image["model_id"]
        and ("favourite" not in asked or image["favourite"])
        and ("tag" not in asked or asked["tag"] in image["tags"])
    )


def _administration(service: FakeService) -> APIRouter:
    router = APIRouter()

    @router.get("/api/jobs")
    async def jobs(state: str = "") -> Answer:
        found = [job for job in service.jobs.values() if state in ("", job["status"])]
        return {"jobs": [_row(job) for job in reversed(found)], "next_cursor": None}

    @router.delete("/api/jobs")
    async def clear(state: str) -> Answer:
        gone = [job for job in service.jobs.values() if job["status"] == state]
        for job in gone:
            del service.jobs[job["id"]]
        return {"cleared": len(gone), "remaining": 0, "message": f"{len(gone)} {state} jobs are cleared."}

    @router.post("/api/jobs/{job_id}/retry")
    async def retry(job_id: str) -> Answer:
        old = service.jobs[job_id]
        body = {key: old[key] for key in ("model_id", "prompt", "settings")}
        return {"job_id": service.submit(body, str(uuid.uuid4()))["id"], "status": "pending"}

    @router.post("/api/jobs/{job_id}/priority")
    async def prioritize(job_id: str, body: dict[str, str]) -> Answer:
        service.jobs[job_id] |= body
        return service.jobs[job_id]

    @router.get("/api/queue")
    async def queue() -> Answer:
        states = [job["status"] for job in service.jobs.values()]
        counts = {state: states.count(state) for state in STATES}
        detail = {"recent_24h": len(states), "avg_processing_time_seconds": 1.2, "failure_rate": 0.0}
        detail["images_per_minute"] = {"shapes": 4.25}
        return {**counts, "total": len(states), "paused": service.paused, **detail, "models": {"shapes": counts}}

    @router.post("/api/queue/{model_id}/pause")
    async def pause(model_id: str) -> Answer:
        service.paused.append(model_id)
        return {"status": "success", "message": f"The queue of {model_id} is paused."}

    @router.post("/api/queue/{model_id}/resume")
    async def resume(model_id: str) -> Answer:
        service.paused.remove(model_id)
        return {"status": "success", "message": f"The queue of {model_id} goes on."}

    @router.post("/api/reset_queue")
    async def reset() -> Answer:
        return {"status": "success", "reset_count": 0, "message": "No stalled job was found."}

    @router.get("/api/usage")
    async def usage() -> Answer:
        total, each = {"images": len(service.images), "bytes": 123456789}, {"owner": "10.1.2.3", "model_id": "shapes"}
        return {"usage": [{**each, **total}], **total, "quota_images": 5000, "quota_bytes": None}

    @router.get("/api/keys")
    async def keys() -> Answer:
        return {"keys": service.keys}

    @router.post("/api/keys")
    async def create_key(body: dict[str, Any]) -> Answer:
        key = {**body, "id": f"{len(service.keys):012x}", "last_used_at": None, "revoked_at": None}
        service.keys.append(key)
        return {**key, "key": f"ci_{key['id']}_secret"}

    @router.delete("/api/keys/{key_id}")
    async def revoke(key_id: str) -> Answer:
        key = next(key for key in service.keys if key["id"] == key_id)
        key["revoked_at"] = "2026-01-02T12:00:00.000Z"
        return key

    return router


def _row(job: dict[str, Any]) -> dict[str, Any]:
    copied = ("id", "status", "model_id", "priority", "prompt", "created_at", "message")
    return {
        **{key: job[key] for key in copied},
        "client": "10.1.2.3",
        "num_images": job["settings"]["num_images"],
        "step": job["progress"]["step"],
        "total_steps": job["progress"]["total_steps"],
        "retry_of": None,
    }
