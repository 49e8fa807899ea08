"""What clients of AUTOMATIC1111 ask for, and what it calls the settings of a job.

Clients echo whole forms, so what is not known is left aside.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from deployments.catalog.entry import ModelEntry
from deployments.parameters import GenerationSettings
from serve.api.automatic1111.samplers import scheduler_named
from serve.errors import InvalidRequestError
from serve.submission.fields import Number, Text, Whole
from serve.submission.settings import SettingsBody

NAMES = {
    "num_images": "batch_size",
    "num_inference_steps": "steps",
    "guidance_scale": "cfg_scale",
    "width": "width",
    "height": "height",
    "seed": "seed",
    "strength": "denoising_strength",
    "scheduler": "sampler_name",
}
"""By the name of a setting of a job, what it is called in requests and in the ``info`` of answers."""

_DEFAULT_STRENGTH = 0.75
_MOST_OF_EACH = 100


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", protected_namespaces=())


class OverrideSettings(_Body):
    """Options for one request."""

    sd_model_checkpoint: Text | None = Field(default=None, description="The model; the one chosen where left out.")
    CLIP_stop_at_last_layers: Whole | None = Field(
        default=None,
        description="1: the prompt passes all layers of CLIP; N: all but N-1. Without effect for models without it.",
    )


class TextToImageBody(_Body):
    """What images to make. Fields that are not here have no effect."""

    prompt: Text = Field(default="", description="What to draw.")
    negative_prompt: Text | None = Field(default=None, description="What to keep away from.")
    seed: Whole | None = Field(default=None, description="0 to 2^63-1; random where left out or negative.")
    sampler_name: Text | None = Field(
        default=None, description="One of `GET /sdapi/v1/samplers`; the model's own where left out."
    )
    sampler_index: Text | None = Field(default=None, description="The same, for older clients.")
    scheduler: Text | None = Field(
        default=None, description="Noise schedule: `automatic`, or the one of `GET /sdapi/v1/schedulers`."
    )
    steps: Whole | None = Field(default=None, description="Denoising steps; the model's where left out.")
    cfg_scale: Number | None = Field(default=None, description="Guidance scale; the model's where left out.")
    width: Whole | None = Field(default=None, description="Pixels; the model's where left out.")
    height: Whole | None = Field(default=None, description="Pixels; the model's where left out.")
    batch_size: Whole | None = Field(default=None, description="Images of a batch; 1 where left out.")
    n_iter: Whole | None = Field(default=None, description="Batches; 1 where left out.")
    override_settings: OverrideSettings | None = Field(default=None, description="Options for this request.")
    send_images: bool | None = Field(default=None, description="Whether the answer has the images; true if left out.")
    save_images: bool | None = Field(default=None, description="Without effect: images are always kept.")
    enable_hr: bool | None = Field(default=None, description="Only false: there is no second pass.")
    tiling: bool | None = Field(default=None, description="Only false.")
    restore_faces: bool | None = Field(default=None, description="Only false.")
    subseed_strength: Number | None = Field(default=None, description="Only 0: there are no variations of a seed.")
    script_name: Text | None = Field(default=None, description="Only empty: there are no scripts.")
    alwayson_scripts: dict[str, Any] | None = Field(default=None, description="Only empty: there are no extensions.")


class ImageToImageBody(TextToImageBody):
    """What to make of a picture."""

    init_images: list[str] = Field(
        description="One PNG, JPEG or WebP file in Base64, with or without `data:...;base64,` before it.",
        min_length=1,
        max_length=1,
    )
    mask: str | None = Field(default=None, description="As `init_images`, of the same size; white is drawn anew.")
    inpainting_mask_invert: Whole | None = Field(default=None, description="1: what is black is drawn anew.")
    denoising_strength: Number | None = Field(
        default=None, description="How much is drawn anew, above 0 to 1; 0.75 where left out."
    )
    resize_mode: Whole | None = Field(default=None, description="Only 0: the picture is stretched to the size.")


class Options(_Body):
    """What can be chosen for requests to come; further options have no effect."""

    sd_model_checkpoint: Text | None = Field(default=None, description="The model of this client.")


class OptionsAnswer(_Body):
    """The options of this client."""

    sd_model_checkpoint: str
    sd_checkpoint_hash: str = ""
    sd_vae: str = "Automatic"
    samples_format: str = "png"
    CLIP_stop_at_last_layers: int = 1

    @classmethod
    def of(cls, model_id: str, entry: ModelEntry) -> OptionsAnswer:
        """The options of a client that has chosen a model."""
        return cls(sd_model_checkpoint=model_id, CLIP_stop_at_last_layers=entry.clip_skip + 1)


def settings_of(entry: ModelEntry, asked: TextToImageBody) -> SettingsBody:
    """Return the settings that a request asks for.

    Args:
        entry: Its model.
        asked: The request.

    Raises:
        InvalidRequestError: It asks for a number of images, or a layer of CLIP, that is not possible.
        SamplerNotFoundError: The model has not this sampler.
    """
    settings = {name: getattr(asked, theirs, None) for name, theirs in NAMES.items()}
    settings["num_images"] = _count(asked)
    settings["clip_skip"] = _clip_skip(entry, asked.override_settings)
    settings["seed"] = None if asked.seed is None or asked.seed < 0 else asked.seed
    settings["scheduler"] = scheduler_named(entry, asked.sampler_name or asked.sampler_index, asked.scheduler)
    if isinstance(asked, ImageToImageBody) and asked.denoising_strength is None:
        settings["strength"] = _DEFAULT_STRENGTH
    return SettingsBody(**settings)


def told_of(settings: GenerationSettings) -> dict[str, Any]:
    """Return the settings of a job as the ``info`` of an answer has them; the sampler is the scheduler's class."""
    return {theirs: getattr(settings, name) for name, theirs in NAMES.items()} | {"clip_skip": settings.clip_skip + 1}


def _clip_skip(entry: ModelEntry, options: OverrideSettings | None) -> int | None:
    """How many layers are skipped, where AUTOMATIC1111 says at which one from the end to stop."""
    stop = None if options is None else options.CLIP_stop_at_last_layers
    if stop is None or not entry.max_clip_skip:
        return None
    if not 1 <= stop <= entry.max_clip_skip + 1:
        raise InvalidRequestError(
            f"CLIP_stop_at_last_layers: {stop} is not possible; this model takes 1 to {entry.max_clip_skip + 1}."
        )
    return stop - 1


def _count(asked: TextToImageBody) -> int:
    counts = {"batch_size": asked.batch_size, "n_iter": asked.n_iter}
    for name, count in counts.items():
        if count is not None and not 1 <= count <= _MOST_OF_EACH:
            raise InvalidRequestError(f"{name}: {count} is not possible; it is 1 to {_MOST_OF_EACH}.")
    return (asked.batch_size or 1) * (asked.n_iter or 1)
