"""A running service and requests that no client library sends: what Ray Serve's proxy would answer by itself."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from tests.support.service import WAIT_SECONDS, Service

JOB = json.dumps({"model_id": "shapes", "prompt": "a red cross", "settings": {"num_inference_steps": 1}}).encode()


@dataclass
class Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def all(self, name: str) -> list[str]:
        return [value for found, value in self.headers if found == name.lower()]


def connect(service: Service) -> socket.socket:
    here = urlsplit(service.url)
    return socket.create_connection((here.hostname, here.port), timeout=WAIT_SECONDS)


def ask(service: Service, line: bytes, *headers: bytes, pieces: Iterable[bytes] = ()) -> Answer:
    """Send a request as it is written here, each piece of its body in a packet of its own."""
    host = b"" if any(header.lower().startswith(b"host:") for header in headers) else b"Host: localhost\r\n"
    with connect(service) as here:
        here.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        here.sendall(
            line + b" HTTP/1.1\r\nConnection: close\r\n" + host + b"".join(h + b"\r\n" for h in headers) + b"\r\n"
        )
        for piece in pieces:
            here.sendall(piece)
        received = b"".join(iter(lambda: here.recv(65536), b""))
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    named = [(name.lower(), value.strip()) for name, _, value in (each.partition(":") for each in lines)]
    return Answer(int(first.split()[1]), named, body)


@pytest.mark.parametrize("path", [b"/live", b"/api/models", b"/none", b"/-/healthz", b"/-/routes"])
@pytest.mark.parametrize(
    "ids", [[], [b"mine"], [b"<script>alert(1)</script>"], [b"\xff\xfe"], [b"x" * 1000], [b"a", b"b"], [b"a", b"<b>"]]
)
def test_there_is_one_request_id_and_it_is_sane(service, path, ids):
    answer = ask(service, b"GET " + path, *(b"X-Request-ID: " + each for each in ids))

    (found,) = answer.all("X-Request-ID")
    assert answer.status in (200, 404)
    assert found == "mine" if ids == [b"mine"] else len(found) == 36


@pytest.mark.parametrize("path", [b"/-/routes", b"/%2D/routes", b"/-/%72outes", b"/-/routes?x=1"])
def test_the_routes_are_not_shown(service, path):
    answer = ask(service, b"GET " + path)

    assert answer.status == 404
    assert json.loads(answer.body) == {"status": "error", "message": "There is nothing at this address."}
    assert b"cyberimage" not in answer.body


def test_probes_still_learn_that_the_proxy_lives(service):
    answer = ask(service, b"GET /-/healthz")
    assert answer.status == 200
    assert b"success" in answer.body


@pytest.mark.parametrize(
    "host", [b"evil.example", b"2130706433", b"[::1]evil", b"any@localhost", b"127.0.0.1.evil.example"]
)
def test_a_page_with_another_name_is_refused(service, host):
    answer = ask(service, b"POST /api/queue/shapes/pause", b"Host: " + host, b"Sec-Fetch-Site: same-origin")
    assert answer.status == 403
    assert "allowed_hosts" in json.loads(answer.body)["message"]


def test_a_program_of_1996_is_answered(service):
    with connect(service) as here:
        here.sendall(b"GET /live HTTP/1.0\r\n\r\n")
        assert b" 200 " in here.recv(65536)


def test_a_body_may_come_byte_by_byte(service):
    pieces = (JOB[number : number + 1] for number in range(len(JOB)))
    length = b"Content-Length: %d" % len(JOB)
    answer = ask(service, b"POST /api/generate", b"Content-Type: application/json", length, pieces=pieces)

    assert answer.status == 200, answer.body
    service.wait_until(json.loads(answer.body)["job_id"], "completed")


def test_a_body_in_chunks_is_refused_where_it_becomes_too_large(service):
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    with connect(service) as here:
        here.sendall(b"POST /api/generate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(17):
            here.sendall(chunk)
        assert b" 413 " in here.recv(65536)


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"X-Name: \xff\xfe", 200),
        (b"X-Name: " + b"x" * 5000, 200),
        (b"\xc3: x", 400),
        (b"traceparent: \xff", 200),
        (b"serve_multiplexed_model_id: \xff", 200),
        (b"serve-multiplexed-model-id: shapes", 200),
        (b"X-Session-Id: \xff", 200),
        (b"X-Request-Timeout-Seconds: \xff", 400),
        (b"X-Request-Timeout-Seconds: 0.000001", 400),
        (b"X-Request-Disconnect-Disabled: ?1", 400),
    ],
)
def test_headers_that_ray_would_read_do_no_harm(service, header, status):
    assert ask(service, b"GET /live", header).status == status
