"""What can go wrong with a job, in a form that crosses process borders and becomes an HTTP answer."""

from __future__ import annotations

from typing import Any, ClassVar


class JobError(Exception):
    """Something went wrong with a job."""

    status: ClassVar[int] = 500
    """The HTTP status an edge answers with."""
    code: ClassVar[str] = "job_error"
    """A stable name of the error for programs."""

    def __init__(self, message: str | None = None) -> None:
        # Exception's own pickling calls the class with `args` and then restores `__dict__`.
        super().__init__(message or type(self).__doc__ or type(self).__name__)


class UnknownJobError(JobError):
    """There is no such job."""

    status = 404
    code = "unknown_job"


class UnknownImageError(JobError):
    """There is no such image."""

    status = 404
    code = "unknown_image"


class QueueFullError(JobError):
    """The queue is full; try again later."""

    status = 503
    code = "queue_full"

    def __init__(self, message: str | None = None, *, retry_after_seconds: int = 10) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class StoreUnavailableError(JobError):
    """The job database cannot be used."""

    status = 503
    code = "store_unavailable"

    @classmethod
    def because(cls, database: str, reason: Any) -> StoreUnavailableError:
        """One line that names the database (a URL without its password) and the reason."""
        return cls(f"The job database {database} cannot be used: {' '.join(str(reason).split())}")
