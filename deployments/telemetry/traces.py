"""Traces, where a collector is configured: spans of jobs from their submission to their images.

Nothing travels with a job for them: the id of a job's trace is the job's own, and the ids of those of its spans that
others are under are made of the job's id too, so that each process knows them. Without ``tracing.endpoint`` nothing
here does anything, and OpenTelemetry is not imported.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import TYPE_CHECKING

from deployments.jobs.records.jobs import Claim
from deployments.settings.telemetry import TracingSettings

if TYPE_CHECKING:
    from deployments.telemetry.tracer import Tracer

_SPANS_OF_STAGES = {"encoding": "encode prompt", "denoising": "denoise", "decoding": "decode"}

_tracer: Tracer | None = None


def configure_traces(settings: TracingSettings, process: str) -> None:
    """Send the traces of this process to the collector of the settings, if there is one.

    Args:
        settings: Where to, and how many.
        process: Which one this is.
    """
    if settings.endpoint is not None:
        from deployments.telemetry.tracer import Tracer, sending_to  # noqa: PLC0415 - it imports OpenTelemetry

        use_tracer(Tracer(sending_to(settings.endpoint), settings.sample_ratio, process))


def use_tracer(tracer: Tracer | None) -> None:
    """Replace the tracer of this process; None records nothing."""
    global _tracer  # noqa: PLW0603 - there is one for the process, as there is one log
    _tracer = tracer


def current_tracer() -> Tracer | None:
    """The tracer of this process; None where it records nothing."""
    return _tracer


def submit_spans(jobs: Mapping[str, str]) -> AbstractContextManager[object]:
    """Trace the submission of some jobs: for each the first span of its trace, linked to that of the HTTP request.

    Args:
        jobs: Model ids, by the jobs' ids.
    """
    if _tracer is None:
        return nullcontext()
    with ExitStack() as spans:
        for job_id, model_id in jobs.items():
            spans.enter_context(_tracer.submit_span(job_id, model=model_id))
        return spans.pop_all()


def dispatch_span(claim: Claim) -> AbstractContextManager[object]:
    """Trace what a dispatcher does for a claim, and, before the first one, how long the job waited in the queue."""
    if _tracer is None:
        return nullcontext()
    if claim.fence == 1:
        now = time.time_ns()
        # The database's clock may be ahead of this one.
        submitted = min(now, int(claim.created_at.timestamp() * 1e9))
        _tracer.note_span("queue", claim.job_id, "", submitted, now)
    return _tracer.job_span("dispatch", claim.job_id, "", _of_attempt(claim, "dispatch"), attempt=claim.fence)


def generate_span(claim: Claim) -> AbstractContextManager[object]:
    """Trace a replica's work at a claim."""
    if _tracer is None:
        return nullcontext()
    own = _of_attempt(claim, "generate")
    return _tracer.job_span("generate", claim.job_id, _of_attempt(claim, "dispatch"), own, model=claim.request.model_id)


def save_span(claim: Claim, index: int) -> AbstractContextManager[object]:
    """Trace the encoding and writing of one image."""
    if _tracer is None:
        return nullcontext()
    return _tracer.job_span("save", claim.job_id, _of_attempt(claim, "generate"), image=index)


class StageTimes:
    """When an image passed the stages of its making; noted on the engine's thread."""

    def __init__(self) -> None:
        self._marks: list[tuple[str, int]] = []

    def note(self, stage: str) -> None:
        """Take note that a module is called for a stage."""
        if not self._marks or self._marks[-1][0] != stage:
            self._marks.append((stage, time.time_ns()))

    def end(self, _: object = None) -> None:
        """Take note that the image is made."""
        self.note("")

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        """Each stage with its beginning and its end, in nanoseconds since 1970."""
        for (stage, began), (_, ended) in zip(self._marks, self._marks[1:], strict=False):
            yield stage, began, ended


def note_stages(claim: Claim, index: int, stages: StageTimes) -> None:
    """Trace the stages that an image has passed."""
    if _tracer is None:
        return
    steps = claim.request.settings.denoising_steps
    for stage, began, ended in stages:
        counted = {"steps": steps} if stage == "denoising" else {}
        name = _SPANS_OF_STAGES[stage]
        _tracer.note_span(name, claim.job_id, _of_attempt(claim, "generate"), began, ended, image=index, **counted)


def _of_attempt(claim: Claim, span: str) -> str:
    return f"{claim.fence}/{span}"
