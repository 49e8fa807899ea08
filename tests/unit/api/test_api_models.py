"""What is asked about the queue and the models."""

from __future__ import annotations

from deployments.tracker.remote import TrackerUnavailableError
from tests.support.api_service import CPU_CATALOG, WIDE_CATALOG, api_service, sentence


class TestQueue:
    KEYS = ("pending", "processing", "completed", "failed", "cancelled", "total", "queue_size", "paused")

    async def test_counts(self, service):
        for _ in range(3):
            await service.submit()
        await service.finish(await service.start())
        answer = (await service.http.get("/api/queue")).json()

        assert answer == dict(zip(self.KEYS, (2, 0, 1, 0, 0, 3, 2, []), strict=True))

    async def test_detailed_adds_rates_and_models(self, service):
        await service.submit()
        await service.finish(await service.start())
        answer = (await service.http.get("/api/queue?detailed=true")).json()

        more = {"recent_24h", "avg_processing_time_seconds", "failure_rate", "images_per_minute", "models"}
        assert set(answer) == {*self.KEYS, *more}
        assert set(answer["models"]["shapes"]) == set(self.KEYS[:5])
        assert (answer["recent_24h"], answer["failure_rate"]) == (1, 0.0)
        assert answer["images_per_minute"] == {"shapes": 0.1}

    async def test_detailed_of_an_empty_queue(self, service):
        answer = (await service.http.get("/api/queue?detailed=true")).json()

        assert (answer["total"], answer["avg_processing_time_seconds"], answer["models"]) == (0, 0.0, {})

    async def test_detailed_is_true_or_false(self, service):
        message = sentence(await service.http.get("/api/queue?detailed=maybe"), 400)

        assert message == 'detailed: "maybe" is not true or false.'


class TestModels:
    async def test_each_model_has_what_a_client_needs(self, service):
        answer = (await service.http.get("/api/models")).json()

        assert list(answer) == ["models", "default"]
        assert answer["default"] == "shapes"
        public = CPU_CATALOG.get("shapes").public("shapes")
        assert answer["models"] == {"shapes": public | {"state": "cold", "reason": "", "replicas": 0}}
        assert {"id", "repo", "description", "source", "type", "step_config"} <= set(answer["models"]["shapes"])

    async def test_a_model_that_could_not_be_loaded_says_why(self, wide_service):
        fingerprint = WIDE_CATALOG.get("fast").fingerprint
        await wide_service.tracker.announce_model("fast", fingerprint, "It is too large.", "first")
        await wide_service.tracker.announce_model("large", WIDE_CATALOG.get("large").fingerprint, "", "second")
        models = (await wide_service.http.get("/api/models")).json()["models"]

        assert (models["fast"]["state"], models["fast"]["reason"]) == (
            "unavailable",
            "It is too large.",
        )
        assert (models["large"]["state"], models["large"]["reason"]) == ("ready", "")
        assert "`cyberimage doctor`" in models["fast"]["hint"]
        assert "hint" not in models["large"]
        assert (models["fast"]["replicas"], models["large"]["replicas"]) == (0, 1)

    async def test_models_are_listed_while_the_tracker_is_down(self, tmp_path):
        class Down:
            async def model_conditions(self, _):
                raise TrackerUnavailableError

        async with api_service(tmp_path, tracker=Down()) as service:
            response = await service.http.get("/api/models")

        assert response.status_code == 200
        assert response.json()["models"]["shapes"]["state"] == "unknown"

    async def test_steps_are_a_range_or_a_number(self, wide_service):
        models = (await wide_service.http.get("/api/models")).json()["models"]

        assert models["fast"]["step_config"] == {"fixed_steps": 2}
        assert set(models["large"]["step_config"]["steps"]) == {"min", "max", "default"}
