"""Calls the job tracker as if it were an object of this process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

from ray.actor import ActorHandle
from ray.exceptions import RayActorError, RayTaskError

from deployments.jobs.parts import OpenParts
from deployments.jobs.records.exceptions import JobError
from deployments.jobs.transaction.operations import set_parts
from deployments.tracker.job_tracker import JobTracker

FindTracker = Callable[[], ActorHandle[JobTracker]]


class UnknownTrackerError(Exception):
    """There is no job tracker at the moment."""


class TrackerUnavailableError(JobError):
    """The job tracker does not answer; it is being restarted."""

    status = 503
    code = "tracker_unavailable"


class _RemoteTracker:
    """Turns every method of an actor handle into one that raises the tracker's own errors, not Ray's wrapping."""

    def __init__(self, handle: ActorHandle[JobTracker], find: FindTracker) -> None:
        self._handle = handle
        self._find = find
        set_parts(self, OpenParts, self.call)

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            try:
                try:
                    return await getattr(self._handle, name).remote(*args, **kwargs)
                except RayActorError:
                    self._handle = await asyncio.to_thread(self._find)
                    return await getattr(self._handle, name).remote(*args, **kwargs)
            except RayTaskError as error:
                raise (error.cause if isinstance(error.cause, JobError) else error) from None
            except (RayActorError, UnknownTrackerError) as error:
                raise TrackerUnavailableError from error

        return call


def remote_tracker(handle: ActorHandle[JobTracker], find: FindTracker | None = None) -> JobTracker:
    """The tracker behind an actor handle; its methods are awaited like those of a local one.

    Args:
        handle: Of the actor.
        find: Returns the handle of the actor that has taken its place, once it was replaced; what was called is called
            there again, as every method may be repeated. Blocks, and may raise :class:`UnknownTrackerError`. None where
            the actor is not replaced.
    """
    return cast(JobTracker, _RemoteTracker(handle, find or (lambda: handle)))
