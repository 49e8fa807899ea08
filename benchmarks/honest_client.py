"""A client that asks a service for small things on a fixed schedule, and notes how long each takes."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from itertools import count

import aiohttp

from benchmarks.hostile_pictures import small_picture

LONGEST_SECONDS = 30.0
PROMPT = "a large red circle on a blue background"
_ROUND = ("models", "thumbnail", "input", "status")
_ROUNDS_PER_JOB = 8
_LOOK_SECONDS = 0.2

_Opened = AbstractAsyncContextManager[aiohttp.ClientResponse]


@dataclass(frozen=True)
class Answer:
    """How a request went.

    Attributes:
        kind: Of the request.
        seconds: From when it was due until its answer was read.
        failure: The status, or the error's name; None where it succeeded.
    """

    kind: str
    seconds: float
    failure: str | None = None


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that so large a share of the values does not exceed; NaN where there are none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


@dataclass
class HonestClient:
    """Asks with its own API key.

    Attributes:
        url: Of the service.
        key: An API key with the scopes ``read`` and ``generate``.
        job_id: A completed job of the key, as :meth:`prepare` makes it.
        image_id: Of that job.
    """

    url: str
    key: str
    job_id: str = ""
    image_id: str = ""
    _numbers: count[int] = field(default_factory=count)
    _http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> HonestClient:
        self._http = aiohttp.ClientSession(
            self.url,
            headers={"Authorization": f"Bearer {self.key}"},
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=LONGEST_SECONDS),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._http is not None:
            await self._http.close()

    async def prepare(self) -> None:
        """Wait for a job with an image, for later requests to name."""
        self.job_id, (self.image_id, *_) = await self.draw(1)

    async def draw(self, images: int) -> tuple[str, list[str]]:
        """Submit a job of one step and wait for its end; returns its id and those of its images."""
        async with self._post_job(images) as answer:
            answer.raise_for_status()
            job_id = (await answer.json())["job_id"]
        while True:
            async with self._session.get(f"/api/status/{job_id}") as answer:
                answer.raise_for_status()
                job = await answer.json()
            if job["status"] == "completed":
                return job_id, [image["id"] for image in job["images"]]
            if job["status"] in ("failed", "cancelled"):
                raise RuntimeError(f"a job that was prepared is {job['status']}: {job}")
            await asyncio.sleep(_LOOK_SECONDS)

    async def keep_asking(self, seconds: float, interval: float) -> list[Answer]:
        """Send a request each ``interval`` seconds, for ``seconds``, however slow the answers are; wait for all."""
        began = time.perf_counter()
        asked = []
        for number in range(int(seconds / interval)):
            due = began + number * interval
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            asked.append(asyncio.create_task(self.ask(_kind_of(number), due)))
        return await asyncio.gather(*asked)

    async def ask_each(self) -> list[Answer]:
        """Send a request of each kind but ``generate``, one after the other."""
        return [await self.ask(kind, time.perf_counter()) for kind in _ROUND]

    async def ask(self, kind: str, due: float) -> Answer:
        """Send a request.

        Args:
            kind: Of the request.
            due: From when its time counts, as ``time.perf_counter`` has it.
        """
        kinds: dict[str, Callable[[], _Opened]] = {
            "models": lambda: self._session.get("/api/models"),
            "status": lambda: self._session.get(f"/api/status/{self.job_id}"),
            "thumbnail": lambda: self._session.get(f"/api/image/{self.image_id}/thumbnail"),
            "input": self._post_input,
            "generate": lambda: self._post_job(1),
        }
        failure = await _failure_of(kinds[kind])
        return Answer(kind, time.perf_counter() - due, failure)

    @property
    def _session(self) -> aiohttp.ClientSession:
        assert self._http is not None
        return self._http

    def _post_input(self) -> _Opened:
        content = small_picture(next(self._numbers))
        return self._session.post("/api/inputs", data=content, headers={"Content-Type": "image/png"})

    def _post_job(self, images: int) -> _Opened:
        settings = {"num_inference_steps": 1, "num_images": images}
        return self._session.post("/api/generate", json={"model_id": "shapes", "prompt": PROMPT, "settings": settings})


def _kind_of(number: int) -> str:
    """The kind of the request with this number: in turn, and now and then a job in place of the last of a round."""
    turns, place = divmod(number, len(_ROUND))
    return "generate" if turns % _ROUNDS_PER_JOB == 0 and place == len(_ROUND) - 1 else _ROUND[place]


async def _failure_of(send: Callable[[], _Opened]) -> str | None:
    try:
        async with send() as answer:
            await answer.read()
            return None if answer.ok else str(answer.status)
    except (TimeoutError, aiohttp.ClientError) as error:
        return type(error).__name__
