"""Bodies of the routes that list, order and clear jobs."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from deployments.jobs.records.jobs import Job, JobState, PriorityClass
from deployments.jobs.transaction.audit import Action, AuditEntry
from serve.api.cyberimage.bodies import Moment
from serve.submission.fields import Body, shared_fields
from serve.submission.request import GenerateBody

MOST_JOBS_OF_A_BATCH = 100


class BatchBody(Body):
    """Jobs that are queued together."""

    jobs: list[GenerateBody] = Field(
        min_length=1, max_length=MOST_JOBS_OF_A_BATCH, description="1 to 100 bodies of `POST /api/generate`."
    )


class BatchAnswer(Body):
    """Jobs that were accepted."""

    job_ids: list[str] = Field(description="In the order of the request.")
    message: str


class PriorityBody(Body):
    """Another class of priority."""

    priority: PriorityClass = Field(description="`high`, `normal` or `low`.", examples=["high"])


class ClearableState(StrEnum):
    """States of which all jobs can be cleared."""

    PENDING = "pending"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class ListedJob(Body):
    """A job in a list."""

    id: str
    status: JobState
    model_id: str
    client: str
    priority: PriorityClass
    prompt: str
    num_images: int
    step: int = Field(description="Denoising steps done, over all images.")
    total_steps: int
    created_at: Moment
    started_at: Moment | None
    completed_at: Moment | None
    message: str
    retry_of: str | None = None

    @classmethod
    def of(cls, job: Job) -> ListedJob:
        """Describe a job of a list."""
        fields = shared_fields(cls, job, job.request, job.request.settings)
        return cls(**fields, status=job.state)


class JobsAnswer(Body):
    """Jobs, newest first."""

    jobs: list[ListedJob]
    next_cursor: str | None = Field(default=None, description="For `cursor` of the next page; null on the last one.")


class ResetAnswer(Body):
    """Stalled jobs were put back."""

    status: Literal["success"] = "success"
    reset_count: int
    message: str


class ClearAnswer(Body):
    """Jobs were cleared."""

    status: Literal["success"] = "success"
    cleared: int
    remaining: int = Field(description="Jobs that are still in this state; repeat the request until it is 0.")
    message: str


class AuditedAction(Body):
    """Who did what."""

    at: Moment
    who: str
    action: Action
    job_id: str | None = None
    model_id: str | None = None
    details: dict[str, Any]

    @classmethod
    def of(cls, entry: AuditEntry) -> AuditedAction:
        """Describe an action."""
        return cls(**entry.model_dump())


class AuditAnswer(Body):
    """Actions, newest first."""

    entries: list[AuditedAction]
    next_cursor: str | None = Field(default=None, description="For `cursor` of the next page; null on the last one.")
