"""The parameters of a generation: one record, from the check of a request to the call of a pipeline."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Task = Literal["text2image", "image2image", "inpaint"]
"""What a pipeline makes an image from: a prompt alone, an image too, or an image with a mask."""

_OF_EVERY_CALL = ("num_inference_steps", "width", "height", "max_sequence_length")


class _Parameters(BaseModel):
    """A frozen record that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LoraChoice(_Parameters):
    """A LoRA that a job uses."""

    name: Annotated[str, Field(description="One of the model's.")]
    scale: Annotated[float, Field(description="How strongly it works.")]


class GenerationSettings(_Parameters):
    """Complete settings of a job: every default is already filled in."""

    num_images: Annotated[int, Field(ge=1, description="Images to make.")]
    num_inference_steps: Annotated[int, Field(ge=1, description="Denoising steps of each image.")]
    guidance_scale: Annotated[float, Field(description="Classifier-free guidance scale.")]
    width: Annotated[int, Field(ge=1, description="Pixels.")]
    height: Annotated[int, Field(ge=1, description="Pixels.")]
    seed: Annotated[int, Field(ge=0, lt=2**63, description="Of the first image; image k has seed + k, modulo 2**63.")]
    max_sequence_length: Annotated[int | None, Field(description="Prompt tokens, where the model takes a limit.")] = (
        None
    )

    clip_skip: Annotated[int, Field(ge=0, description="How many of the last layers of CLIP are skipped.")] = 0
    scheduler: Annotated[str | None, Field(description="A scheduler class; None for the model's own.")] = None
    deterministic: Annotated[bool, Field(description="Whether the bytes must not depend on who else is served.")] = (
        False
    )
    step_cache: Annotated[
        float, Field(ge=0, description="Relative change below which a step skips most of the denoiser; 0: none does.")
    ] = 0.0
    output_format: Annotated[str, Field(description="Of the image files: png, webp, jpeg or avif.")] = "png"
    quality: Annotated[int | None, Field(ge=1, le=100, description="Of a lossy format; None for its own.")] = None
    metadata: Annotated[bool, Field(description="Whether the files carry the parameters that made them.")] = True

    image: Annotated[str | None, Field(description="Id of the picture that it starts from: an input or an image.")] = (
        None
    )
    mask: Annotated[str | None, Field(description="Id of the picture whose white parts are drawn anew.")] = None
    strength: Annotated[
        float | None, Field(gt=0, le=1, description="How much of `image` is drawn anew; 1: all of it.")
    ] = None
    control_image: Annotated[str | None, Field(description="Id of the picture that the ControlNet follows.")] = None
    control_scale: Annotated[float | None, Field(description="How closely the ControlNet is followed.")] = None
    loras: Annotated[tuple[LoraChoice, ...], Field(description="LoRAs at work besides those that always are.")] = ()

    def seed_of(self, index: int) -> int:
        """The seed of one image of the job.

        Args:
            index: The image's place in the job, from 0.
        """
        return (self.seed + index) % 2**63

    @property
    def task(self) -> Task:
        """What the images are made from."""
        return task_of(self.image, self.mask)

    @property
    def denoising_steps(self) -> int:
        """Denoising steps of one image; an image that starts from another one skips the first ones.

        As ``get_timesteps`` of diffusers' image-to-image pipelines has it; some of them do one more where steps times
        strength is no whole number.
        """
        steps = self.num_inference_steps
        return steps if self.strength is None else max(1, min(int(steps * self.strength), steps))

    @property
    def total_steps(self) -> int:
        """Denoising steps of all images together."""
        return self.num_images * self.denoising_steps

    @property
    def pictures(self) -> dict[str, str]:
        """Ids of the pictures that the job needs, by the names of these fields."""
        return {name: picture_id for name in PICTURES if (picture_id := getattr(self, name)) is not None}

    @property
    def call_arguments(self) -> dict[str, Any]:
        """The parameters that diffusers' pipelines are called with under the same names, whatever the task."""
        return {name: getattr(self, name) for name in _OF_EVERY_CALL} | {"clip_skip": self.clip_skip or None}


PICTURES = ("image", "mask", "control_image")
"""The fields of :class:`GenerationSettings` that are ids of pictures."""


def task_of(image: object | None, mask: object | None) -> Task:
    """The task of a request that comes with these pictures; None stands for no picture."""
    return "inpaint" if mask is not None else "image2image" if image is not None else "text2image"
