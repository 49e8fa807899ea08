"""One trace for each job, from its submission to its images, over processes that share nothing but the job's id."""

import asyncio
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from deployments.catalog.catalog import Catalog
from deployments.catalog.entry import ModelEntry
from deployments.jobs.records.jobs import Claim
from deployments.settings.service import SettingsError, load_settings
from deployments.settings.telemetry import TracingSettings
from deployments.telemetry.tracer import Tracer
from deployments.telemetry.traces import configure_traces, current_tracer, submit_spans, use_tracer
from serve.dispatch import Dispatcher
from tests.support.api_service import ApiService, api_service
from tests.support.image_models import image_model
from tests.support.loading_samples import save_folder

PROJECT = Path(__file__).parents[3]
STEPS = 3
CALLER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Exporter(InMemorySpanExporter):
    """Keeps spans, and tells when a dispatcher's has ended."""

    def __init__(self) -> None:
        super().__init__()
        self.dispatched = asyncio.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        if any(span.name == "dispatch" for span in spans):
            self.dispatched.set()
        return result


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    exporter = Exporter()
    use_tracer(Tracer(SimpleSpanProcessor(exporter), 1.0, "test"))
    yield exporter
    use_tracer(None)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    folder = save_folder(tmp_path_factory.mktemp("models") / "tiny")
    entry = {"repo": str(folder), "source": "local", "replicas": {"num_gpus": 0}}
    size = {"default_width": 16, "default_height": 16, "multiple_of": 8, "minimum": 16, "maximum": 32}
    return Catalog(default="tiny", models={"tiny": ModelEntry.model_validate(entry | {"size": size})})


class Handle:
    """As a model deployment's handle; its replica is in this process."""

    def __init__(self, model: Any) -> None:
        self.generate = self
        self._model = model

    def remote(self, claim: Claim) -> asyncio.Task[None]:
        return asyncio.create_task(self._model.generate(claim))


async def submit(service: ApiService, **headers: str) -> str:
    settings = {"num_inference_steps": STEPS, "guidance_scale": 2.0, "num_images": 2}
    body = {"model_id": "tiny", "prompt": "a red circle", "settings": settings}
    answer = await service.http.post("/api/generate", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["job_id"]


def by_name(spans: Sequence[ReadableSpan]) -> dict[str, list[ReadableSpan]]:
    found: dict[str, list[ReadableSpan]] = {}
    for span in sorted(spans, key=lambda span: span.start_time):
        found.setdefault(span.name, []).append(span)
    return found


async def test_a_job_is_one_trace_from_its_submission_to_its_images(tmp_path, catalog, exporter):
    async with api_service(tmp_path, catalog) as service:
        job_id = await submit(service, traceparent=CALLER)
        model = image_model("tiny", catalog.get("tiny"), service.storage, service.tracker)
        dispatcher = Dispatcher(service.tracker, {"tiny": Handle(model)}, {"tiny": 1}, 0.01, 60.0)
        dispatcher.start()
        await exporter.dispatched.wait()
        await dispatcher.close()
    spans = exporter.get_finished_spans()
    of_job = by_name([span for span in spans if span.context.trace_id == UUID(job_id).int])
    one = {name: found[0] for name, found in of_job.items()}

    # In the order of their beginnings; each of the two images has its own.
    assert {name: len(found) for name, found in of_job.items()} == {
        "submit": 1,
        "queue": 1,
        "dispatch": 1,
        "generate": 1,
        "encode prompt": 2,
        "denoise": 2,
        "decode": 2,
        "save": 2,
    }
    stages = [one[name] for name in ("submit", "dispatch", "generate", "encode prompt", "denoise", "decode", "save")]
    assert [span.start_time for span in stages] == sorted(span.start_time for span in stages)
    assert all(span.end_time >= span.start_time for span in spans)
    parents = {name: {span.parent and span.parent.span_id for span in found} for name, found in of_job.items()}
    assert parents["submit"] == {None}
    assert parents["queue"] == parents["dispatch"] == {one["submit"].context.span_id}
    assert parents["generate"] == {one["dispatch"].context.span_id}
    for name in ("encode prompt", "denoise", "decode", "save"):
        assert parents[name] == {one["generate"].context.span_id}, name
        assert {span.attributes["image"] for span in of_job[name]} == {0, 1}, name
    assert one["denoise"].attributes["steps"] == STEPS
    assert {span.attributes["job_id"] for found in of_job.values() for span in found} == {job_id}

    (request,) = [span for span in spans if span.name == "POST /api/generate"]
    assert f"{request.context.trace_id:032x}" == CALLER.split("-")[1]
    assert request.attributes["http.response.status_code"] == 200
    assert [link.context for link in one["submit"].links] == [request.context]
    assert [link.context.span_id for link in request.links] == [one["submit"].context.span_id]


async def test_a_job_that_fails_has_its_error_in_the_trace(tmp_path, catalog, exporter):
    async with api_service(tmp_path, catalog) as service:
        await submit(service)
        broken = catalog.get("tiny").model_copy(update={"repo": str(tmp_path / "none")})
        await image_model("tiny", broken, service.storage, service.tracker).generate(await service.start("tiny"))
    (generate,) = by_name(exporter.get_finished_spans())["generate"]

    assert generate.status.status_code is StatusCode.ERROR
    assert "there is no such folder" in generate.status.description


async def test_a_retry_begins_a_trace_of_its_own(tmp_path, catalog, exporter):
    async with api_service(tmp_path, catalog) as service:
        job_id = await submit(service)
        await service.tracker.jobs.cancel(job_id)
        retried = (await service.http.post(f"/api/jobs/{job_id}/retry")).json()["job_id"]

    roots = {span.context.trace_id for span in exporter.get_finished_spans() if span.name == "submit"}
    assert roots == {UUID(job_id).int, UUID(retried).int}


async def test_without_an_endpoint_nothing_is_traced(tmp_path, catalog):
    configure_traces(TracingSettings(), "test")
    async with api_service(tmp_path, catalog) as service:
        job_id = await submit(service)
        await image_model("tiny", catalog.get("tiny"), service.storage, service.tracker).generate(
            await service.start("tiny")
        )
        assert (await service.job(job_id)).state == "completed"

    assert current_tracer() is None


def test_without_an_endpoint_opentelemetry_is_not_imported():
    program = (
        "import sys\n"
        "from deployments.settings.telemetry import TracingSettings\n"
        "from deployments.telemetry.traces import configure_traces, submit_spans\n"
        "configure_traces(TracingSettings(), 'x')\n"
        "with submit_spans({'some': 'model'}): pass\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    told = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True, check=True)

    assert told.stdout == "[]\n"


def test_all_processes_trace_the_same_share_of_jobs():
    numbers = random.Random(7)
    job_ids = [str(UUID(int=numbers.getrandbits(128), version=4)) for _ in range(1000)]
    traced = []
    for process in ("one", "two"):
        exporter = InMemorySpanExporter()
        use_tracer(Tracer(SimpleSpanProcessor(exporter), 0.3, process))
        with submit_spans(dict.fromkeys(job_ids, "tiny")):
            pass
        traced.append({span.attributes["job_id"] for span in exporter.get_finished_spans()})
    use_tracer(None)

    assert traced[0] == traced[1]
    assert 250 < len(traced[0]) < 350


def test_an_endpoint_without_the_packages_for_it_is_refused(monkeypatch):
    monkeypatch.setattr("deployments.settings.telemetry._EXPORTER", "no.such.package")
    with pytest.raises(SettingsError, match=r"tracing\.endpoint .*: .*pip install 'cyberimage\[tracing\]'"):
        load_settings({"tracing": {"endpoint": "http://collector:4318/v1/traces"}})
