"""A small synchronous HTTP client of the CyberImage dialect."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, Self, TypeVar
from urllib.parse import quote

import httpx

from serve.cli.event_source import ServerEvent, read_events

DEFAULT_URL = "http://127.0.0.1:8000"
REQUEST_SECONDS = 30.0
POLL_SECONDS = 0.3
LONGEST_PAUSE_SECONDS = 5.0
RECONNECT_SECONDS = 60.0

_TERMINAL_STATES = frozenset({"completed", "failed", "cancelled"})
_PASSING_STATUS_CODES = frozenset({429, 502, 503, 504})
_NO_EVENTS_STATUS_CODES = frozenset({404, 405, 406})

Answer = TypeVar("Answer")
Sent = TypeVar("Sent")


class ServiceError(Exception):
    """The service refused a request; the message is its own sentence.

    ``status_code`` is the HTTP status, or None where no answer came at all.
    """

    def __init__(self, message: str, status_code: int | None = None) -> None:
        super().__init__(message)
        self.status_code = status_code

    @property
    def is_passing(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self.status_code in _PASSING_STATUS_CODES


class ConnectionLostError(ServiceError):
    """No answer came: nothing listens at the address, or the connection broke."""

    @property
    def is_passing(self) -> bool:
        """Always: a service that restarts is back in seconds."""
        return True


@dataclass(frozen=True)
class JobStatus:
    """Where a job stands, as ``GET /api/status/{job_id}`` answers; ``raw`` is the whole answer."""

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
        except UnicodeEncodeError as error:
            raise ServiceError("The API key has characters that no key has; a key is ci_ and small letters.") from error

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

    def upload(self, content: bytes, media_type: str) -> str:
        """Send a picture file for jobs to start from, and return its id."""
        headers = {"Content-Type": media_type}
        return str(self._json("POST", "/api/inputs", content=content, headers=headers)["id"])

    def generate(
        self,
        model_id: str,
        prompt: str,
        negative_prompt: str = "",
        *,
        inputs: Mapping[str, str] | None = None,
        **settings: Any,
    ) -> str:
        """Submit a job and return its id.

        Inputs are ids of pictures by ``image``, ``mask`` and ``control_image``. Settings that are None are left to the
        model's defaults; the others are those of ``POST /api/generate``:
        ``num_images``, ``num_inference_steps``, ``guidance_scale``, ``width`` and ``height`` in pixels, ``seed``.
        """
        body: dict[str, Any] = {"model_id": model_id, "prompt": prompt}
        if negative_prompt:
            body["negative_prompt"] = negative_prompt
        body |= inputs or {}
        body["settings"] = {name: value for name, value in settings.items() if value is not None}
        # A proxy may send a request twice; the key keeps it one job.
        answer = self._json("POST", "/api/generate", json=body, headers={"Idempotency-Key": str(uuid.uuid4())})
        if not isinstance(answer.get("job_id"), str):
            raise self._stranger()
        return str(answer["job_id"])

    def replay(self, image_id: str) -> str:
        """Queue a job that makes an image again, and return its id."""
        return str(self._json("POST", f"/api/image/{_segment(image_id)}/replay")["job_id"])

    def status(self, job_id: str) -> JobStatus:
        """Ask where a job stands now."""
        return self._read(JobStatus.from_answer, self._json("GET", f"/api/status/{_segment(job_id)}"))

    def watch(self, job_id: str) -> Iterator[JobStatus]:
        """Yield a job's status at each change, the terminal one last; waits while the service restarts.

        A service without event streams is polled every 0.3 s.
        """
        last_id, answer = "", dict[str, Any]()
        while (stream := self.patiently(partial(self._open_events, job_id, last_id))) is not None:
            try:
                for event in read_events(stream.iter_lines()):
                    last_id = event.last_id
                    answer = self._read(partial(_updated, answer), event)
                    status = self._read(JobStatus.from_answer, answer)
                    yield status
                    if status.is_terminal:
                        return
            except (httpx.TransportError, httpx.DecodingError):
                pass  # the connection broke; the next one resumes from the last id
            finally:
                stream.close()
            self._sleep(POLL_SECONDS)
        yield from self._poll(job_id)

    def _poll(self, job_id: str) -> Iterator[JobStatus]:
        while True:
            status = self.patiently(partial(self.status, job_id))
            yield status
            if status.is_terminal:
                return
            self._sleep(POLL_SECONDS)

    def _open_events(self, job_id: str, last_id: str) -> httpx.Response | None:
        """Open a job's event stream; None where the service has none."""
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": last_id} if last_id else {})
        path = f"/api/jobs/{_segment(job_id)}/events?previews=false"
        try:
            stream = self._send("GET", path, is_stream=True, headers=headers)
        except ServiceError as error:
            if error.status_code in _NO_EVENTS_STATUS_CODES:
                return None  # an older service, or no such job: its status says which
            raise
        if stream.headers.get("content-type", "").startswith("text/event-stream"):
            return stream
        stream.close()
        return None

    def cancel(self, job_id: str) -> str:
        """Cancel a queued or running job and return the service's sentence about it, possibly empty."""
        return str(self._json("DELETE", f"/api/jobs/{_segment(job_id)}").get("message") or "")

    def jobs(self, **parameters: Any) -> dict[str, Any]:
        """Fetch a page of ``GET /api/jobs``; parameters that are None are left out."""
        return self._json("GET", "/api/jobs", params=_given(parameters))

    def retry(self, job_id: str) -> str:
        """Queue a failed or cancelled job once more, and return the new job's id."""
        return str(self._json("POST", f"/api/jobs/{_segment(job_id)}/retry")["job_id"])

    def reprioritize(self, job_id: str, priority: str) -> dict[str, Any]:
        """Give a job that waits another class of priority."""
        return self._json("POST", f"/api/jobs/{_segment(job_id)}/priority", json={"priority": priority})

    def clear(self, state: str) -> dict[str, Any]:
        """Clear jobs in a state, as many as one request can: ``{"cleared", "remaining", ...}``."""
        return self._json("DELETE", "/api/jobs", params={"state": state})

    def queue(self) -> dict[str, Any]:
        """Fetch the counts of ``GET /api/queue``, also by model."""
        return self._json("GET", "/api/queue", params={"detailed": "true"})

    def order_queue(self, model_id: str, order: Literal["pause", "resume"]) -> str:
        """Pause or resume a model's queue, and return the service's sentence about it."""
        return str(self._json("POST", f"/api/queue/{_segment(model_id)}/{order}").get("message") or "")

    def reset_queue(self) -> str:
        """Put stalled jobs back, and return the service's sentence about it."""
        return str(self._json("POST", "/api/reset_queue").get("message") or "")

    def create_key(self, new: Mapping[str, Any]) -> dict[str, Any]:
        """Make an API key, as ``POST /api/keys``; the answer has the key itself."""
        return self._json("POST", "/api/keys", json=new)

    def keys(self) -> dict[str, Any]:
        """Fetch ``GET /api/keys``."""
        return self._json("GET", "/api/keys")

    def revoke_key(self, key_id: str) -> dict[str, Any]:
        """Revoke an API key."""
        return self._json("DELETE", f"/api/keys/{_segment(key_id)}")

    def audit(self, **parameters: Any) -> dict[str, Any]:
        """Fetch a page of ``GET /api/audit``; parameters that are None are left out."""
        return self._json("GET", "/api/audit", params=_given(parameters))

    def image(self, image_id: str) -> bytes:
        """Fetch the bytes of an image file."""
        return self._send("GET", f"/api/image/{_segment(image_id)}").content

    def patiently(self, call: Callable[[], Answer]) -> Answer:
        """Repeat ``call`` while it raises passing errors, with growing pauses; after 60 s raise the last one."""
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

    def _read(self, reader: Callable[[Sent], Answer], sent: Sent) -> Answer:
        try:
            return reader(sent)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._stranger() from None

    def _send(self, method: str, path: str, *, is_stream: bool = False, **request: Any) -> httpx.Response:
        try:
            response = self._http.send(self._http.build_request(method, path, **request), stream=is_stream)
            if response.is_error:
                response.read()
        except UnicodeEncodeError as error:
            raise ServiceError(f"{error.object!a} is not valid Unicode") from error
        except httpx.ConnectError as error:
            message = f"No service answers at {self.url}; start one with `make run` or give --url"
            raise ConnectionLostError(message) from error
        except httpx.TimeoutException as error:
            raise ConnectionLostError(f"The service at {self.url} did not answer in time") from error
        except (httpx.UnsupportedProtocol, httpx.InvalidURL, httpx.TooManyRedirects) as error:
            raise ServiceError(f"{self.url} cannot be used: {error}") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            raise ConnectionLostError(f"The connection to {self.url} broke: {error}") from error
        if _is_unknown_to_the_proxy(response):
            raise ConnectionLostError(f"The service at {self.url} is starting")
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


def _updated(answer: dict[str, Any], event: ServerEvent) -> dict[str, Any]:
    """Return a known status as an event changes it."""
    changed: dict[str, Any] = json.loads(event.data)
    if event.name in ("state", "end"):
        return changed
    if event.name != "progress":
        return answer
    phase = changed.get("phase")
    flags = {name: name == phase for name in ("preparing", "loading_model", "generating", "saving")}
    counts = {name: changed.get(name) for name in ("step", "total_steps")}
    expected = {name: changed.get(name) for name in ("eta_seconds", "queue_position")}
    return answer | expected | {"progress": {**(answer.get("progress") or {}), **flags, **counts}}


def _given(parameters: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in parameters.items() if value is not None}


def _segment(text: str) -> str:
    """Quote a typed id, so that it stays one segment of the path."""
    try:
        return quote(text, safe="")
    except UnicodeEncodeError as error:
        raise ServiceError(f"{text!a} is not valid Unicode") from error


def _is_unknown_to_the_proxy(response: httpx.Response) -> bool:
    """Whether Ray Serve's proxy answered, as it does before the service is deployed."""
    is_text = response.headers.get("content-type", "").startswith("text/plain")
    return response.status_code == httpx.codes.NOT_FOUND and is_text and "/-/routes" in response.text


def _sentence(response: httpx.Response) -> str:
    """Return the service's own sentence where there is one, else the status line."""
    try:
        answer = response.json()
    except ValueError:
        answer = None
    if isinstance(answer, dict) and isinstance(answer.get("message"), str) and answer["message"]:
        return str(answer["message"])
    return f"The service answered {response.status_code} {response.reason_phrase}".rstrip()
