"""The earlier CyberImage's JSON-RPC, and prompts written out by a language model."""

from __future__ import annotations

import json

import httpx
import pytest

from deployments.jobs.records.api_keys import NewKey, Scope, hash_of, make_key
from deployments.settings.dialects import EnrichSettings
from serve.services.enrichment import Enricher
from tests.support.api_service import PROMPT, api_service, sentence

METHOD = "context.image_generation."


async def call(service, method, headers=None, **params):
    body = {"jsonrpc": "2.0", "id": 7, "method": method, "params": params}
    response = await service.http.post("/api/mcp", json=body, headers=headers)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert (answer["jsonrpc"], answer["id"]) == ("2.0", 7)
    assert len(answer) == 3
    return answer


class TestCalls:
    async def test_models_are_those_of_the_other_route(self, service):
        result = (await call(service, f"{METHOD}models"))["result"]
        assert result == (await service.http.get("/api/models")).json()

    async def test_a_job_is_queued_and_followed(self, service):
        result = (await call(service, f"{METHOD}generate", prompt=PROMPT, settings={"seed": 7}))["result"]
        assert result == {"job_id": result["job_id"], "status": "pending", "num_images": 1}
        (image,) = await service.finish(await service.start())
        status = (await call(service, f"{METHOD}status", job_id=result["job_id"]))["result"]

        assert (status["job_id"], status["model"], status["status"]) == (result["job_id"], "shapes", "completed")
        assert status["images"] == [
            {"id": image.id, "url": f"/api/get_image/{image.id}", "metadata": status["images"][0]["metadata"]}
        ]
        assert (await service.http.get(status["images"][0]["url"])).status_code == 200

    @pytest.mark.parametrize(
        ("method", "params", "code", "begins"),
        [
            ("generate", {"prompt": PROMPT}, -32601, "method: there is no such method"),
            (f"{METHOD}paint", {}, -32601, "method: there is no such method"),
            (f"{METHOD}generate", {}, -32602, "params.prompt: it is missing"),
            (f"{METHOD}generate", {"prompt": PROMPT, "model": "none"}, -32602, "model_id: there is no model"),
            (f"{METHOD}generate", {"prompt": PROMPT, "settings": {"seed": -1}}, -32602, "settings.seed: -1"),
            (f"{METHOD}status", {"job_id": "none"}, -32602, "There is no such job."),
            (f"{METHOD}models", {"all": True}, -32602, "params.all: there is no such field"),
        ],
    )
    async def test_errors_have_the_codes_of_json_rpc(self, service, method, params, code, begins):
        error = (await call(service, method, **params))["error"]
        assert error["code"] == code
        assert error["message"].startswith(begins)

    @pytest.mark.parametrize(
        ("content", "code"),
        [
            (b"{", -32700),
            (b"\xff", -32700),
            (b"[]", -32600),
            (b'{"method": "x"}', -32600),
            (b'{"jsonrpc": "2.0", "method": 1}', -32600),
            (b'{"jsonrpc": "2.0", "method": "x", "id": {}}', -32600),
        ],
    )
    async def test_what_is_no_call_is_told_so(self, service, content, code):
        answer = (await service.http.post("/api/mcp", content=content)).json()
        assert answer["error"]["code"] == code

    async def test_a_full_queue_says_when_to_come_back(self, tmp_path):
        async with api_service(tmp_path, queue_limit=1) as service:
            await service.submit()
            error = (await call(service, f"{METHOD}generate", prompt=PROMPT))["error"]
        assert (error["code"], error["data"]["status"], error["data"]["code"]) == (-32000, 503, "queue_full")
        assert int(error["data"]["headers"]["Retry-After"]) > 0

    async def test_a_key_that_only_reads_queues_nothing(self, tmp_path):
        async with api_service(tmp_path, auth={"mode": "keys", "cache_seconds": 0}) as service:
            key_id, key = make_key()
            await service.tracker.keys.add(key_id, hash_of(key), NewKey(name="ann", scopes=(Scope.READ,)), "root")
            headers = {"X-API-Key": key}
            assert "result" in await call(service, f"{METHOD}models", headers)
            error = (await call(service, f"{METHOD}generate", headers, prompt=PROMPT))["error"]
            assert (error["data"]["status"], error["data"]["code"]) == (403, "not_allowed")
            assert (await service.tracker.counts.by_state()).total == 0


class TestEnrich:
    @pytest.fixture
    async def enriching(self, tmp_path):
        """A service with a language model; gives both it and what the model is asked and answers."""
        talk = {"status": 200, "answer": {"choices": [{"message": {"content": ' "A lonely castle." '}}]}, "asked": []}

        def language_model(request):
            talk["asked"].append(request)
            if isinstance(talk["answer"], Exception):
                raise talk["answer"]
            return httpx.Response(talk["status"], json=talk["answer"])

        async with api_service(tmp_path) as service:
            settings = EnrichSettings(base_url="http://llm/v1/", api_key="secret", model="small")
            service.app.state.services.__dict__["enricher"] = Enricher(settings, httpx.MockTransport(language_model))
            yield service, talk

    async def test_answers_with_both_prompts(self, enriching):
        service, talk = enriching
        response = await service.http.post("/api/enrich", json={"prompt": "a castle", "style": "ink"})

        assert response.json() == {
            "original_prompt": "a castle",
            "enriched_prompt": "A lonely castle.",
            "style": "ink",
        }
        (request,) = talk["asked"]
        assert str(request.url) == "http://llm/v1/chat/completions"
        assert request.headers["Authorization"] == "Bearer secret"
        body = json.loads(request.content)
        assert (body["model"], body["messages"][1]["content"]) == ("small", "a castle\nStyle: ink")

    @pytest.mark.parametrize(
        "change",
        [
            {"status": 500},
            {"answer": {"choices": []}},
            {"answer": []},
            {"answer": {"choices": [{"message": {"content": ""}}]}},
            {"answer": httpx.ConnectTimeout("slow")},
        ],
    )
    async def test_says_so_where_the_language_model_does_not_answer(self, enriching, change):
        service, talk = enriching
        talk |= change
        message = sentence(await service.http.post("/api/enrich", json={"prompt": "a castle"}), 502)
        assert message.startswith("The language model gave no prompt")

    async def test_says_so_where_there_is_none(self, service):
        message = sentence(await service.http.post("/api/enrich", json={"prompt": "a castle"}), 503)
        assert "enrich.base_url" in message

    @pytest.mark.parametrize("body", [{}, {"prompt": ""}, {"prompt": "a", "style": "x" * 201}, {"prompt": "a", "n": 1}])
    async def test_refuses_what_is_no_prompt(self, service, body):
        assert sentence(await service.http.post("/api/enrich", json=body), 400)
