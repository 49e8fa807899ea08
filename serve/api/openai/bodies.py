"""Bodies of the OpenAI dialect, as its client library has them in ``openai/types``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from serve.submission.fields import Body, Flag, Number, Text, Whole

NAMES = {
    "num_images": "n",
    "width": "size",
    "height": "size",
    "output_format": "output_format",
    "quality": "output_compression",
    "num_inference_steps": "num_inference_steps",
    "guidance_scale": "guidance_scale",
    "seed": "seed",
    "strength": "strength",
}
"""By the name of a setting of a job, what it is called in requests."""

_OpenAIFormat = Literal["png", "jpeg", "webp"]


class GenerationBody(Body):
    """What images to make."""

    prompt: Text = Field(description="What to draw.", examples=["a large red circle on a blue background"])
    model: Text | None = Field(
        default=None, description="A model of `GET /v1/models`; the catalog's default where left out."
    )
    n: Whole | None = Field(default=None, description="Images to make; 1 where left out.", examples=[1])
    size: Text | None = Field(
        default=None, description="`WIDTHxHEIGHT` in pixels, or `auto` (where left out) for the model's own."
    )
    response_format: Literal["url", "b64_json"] | None = Field(
        default=None, description="Where left out: `url` for models called `dall-e-...`, else `b64_json`."
    )
    output_format: _OpenAIFormat | None = Field(default=None, description="Of the files: `png` where left out.")
    output_compression: Annotated[Whole, Field(ge=0, le=100)] | None = Field(
        default=None, description="Quality of jpeg and webp, 0 to 100; higher is truer and larger."
    )
    quality: Literal["auto", "low", "medium", "high", "xhigh", "max", "standard", "hd"] | None = Field(
        default=None, description="Without effect: `num_inference_steps` says how much work is done."
    )
    background: Literal["auto", "opaque", "transparent"] | None = Field(
        default=None, description="`transparent` is not possible."
    )
    moderation: Literal["auto", "low"] | None = Field(default=None, description="Without effect.")
    style: Literal["vivid", "natural"] | None = Field(default=None, description="Without effect.")
    user: Text | None = Field(default=None, description="Without effect.")
    safety_identifier: Text | None = Field(default=None, description="Without effect.")
    stream: Flag | None = Field(default=None, description="Whether to answer with events.")
    partial_images: Annotated[Whole, Field(ge=0, le=3)] | None = Field(
        default=None, description="With `stream`: pictures of steps in between, at most 3; none where left out."
    )
    negative_prompt: Text | None = Field(default=None, description="What to keep away from.")
    num_inference_steps: Whole | None = Field(default=None, description="Denoising steps; the model's where left out.")
    guidance_scale: Number | None = Field(default=None, description="Guidance scale; the model's where left out.")
    seed: Whole | None = Field(default=None, description="0 to 2^63-1; random where left out.")


class EditBody(GenerationBody):
    """What to make of a picture; its file, and that of a mask, are further parts of the form."""

    stream: bool | None = Field(default=None, description="Whether to answer with events.")  # in a form it is text
    input_fidelity: Literal["high", "low"] | None = Field(
        default=None, description="Without effect: `strength` says how much is kept."
    )
    strength: Number | None = Field(
        default=None, description="How much is drawn anew, above 0 to 1; 0.8 where left out, with `mask` 1."
    )


class ModelAnswer(Body):
    """A model."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Seconds since 1970; 0, as the catalog does not tell.")
    owned_by: str = Field(description="Where it comes from: a repository, or `cyberimage`.")


class ModelsAnswer(Body):
    """The models, and the other names that they have."""

    object: Literal["list"] = "list"
    data: list[ModelAnswer]


class ImageAnswer(Body):
    """An image, in one of two ways."""

    b64_json: str | None = Field(default=None, description="The file in Base64.")
    url: str | None = Field(default=None, description="Opens it, without an API key for a while.")


class InputDetails(Body):
    """What `input_tokens` is made of."""

    text_tokens: int
    image_tokens: int


class Usage(Body):
    """How much it was. Nothing has tokens here: words of the prompts and denoising steps stand for them."""

    input_tokens: int = Field(description="Words of the prompt and the negative prompt.")
    input_tokens_details: InputDetails
    output_tokens: int = Field(description="Denoising steps, over all images.")
    total_tokens: int


class ImagesAnswer(Body):
    """The images of a job."""

    created: int = Field(description="When the job completed, in seconds since 1970.")
    data: list[ImageAnswer]
    output_format: str
    size: str = Field(description="`WIDTHxHEIGHT` in pixels.")
    quality: str
    background: Literal["opaque"] = "opaque"
    usage: Usage


class ErrorDetails(Body):
    """What is wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorBody(Body):
    """What every error of this dialect looks like."""

    error: ErrorDetails
