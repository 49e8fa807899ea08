"""The CyberImage dialect: submit a job, follow it, fetch its images."""

from __future__ import annotations

from fastapi import APIRouter

from serve.api.cyberimage import generation, images, service

router = APIRouter()
for part in (service, generation, images):
    router.include_router(part.router)
