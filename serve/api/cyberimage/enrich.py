"""Enriches prompts with a language model."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body
from pydantic import Field

from serve.api.cyberimage import answers, examples
from serve.api.cyberimage.parameters import Behind
from serve.http.access import CHANGES
from serve.services.enrichment import EnrichmentFailedError, NoEnrichmentError
from serve.submission import fields

ENRICH_BODY: dict[str, Any] = {"prompt": "a castle in the fog", "style": "watercolour"}
ENRICHED: dict[str, Any] = {
    "original_prompt": "a castle in the fog",
    "enriched_prompt": "a lonely castle on a cliff in morning fog, pale light, loose watercolour on rough paper",
    "style": "watercolour",
}


class EnrichBody(fields.Body):
    """A short prompt."""

    prompt: Annotated[fields.Text, Field(min_length=1, max_length=10_000)] = Field(
        description="What to see in the image."
    )
    style: Annotated[fields.Text, Field(max_length=200)] | None = Field(default=None, description="In which style.")


class EnrichAnswer(fields.Body):
    """A prompt, written out."""

    original_prompt: str
    enriched_prompt: str
    style: str | None


router = APIRouter()


@router.post(
    "/api/enrich",
    dependencies=[CHANGES],
    tags=["jobs"],
    responses=answers.BAD
    | {
        200: examples.answer(ENRICHED),
        502: examples.error("The language model gave no prompt.", str(EnrichmentFailedError())),
        503: examples.error("No language model is configured.", str(NoEnrichmentError())),
    },
)
async def enrich(behind: Behind, body: Annotated[EnrichBody, Body(examples=[ENRICH_BODY])]) -> EnrichAnswer:
    """Have a language model write a short prompt out. It queues nothing: send the new prompt to `/api/generate`."""
    written = await behind.enricher.enrich(body.prompt, body.style)
    return EnrichAnswer(original_prompt=body.prompt, enriched_prompt=written, style=body.style)
