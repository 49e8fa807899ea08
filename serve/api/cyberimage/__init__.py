"""The CyberImage dialect: submit a job, follow it, fetch its images."""

from fastapi import APIRouter

from serve.api.cyberimage import (
    admin,
    enrich,
    events,
    gallery,
    generation,
    image_sets,
    images,
    inputs,
    jobs,
    keys,
    rpc,
    service,
)

router = APIRouter()
for part in (service, generation, jobs, events, inputs, images, gallery, image_sets, admin, keys, enrich, rpc):
    router.include_router(part.router)
