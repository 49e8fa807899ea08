"""The service as a whole: its health, its models, its queue."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Response, status

from deployments.doctor.finding import POINTER
from deployments.jobs.records.api_keys import Scope
from deployments.jobs.records.exceptions import JobError
from deployments.storage.base import StorageError
from deployments.tracker.model_state import ModelCondition, ModelState
from deployments.version import package_version
from serve.api.cyberimage import answers, control_examples, examples
from serve.api.cyberimage.bodies import (
    CountAnswer,
    CountBody,
    DetailedQueueAnswer,
    HealthAnswer,
    LinksAnswer,
    LiveAnswer,
    ModelsAnswer,
    QueueAnswer,
    ServiceAnswer,
)
from serve.api.cyberimage.parameters import Behind
from serve.http.access import READS, Who
from serve.http.errors import DATABASE_DOWN, public_message
from serve.services.services import Services

logger = logging.getLogger(__name__)

router = APIRouter()


@router.get("/live", tags=["service"], responses={200: examples.answer(examples.LIVE)})
async def live() -> LiveAnswer:
    """Whether the ingress answers; it asks nobody else. For load balancers, and for measuring what a request costs."""
    return LiveAnswer()


@router.get(
    "/health",
    tags=["service"],
    responses={
        200: examples.answer(examples.HEALTH, degraded=examples.DEGRADED),
        503: {
            "model": HealthAnswer,
            "description": "A part of the service is down; its own field has a sentence about it.",
            **examples.answer(examples.UNHEALTHY),
        },
    },
)
@router.head("/health", include_in_schema=False)
async def health(behind: Behind, response: Response) -> HealthAnswer:
    """Whether the service can take and finish jobs."""
    tracker, database = "ok", "ok"
    try:
        database = str((await behind.tracker.describe())["database"])
    except JobError as error:
        tracker = database = public_message(error)
    if database not in ("ok", tracker):
        logger.warning("%s", database)
        database = DATABASE_DOWN
    storage = await _storage_state(behind)
    models = tracker if tracker != "ok" else await _load_failures(behind)
    works = {tracker, database, storage} == {"ok"}
    if not works:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return HealthAnswer(
        status="unhealthy" if not works else "healthy" if models == "ok" else "degraded",
        database=database,
        tracker=tracker,
        storage=storage,
        models=models,
    )


async def _storage_state(behind: Services) -> str:
    try:
        await behind.storage.exists("1970/01/01/00000000-0000-0000-0000-000000000000.png")
    except StorageError as error:
        return str(error)
    return "ok"


async def _load_failures(behind: Services) -> str:
    conditions = (await _model_conditions(behind)).items()
    failures = [f"{key}: {found.reason}" for key, found in conditions if found.state is ModelState.UNAVAILABLE]
    return " ".join(failures) or "ok"


async def _model_conditions(behind: Services) -> dict[str, ModelCondition]:
    """Return the tracker's knowledge of the models; unknown where it does not answer."""
    fingerprints = {model_id: entry.fingerprint for model_id, entry in behind.catalog.models.items()}
    try:
        return await behind.tracker.model_conditions(fingerprints)
    except JobError:
        return dict.fromkeys(fingerprints, ModelCondition(ModelState.UNKNOWN))


def _shown(condition: ModelCondition) -> dict[str, Any]:
    return asdict(condition) | ({"hint": POINTER} if condition.state is ModelState.UNAVAILABLE else {})


@router.get("/api/models", dependencies=[READS], tags=["models"], responses={200: examples.answer(examples.MODELS)})
async def models(behind: Behind) -> ModelsAnswer:
    """The models, what each may be asked for, and whether it is loaded."""
    conditions = await _model_conditions(behind)
    entries = {
        model_id: entry.public(model_id) | _shown(conditions[model_id])
        for model_id, entry in behind.catalog.models.items()
    }
    return ModelsAnswer(models=entries, default=behind.catalog.default)


@router.post(
    "/api/prompts/count",
    dependencies=[READS],
    tags=["models"],
    responses={200: examples.answer(examples.COUNT)} | answers.BAD | control_examples.UNKNOWN_MODEL,
)
async def count_tokens(behind: Behind, body: Annotated[CountBody, Body(examples=[examples.COUNT_BODY])]) -> CountAnswer:
    """How many tokens a prompt has for a model's text encoder, and how many of them it reads."""
    counted = await asyncio.to_thread(behind.prompt_tokens.count, body.model_id, body.prompt)
    return CountAnswer(tokens=counted.tokens, limit=counted.limit)


@router.get("/api/service", dependencies=[READS], tags=["service"], responses={200: examples.answer(examples.SERVICE)})
async def about(behind: Behind, who: Who) -> ServiceAnswer:
    """What the service is and has: its version, whether it writes prompts out, and pages of other programs."""
    links = behind.settings.links.model_dump() if Scope.ADMIN in who.scopes else {}
    return ServiceAnswer(
        version=package_version(),
        enrich=behind.enricher.is_configured,
        links=LinksAnswer(**links),
    )


@router.get(
    "/api/queue",
    dependencies=[READS],
    tags=["jobs"],
    responses={200: examples.answer(examples.QUEUE, detailed=examples.DETAILED_QUEUE)}
    | answers.BAD_QUERY
    | answers.DOWN,
)
async def queue(
    behind: Behind, detailed: Annotated[bool, Query(description="Also rates, and counts by model.")] = False
) -> DetailedQueueAnswer | QueueAnswer:
    """How many jobs are in which state."""
    paused = await behind.tracker.administration.paused_models()
    if detailed:
        found = await behind.tracker.counts.in_detail()
        return DetailedQueueAnswer(**found.model_dump(), total=found.total, queue_size=found.pending, paused=paused)
    counts = await behind.tracker.counts.by_state()
    return QueueAnswer(
        **counts.model_dump(exclude={"models"}), total=counts.total, queue_size=counts.pending, paused=paused
    )
