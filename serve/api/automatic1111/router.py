"""The routes of the AUTOMATIC1111 dialect."""

from __future__ import annotations

from fastapi import APIRouter

from serve.api.automatic1111 import control, images, options

router = APIRouter()
for part in (options, images, control):
    router.include_router(part.router)
