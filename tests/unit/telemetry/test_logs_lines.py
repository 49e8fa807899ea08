"""What a log line says, and that it names the request and the job that it is about, and no other."""

import asyncio
import io
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from deployments.jobs.records.api_keys import NO_LIMITS
from deployments.settings.telemetry import LoggingSettings
from deployments.telemetry.logs import JsonLines, TextLines, about, about_nobody, configure_logs, set_log_level
from serve.dispatch import Dispatcher
from serve.services.intake import Intake
from tests.support.api_service import PROMPT, api_service

logger = logging.getLogger("deployments.example")
Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines(own_logs, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Lines:
    """What was logged, as JSON, down to DEBUG."""
    written = io.StringIO()
    monkeypatch.setattr("sys.stderr", written)
    configure_logs(LoggingSettings(level="DEBUG", format="json", files=False), "test", tmp_path)
    return lambda: [json.loads(line) for line in written.getvalue().splitlines()]


def record(message: str, *args: Any, error: Exception | None = None) -> logging.LogRecord:
    made = logging.LogRecord("deployments.example", logging.WARNING, "a.py", 1, message, args, None)
    made.created = datetime(2026, 3, 4, 5, 6, 7, 89000, tzinfo=UTC).timestamp()
    made.exc_info = None if error is None else (type(error), error, error.__traceback__)
    return made


class TestJson:
    def test_says_when_who_what_and_about_whom(self):
        with about(request_id="r-1"), about(job_id="j-1"):
            line = JsonLines("ingress-7").format(record("%d jobs wait", 3))

        assert json.loads(line) == {
            "time": "2026-03-04T05:06:07.089Z",
            "level": "WARNING",
            "logger": "deployments.example",
            "message": "3 jobs wait",
            "process": "ingress-7",
            "request_id": "r-1",
            "job_id": "j-1",
        }

    def test_a_traceback_is_a_field_of_the_one_line(self):
        line = JsonLines("x").format(record("It failed", error=KeyError("place")))

        assert "\n" not in line
        assert json.loads(line)["error"] == "KeyError: 'place'"


class TestText:
    def test_is_one_line_with_names(self):
        with about(job_id="j-1", model="shapes"):
            line = TextLines("model-shapes-7").format(record("It is slow"))

        assert line == (
            "2026-03-04T05:06:07.089Z WARNING deployments.example: It is slow "
            "[process=model-shapes-7 job_id=j-1 model=shapes]"
        )

    def test_what_somebody_sent_cannot_pretend_to_be_a_line(self):
        line = TextLines("x").format(record("%s", "a\r\n2026-03-04T05:06:07Z ERROR forged"))

        assert "\n" not in line
        assert "\r" not in line


def test_nothing_is_about_what_has_ended(lines):
    with about(job_id="j-1"):
        logger.info("inside")
    logger.info("outside")

    assert [line.get("job_id") for line in lines()] == ["j-1", None]


def test_below_the_level_nothing_is_logged(lines):
    set_log_level("WARNING")
    logger.info("quiet")
    logger.warning("loud")

    assert [line["message"] for line in lines()] == ["loud"]


async def test_a_task_for_many_is_not_about_who_started_it(lines):
    async def work() -> None:
        logger.info("for many")

    with about(request_id="r-1"):
        await asyncio.create_task(work(), context=about_nobody())

    assert "request_id" not in lines()[0]


async def test_the_intake_of_many_is_not_about_the_first(lines, tmp_path):
    class Tracker:
        async def submit_each(self, submits: Any, limits: Any) -> list[Any]:
            logger.info("taken in")
            return ["job" for _ in submits]

    with about(request_id="r-1"):
        await Intake(Tracker()).submit("j-1", "request", NO_LIMITS)

    assert "request_id" not in lines()[0]


class TestRequests:
    async def test_a_submit_is_logged_with_its_request_and_its_job(self, lines, tmp_path):
        async with api_service(tmp_path) as service:
            answer = await service.http.post(
                "/api/generate", json={"model_id": "shapes", "prompt": PROMPT}, headers={"X-Request-ID": "r-1"}
            )
        submitted, answered = [line for line in lines() if "request_id" in line]

        assert submitted["message"] == "A job was submitted"
        assert (submitted["request_id"], submitted["job_id"]) == ("r-1", answer.json()["job_id"])
        assert submitted["model"] == "shapes"
        assert answered["request_id"] == "r-1"
        assert answered["message"].startswith("POST '/api/generate' was answered with 200 in ")

    async def test_a_retry_is_logged_as_the_submission_that_it_is(self, lines, tmp_path):
        async with api_service(tmp_path) as service:
            job_id = await service.submit()
            await service.tracker.jobs.cancel(job_id)
            answer = await service.http.post(f"/api/jobs/{job_id}/retry", headers={"X-Request-ID": "r-1"})
        submitted = [line for line in lines() if line["message"] == "A job was submitted"][-1]

        assert (submitted["request_id"], submitted["job_id"]) == ("r-1", answer.json()["job_id"])

    async def test_what_went_well_is_logged_only_where_everything_is(self, lines, tmp_path):
        async with api_service(tmp_path) as service:
            await service.http.get("/api/models")
            set_log_level("INFO")
            await service.http.get("/api/models")
            await service.http.get("/api/nothing")

        told = [line["message"].split(" in ")[0] for line in lines() if "request_id" in line]
        assert told == ["GET '/api/models' was answered with 200", "GET '/api/nothing' was answered with 404"]

    async def test_prompts_and_queries_are_in_no_line(self, lines, tmp_path):
        async with api_service(tmp_path) as service:
            await service.submit(prompt="a very private wish")
            await service.http.get("/api/models?signature=abcdef0123")

        told = json.dumps(lines())
        assert "/api/models" in told
        assert "private" not in told
        assert "abcdef0123" not in told


async def test_a_dispatcher_names_the_job_that_it_gives_back(lines, tmp_path):
    class Handle:
        def __init__(self) -> None:
            self.generate = self
            self.called = asyncio.Event()

        def remote(self, claim: Any) -> Any:
            self.called.set()
            raise ConnectionError

    async with api_service(tmp_path) as service:
        job_id = await service.submit()
        handle = Handle()
        dispatcher = Dispatcher(service.tracker, {"shapes": handle}, {"shapes": 1}, 0.01, 60.0)
        dispatcher.start()
        await handle.called.wait()
        await dispatcher.close()
    told = [line for line in lines() if line["logger"] == "serve.dispatch"]

    assert (told[0]["job_id"], told[0]["model"]) == (job_id, "shapes")
