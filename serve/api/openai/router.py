"""The routes of the OpenAI dialect."""

from __future__ import annotations

from fastapi import APIRouter

from serve.api.openai import images, models

router = APIRouter()
for part in (models, images):
    router.include_router(part.router)
