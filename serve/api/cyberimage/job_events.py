"""The events of a job, and the ids by which a reader resumes after an interruption."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

from sse_starlette import ServerSentEvent

from deployments.jobs.queue.views import JobView
from deployments.jobs.records.jobs import Job
from deployments.tracker.previews import MEDIA_TYPE as PREVIEW_TYPE
from serve.api.cyberimage.bodies import StatusAnswer, rounded_eta


class JobTeller:
    """Turns views of one job into events: what is new since the view before, or since the event with an id.

    An event's id holds what its reader knows then, so any process can resume where another one stopped.

    Args:
        last_event_id: Of the reader's newest event of the job; empty for none.
        with_previews: Whether the reader wants previews.
    """

    def __init__(self, last_event_id: str = "", *, with_previews: bool = True) -> None:
        self._state = ".".join(last_event_id.split(".")[:3])
        self._progress = last_event_id
        self._position: int | None = None
        self._preview: bytes | None = None
        self._with_previews = with_previews

    def events(self, view: JobView) -> list[ServerSentEvent]:
        """Return the new events: at most one of each kind, or the end alone."""
        job = view.job
        state, progress = _state_id(job), _progress_id(job)
        is_new = state != self._state
        if job.state.is_terminal:
            self._state = self._progress = state
            return [_event("end", _status(view), state)] if is_new else []
        found = []
        if is_new:
            found.append(_event("state", _status(view), state))
        if progress != self._progress or view.queue_position != self._position:
            found.append(_event("progress", _progress(view), progress))
        if self._with_previews and view.preview not in (None, self._preview):
            found.append(_event("preview", _preview(view), progress))
            self._preview = view.preview
        self._state, self._progress, self._position = state, progress, view.queue_position
        return found


def is_end(last_event_id: str, view: JobView) -> bool:
    """Whether the event with this id is the job's end."""
    return view.job.state.is_terminal and last_event_id == _state_id(view.job)


def _state_id(job: Job) -> str:
    return f"{job.state}.{job.attempts}.{int(job.cancel_requested)}"


def _progress_id(job: Job) -> str:
    return f"{_state_id(job)}.{job.phase or ''}.{job.step}"


def _status(view: JobView) -> dict[str, Any]:
    return StatusAnswer.of(view).model_dump(mode="json")


def _progress(view: JobView) -> dict[str, Any]:
    job = view.job
    return {
        "id": job.id,
        "step": job.step,
        "total_steps": job.total_steps,
        "phase": job.phase,
        "eta_seconds": rounded_eta(view),
        "queue_position": view.queue_position,
    }


def _preview(view: JobView) -> dict[str, Any]:
    picture = b64encode(view.preview or b"").decode()
    return {"id": view.job.id, "step": view.job.step, "image": f"data:{PREVIEW_TYPE};base64,{picture}"}


def _event(name: str, data: dict[str, Any], event_id: str) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(data), event=name, id=event_id)
