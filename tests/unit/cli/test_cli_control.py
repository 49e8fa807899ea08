"""``cyberimage jobs``, ``cyberimage queue`` and ``cyberimage audit``."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
from click.testing import Result
from typer.testing import CliRunner

from serve.api.cyberimage import control_examples, examples
from serve.cli import main as cli
from serve.cli import session as command_session
from serve.cli.client import Client

COUNTS = {"pending": 2, "processing": 1, "completed": 40, "failed": 0, "cancelled": 1}


class Service:
    """Answers by method and path, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.bodies: list[Any] = []
        self.answers: dict[str, list[dict[str, Any]]] = {
            "GET /api/jobs": [control_examples.JOBS],
            "POST /api/jobs/j1/retry": [control_examples.RETRY],
            "POST /api/jobs/j1/priority": [{"queue_position": 1}],
            "GET /api/queue": [examples.DETAILED_QUEUE | {"paused": ["shapes"], "models": {"shapes": COUNTS}}],
            "POST /api/queue/shapes/pause": [control_examples.PAUSED],
            "POST /api/queue/shapes/resume": [control_examples.RESUMED],
            "POST /api/reset_queue": [control_examples.RESET],
            "GET /api/audit": [control_examples.AUDIT],
        }

    def __call__(self, request: httpx.Request) -> httpx.Response:
        query = f"?{request.url.query.decode()}" if request.url.query else ""
        self.asked.append(f"{request.method} {request.url.path}{query}")
        if request.content:
            self.bodies.append(json.loads(request.content))
        answers = self.answers.get(f"{request.method} {request.url.path}")
        if not answers:
            return httpx.Response(404, json={"status": "error", "message": "There is no such job."})
        return httpx.Response(200, json=answers.pop(0))


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Service:
    made = Service()
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(
        command_session, "connect", lambda url, api_key: Client(url, transport=httpx.MockTransport(made))
    )
    return made


def run(*arguments: str, **more: Any) -> Result:
    return CliRunner().invoke(cli.app, list(arguments), **more)


def test_lists_jobs(service: Service) -> None:
    result = run("jobs", "list", "--state", "completed", "--model", "shapes", "--limit", "5")
    assert result.exit_code == 0
    assert service.asked == ["GET /api/jobs?state=completed&model=shapes&limit=5"]
    assert "completed" in result.stdout
    assert "a large red circle" in result.stdout


def test_lists_jobs_as_json(service: Service) -> None:
    assert json.loads(run("jobs", "list", "--json").stdout) == control_examples.JOBS


def test_retries_a_job(service: Service) -> None:
    assert run("jobs", "retry", "j1").stdout.strip() == control_examples.RETRY["job_id"]


def test_an_error_is_the_sentence_of_the_service(service: Service) -> None:
    result = run("jobs", "retry", "nobody")
    assert (result.exit_code, result.stderr.strip()) == (1, "There is no such job.")


def test_gives_a_job_another_class(service: Service) -> None:
    assert run("jobs", "priority", "j1", "high").stdout.strip() == "Job j1 has the priority high, position 1"
    assert service.bodies == [{"priority": "high"}]
    assert run("jobs", "priority", "j1", "urgent").exit_code == 2


def test_clears_until_nothing_is_left(service: Service) -> None:
    service.answers["DELETE /api/jobs"] = [{"cleared": 1000, "remaining": 3}, {"cleared": 3, "remaining": 0}]
    result = run("jobs", "clear", "failed", "--yes")
    assert result.stdout.strip() == "1003 failed jobs are cleared"
    assert service.asked == ["DELETE /api/jobs?state=failed"] * 2


def test_asks_before_it_clears(service: Service) -> None:
    assert run("jobs", "clear", "failed", input="n\n").exit_code == 1
    assert service.asked == []


def test_shows_the_queues_and_which_are_paused(service: Service) -> None:
    result = run("queue", "show")
    assert "shapes (paused)" in result.stdout
    assert "40" in result.stdout


def test_pauses_resumes_and_resets(service: Service) -> None:
    told = [run("queue", *order).stdout.strip() for order in (("pause", "shapes"), ("resume", "shapes"), ("reset",))]
    assert told == ["The queue of shapes is paused.", "The queue of shapes goes on.", "1 stalled job was reset."]


def test_shows_who_did_what(service: Service) -> None:
    result = run("audit", "--limit", "5")
    assert service.asked == ["GET /api/audit?limit=5"]
    assert "10.1.2.3" in result.stdout
    assert "pause" in result.stdout
    service.answers["GET /api/audit"] = [control_examples.AUDIT]
    assert json.loads(run("audit", "--json").stdout) == control_examples.AUDIT
