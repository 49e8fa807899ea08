"""Images from prompts and pictures, in AUTOMATIC1111's form."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Request

from deployments.storage.masks import MaskForm
from deployments.storage.picture import WrongFormatError
from serve.api.automatic1111 import examples
from serve.api.automatic1111.bodies import ImagesAnswer
from serve.api.automatic1111.requests import ImageToImageBody, TextToImageBody
from serve.api.automatic1111.translation import images_answer, job_body, picture_in
from serve.api.cyberimage.parameters import Behind
from serve.http.access import SUBMITS, Who
from serve.protection.identity import Identity
from serve.services.services import Services
from serve.submission.request import GenerateBody
from serve.submission.uploads import keep_field
from serve.submission.waiting import completed_job, submit_for

router = APIRouter(tags=["automatic1111"], dependencies=[SUBMITS])


@router.post("/sdapi/v1/txt2img", responses=examples.IMAGES_ANSWERS)
async def text_to_image(
    behind: Behind,
    request: Request,
    who: Who,
    body: Annotated[TextToImageBody, Body(examples=[examples.TEXT_TO_IMAGE])],
) -> ImagesAnswer:
    """Make images, and answer with them; `X-Job-ID` is the job."""
    return await _make(behind, request, who, body, await job_body(behind, who, body))


@router.post(
    "/sdapi/v1/img2img",
    responses=examples.IMAGES_ANSWERS | {415: examples.error("It is no picture.", WrongFormatError())},
)
async def image_to_image(
    behind: Behind,
    request: Request,
    who: Who,
    body: Annotated[ImageToImageBody, Body(examples=[examples.IMAGE_TO_IMAGE])],
) -> ImagesAnswer:
    """Start from a picture, and with a mask draw only a part of it anew; otherwise as `/sdapi/v1/txt2img`."""
    asked = await job_body(behind, who, body)
    image = await keep_field(behind, "init_images", picture_in("init_images", body.init_images[0]), who)
    if body.mask is None:
        return await _make(behind, request, who, body, asked.model_copy(update={"image": image.id}))
    mask_form: MaskForm | None = "black" if body.inpainting_mask_invert else None
    mask = await keep_field(behind, "mask", picture_in("mask", body.mask), who, mask_form)
    return await _make(behind, request, who, body, asked.model_copy(update={"image": image.id, "mask": mask.id}))


async def _make(
    behind: Services, request: Request, who: Identity, body: TextToImageBody, asked: GenerateBody
) -> ImagesAnswer:
    job = await submit_for(request, behind, asked, who)
    return await images_answer(behind, body, await completed_job(behind, request, job, who))
