"""Images from prompts and pictures, in OpenAI's form."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Header, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

from deployments.storage.masks import MaskForm
from serve.api.cyberimage.parameters import Behind
from serve.api.openai import examples
from serve.api.openai.bodies import EditBody, GenerationBody, ImagesAnswer
from serve.api.openai.streaming import Kind, image_events
from serve.api.openai.translation import images_answer, job_body, model_id_of
from serve.errors import ApiError, InvalidRequestError
from serve.http.access import SUBMITS, Who
from serve.http.event_streams import event_stream
from serve.protection.identity import Identity
from serve.services.services import Services
from serve.submission.request import GenerateBody
from serve.submission.uploads import keep_field
from serve.submission.waiting import completed_job, submit_for

_FILES = ("image", "image[]", "mask")
_MOST_FILES, _MOST_FIELDS = 20, 40


class NoFormError(ApiError):
    """Content-Type: send a form with the picture's file, as multipart/form-data."""

    status = 415
    code = "unsupported_media_type"


def _form_schema() -> dict[str, Any]:
    described = EditBody.model_json_schema()
    file = {"type": "string", "format": "binary"}
    files = {
        "image": {**file, "description": "The picture to start from: PNG, JPEG or WebP. `image[]` is the same."},
        "mask": {**file, "description": "Of the same size; what is transparent there is drawn anew."},
    }
    described["properties"] = files | described["properties"]
    described["required"] = ["image", *described["required"]]
    described["examples"] = [examples.EDIT_BODY]
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": described}}}}


IdempotencyKey = Annotated[
    str | None, Header(max_length=255, description="Repeat a request with its key, and there is still one job.")
]

router = APIRouter(tags=["openai"], dependencies=[SUBMITS])


@router.post(
    "/v1/images/generations",
    response_model=ImagesAnswer,
    response_model_exclude_none=True,
    responses=examples.IMAGES_ANSWERS,
)
async def create_images(
    behind: Behind,
    request: Request,
    who: Who,
    body: Annotated[GenerationBody, Body(examples=[examples.GENERATION_BODY])],
    idempotency_key: IdempotencyKey = None,
) -> ImagesAnswer | Response:
    """Make images, and answer with them; `X-Job-ID` is the job. With `stream`, events tell how they come about."""
    return await _make(behind, request, who, body, job_body(behind, body), idempotency_key, "image_generation")


@router.post(
    "/v1/images/edits",
    response_model=ImagesAnswer,
    response_model_exclude_none=True,
    openapi_extra=_form_schema(),
    responses=examples.IMAGES_ANSWERS | {415: examples.error("It is no form, or no picture.", NoFormError())},
)
async def edit_image(
    behind: Behind, request: Request, who: Who, idempotency_key: IdempotencyKey = None
) -> ImagesAnswer | Response:
    """Start from a picture, and with a mask draw only a part of it anew; otherwise as `/v1/images/generations`."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise NoFormError
    form = await _form(request)
    try:
        body = _edit_body(form)
        model_id_of(behind, body.model)
        image = await _kept(behind, who, form, "image")
        mask = await _kept(behind, who, form, "mask")
    finally:
        await form.close()
    asked = job_body(behind, body, image, mask)
    return await _make(behind, request, who, body, asked, idempotency_key, "image_edit")


async def _make(  # noqa: PLR0913, PLR0917 - each is a part of the request
    behind: Services,
    request: Request,
    who: Identity,
    body: GenerationBody,
    asked: GenerateBody,
    idempotency_key: str | None,
    kind: Kind,
) -> ImagesAnswer | Response:
    job = await submit_for(request, behind, asked, who, idempotency_key)
    if body.stream:
        return event_stream(image_events(behind, who, body, job, kind), behind.feed.rhythm.heartbeat)
    return await images_answer(behind, request, body, await completed_job(behind, request, job, who))


async def _form(request: Request) -> FormData:
    try:
        return await request.form(max_files=_MOST_FILES, max_fields=_MOST_FIELDS)
    except HTTPException as error:
        if error.status_code != 400:
            raise
        raise InvalidRequestError(f"body: it is not a valid form: {str(error.detail).rstrip('.')}.") from None


def _edit_body(form: FormData) -> EditBody:
    for name in _FILES:
        if any(isinstance(value, str) for value in form.getlist(name)):
            raise InvalidRequestError(f"{name}: it is text; send the file of a picture.")
    fields = {name: value for name, value in form.multi_items() if name not in _FILES}
    try:
        return EditBody.model_validate(fields)
    except ValidationError as error:
        problems = [{**problem, "loc": ("body", *problem["loc"])} for problem in error.errors(include_url=False)]
        raise RequestValidationError(problems) from None


async def _kept(behind: Services, who: Identity, form: FormData, field: str) -> str | None:
    names = (field, f"{field}[]") if field == "image" else (field,)
    files = [value for name in names for value in form.getlist(name) if isinstance(value, UploadFile)]
    if len(files) > 1:
        raise InvalidRequestError(f"{field}: there are {len(files)} pictures; one would be right.")
    if not files:
        if field == "image":
            raise InvalidRequestError("image: it is missing; send the file of a picture.")
        return None
    mask_form: MaskForm | None = "transparent" if field == "mask" else None
    kept = await keep_field(behind, field, await files[0].read(), who, mask_form)
    return kept.id
