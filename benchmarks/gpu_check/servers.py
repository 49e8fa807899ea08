"""Ways to serve many clients with one pipeline: one after another, whole requests together, and the engine."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol

import torch
from diffusers import DiffusionPipeline

from benchmarks.gpu_check.families import WAIT_SECONDS
from deployments.engine.engine import Engine
from deployments.engine.request import ImageRequest
from tests.support.drawing import draw_image

MOST_TOGETHER = 8
"""Most requests that share a call, or a forward."""
# What @serve.batch waits for company unless told otherwise:
# https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html
_BATCH_WAIT_SECONDS = 0.01

_Asked = tuple[ImageRequest, "Future[None]"]


class Server(Protocol):
    """Serves requests of many threads."""

    def draw(self, request: ImageRequest) -> None:
        """Return when the image is there."""

    def stop(self) -> None:
        """End what runs."""


class Serial:
    """Stock pipeline calls, one after another."""

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        self._pipeline = pipeline
        self._turn = threading.Lock()

    def draw(self, request: ImageRequest) -> None:
        """Wait for the turn, then call the pipeline."""
        with self._turn, torch.inference_mode():
            draw_image(self._pipeline, request)

    def stop(self) -> None:
        """Nothing runs."""


class WholeRequests:
    """What ``@serve.batch`` does: requests that come together are one call, and later ones wait for its end.

    Args:
        pipeline: Takes lists of prompts and generators. Requests of a call have the same settings but for the seed.
    """

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        self._pipeline = pipeline
        self._waiting: queue.Queue[_Asked | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def draw(self, request: ImageRequest) -> None:
        """Wait for the call that the request is part of."""
        done: Future[None] = Future()
        self._waiting.put((request, done))
        done.result(WAIT_SECONDS)

    def stop(self) -> None:
        """End the thread."""
        self._waiting.put(None)
        self._thread.join(WAIT_SECONDS)

    def _run(self) -> None:
        with torch.inference_mode():
            while (first := self._waiting.get()) is not None:
                for alike in _alike(self._collect(first)):
                    self._call(alike)

    def _collect(self, first: _Asked) -> list[_Asked]:
        batch, until = [first], time.monotonic() + _BATCH_WAIT_SECONDS
        while len(batch) < MOST_TOGETHER:
            try:
                more = self._waiting.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if more is None:
                self._waiting.put(None)
                break
            batch.append(more)
        return batch

    def _call(self, batch: Sequence[_Asked]) -> None:
        try:
            call_stock(self._pipeline, [request for request, _ in batch])
        except Exception as error:
            for _, done in batch:
                done.set_exception(error)
        else:
            for _, done in batch:
                done.set_result(None)


class InEngine:
    """The service's engine."""

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        self.engine = Engine(pipeline, max_batch=MOST_TOGETHER)

    def draw(self, request: ImageRequest) -> None:
        """Submit the request and wait."""
        self.engine.submit(request).future.result(WAIT_SECONDS)

    def stop(self) -> None:
        """Stop the engine."""
        self.engine.stop(WAIT_SECONDS)


SERVERS: dict[str, Callable[[DiffusionPipeline], Server]] = {
    "serial": Serial,
    "@serve.batch": WholeRequests,
    "engine": InEngine,
}
"""The engine comes last: its gates stay in front of the pipeline's modules."""


def call_stock(pipeline: DiffusionPipeline, requests: Sequence[ImageRequest]) -> None:
    """Make the images of several requests with one stock call.

    Args:
        pipeline: Takes lists of prompts and generators.
        requests: With the same settings but for their seeds.
    """
    settings = requests[0].settings
    options = {} if settings.max_sequence_length is None else {"max_sequence_length": settings.max_sequence_length}
    pipeline(
        prompt=[request.prompt for request in requests],
        generator=[torch.Generator("cpu").manual_seed(request.settings.seed) for request in requests],
        num_inference_steps=settings.num_inference_steps,
        guidance_scale=settings.guidance_scale,
        width=settings.width,
        height=settings.height,
        output_type="np",
        **options,
    )


def _alike(batch: Sequence[_Asked]) -> list[list[_Asked]]:
    """Requests with the same number of steps, which one call can make."""
    steps = {request.settings.num_inference_steps for request, _ in batch}
    return [[asked for asked in batch if asked[0].settings.num_inference_steps == count] for count in sorted(steps)]
