"""AUTOMATIC1111's API (``modules/api/`` of its stable-diffusion-webui) over the same queue."""

from fastapi import APIRouter

from serve.api.automatic1111 import control, images, options

router = APIRouter()
for part in (options, images, control):
    router.include_router(part.router)
