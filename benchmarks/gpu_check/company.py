"""Images a second and waiting times in company: the stock pipeline, whole-request batching, and the engine."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from diffusers import DiffusionPipeline

from benchmarks.gpu_check.bench import Bench
from benchmarks.gpu_check.families import WAIT_SECONDS
from benchmarks.gpu_check.models import Model
from benchmarks.gpu_check.report import Section
from deployments.engine.engine import Engine
from deployments.engine.request import ImageRequest
from tests.support.drawing import draw_image

COMPANY = (1, 4, 8)
# In a mixed load clients come this share of a lone image's time apart, every other one with twice the steps.
_GAP = 0.25
# What @serve.batch waits for company unless told otherwise:
# https://docs.ray.io/en/latest/serve/advanced-guides/dyn-req-batch.html
_BATCH_WAIT_SECONDS = 0.01
_MAX_BATCH = 8


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
        while len(batch) < _MAX_BATCH:
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
        settings = batch[0][0].settings
        options = {} if settings.max_sequence_length is None else {"max_sequence_length": settings.max_sequence_length}
        try:
            self._pipeline(
                prompt=[request.prompt for request, _ in batch],
                generator=[torch.Generator("cpu").manual_seed(request.settings.seed) for request, _ in batch],
                num_inference_steps=settings.num_inference_steps,
                guidance_scale=settings.guidance_scale,
                width=settings.width,
                height=settings.height,
                output_type="np",
                **options,
            )
        except Exception as error:
            for _, done in batch:
                done.set_exception(error)
        else:
            for _, done in batch:
                done.set_result(None)


class InEngine:
    """The service's engine."""

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        self.engine = Engine(pipeline, max_batch=_MAX_BATCH)

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


@dataclass(frozen=True)
class Load:
    """Clients who ask for an image each.

    Attributes:
        size: Width and height in pixels.
        clients: How many.
        gap: Seconds from one client to the next; 0: all come at once, and ask for the same steps.
    """

    size: int
    clients: int
    gap: float = 0.0

    def serve(self, server: Server, model: Model) -> tuple[float, float]:
        """Images a second, and the 95th percentile of the seconds that a client waits."""
        seconds: list[float] = []

        def be_client(number: int) -> None:
            time.sleep(number * self.gap)
            steps = model.steps * (2 if self.gap and number % 2 else 1)
            began = time.perf_counter()
            server.draw(model.request(number, self.size, num_inference_steps=steps))
            seconds.append(time.perf_counter() - began)

        started = time.perf_counter()
        with ThreadPoolExecutor(self.clients) as threads:
            list(threads.map(be_client, range(self.clients)))
        return len(seconds) / (time.perf_counter() - started), float(np.percentile(seconds, 95))

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.clients}, mixed" if self.gap else str(self.clients)


def check_company(bench: Bench, model: Model, pipeline: DiffusionPipeline) -> Section:
    """Clients who come at once, at both sizes, and a mixed load; each with each way to serve them."""
    columns = ("size", "clients", "by", "images/s", "of serial", "p95 (s)", "p95 of serial's", "rows computed / asked")
    section = Section(f"{model.name}: in company, {model.steps} steps", columns)
    serial: dict[Load, tuple[float, float]] = {}
    for name, serve in SERVERS.items():
        server = serve(pipeline)
        try:
            for size in model.sizes:
                Load(size, 1).serve(server, model)
                if name != "serial":
                    Load(size, _MAX_BATCH).serve(server, model)
                for load in [each for each in serial if each.size == size] or _loads(server, model, size):
                    if bench.seconds_left < 0:
                        section.notes.append(f"Time ended before {name}, {size} pixels, {load.name} clients.")
                        continue
                    before = _rows(server)
                    rate, late = load.serve(server, model)
                    base = serial.setdefault(load, (rate, late))
                    waste = _waste(before, _rows(server))
                    row = [size, load.name, name, rate, rate / base[0], late, late / base[1], waste]
                    section.rows.append(row)
        finally:
            server.stop()
    return section


def _loads(server: Server, model: Model, size: int) -> list[Load]:
    """The loads of a size; the gap of the mixed one follows from what an image takes alone."""
    _, alone = Load(size, 1).serve(server, model)
    mixed = [Load(size, COMPANY[-1], gap=_GAP * alone)] if size == model.sizes[0] else []
    return [*(Load(size, clients) for clients in COMPANY), *mixed]


def _alike(batch: Sequence[_Asked]) -> list[list[_Asked]]:
    """Requests with the same number of steps, which one call can make."""
    steps = {request.settings.num_inference_steps for request, _ in batch}
    return [[asked for asked in batch if asked[0].settings.num_inference_steps == count] for count in sorted(steps)]


def _rows(server: Server) -> tuple[int, int]:
    """Rows asked for and rows of padding so far, of the engine."""
    if not isinstance(server, InEngine):
        return 0, 0
    statistics = server.engine.statistics
    return statistics.rows, statistics.padded_rows


def _waste(before: tuple[int, int], after: tuple[int, int]) -> float | str:
    asked, padded = after[0] - before[0], after[1] - before[1]
    return (asked + padded) / asked if asked else ""
