"""The HTTP client of the CyberImage dialect."""

from __future__ import annotations

import json

import httpx
import pytest

from serve.cli.client import RECONNECT_SECONDS, Client, ConnectionLostError, ServiceError
from tests.support.client_answers import Clock, connect, in_turn, status_answer


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_replay_names_the_image() -> None:
    requests = []

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append((request.method, request.url.path))
        return httpx.Response(200, json={"job_id": "j1"})

    assert connect(handle).replay("i9") == "j1"
    assert requests == [("POST", "/api/image/i9/replay")]


def test_generate_sends_only_what_was_given() -> None:
    requests = []

    def handle(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={"job_id": "j1", "status": "pending"})

    with connect(handle, api_key="secret") as client:
        assert client.generate("m", "a ring", seed=0, width=None) == "j1"
    assert json.loads(requests[0].content) == {"model_id": "m", "prompt": "a ring", "settings": {"seed": 0}}
    assert requests[0].headers["Authorization"] == "Bearer secret"
    assert requests[0].headers["Idempotency-Key"]


def test_error_is_the_sentence_of_the_service() -> None:
    refusal = httpx.Response(400, json={"status": "error", "message": "Unknown model 'x'; there are: built-in"})
    with pytest.raises(ServiceError, match="Unknown model 'x'; there are: built-in") as caught:
        connect(in_turn(refusal)).generate("x", "a ring")
    assert caught.value.status_code == 400


def test_error_without_a_sentence_is_its_status_line() -> None:
    with pytest.raises(ServiceError, match="The service answered 500 Internal Server Error"):
        connect(in_turn(httpx.Response(500, text="<html>"))).models()


@pytest.mark.parametrize(
    "answer",
    [httpx.Response(200, text="<html>"), httpx.Response(200, json=[1]), httpx.Response(200, json={"hello": 1})],
)
def test_stranger_is_recognised(answer: httpx.Response) -> None:
    for call in (lambda c: c.models(), lambda c: c.generate("m", "p"), lambda c: c.status("j")):
        with pytest.raises(ServiceError, match="not a CyberImage service"):
            call(connect(in_turn(answer)))


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        (
            httpx.ConnectError("refused"),
            "No service answers at http://service; start one with `make run` or give --url",
        ),
        (httpx.ReadTimeout("slow"), "did not answer in time"),
        (httpx.ReadError("reset"), "connection to http://service broke: reset"),
    ],
)
def test_lost_connection_is_one_line(failure: Exception, sentence: str) -> None:
    with pytest.raises(ConnectionLostError) as caught:
        connect(in_turn(failure)).models()
    assert sentence in str(caught.value)
    assert caught.value.status_code is None


@pytest.mark.parametrize("url", ["service", "ftp://service", "http://host:bad"])
def test_unusable_url_is_a_service_error(url: str) -> None:
    with pytest.raises(ServiceError, match="cannot be used"):
        Client(url).models()


def test_ids_stay_one_segment_of_the_path() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.url.raw_path == b"/api/status/..%2Fqueue%3Fx"
        return httpx.Response(200, json=status_answer("completed"))

    connect(handle).status("../queue?x")


def test_image_follows_a_redirect() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.host == "service":
            return httpx.Response(302, headers={"Location": "http://bucket/picture"})
        assert "Authorization" not in request.headers
        return httpx.Response(200, content=b"PNG")

    assert connect(handle, api_key="secret").image("i1") == b"PNG"


def test_watch_ends_with_the_job(clock: Clock) -> None:
    answers = [status_answer("pending", queue_position=2), status_answer("processing"), status_answer("completed")]
    no_events = httpx.Response(404, json={"message": "There is nothing at this address."})
    handler = in_turn(no_events, *(httpx.Response(200, json=answer) for answer in answers))
    seen = list(connect(handler, clock).watch("j1"))
    assert [status.state for status in seen] == ["pending", "processing", "completed"]
    assert seen[0].queue_position == 2
    assert clock.naps == [0.3, 0.3]


def test_watch_survives_a_proxy_that_does_not_know_the_service_yet(clock: Clock) -> None:
    unknown = "Path '/api/status/j1' not found. Ping http://.../-/routes for available routes."
    handler = in_turn(httpx.Response(404, text=unknown), httpx.Response(200, json=status_answer("completed")))
    assert [status.state for status in connect(handler, clock).watch("j1")] == ["completed"]


def test_watch_survives_a_restart(clock: Clock) -> None:
    gone = httpx.ConnectError("refused")
    proxy = httpx.Response(502)
    handler = in_turn(gone, gone, proxy, gone, httpx.Response(200, json=status_answer("completed")))
    assert [status.state for status in connect(handler, clock).watch("j1")] == ["completed"]
    assert clock.naps == [0.3, 0.6, 1.2, 2.4]


def test_watch_gives_up_after_a_minute(clock: Clock) -> None:
    with pytest.raises(ConnectionLostError):
        list(connect(in_turn(httpx.ConnectError("refused")), clock).watch("j1"))
    assert RECONNECT_SECONDS - 5 <= clock.now <= RECONNECT_SECONDS


def test_unknown_job_is_not_asked_for_again(clock: Clock) -> None:
    with pytest.raises(ServiceError, match="No such job"):
        list(connect(in_turn(httpx.Response(404, json={"message": "No such job"})), clock).watch("j1"))
    assert clock.naps == []
