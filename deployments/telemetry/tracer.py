"""Records spans by OpenTelemetry."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import UUID

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import SamplingResult, TraceIdRatioBased
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, TraceFlags, TraceState
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import Attributes

from deployments.version import package_version

_ROOT = ""


def sending_to(endpoint: str) -> SpanProcessor:
    """Sends spans in batches, on a thread of its own.

    Args:
        endpoint: The OTLP address of a collector.
    """
    return BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint))


class Tracer:
    """Makes spans of requests and jobs.

    Args:
        processor: What becomes of spans that have ended.
        sample_ratio: Share of traces that are recorded; each process decides the same about a job.
        process: Which one this is.
    """

    def __init__(self, processor: SpanProcessor, sample_ratio: float, process: str) -> None:
        self._ids = _GivenIds()
        provider = TracerProvider(
            sampler=_ByRandomBits(sample_ratio),
            resource=Resource.create(
                {SERVICE_NAME: "cyberimage", SERVICE_VERSION: package_version(), SERVICE_INSTANCE_ID: process}
            ),
            id_generator=self._ids,
        )
        provider.add_span_processor(processor)
        self._tracer = provider.get_tracer("cyberimage")

    @contextmanager
    def request_span(self, method: str, headers: Mapping[str, str]) -> Iterator[Span]:
        """Trace an HTTP request; under the caller's own span, where it names one (https://www.w3.org/TR/trace-context/).

        Args:
            method: Of the request.
            headers: By their names in lower case.
        """
        context = TraceContextTextMapPropagator().extract(dict(headers), Context())
        attributes = {"http.request.method": method}
        with self._tracer.start_as_current_span(method, context, kind=SpanKind.SERVER, attributes=attributes) as span:
            yield span

    @contextmanager
    def submit_span(self, job_id: str, **attributes: str) -> Iterator[None]:
        """Trace a job's submission: the root of its trace. It and the request's span have links to each other."""
        request = trace.get_current_span()
        request.add_link(_context_of(job_id, _ROOT))
        links = [Link(request.get_span_context())] if request.get_span_context().is_valid else []
        with self._ids.giving(job_id, _ROOT):
            span = self._tracer.start_span(
                "submit", Context(), attributes={"job_id": job_id, **attributes}, links=links
            )
        with trace.use_span(span, end_on_exit=True):
            yield

    @contextmanager
    def job_span(
        self, name: str, job_id: str, parent: str, known_as: str | None = None, **attributes: str | int
    ) -> Iterator[None]:
        """Trace a part of the work on a job; the span records an error that leaves the block.

        Args:
            name: Of the span.
            job_id: The job's UUID.
            parent: What the span that it is under is known as; empty for that of the submission.
            known_as: By what spans under it name it, also in other processes; None where there are none.
            attributes: Of the span.
        """
        with self._ids.giving(job_id, known_as):
            span = self._tracer.start_span(name, _under(job_id, parent), attributes={"job_id": job_id, **attributes})
        with trace.use_span(span, end_on_exit=True):
            yield

    def note_span(self, name: str, job_id: str, parent: str, began: int, ended: int, **attributes: str | int) -> None:
        """Record a span that has ended; as :meth:`job_span`, with times in nanoseconds since 1970."""
        named = {"job_id": job_id, **attributes}
        self._tracer.start_span(name, _under(job_id, parent), attributes=named, start_time=began).end(ended)


class _GivenIds(RandomIdGenerator):
    """Generates random ids, except where the next span is given one."""

    def __init__(self) -> None:
        self._given: ContextVar[tuple[int, int] | None] = ContextVar("given_ids", default=None)

    @contextmanager
    def giving(self, job_id: str, known_as: str | None) -> Iterator[None]:
        given = None if known_as is None else (_trace_id(job_id), _span_id(job_id, known_as))
        token = self._given.set(given)
        try:
            yield
        finally:
            self._given.reset(token)

    def generate_trace_id(self) -> int:
        given = self._given.get()
        return super().generate_trace_id() if given is None else given[0]

    def generate_span_id(self) -> int:
        given = self._given.get()
        return super().generate_span_id() if given is None else given[1]


class _ByRandomBits(TraceIdRatioBased):
    """Decides by the upper half of the trace's id: some of the lower half's bits are the same in every UUID."""

    def should_sample(  # noqa: PLR0913, PLR0917 - the signature is OpenTelemetry's
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        return super().should_sample(parent_context, trace_id >> 64, name, kind, attributes, links, trace_state)


def _under(job_id: str, parent: str) -> Context:
    return trace.set_span_in_context(trace.NonRecordingSpan(_context_of(job_id, parent)), Context())


def _context_of(job_id: str, known_as: str) -> SpanContext:
    return SpanContext(
        _trace_id(job_id), _span_id(job_id, known_as), is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )


def _trace_id(job_id: str) -> int:
    return UUID(job_id).int


def _span_id(job_id: str, known_as: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{job_id}/{known_as}".encode()).digest()[:8])
