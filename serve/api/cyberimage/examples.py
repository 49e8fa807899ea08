"""Examples of the CyberImage dialect's answers, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from deployments.catalog.entry import ModelEntry
from deployments.catalog.limits import GuidanceLimits, SizeLimits, StepCacheLimits, StepLimits
from deployments.parameters import GenerationSettings
from serve.api.errors import ErrorBody
from serve.http.event_streams import event_content

_JOB_ID = "6f0c3b1e-5f0a-4a52-9a39-0c8a1f1b2c3d"
_IMAGE_ID = "5a3f2f2e-58a5-5a0e-9b0c-2f6d7d1c9a41"
_PROMPT = "a large red circle on a blue background"

_SETTINGS = GenerationSettings(num_images=1, num_inference_steps=20, guidance_scale=1.5, width=64, height=64, seed=7)
JOB_SETTINGS: dict[str, Any] = _SETTINGS.model_dump(mode="json", exclude_none=True)

LIVE: dict[str, Any] = {"status": "alive"}

GENERATE_BODY: dict[str, Any] = {"model_id": "shapes", "prompt": _PROMPT, "settings": {"num_images": 1, "seed": 7}}

INPUT: dict[str, Any] = {"id": "d3a4b9f0-6a5e-5f1c-9a7e-0b1c2d3e4f50", "width": 64, "height": 64}

GENERATE: dict[str, Any] = {
    "job_id": _JOB_ID,
    "status": "pending",
    "num_images": 1,
    "message": "The job is queued.",
}

IMAGE_METADATA: dict[str, Any] = {
    "model_id": "shapes",
    "prompt": _PROMPT,
    "negative_prompt": "",
    "settings": JOB_SETTINGS,
    "image_number": 1,
    "total_images": 1,
}

STATUS: dict[str, Any] = {
    "id": _JOB_ID,
    "status": "completed",
    "model_id": "shapes",
    "prompt": _PROMPT,
    "negative_prompt": "",
    "settings": _SETTINGS.model_dump(mode="json"),
    "created_at": "2030-01-01T12:00:00.000Z",
    "started_at": "2030-01-01T12:00:00.120Z",
    "completed_at": "2030-01-01T12:00:01.340Z",
    "message": "",
    "progress": {
        "preparing": False,
        "loading_model": False,
        "generating": False,
        "saving": False,
        "completed": True,
        "failed": False,
        "step": 20,
        "total_steps": 20,
    },
    "images": [
        {
            "id": _IMAGE_ID,
            "file_path": f"/api/image/{_IMAGE_ID}",
            "created_at": "2030-01-01T12:00:01.340Z",
            "metadata": IMAGE_METADATA,
        }
    ],
    "queue_position": None,
    "priority": "normal",
    "expires_at": None,
    "retry_of": None,
    "eta_seconds": None,
    "loading": None,
    "cancel_requested": False,
    "preview": None,
    "webhook": None,
}

CANCELLED: dict[str, Any] = {
    **STATUS,
    "status": "cancelled",
    "message": "Cancelled while it ran.",
    "progress": {**STATUS["progress"], "completed": False, "step": 12},
    "images": [],
}

SERVICE: dict[str, Any] = {
    "version": "0.1.0",
    "enrich": False,
    "links": {"ray_dashboard": "http://127.0.0.1:8265", "grafana": None},
}

COUNT_BODY: dict[str, Any] = {"model_id": "shapes", "prompt": _PROMPT}

COUNT: dict[str, Any] = {"tokens": 10, "limit": 40}

_COUNTS: dict[str, Any] = {"pending": 2, "processing": 1, "completed": 40, "failed": 0, "cancelled": 1}

QUEUE: dict[str, Any] = {**_COUNTS, "total": 44, "queue_size": 2, "paused": []}

DETAILED_QUEUE: dict[str, Any] = {
    **QUEUE,
    "recent_24h": 12,
    "avg_processing_time_seconds": 1.2,
    "failure_rate": 0.0,
    "images_per_minute": {"shapes": 4.2},
    "models": {"shapes": _COUNTS},
}

_SHAPES = ModelEntry(
    repo="shapes",
    source="builtin",
    description="Coloured shapes, 64x64, drawn on a CPU in about a second",
    steps=StepLimits(maximum=100, default=20),
    guidance=GuidanceLimits(maximum=20, default=1.5),
    size=SizeLimits(default_width=64, default_height=64, multiple_of=64, minimum=64, maximum=64, max_pixels=4096),
    max_prompt_characters=2000,
    schedulers=(
        "DDIMScheduler",
        "EulerDiscreteScheduler",
        "EulerAncestralDiscreteScheduler",
        "DPMSolverMultistepScheduler",
        "UniPCMultistepScheduler",
    ),
    step_cache=StepCacheLimits(maximum=0.5),
).with_found_tasks()

MODELS: dict[str, Any] = {
    "models": {
        "shapes": {
            **_SHAPES.public("shapes"),
            "state": "cold",
            "reason": "",
            "replicas": 0,
        }
    },
    "default": "shapes",
}

HEALTH: dict[str, Any] = {
    "status": "healthy",
    "database": "ok",
    "tracker": "ok",
    "storage": "ok",
    "models": "ok",
}

DEGRADED: dict[str, Any] = {
    **HEALTH,
    "status": "degraded",
    "models": "sketches: sketches could not be loaded: there is no such folder or file.",
}

UNHEALTHY: dict[str, Any] = {
    "status": "unhealthy",
    "database": "The job database cannot be used; the server's log says why.",
    "tracker": "ok",
    "storage": "ok",
    "models": "ok",
}

LINK: dict[str, Any] = {
    "url": f"http://127.0.0.1:8000/api/image/{_IMAGE_ID}?expires=1893499200&signature={'0123456789abcdef' * 4}",
    "expires_at": "2030-01-01T12:00:00.000Z",
}

DELETED: dict[str, Any] = {"status": "success", "message": "The image was deleted."}


EVENTS: dict[str, Any] = {
    "description": "Events, until the connection ends.",
    "content": event_content(
        "id: processing.1.0.generating.5\nevent: progress\n"
        f'data: {{"id": "{_JOB_ID}", "step": 5, "total_steps": 20, "phase": "generating", '
        '"eta_seconds": 0.9, "queue_position": null}\n\n'
    ),
}


def answer(example: Any, **more: Any) -> dict[str, Any]:
    """Return a JSON answer for FastAPI's ``responses``.

    Args:
        example: The only example, or the one called ``plain`` where there are more.
        more: Further examples by name.
    """
    if not more:
        return {"content": {"application/json": {"example": example}}}
    examples = {name: {"value": value} for name, value in {"plain": example, **more}.items()}
    return {"content": {"application/json": {"examples": examples}}}


def json_call(example: dict[str, Any]) -> dict[str, Any]:
    """Return FastAPI's ``openapi_extra`` for a route that parses a call of JSON-RPC itself."""
    schema = {"type": "object", "examples": [example]}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def error(description: str, message: str) -> dict[str, Any]:
    """Return an error for FastAPI's ``responses``.

    Args:
        description: When it occurs.
        message: An example.
    """
    return {"model": ErrorBody, "description": description, **answer({"status": "error", "message": message})}
