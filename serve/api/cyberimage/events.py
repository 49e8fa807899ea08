"""Event streams of jobs."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated

from cachetools import LRUCache
from fastapi import APIRouter, Header, Query, Response, status
from sse_starlette import ServerSentEvent

from deployments.jobs.records.exceptions import UnknownJobError
from serve.api.cyberimage import answers, examples
from serve.api.cyberimage.job_events import JobTeller, is_end
from serve.api.cyberimage.parameters import Behind, Caller, JobId
from serve.http.access import READS, Who
from serve.http.event_streams import event_stream
from serve.protection.identity import require_own_job
from serve.services.job_feed import OVERLAP, JobFeed
from serve.services.watchers import UnreadJobsError

# Jobs of a client whose sent events are remembered: open ones, and those whose end may be read again.
_MOST_TELLERS = 5000
_LAST_MOMENT = 253402300799000  # of the year 9999

_EVENTS: answers.Responses = {200: examples.EVENTS}

LastEventId = Annotated[
    str, Header(max_length=200, description="Id of the newest event that you have: you are told what came after it.")
]

router = APIRouter()


@router.get(
    "/api/jobs/{job_id}/events",
    dependencies=[READS],
    tags=["jobs"],
    response_class=Response,
    responses=_EVENTS
    | {204: {"description": "You have the end already: there is nothing more to come."}}
    | answers.BAD_QUERY
    | answers.UNKNOWN_JOB
    | answers.DOWN,
)
async def job_events(
    behind: Behind,
    who: Who,
    job_id: JobId,
    previews: Annotated[bool, Query(description="Whether to send pictures of what is becoming of it.")] = True,
    last_event_id: LastEventId = "",
) -> Response:
    """A job as it goes on: `state`, `progress` and `preview` events, `end` with the whole status, and the stream ends.

    A browser's `EventSource` comes back after an end; it is answered with 204, which tells it to stay away.
    """
    view = await behind.feed.view(job_id)
    require_own_job(who, view.job)
    if is_end(last_event_id, view):
        return Response(status_code=status.HTTP_204_NO_CONTENT)
    teller = JobTeller(last_event_id, with_previews=previews)
    return event_stream(_events_of_job(behind.feed, job_id, teller), behind.feed.rhythm.heartbeat)


@router.get(
    "/api/events",
    dependencies=[READS],
    tags=["jobs"],
    response_class=Response,
    responses=_EVENTS | answers.BAD_QUERY,
)
async def client_events(
    behind: Behind,
    caller: Caller,
    previews: Annotated[bool, Query(description="Whether to send pictures of what is becoming of them.")] = False,
    last_event_id: LastEventId = "",
) -> Response:
    """All jobs of the caller as they go on, those included that are submitted later; the stream does not end.

    The events are those of a single job. They begin with the state of each job that has not ended.
    """
    since = datetime.fromtimestamp(_moment(last_event_id) / 1000, UTC) - OVERLAP
    return event_stream(_events_of_client(behind.feed, caller, since, previews), behind.feed.rhythm.heartbeat)


async def _events_of_job(feed: JobFeed, job_id: str, teller: JobTeller) -> AsyncIterator[ServerSentEvent]:
    with feed.watch_job(job_id) as watcher:
        while True:
            try:
                (view,) = await watcher.next()
            except UnknownJobError:
                return  # the job was removed meanwhile: the next request gets 404
            for event in teller.events(view):
                yield event
            if view.job.state.is_terminal:
                return


async def _events_of_client(
    feed: JobFeed, client: str, since: datetime, previews: bool
) -> AsyncIterator[ServerSentEvent]:
    tellers: LRUCache[str, JobTeller] = LRUCache(_MOST_TELLERS)
    with feed.watch_client(client, since) as watcher:
        yield ServerSentEvent(id=str(_now()))  # for a reader who reconnects before the first event
        while True:
            try:
                views = await watcher.next()
            except UnreadJobsError:
                return  # the reader reconnects, and gets what it has missed
            known_until = str(_now())
            events: list[ServerSentEvent] = []
            for view in views:
                teller = tellers.setdefault(view.job.id, JobTeller(with_previews=previews))
                events += teller.events(view)
            for event in events:
                # Only after the last event the reader has all of them.
                event.id = known_until if event is events[-1] else None
                yield event


def _now() -> int:
    return int(time.time() * 1000)


def _moment(last_event_id: str) -> int:
    """Return the time in an event id of a client's stream, in milliseconds; now for any other id."""
    return min(int(last_event_id), _LAST_MOMENT) if last_event_id.isascii() and last_event_id.isdigit() else _now()
