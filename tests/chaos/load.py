"""A steady load of jobs, by a client that gives up on none."""

from __future__ import annotations

import random
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from threading import Event
from typing import Any
from uuid import UUID

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_delay, wait_exponential_jitter

PATIENCE_SECONDS = 240


@dataclass(frozen=True)
class Order:
    """What a job is asked to draw. The same order always gives the same pictures."""

    prompt: str
    seed: int
    num_images: int
    num_inference_steps: int

    @property
    def body(self) -> dict[str, Any]:
        """The request."""
        settings = {
            "seed": self.seed,
            "num_images": self.num_images,
            "num_inference_steps": self.num_inference_steps,
        }
        return {"model_id": "shapes", "prompt": self.prompt, "settings": settings}


ORDERS = [
    Order(f"a large {colour} {shape} on a {background} background", seed, num_images, steps)
    for seed, (colour, shape, background, num_images, steps) in enumerate(
        [
            ("red", "circle", "blue", 1, 6),
            ("green", "square", "white", 2, 4),
            ("blue", "triangle", "yellow", 1, 12),
            ("yellow", "circle", "black", 3, 5),
            ("white", "square", "red", 1, 20),
            ("black", "circle", "green", 2, 8),
        ]
    )
]


class NotNowError(Exception):
    """The service did not take the request, and may take it a little later."""


@dataclass
class Load:
    """Submits jobs from several clients at once, each in a thread of its own, one job after the other.

    A submit whose answer is lost is repeated with its key, so that there is one job for each order whatever happens.

    Attributes:
        url: The service.
        jobs: How many to submit in all; None: until it is ended.
        every_seconds: From one submit to the next, of all clients together.
        seed: Of the choice of orders.
        clients: How many.
        accepted: Job ids that the service gave, with what was ordered.
        refusals: Why a submit had to be repeated.
    """

    url: str
    jobs: int | None
    every_seconds: float
    seed: int
    clients: int = 4
    accepted: dict[str, Order] = field(default_factory=dict)
    refusals: list[str] = field(default_factory=list)

    def start(self) -> None:
        """Begin."""
        self._ended = Event()
        self._pool = ThreadPoolExecutor(self.clients, "load")
        everyone = range(self.clients)
        shares = [count() if self.jobs is None else range(client, self.jobs, self.clients) for client in everyone]
        self._work = [self._pool.submit(self._run, client, share) for client, share in enumerate(shares)]

    def end(self) -> None:
        """Begin no more jobs."""
        self._ended.set()

    def join(self) -> None:
        """Wait until every job was accepted; raise what kept one from it."""
        for work in self._work:
            work.result()
        self._pool.shutdown()

    def _run(self, client: int, jobs: Iterable[int]) -> None:
        choice = random.Random(f"{self.seed}/{client}")
        for _ in jobs:
            order = choice.choice(ORDERS)
            key = str(UUID(int=choice.getrandbits(128), version=4))
            self.accepted[submit(self.url, order, key, self.refusals)] = order
            if self._ended.wait(self.every_seconds * self.clients):
                return


def submit(url: str, order: Order, key: str, refusals: list[str] | None = None) -> str:
    """Submit a job, as often as it takes, and return its id.

    Args:
        url: The service.
        order: The job.
        key: The same in every attempt, so that there is one job.
        refusals: Why an attempt failed is added here.
    """
    noted = [] if refusals is None else refusals

    def note(state: RetryCallState) -> None:
        if state.outcome is not None:
            noted.append(repr(state.outcome.exception()))

    answer: httpx.Response = _patience(before_sleep=note)(
        _send, "POST", f"{url}/api/generate", json=order.body, headers={"Idempotency-Key": key}
    )
    job_id: str = answer.json()["job_id"]
    return job_id


def fetch(url: str, path: str) -> httpx.Response:
    """GET something, as often as it takes."""
    answer: httpx.Response = _patience()(_send, "GET", f"{url}{path}", follow_redirects=True)
    return answer


def _patience(**options: Any) -> Retrying:
    return Retrying(
        retry=retry_if_exception_type((httpx.HTTPError, NotNowError)),
        wait=wait_exponential_jitter(multiplier=0.1, max=2),
        stop=stop_after_delay(PATIENCE_SECONDS),
        reraise=True,
        **options,
    )


def _send(method: str, url: str, **request: Any) -> httpx.Response:
    answer = httpx.request(method, url, timeout=20, **request)
    # A proxy that has just started does not know the application yet, and says 404 in its own words.
    is_unknown_to_the_proxy = answer.status_code == 404 and "/-/routes" in answer.text
    if answer.status_code >= 500 or answer.status_code == 429 or is_unknown_to_the_proxy:
        raise NotNowError(answer.text[:300])
    assert answer.status_code == 200, answer.text[:300]
    return answer
