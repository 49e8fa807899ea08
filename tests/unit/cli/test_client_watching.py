"""The client that follows a job by its events, and comes back where a stream broke."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from serve.cli.client import Client, ServiceError
from serve.cli.event_source import read_events
from tests.support.client_answers import Clock, connect, in_turn, status_answer

UNKNOWN = httpx.Response(404, json={"status": "error", "message": "There is no such job."})


def event(name: str, event_id: str, data: dict[str, Any]) -> str:
    return f"id: {event_id}\r\nevent: {name}\r\ndata: {json.dumps(data)}\r\n\r\n"


class Cut(httpx.SyncByteStream):
    """A stream that breaks."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __iter__(self) -> Iterator[bytes]:
        yield self._text.encode()
        raise httpx.ReadError("reset")


def stream(text: str, *, breaks: bool = False) -> httpx.Response:
    headers = {"Content-Type": "text/event-stream; charset=utf-8"}
    if breaks:
        return httpx.Response(200, headers=headers, stream=Cut(text))
    return httpx.Response(200, headers=headers, content=text.encode())


STATE = event("state", "processing.1.0", status_answer("processing", queue_position=None))
END = event("end", "completed.1.0", status_answer("completed", images=[{"id": "i1"}]))


def progress(step: int) -> str:
    told = {"id": "j1", "step": step, "total_steps": 4, "phase": "generating", "eta_seconds": 2.5}
    return event("progress", f"processing.1.0.generating.{step}", told | {"queue_position": None})


def test_each_event_is_a_status_and_the_end_is_the_last() -> None:
    text = STATE + ": still here\r\n\r\n" + progress(3) + END
    first, second, last = connect(in_turn(stream(text))).watch("j1")

    assert first.state == "processing"
    assert (second.step, second.total_steps, second.raw["eta_seconds"]) == (3, 4, 2.5)
    assert second.raw["progress"]["generating"] is True
    assert (last.state, last.image_ids) == ("completed", ("i1",))


@pytest.mark.parametrize("breaks", [True, False])
def test_a_stream_that_ends_early_is_taken_up_where_it_was(breaks: bool) -> None:
    asked = []
    answers = [stream(STATE + progress(2), breaks=breaks), httpx.Response(503), stream(END)]

    def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers.get("Last-Event-ID"))
        return answers.pop(0)

    clock = Clock()
    seen = [status.state for status in connect(handle, clock).watch("j1")]
    assert seen == ["processing", "processing", "completed"]
    assert asked == [None, "processing.1.0.generating.2", "processing.1.0.generating.2"]
    assert clock.naps


def test_events_that_are_no_jobs_are_a_stranger() -> None:
    for text in ("event: state\ndata: {}\n\n", "event: state\ndata: <html>\n\n"):
        with pytest.raises(ServiceError, match="not a CyberImage service"):
            list(connect(in_turn(stream(text))).watch("j1"))


def test_an_unknown_job_is_told_in_the_words_of_the_service() -> None:
    with pytest.raises(ServiceError, match="There is no such job"):
        list(connect(in_turn(UNKNOWN)).watch("j1"))


def test_a_service_without_events_is_polled() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            return httpx.Response(404, json={"message": "There is nothing at this address."})
        return httpx.Response(200, json=status_answer("completed"))

    assert [status.state for status in connect(handle).watch("j1")] == ["completed"]


def test_the_connection_is_given_back_where_the_caller_stops_early() -> None:
    closed = []

    class Endless(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield STATE.encode()

        def close(self) -> None:
            closed.append(True)

    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers={"Content-Type": "text/event-stream"}, stream=Endless())

    with Client("http://service", transport=httpx.MockTransport(handle)) as client:
        watching = client.watch("j1")
        next(watching)
        watching.close()
        assert closed == [True]


def test_events_are_read_as_the_standard_says() -> None:
    lines = ["retry: 5", ": nothing", "data:a", "data: b", "id: 7", "", "event: x", "", "data", "", "data: cut off"]
    assert [(each.name, each.data, each.last_id) for each in read_events(lines)] == [
        ("message", "a\nb", "7"),
        ("message", "", "7"),
    ]
