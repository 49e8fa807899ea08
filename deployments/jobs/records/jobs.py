"""Plain records of jobs and images: what the store keeps and every other part reads."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from deployments.parameters import GenerationSettings


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


class PriorityClass(StrEnum):
    """Whose turn comes first: all ``high`` jobs of a model before its ``normal`` ones, these before ``low`` ones."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def rank(self) -> int:
        """Its place in the order of turns, from 0."""
        return list(PriorityClass).index(self)

    @property
    def urgency(self) -> int:
        """How far it is above ``normal``: 1, 0 or -1."""
        return PriorityClass.NORMAL.rank - self.rank

    @classmethod
    def of_rank(cls, rank: int) -> PriorityClass:
        """The class at a place in the order."""
        return list(cls)[rank]


class Record(BaseModel):
    """A frozen record that refuses unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class JobRequest(Record):
    """What a client asked for."""

    model_id: str
    prompt: str
    negative_prompt: str = ""
    settings: GenerationSettings
    client: Annotated[str, Field(description="Who asked: an API key's name or an address; fairness is by it.")] = ""
    priority: Annotated[PriorityClass, Field(description="The class it was submitted with.")] = PriorityClass.NORMAL
    expires_in: Annotated[int | None, Field(ge=1, description="Seconds after which it must not start any more.")] = None
    batch_size: Annotated[int | None, Field(ge=1, description="Jobs of the batch that it came in, if it did.")] = None
    webhook_url: Annotated[str | None, Field(description="Called when the job has ended; None for nothing.")] = None


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
    priority: Annotated[PriorityClass, Field(description="Its class now.")] = PriorityClass.NORMAL
    not_before: Annotated[datetime | None, Field(description="While it pauses between attempts: until when.")] = None
    expires_at: Annotated[datetime | None, Field(description="When it fails unless it has started.")] = None
    retry_of: Annotated[str | None, Field(description="The job that it tries again.")] = None
    created_at: datetime
    started_at: datetime | None = None
    completed_at: datetime | None = None

    @property
    def version(self) -> str:
        """Equal as long as there is no news of the job."""
        return f"{self.state}/{self.phase or ''}/{self.attempts}/{self.step}/{int(self.cancel_requested)}"


class Claim(Record):
    """The right to run a job, for as long as its lease is renewed and no later claim exists."""

    job_id: str
    request: JobRequest
    fence: Annotated[int, Field(description="The attempt's number; it rises with every claim of the job.")]
    created_at: Annotated[datetime, Field(description="When the job was submitted: the same for every attempt.")]
    priority: Annotated[PriorityClass, Field(description="The job's class when it was claimed.")] = PriorityClass.NORMAL


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
    client: Annotated[str, Field(description="Whose job made it.")] = ""
    created_at: datetime


class NewInput(Record):
    """A picture that a client sent, whose bytes are already in storage."""

    id: str
    key: Annotated[str, Field(description="Where storage keeps it: YYYY/MM/DD/<id>.png.")]
    sha256: str
    width: Annotated[int, Field(ge=1, description="Pixels.")]
    height: Annotated[int, Field(ge=1, description="Pixels.")]
    byte_count: int
    client: Annotated[str, Field(description="Who sent it.")] = ""


class Input(NewInput):
    """A picture that a client sent for jobs to start from."""

    created_at: datetime


PictureKind = Literal["image", "input"]


class Picture(Record):
    """A picture that a job may start from: an input, or an image that was made here."""

    id: str
    kind: PictureKind
    key: str
    sha256: str
    width: int
    height: int
    client: Annotated[str, Field(description="Whose it is.")] = ""
