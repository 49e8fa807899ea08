"""A small synchronous HTTP client of the CyberImage dialect."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx

DEFAULT_URL = "http://127.0.0.1:8000"
REQUEST_SECONDS = 30.0
POLL_SECONDS = 0.3
LONGEST_PAUSE_SECONDS = 5.0
RECONNECT_SECONDS = 60.0

_TERMINAL_STATES = frozenset({"completed", "failed", "cancelled"})
_PASSING_STATUS_CODES = frozenset({429, 502, 503, 504})

Answer = TypeVar("Answer")


class ServiceError(Exception):
    """The service refused a request; the message is its own sentence.

    ``status_code`` is the HTTP status, or None where no answer came at all.
    """

    def __init__(self, message: str, status_code: int | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code

    @property
    def is_passing(self) -> bool:
        """Whether the same request may well succeed a little later."""
        return self.status_code in _PASSING_STATUS_CODES


class ConnectionLostError(ServiceError):
    """No answer came: nothing listens at the address, or the connection broke."""

    @property
    def is_passing(self) -> bool:
        """Always: a service that restarts is back in seconds."""
        return True


@dataclass(frozen=True)
class JobStatus:
    """Where a job stands, as ``GET /api/status/{job_id}`` tells it; ``raw`` is the whole answer."""

    id: str
    state: str
    message: str
    step: int
    total_steps: int
    queue_position: int | None
    image_ids: tuple[str, ...]
    settings: dict[str, Any]
    raw: dict[str, Any]

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended."""
        return self.state in _TERMINAL_STATES

    @classmethod
    def from_answer(cls, answer: dict[str, Any]) -> Self:
        """Read the service's answer; KeyError or TypeError where it has another shape."""
        progress = answer.get("progress") or {}
        return cls(
            id=answer["id"],
            state=answer["status"],
            message=answer.get("message") or "",
            step=progress.get("step") or 0,
            total_steps=progress.get("total_steps") or 0,
            queue_position=answer.get("queue_position"),
            image_ids=tuple(image["id"] for image in answer.get("images") or ()),
            settings=answer.get("settings") or {},
            raw=answer,
        )


class Client:
    """Talks to one CyberImage service; use it as a context manager, or call ``close``.

    ``url`` is the service's root, ``api_key`` its bearer token where it wants one. ``sleep`` and ``clock`` (both in
    seconds) and ``transport`` are for tests. Every method raises ``ServiceError`` with one sentence that can be shown.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        api_key: str | None = None,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.url = url.rstrip("/")
        self._sleep = sleep
        self._clock = clock
        try:
            self._http = httpx.Client(
                base_url=self.url,
                headers={"Authorization": f"Bearer {api_key}"} if api_key else {},
                timeout=REQUEST_SECONDS,
                follow_redirects=True,
                transport=transport,
            )
        except httpx.InvalidURL as error:
            raise ServiceError(f"{self.url} cannot be used: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def models(self) -> dict[str, Any]:
        """Fetch the catalog: ``{"models": {id: entry}, "default": id}``."""
        answer = self._json("GET", "/api/models")
        if not isinstance(answer.get("models"), dict):
            raise self._stranger()
        return answer

    def generate(self, model_id: str, prompt: str, negative_prompt: str = "", **settings: Any) -> str:
        """Submit a job and return its id.

        Settings that are None are left to the model's defaults; the others are those of ``POST /api/generate``:
        ``num_images``, ``num_inference_steps``, ``guidance_scale``, ``width`` and ``height`` in pixels, ``seed``.
        """
        body: dict[str, Any] = {"model_id": model_id, "prompt": prompt}
        if negative_prompt:
            body["negative_prompt"] = negative_prompt
        body["settings"] = {name: value for name, value in settings.items() if value is not None}
        # A proxy on the way may send a request twice; the key makes that one job.
        answer = self._json("POST", "/api/generate", json=body, headers={"Idempotency-Key": str(uuid.uuid4())})
        if not isinstance(answer.get("job_id"), str):
            raise self._stranger()
        return str(answer["job_id"])

    def replay(self, image_id: str) -> str:
        """Queue a job that makes an image again, and return its id."""
        return str(self._json("POST", f"/api/image/{_segment(image_id)}/replay")["job_id"])

    def status(self, job_id: str) -> JobStatus:
        """Ask where a job stands now."""
        try:
            return JobStatus.from_answer(self._json("GET", f"/api/status/{_segment(job_id)}"))
        except (KeyError, TypeError, AttributeError):
            raise self._stranger() from None

    def watch(self, job_id: str) -> Iterator[JobStatus]:
        """Yield a job's status about every 0.3 s, the terminal one last; a restart of the service is waited out."""
        while True:
            status = self.patiently(partial(self.status, job_id))
            yield status
            if status.is_terminal:
                return
            self._sleep(POLL_SECONDS)

    def cancel(self, job_id: str) -> str:
        """Cancel a queued or running job and return the service's sentence about it, possibly empty."""
        return str(self._json("DELETE", f"/api/jobs/{_segment(job_id)}").get("message") or "")

    def image(self, image_id: str) -> bytes:
        """Fetch the bytes of an image file."""
        return self._send("GET", f"/api/image/{_segment(image_id)}").content

    def patiently(self, call: Callable[[], Answer]) -> Answer:
        """Repeat ``call`` over passing errors with growing pauses; after 60 s of them the last one is raised."""
        pause = POLL_SECONDS
        give_up_at = self._clock() + RECONNECT_SECONDS
        while True:
            try:
                return call()
            except ServiceError as error:
                if not error.is_passing or self._clock() + pause > give_up_at:
                    raise
            self._sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **request)
        except httpx.ConnectError as error:
            message = f"No service answers at {self.url}; start one with `make run` or give --url"
            raise ConnectionLostError(message) from error
        except httpx.TimeoutException as error:
            raise ConnectionLostError(f"The service at {self.url} did not answer in time") from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as error:
            raise ServiceError(f"{self.url} cannot be used: {error}") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise ConnectionLostError(f"The connection to {self.url} broke: {error}") from error
        if response.is_error:
            raise ServiceError(_sentence(response), response.status_code)
        return response

    def _json(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        try:
            answer = self._send(method, path, **request).json()
        except ValueError:
            raise self._stranger() from None
        if not isinstance(answer, dict):
            raise self._stranger()
        return answer

    def _stranger(self) -> ServiceError:
        return ServiceError(f"What answers at {self.url} is not a CyberImage service")


def _segment(text: str) -> str:
    """Quote an id that somebody typed, so that it stays one segment of the path."""
    return quote(text, safe="")


def _sentence(response: httpx.Response) -> str:
    """Find the service's own words where the error has some, else the status line."""
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if isinstance(answer, dict) and isinstance(answer.get("message"), str) and answer["message"]:
        return str(answer["message"])
    return f"The service answered {response.status_code} {response.reason_phrase}".rstrip()
