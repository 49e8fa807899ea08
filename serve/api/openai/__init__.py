"""OpenAI's Images API (https://platform.openai.com/docs/api-reference/images) over the same queue."""

from fastapi import APIRouter

from serve.api.openai import images, models

router = APIRouter()
for part in (models, images):
    router.include_router(part.router)
