"""Bodies of the CyberImage dialect."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PlainSerializer

from deployments.clock import iso_utc
from deployments.jobs.queue.counts import StateCounts
from deployments.jobs.queue.outbox import WebhookStatus
from deployments.jobs.queue.views import JobView, ModelLoad
from deployments.jobs.records.jobs import Image, Job, JobPhase, JobState, PriorityClass
from deployments.parameters import GenerationSettings
from serve.submission.fields import Body, Text, shared_fields

Moment = Annotated[datetime, PlainSerializer(iso_utc, return_type=str)]


class InputAnswer(Body):
    """A picture that jobs may start from."""

    id: str = Field(description="For `image`, `mask` and `control_image` of a job.")
    width: int = Field(description="Pixels, once it stands upright.")
    height: int = Field(description="Pixels, once it stands upright.")


class GenerateAnswer(Body):
    """A job that was accepted."""

    job_id: str = Field(examples=["6f0c3b1e-5f0a-4a52-9a39-0c8a1f1b2c3d"])
    status: JobState = Field(examples=["pending"])
    num_images: int = Field(examples=[1])
    message: str = Field(examples=["The job is queued."])

    @classmethod
    def of(cls, job: Job) -> GenerateAnswer:
        """Answer that a job is queued."""
        return cls(
            job_id=job.id, status=job.state, num_images=job.request.settings.num_images, message="The job is queued."
        )


class Loading(Body):
    """A model that is being loaded."""

    seconds: float = Field(description="For how long it has been.")
    usual_seconds: float | None = Field(description="The median of its last loads; null where none is known.")

    @classmethod
    def of(cls, load: ModelLoad) -> Loading:
        """Describe a load, in tenths of seconds."""
        return cls(seconds=round(load.seconds, 1), usual_seconds=_tenths(load.usual_seconds))


class Progress(Body):
    """Where a job stands."""

    preparing: bool
    loading_model: bool
    generating: bool
    saving: bool
    completed: bool
    failed: bool
    step: int = Field(description="Denoising steps done, over all images.")
    total_steps: int = Field(description="Denoising steps of the job, over all images.")

    @classmethod
    def of(cls, job: Job) -> Progress:
        """Describe the progress of a job."""
        phase = job.phase if job.state is JobState.PROCESSING else None
        return cls(
            preparing=job.state is JobState.PROCESSING and phase in (None, JobPhase.PREPARING),
            loading_model=phase is JobPhase.LOADING_MODEL,
            generating=phase is JobPhase.GENERATING,
            saving=phase is JobPhase.SAVING,
            completed=job.state is JobState.COMPLETED,
            failed=job.state is JobState.FAILED,
            step=job.step,
            total_steps=job.total_steps,
        )


class ImageOfJob(Body):
    """An image of a job."""

    id: str
    file_path: str = Field(description="The path that answers with its bytes.")
    created_at: Moment
    metadata: dict[str, Any]

    @classmethod
    def of(cls, image: Image) -> ImageOfJob:
        """Describe an image of a job."""
        return cls(**shared_fields(cls, image), file_path=image_path(image.id))


class StatusAnswer(Body):
    """A job."""

    id: str
    status: JobState
    model_id: str
    prompt: str
    negative_prompt: str
    settings: GenerationSettings
    created_at: Moment
    started_at: Moment | None
    completed_at: Moment | None
    message: str
    progress: Progress
    images: list[ImageOfJob]
    queue_position: int | None = Field(default=None, description="1 is next of its model; null once it runs.")
    priority: PriorityClass = Field(description="Its class of priority now.")
    expires_at: Moment | None = Field(
        default=None, description="When it fails if it still waits; null where it never does."
    )
    retry_of: str | None = Field(default=None, description="The job that it tries again.")
    eta_seconds: float | None = Field(
        default=None, description="Seconds until its last step, by what was measured lately; null where nothing was."
    )
    loading: Loading | None = Field(
        default=None, description="While it waits for its model to be loaded; null while that waits for a GPU."
    )
    cancel_requested: bool = Field(description="Whether it is about to be cancelled.")
    preview: str | None = Field(
        default=None, description="While it runs and can be previewed: the path that answers with a small picture."
    )
    webhook: WebhookStatus | None = Field(
        default=None, description="How the call of `webhook_url` fares; null where the job has none."
    )

    @classmethod
    def of(cls, view: JobView) -> StatusAnswer:
        """Describe a job with its progress and its images."""
        job = view.job
        fields = shared_fields(cls, view, job, job.request)
        fields["status"] = job.state
        fields["progress"] = Progress.of(job)
        fields["images"] = [ImageOfJob.of(image) for image in view.images]
        fields["eta_seconds"] = rounded_eta(view)
        fields["loading"] = None if view.loading is None else Loading.of(view.loading)
        fields["cancel_requested"] = job.cancel_requested and not job.state.is_terminal
        fields["preview"] = f"/api/jobs/{job.id}/preview" if view.preview is not None else None
        return cls(**fields)


class ModelsAnswer(Body):
    """The catalog."""

    models: dict[str, dict[str, Any]] = Field(
        description="By model id. `state` is `cold`, `ready`, `unavailable` (then `reason` says why, and `hint` what "
        "the operator can do) or `unknown`; "
        "`replicas` is how many copies are loaded."
    )
    default: str = Field(description="The model to begin with where nobody has chosen one.")


class QueueAnswer(Body):
    """Jobs by state."""

    pending: int
    processing: int
    completed: int
    failed: int
    cancelled: int
    total: int
    queue_size: int = Field(description="Jobs that wait.")
    paused: list[str] = Field(description="Models of which no job is started.")


class DetailedQueueAnswer(QueueAnswer):
    """Jobs by state, and how they fared."""

    recent_24h: int = Field(description="Jobs submitted within the last 24 hours.")
    avg_processing_time_seconds: float = Field(description="From start to completion; 0 where no job has completed.")
    failure_rate: float = Field(description="Failed jobs as a share, 0 to 1, of the completed and the failed ones.")
    images_per_minute: dict[str, float] = Field(
        description="Images of the last ten minutes, per minute, by model id; those that were deleted do not count."
    )
    models: dict[str, StateCounts] = Field(description="Jobs by state, by model id.")


class CountBody(Body):
    """A prompt to be counted."""

    model_id: Text = Field(description="A model of `GET /api/models`.")
    prompt: Text = Field(description="A prompt, as long as a job's may be.", max_length=100_000)


class CountAnswer(Body):
    """How long a prompt is to a model."""

    tokens: int | None = Field(description="With the marks around it; null where the tokenizer is not at hand.")
    limit: int | None = Field(description="How many of them are read; null where there is no limit, or none is known.")


class LinksAnswer(Body):
    """Pages of other programs; null where there are none, and where the caller's key lacks the scope `admin`."""

    ray_dashboard: str | None = None
    grafana: str | None = None


class ServiceAnswer(Body):
    """What the service is and has."""

    version: str
    enrich: bool = Field(description="Whether `POST /api/enrich` has a language model.")
    links: LinksAnswer


class LiveAnswer(Body):
    """The ingress answers."""

    status: Literal["alive"] = "alive"


class HealthAnswer(BaseModel):
    """The state of the service."""

    status: Literal["healthy", "degraded", "unhealthy"]
    database: str = Field(description="`ok`, or what is wrong.")
    tracker: str = Field(description="`ok`, or what is wrong.")
    storage: str = Field(description="`ok`, or what is wrong.")
    models: str = Field(description="`ok`, or which models could not be loaded, and why.")


class LinkAnswer(Body):
    """An address of an image."""

    url: str = Field(description="Opens the image without an API key.")
    expires_at: Moment | None = Field(
        default=None, description="When it ceases to work; null where no API keys are asked for."
    )


class DoneAnswer(Body):
    """Something was done."""

    status: Literal["success"] = "success"
    message: str


def rounded_eta(view: JobView) -> float | None:
    """Return the expected seconds to a job's end, rounded."""
    return _tenths(view.eta_seconds)


def _tenths(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)


def image_path(image_id: str) -> str:
    """Return the path of an image's bytes."""
    return f"/api/image/{image_id}"
