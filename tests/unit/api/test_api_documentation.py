"""The OpenAPI document, the page that shows it, and docs/api.md."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from hashlib import sha256
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from pydantic import BaseModel, TypeAdapter

from deployments.settings.service import Settings
from serve.api.automatic1111 import bodies as automatic1111
from serve.api.automatic1111.requests import OptionsAnswer
from serve.api.cyberimage import bodies, control_bodies, enrich, examples, gallery_bodies, key_bodies, rpc
from serve.api.errors import ErrorBody
from serve.api.openai import bodies as openai
from serve.application import build_api
from serve.services.services import Services
from tests.support.api_service import CPU_CATALOG, PROJECT

PAGE = (PROJECT / "docs" / "api.md").read_text(encoding="utf-8")
DOCUMENT = build_api(Services(Settings(data_dir=Path("data")), CPU_CATALOG, None, None)).openapi()
OPERATIONS = [
    pytest.param(method, path, operation, id=f"{method.upper()} {path}")
    for path, operations in DOCUMENT["paths"].items()
    for method, operation in operations.items()
]
REFUSALS = {"401", "403", "429"}  # told once, for all routes that ask for an API key
EVERY_OPERATION = pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS)
ANSWERS = {
    ("get", "/live"): bodies.LiveAnswer,
    ("get", "/health"): bodies.HealthAnswer,
    ("get", "/api/models"): bodies.ModelsAnswer,
    ("get", "/api/service"): bodies.ServiceAnswer,
    ("post", "/api/prompts/count"): bodies.CountAnswer,
    ("post", "/api/generate"): bodies.GenerateAnswer,
    ("post", "/api/inputs"): bodies.InputAnswer,
    ("get", "/api/status/{job_id}"): bodies.StatusAnswer,
    ("delete", "/api/jobs/{job_id}"): bodies.StatusAnswer,
    ("get", "/api/queue"): bodies.DetailedQueueAnswer | bodies.QueueAnswer,
    ("get", "/api/jobs"): control_bodies.JobsAnswer,
    ("delete", "/api/jobs"): control_bodies.ClearAnswer,
    ("post", "/api/jobs/batch"): control_bodies.BatchAnswer,
    ("post", "/api/jobs/{job_id}/retry"): bodies.GenerateAnswer,
    ("post", "/api/jobs/{job_id}/priority"): bodies.StatusAnswer,
    ("post", "/api/queue/{model_id}/pause"): bodies.DoneAnswer,
    ("post", "/api/queue/{model_id}/resume"): bodies.DoneAnswer,
    ("post", "/api/reset_queue"): control_bodies.ResetAnswer,
    ("get", "/api/audit"): control_bodies.AuditAnswer,
    ("get", "/api/image/{image_id}/metadata"): dict,
    ("post", "/api/image/{image_id}/replay"): bodies.GenerateAnswer,
    ("get", "/api/image/{image_id}/link"): bodies.LinkAnswer,
    ("delete", "/api/image/{image_id}"): bodies.DoneAnswer,
    ("get", "/api/gallery"): gallery_bodies.GalleryAnswer,
    ("put", "/api/image/{image_id}/favourite"): bodies.DoneAnswer,
    ("delete", "/api/image/{image_id}/favourite"): bodies.DoneAnswer,
    ("put", "/api/image/{image_id}/tags/{tag}"): gallery_bodies.TagsOfImageAnswer,
    ("delete", "/api/image/{image_id}/tags/{tag}"): gallery_bodies.TagsOfImageAnswer,
    ("get", "/api/tags"): gallery_bodies.TagsAnswer,
    ("get", "/api/image/{image_id}/lineage"): gallery_bodies.LineageAnswer,
    ("post", "/api/images/delete"): gallery_bodies.DeletedImagesAnswer,
    ("get", "/api/usage"): gallery_bodies.UsageAnswer,
    ("post", "/api/storage/sweep"): gallery_bodies.SweepAnswer,
    ("post", "/api/keys"): key_bodies.NewKeyAnswer,
    ("get", "/api/keys"): key_bodies.KeysAnswer,
    ("delete", "/api/keys/{key_id}"): key_bodies.KeyAnswer,
    ("post", "/api/enrich"): enrich.EnrichAnswer,
    ("post", "/api/mcp"): rpc.CallAnswer,
    ("get", "/v1/models"): openai.ModelsAnswer,
    ("get", "/v1/models/{model}"): openai.ModelAnswer,
    ("post", "/v1/images/generations"): openai.ImagesAnswer,
    ("post", "/v1/images/edits"): openai.ImagesAnswer,
    ("get", "/sdapi/v1/options"): OptionsAnswer,
    ("post", "/sdapi/v1/options"): dict,
    ("get", "/sdapi/v1/sd-models"): list[automatic1111.ModelItem],
    ("get", "/sdapi/v1/samplers"): list[automatic1111.SamplerItem],
    ("get", "/sdapi/v1/schedulers"): list[automatic1111.SchedulerItem],
    ("get", "/sdapi/v1/upscalers"): list[automatic1111.UpscalerItem],
    ("get", "/sdapi/v1/latent-upscale-modes"): list[automatic1111.NamedItem],
    ("get", "/sdapi/v1/sd-vae"): list[automatic1111.AutoencoderItem],
    ("post", "/sdapi/v1/txt2img"): automatic1111.ImagesAnswer,
    ("post", "/sdapi/v1/img2img"): automatic1111.ImagesAnswer,
    ("get", "/sdapi/v1/progress"): automatic1111.ProgressAnswer,
    ("post", "/sdapi/v1/interrupt"): dict,
    ("post", "/sdapi/v1/skip"): dict,
}

JSON_RPC = {"400", "404", "406"}  # at /mcp, errors of the protocol are the protocol's


def error_of(path: str) -> type[BaseModel]:
    """What errors look like in the dialect of a path."""
    dialects = {"/v1/": openai.ErrorBody, "/sdapi/": automatic1111.ErrorBody}
    return next((body for prefix, body in dialects.items() if path.startswith(prefix)), ErrorBody)


def examples_of(media) -> list:
    return [media["example"]] if "example" in media else [one["value"] for one in media["examples"].values()]


@EVERY_OPERATION
class TestOperation:
    def test_is_described(self, method, path, operation):
        assert operation["summary"]
        assert operation["description"]
        (tag,) = operation["tags"]
        assert tag in {known["name"] for known in DOCUMENT["tags"]}

    def test_answers_and_errors_have_examples_that_fit(self, method, path, operation):
        assert "422" not in operation["responses"] or path.startswith("/sdapi/")
        for status, response in operation["responses"].items():
            media = response.get("content", {}).get("application/json")
            if media is None or (int(status) < 400 and (method, path) not in ANSWERS):
                assert status in ("200", "202", "204", "206", "304", "307")
                continue
            is_own = status == "200" or (path, status) == ("/health", "503")
            kind = ANSWERS[method, path] if is_own else error_of(path)
            if path == "/mcp" and status in JSON_RPC:
                kind = rpc.CallAnswer
            for example in examples_of(media):
                TypeAdapter(kind).validate_python(example)

    def test_its_body_has_an_example(self, method, path, operation):
        if "requestBody" in operation:
            bodies_of = operation["requestBody"]["content"]
            assert bodies_of
            for kind, media in bodies_of.items():
                assert kind.startswith("image/") or media["schema"]["examples"]

    def test_is_on_the_page_with_a_command_and_its_statuses(self, method, path, operation):
        heading = f"\n## `{method.upper()} {path}`\n"
        assert heading in PAGE
        section = PAGE.split(heading)[1].split("\n## ")[0]

        assert "```sh\ncurl " in section
        for status, response in operation["responses"].items():
            told_for_all = status in REFUSALS or response["description"] == "A header is not for clients."
            assert told_for_all or f"| {status} |" in section, status


def test_refusals_are_told_once_for_all_routes_with_a_key():
    section = PAGE.split("\n## Authentication\n")[1].split("\n## ")[0]
    for status in REFUSALS:
        assert f"| {status} |" in section


def test_every_tag_is_described_and_used():
    assert all(tag["description"] for tag in DOCUMENT["tags"])
    used = {tag for operations in DOCUMENT["paths"].values() for one in operations.values() for tag in one["tags"]}
    assert used == {tag["name"] for tag in DOCUMENT["tags"]}


def test_every_schema_that_is_referred_to_is_there():
    referred_to = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(DOCUMENT)))

    assert referred_to == set(DOCUMENT["components"]["schemas"])


def test_no_schema_is_left_that_nothing_uses():
    text = json.dumps(DOCUMENT)

    for name in DOCUMENT["components"]["schemas"]:
        assert f'"#/components/schemas/{name}"' in text, name


async def test_the_example_request_is_taken(service):
    response = await service.http.post("/api/generate", json=examples.GENERATE_BODY)

    assert list(response.json()) == list(examples.GENERATE)


async def test_examples_have_the_keys_of_true_answers(service):
    image, _ = await service.make_image()
    job_id = (await service.tracker.images.get(image.id)).job_id

    async def get(path):
        return (await service.http.get(path)).json()

    assert list(await get(f"/api/status/{job_id}")) == list(examples.STATUS)
    assert await get("/api/models") == examples.MODELS
    assert set(await get("/api/queue")) == set(examples.QUEUE)
    assert set(await get("/api/queue?detailed=true")) == set(examples.DETAILED_QUEUE)
    assert set(await get("/api/service")) == set(examples.SERVICE)
    assert (await service.http.post("/api/prompts/count", json=examples.COUNT_BODY)).json() == examples.COUNT
    assert await get("/health") == examples.HEALTH
    assert await get(f"/api/image/{image.id}/metadata") == examples.IMAGE_METADATA | {
        "settings": {**examples.JOB_SETTINGS, "seed": image.metadata["settings"]["seed"]}
    }


class TestPageOfTheMarkdown:
    def test_has_no_route_that_there_is_not(self):
        told = set(re.findall(r"^## `([A-Z]+) (/[^`]*)`$", PAGE, re.MULTILINE))

        assert told == {(method.upper(), path) for path, found in DOCUMENT["paths"].items() for method in found}

    def test_its_json_is_json(self):
        blocks = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)

        assert len(blocks) > 8
        for block in blocks:
            assert json.loads(block)

    async def test_its_bodies_are_taken(self, service):
        requests = re.findall(r"http://127\.0\.0\.1:8000(/\S*)[^`]*?-d '(\{.*?\})'", PAGE, re.DOTALL)
        job_id = await service.submit()

        assert len(requests) > 3
        for path, body in requests:
            here = path.replace(examples.GENERATE["job_id"], job_id)
            response = await service.http.post(here, json=json.loads(body))
            assert response.status_code == 200, response.text


class TestViewer:
    async def test_everything_it_loads_is_here(self, service):
        page = await service.http.get("/docs")

        references = re.findall(r'(?:src|href)="([^"]*)"', page.text) + re.findall(r"url: '([^']*)'", page.text)
        assert len(references) == 4
        for reference in references:
            url = urljoin("http://localhost/docs", reference)
            assert urlsplit(url).netloc == "localhost"
            assert (await service.http.get(url)).status_code == 200
        assert not re.search(r"https?://", page.text)

    async def test_its_policy_allows_its_own_files_and_its_one_script(self, service):
        page = await service.http.get("/docs")

        policy = page.headers["Content-Security-Policy"]
        (script,) = re.findall(r"<script>(.*?)</script>", page.text, re.DOTALL)
        digest = b64encode(sha256(script.encode()).digest()).decode()
        assert f"script-src 'self' 'sha256-{digest}';" in policy
        assert "unsafe" not in policy
        assert "http" not in policy

    async def test_the_document_is_served(self, service):
        assert (await service.http.get("/openapi.json")).json()["paths"].keys() == DOCUMENT["paths"].keys()
