"""Answers of the AUTOMATIC1111 dialect."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class ImagesAnswer(BaseModel):
    """The images of a job."""

    images: list[str] = Field(description="Files in Base64.")
    parameters: dict[str, Any] = Field(description="The request.")
    info: str = Field(description="JSON: the whole parameters, by image too, and `job_id`.")


class ModelItem(BaseModel):
    """A model."""

    title: str
    model_name: str
    hash: str | None = None
    sha256: str | None = None
    filename: str
    config: str | None = None


class SamplerItem(BaseModel):
    """A sampler."""

    name: str
    aliases: list[str]
    options: dict[str, str]


class SchedulerItem(BaseModel):
    """A noise schedule."""

    name: str
    label: str
    aliases: list[str] | None = None
    default_rho: float = -1.0
    need_inner_model: bool = False


class UpscalerItem(BaseModel):
    """An upscaler."""

    name: str
    model_name: str | None = None
    model_path: str | None = None
    model_url: str | None = None
    scale: float


class NamedItem(BaseModel):
    """Something with a name."""

    name: str


class AutoencoderItem(BaseModel):
    """An autoencoder."""

    model_name: str
    filename: str


class ProgressState(BaseModel):
    """Where the job stands."""

    skipped: bool = False
    interrupted: bool
    job: str = Field(description="Id of the job; empty where none is under way.")
    job_count: int = Field(description="1 while one is under way.")
    job_no: int = 0
    sampling_step: int
    sampling_steps: int


class ProgressAnswer(BaseModel):
    """How far the caller's latest job is."""

    progress: float = Field(description="0 to 1; 0 where none is under way.")
    eta_relative: float = Field(description="Seconds to the end, by what was measured lately.")
    state: ProgressState
    current_image: str | None = Field(default=None, description="A PNG in Base64 of what is becoming of it.")
    textinfo: str | None = None


class ErrorBody(BaseModel):
    """What every error of this dialect looks like."""

    error: str = Field(description="A stable name for programs.")
    detail: str = Field(description="One sentence.")
    body: str = ""
    errors: str = Field(description="The sentence once more.")
