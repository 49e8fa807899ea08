"""The pictures of a request, and the settings that go with them: checked before any work is done."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any
from uuid import UUID

from deployments.catalog.catalog import Catalog
from deployments.catalog.entry import ModelEntry
from deployments.jobs.records.exceptions import UnknownPictureError
from deployments.jobs.records.jobs import Picture
from deployments.parameters import PICTURES
from deployments.tracker.job_tracker import JobTracker
from serve.errors import InvalidRequestError
from serve.protection.identity import Identity, require_own_picture
from serve.submission.request import GenerateBody
from serve.submission.settings import SettingsBody, listed

Pictures = Mapping[str, Picture]
"""By the names of a body's fields: ``image``, ``mask``, ``control_image``."""

_DEFAULT_STRENGTH = {"image2image": 0.8, "inpaint": 1.0}
_DEFAULT_CONTROL_SCALE = 1.0
_LARGEST_CONTROL_SCALE = 2.0


async def find_pictures(tracker: JobTracker, body: GenerateBody, who: Identity) -> dict[str, Picture]:
    """Look up the pictures that a request names.

    Args:
        tracker: Knows inputs and images.
        body: What the client sent.
        who: Who asks; pictures of others are not there.

    Raises:
        InvalidRequestError: There is no such picture.
    """
    asked = {name: getattr(body, name) for name in PICTURES}
    return {name: await _find(tracker, name, value, who) for name, value in asked.items() if value is not None}


def output_size(entry: ModelEntry, asked: SettingsBody, pictures: Pictures) -> tuple[int, int]:
    """Width and height in pixels.

    What is not asked for is that of the start image, else of the control image, as near as the model can come to it;
    without either, the model's own.

    Args:
        entry: Of the model.
        asked: What the client sent.
        pictures: Of the request.
    """
    limits, start = entry.size, pictures.get("image") or pictures.get("control_image")
    default = (limits.default_width, limits.default_height) if start is None else limits.fit(start.width, start.height)
    return (
        default[0] if asked.width is None else asked.width,
        default[1] if asked.height is None else asked.height,
    )


def picture_settings(
    catalog: Catalog, body: GenerateBody, pictures: Pictures, size: tuple[int, int], steps: int
) -> dict[str, Any]:
    """The fields of :class:`GenerationSettings` that are about pictures.

    Args:
        catalog: The models.
        body: What the client sent.
        pictures: Those it names.
        size: Width and height of the output, in pixels.
        steps: Denoising steps of an image from noise.

    Raises:
        InvalidRequestError: Names the field, its limit, and what would be right.
    """
    entry = catalog.get(body.model_id)
    _check_start(catalog, entry, body, pictures)
    _check_control(catalog, entry, body, pictures, size)
    return {
        **{name: picture.id for name, picture in pictures.items()},
        "strength": _strength(body, steps),
        "control_scale": _control_scale(body),
    }


async def _find(tracker: JobTracker, name: str, picture_id: str, who: Identity) -> Picture:
    try:
        picture = await tracker.inputs.picture(str(UUID(picture_id)))
        require_own_picture(who, picture)
    except (ValueError, UnknownPictureError):
        raise InvalidRequestError(
            f'{name}: there is no input and no image "{picture_id[:64]}"; send the picture to POST /api/inputs and '
            "give the id that this answers."
        ) from None
    return picture


def _check_start(catalog: Catalog, entry: ModelEntry, body: GenerateBody, pictures: Pictures) -> None:
    image, mask = pictures.get("image"), pictures.get("mask")
    if body.mask is not None and body.image is None:
        raise InvalidRequestError("mask: it needs a picture to lie on; give that one as image.")
    task = body.task
    if task != "text2image" and task not in (entry.tasks or ()):
        field, doing = ("mask", "repaint parts of an image") if task == "inpaint" else ("image", "start from an image")
        able = listed(model_id for model_id, other in catalog.models.items() if task in (other.tasks or ()))
        raise InvalidRequestError(f"{field}: this model cannot {doing}; models that can: {able}.")
    if image is not None and mask is not None and _size(mask) != _size(image):
        raise InvalidRequestError(
            f"mask: it is {_shown(mask)} and the image is {_shown(image)}; send a mask of the image's size."
        )


def _check_control(
    catalog: Catalog, entry: ModelEntry, body: GenerateBody, pictures: Pictures, size: tuple[int, int]
) -> None:
    control = pictures.get("control_image")
    if control is None:
        return
    task = body.task
    if not entry.control_tasks:
        able = listed(model_id for model_id, other in catalog.models.items() if task in other.control_tasks)
        raise InvalidRequestError(f"control_image: this model has no ControlNet; models that have: {able}.")
    if task not in entry.control_tasks:
        other = "mask" if task == "inpaint" else "image" if task == "image2image" else "a prompt alone"
        goes = listed(entry.control_tasks)
        raise InvalidRequestError(
            f"control_image: with this model it does not go with {other}; its ControlNet is for {goes}."
        )
    if _size(control) != size:
        raise InvalidRequestError(
            f"control_image: it is {_shown(control)} and the output is {size[0]}x{size[1]}; send one of that size, or "
            "set settings.width and settings.height to its own."
        )


def _strength(body: GenerateBody, steps: int) -> float | None:
    task, asked = body.task, body.asked.strength
    if task == "text2image":
        if asked is not None:
            raise InvalidRequestError("settings.strength: it is for an image to start from; give one, or leave it out.")
        return None
    strength = _DEFAULT_STRENGTH[task] if asked is None else asked
    if not 0 <= strength <= 1:
        raise InvalidRequestError(f"settings.strength: {strength:g} is not possible; it is above 0, and at most 1.")
    if int(steps * strength) < 1:
        raise InvalidRequestError(
            f"settings.strength: {strength:g} of {steps} steps is less than one step; "
            f"{ceil(100 / steps) / 100:g} or more would be right."
        )
    return strength


def _control_scale(body: GenerateBody) -> float | None:
    asked = body.asked.control_scale
    if body.control_image is None:
        if asked is not None:
            raise InvalidRequestError("settings.control_scale: it is for a control_image; give one, or leave it out.")
        return None
    scale = _DEFAULT_CONTROL_SCALE if asked is None else asked
    if not 0 <= scale <= _LARGEST_CONTROL_SCALE:
        raise InvalidRequestError(
            f"settings.control_scale: {scale:g} is not possible; it is 0 to {_LARGEST_CONTROL_SCALE:g}."
        )
    return scale


def _size(picture: Picture) -> tuple[int, int]:
    return picture.width, picture.height


def _shown(picture: Picture) -> str:
    return f"{picture.width}x{picture.height}"
