"""Bodies of the AUTOMATIC1111 dialect. Clients echo whole forms, so what is not known is left aside."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from serve.submission.fields import Number, Text, Whole


class _Body(BaseModel):
    model_config = ConfigDict(extra="ignore", protected_namespaces=())


class OverrideSettings(_Body):
    """Options for one request."""

    sd_model_checkpoint: Text | None = Field(default=None, description="The model; the one chosen where left out.")


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


class ImagesAnswer(_Body):
    """The images of a job."""

    images: list[str] = Field(description="Files in Base64.")
    parameters: dict[str, Any] = Field(description="The request.")
    info: str = Field(description="JSON: the whole parameters, by image too, and `job_id`.")


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


class ModelItem(_Body):
    """A model."""

    title: str
    model_name: str
    hash: str | None = None
    sha256: str | None = None
    filename: str
    config: str | None = None


class SamplerItem(_Body):
    """A sampler."""

    name: str
    aliases: list[str]
    options: dict[str, str]


class SchedulerItem(_Body):
    """A noise schedule."""

    name: str
    label: str
    aliases: list[str] | None = None
    default_rho: float = -1.0
    need_inner_model: bool = False


class UpscalerItem(_Body):
    """An upscaler."""

    name: str
    model_name: str | None = None
    model_path: str | None = None
    model_url: str | None = None
    scale: float


class NamedItem(_Body):
    """Something with a name."""

    name: str


class AutoencoderItem(_Body):
    """An autoencoder."""

    model_name: str
    filename: str


class ProgressState(_Body):
    """Where the job stands."""

    skipped: bool = False
    interrupted: bool
    job: str = Field(description="Id of the job; empty where none is under way.")
    job_count: int = Field(description="1 while one is under way.")
    job_no: int = 0
    sampling_step: int
    sampling_steps: int


class ProgressAnswer(_Body):
    """How far the caller's latest job is."""

    progress: float = Field(description="0 to 1; 0 where none is under way.")
    eta_relative: float = Field(description="Seconds to the end, by what was measured lately.")
    state: ProgressState
    current_image: str | None = Field(default=None, description="A PNG in Base64 of what is becoming of it.")
    textinfo: str | None = None


class ErrorBody(_Body):
    """What every error of this dialect looks like."""

    error: str = Field(description="A stable name for programs.")
    detail: str = Field(description="One sentence.")
    body: str = ""
    errors: str = Field(description="The sentence once more.")
