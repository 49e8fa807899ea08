"""What a client asks for: the body of ``POST /api/generate``, which every other dialect is translated into."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

from deployments.jobs.records.jobs import PriorityClass

_LARGEST = 2**63 - 1


def _no_bool(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("true and false are not numbers")  # noqa: TRY004 - pydantic reports ValueError as a bad field
    return value


def _of_64_bits(value: int) -> int:
    if abs(value) > _LARGEST:
        raise ValueError(f"the number is beyond {_LARGEST}")
    return value


def _storable(text: str) -> str:
    if "\0" in text:
        raise ValueError("the character NUL is not allowed")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("it is not valid Unicode: half of a surrogate pair") from None
    return text


Whole = Annotated[int, BeforeValidator(_no_bool), AfterValidator(_of_64_bits)]
Number = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Text = Annotated[str, AfterValidator(_storable)]
Flag = Annotated[bool, Field(strict=True)]


class Body(BaseModel):
    """A body of the CyberImage dialect: it refuses unknown fields."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class LoraBody(Body):
    """A LoRA that shall be at work."""

    name: Text = Field(description="One of the model's `loras`.")
    scale: Number | None = Field(default=None, description="How strongly, -4 to 4; the model's own where left out.")


class SettingsBody(Body):
    """What may be set for a job; what is left out or null has the model's default, and its limits are the model's."""

    num_images: Whole | None = Field(default=None, description="Images to make; 1 where left out.", examples=[1])
    num_inference_steps: Whole | None = Field(default=None, description="Denoising steps.", examples=[20])
    guidance_scale: Number | None = Field(default=None, description="Guidance scale.", examples=[1.5])
    width: Whole | None = Field(default=None, description="Pixels.", examples=[64])
    height: Whole | None = Field(default=None, description="Pixels.", examples=[64])
    seed: Whole | None = Field(default=None, description="0 to 2^63-1; random where left out.", examples=[7])
    max_sequence_length: Whole | None = Field(default=None, description="Prompt tokens, where the model takes a limit.")
    scheduler: Text | None = Field(default=None, description="One of the model's `schedulers`; its own where left out.")
    deterministic: Flag | None = Field(
        default=None, description="Whether the same request shall always give the same bytes, whatever else runs."
    )
    step_cache: Number | None = Field(
        default=None, description="Relative change below which a step skips most of the model; 0: every step is full."
    )
    output_format: Text | None = Field(
        default=None, description="Of the files: `png` (where left out), `webp`, `jpeg` or `avif`.", examples=["png"]
    )
    quality: Whole | None = Field(
        default=None, description="1 to 100, for formats with loss; higher is truer and larger."
    )
    metadata: Flag | None = Field(
        default=None, description="Whether the files carry the parameters that made them; true where left out."
    )
    strength: Number | None = Field(
        default=None, description="How much of `image` is drawn anew, above 0 to 1; 0.8 where left out, with `mask` 1."
    )
    control_scale: Number | None = Field(
        default=None, description="How closely `control_image` is followed, 0 to 2; 1 where left out."
    )
    loras: list[LoraBody] | None = Field(default=None, description="LoRAs at work besides those that always are.")


class GenerateBody(Body):
    """A job."""

    model_id: Text = Field(description="A model of `GET /api/models`.", examples=["shapes"])
    prompt: Text = Field(description="What to draw.", examples=["a large red circle on a blue background"])
    negative_prompt: Text | None = Field(default=None, description="What to keep away from.", examples=[""])
    settings: SettingsBody | None = Field(default=None, description="How to draw it.")
    image: Text | None = Field(default=None, description="Id of an input or an image, to start from.")
    mask: Text | None = Field(
        default=None, description="Id of an input or an image of the same size, whose white parts are drawn anew."
    )
    control_image: Text | None = Field(
        default=None, description="Id of an input or an image of the output's size, for a model with a ControlNet."
    )
    priority: PriorityClass | None = Field(
        default=None, description="`high`, `normal` (where left out) or `low`.", examples=["normal"]
    )
    expires_in: Whole | None = Field(
        default=None, description="Seconds after which it fails if it still waits, 1 to 31536000.", examples=[3600]
    )
    webhook_url: Text | None = Field(
        default=None,
        description="An http or https URL that is called, by POST, when the job has ended.",
        examples=["https://example.com/hook"],
    )
