"""What can go wrong with a job, in a form that crosses process borders and becomes an HTTP answer."""

from __future__ import annotations

from typing import Any

from deployments.errors import CyberImageError


class JobError(CyberImageError):
    """Something went wrong with a job."""

    code = "job_error"


class UnknownJobError(JobError):
    """There is no such job."""

    status = 404
    code = "unknown_job"


class UnknownImageError(JobError):
    """There is no such image."""

    status = 404
    code = "unknown_image"


class UnknownKeyError(JobError):
    """There is no such API key."""

    status = 404
    code = "unknown_key"


class UnknownPictureError(JobError):
    """There is no such input, and no such image."""

    status = 404
    code = "unknown_picture"


class QueueFullError(JobError):
    """The queue is full; try again later."""

    status = 503
    code = "queue_full"

    def __init__(self, message: str | None = None, *, retry_after_seconds: int = 10) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ClientQueueFullError(QueueFullError):
    """You have too many jobs waiting; try again later."""

    status = 429
    code = "too_many_jobs"


class DailyLimitError(JobError):
    """You have asked for as many images as you may on one day."""

    status = 429
    code = "too_many_images"

    def __init__(self, message: str | None = None, *, retry_after_seconds: int = 3600) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class TooManyTagsError(JobError):
    """The image has as many tags as it may."""

    status = 409
    code = "too_many_tags"


class QuotaError(JobError):
    """You have as many images as you may keep; delete some first."""

    status = 507
    code = "quota_reached"


class JobStateError(JobError):
    """The job's state does not allow that."""

    status = 409
    code = "wrong_state"


class InvalidCursorError(JobError):
    """cursor: it is not one that a list of jobs, actions or images gave out; leave it out to begin with the newest."""

    status = 400
    code = "invalid_cursor"


class StoreUnavailableError(JobError):
    """The job database cannot be used."""

    status = 503
    code = "store_unavailable"

    @classmethod
    def because(cls, database: str, reason: Any) -> StoreUnavailableError:
        """One line that names the database (a URL without its password) and the reason."""
        return cls(f"The job database {database} cannot be used: {' '.join(str(reason).split())}")
