"""Plain records of jobs and images: what the store keeps and every other part reads."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field


class JobState(StrEnum):
    """Where a job stands. ``completed``, ``failed`` and ``cancelled`` are terminal and never change."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended."""
        return self in (JobState.COMPLETED, JobState.FAILED, JobState.CANCELLED)


class JobPhase(StrEnum):
    """What is being done for a job that is ``processing``, in the order in which an attempt passes them."""

    PREPARING = "preparing"
    LOADING_MODEL = "loading_model"
    GENERATING = "generating"
    SAVING = "saving"

    @property
    def rank(self) -> int:
        """Its place in the order."""
        return list(JobPhase).index(self)


class Record(BaseModel):
    """A frozen record that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class GenerationSettings(Record):
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

    scheduler: Annotated[str | None, Field(description="A scheduler class; None for the model's own.")] = None
    deterministic: Annotated[bool, Field(description="Whether the bytes must not depend on who else is served.")] = (
        False
    )
    step_cache: Annotated[
        float, Field(ge=0, description="Relative change below which a step skips most of the denoiser; 0: none does.")
    ] = 0.0

    def seed_of(self, index: int) -> int:
        """The seed of one image of the job."""
        return (self.seed + index) % 2**63


class JobRequest(Record):
    """What a client asked for."""

    model_id: str
    prompt: str
    negative_prompt: str = ""
    settings: GenerationSettings
    client: Annotated[str, Field(description="Who asked: an API key's name or an address; fairness is by it.")] = ""


class Job(Record):
    """A job as the store knows it."""

    id: str
    request: JobRequest
    state: JobState
    phase: JobPhase | None = None
    step: Annotated[int, Field(description="Denoising steps done, over all images of the job.")] = 0
    total_steps: Annotated[int, Field(description="Denoising steps of the job, over all its images.")]
    attempts: Annotated[int, Field(description="Claims so far; the newest one's number is its fence.")] = 0
    message: Annotated[str, Field(description="One sentence about the state, a failure's reason included.")] = ""
    cancel_requested: bool = False
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None


class Claim(Record):
    """The right to run a job, for as long as its lease is renewed and no later claim exists."""

    job_id: str
    request: JobRequest
    fence: Annotated[int, Field(description="The attempt's number; it rises with every claim of the job.")]
    created_at: Annotated[datetime, Field(description="When the job was submitted: the same for every attempt.")]


class ProgressReport(Record):
    """Where a claimed job stands; sending it renews the lease."""

    job_id: str
    fence: int
    phase: JobPhase
    step: int = 0
    preview: Annotated[bytes | None, Field(repr=False, description="A small WebP of what it is becoming.")] = None


class NewImage(Record):
    """An image whose bytes are already in storage."""

    id: str
    index: Annotated[int, Field(ge=0, description="Its place among the job's images, from 0.")]
    key: Annotated[str, Field(description="Where storage keeps it: YYYY/MM/DD/<id>.<ext>.")]
    media_type: str
    byte_count: int
    sha256: str
    metadata: Annotated[dict[str, Any], Field(description="The parameters that are embedded in the file.")]


class Image(NewImage):
    """An image of a completed job."""

    job_id: str
    model_id: str
    created_at: datetime
