"""Requests that arrive at given times, served by the engine or one after another by the stock pipeline."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline

from deployments.engine.engine import Engine
from deployments.engine.request import ImageRequest
from deployments.parameters import GenerationSettings
from tests.support.drawing import draw_image

PROMPTS = (
    "a large red circle on a blue background",
    "a small yellow star, black background, on the left",
    "green ring",
    "a pink background with a tiny green cross at the bottom",
)
GUIDANCE_SCALES = (1.0, 2.0, 3.0, 5.0, 7.5)
WAIT_SECONDS = 900


@dataclass(frozen=True)
class Arrival:
    """A request and when it comes.

    Attributes:
        request: What is asked for.
        at: Seconds after the start.
    """

    request: ImageRequest
    at: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """How a load was served.

    Attributes:
        latencies: Seconds from each request's arrival to its image, in the order of the load.
        seconds: From the first arrival to the last image.
    """

    latencies: list[float]
    seconds: float

    @property
    def rate(self) -> float:
        """Images a second."""
        return len(self.latencies) / self.seconds

    def percentile(self, percent: float) -> float:
        """Seconds within which so many of a hundred images were there."""
        return float(np.percentile(self.latencies, percent))


def mixed_requests(count: int, steps: Sequence[int], size: int, seed: int = 0) -> list[ImageRequest]:
    """Requests with mixed step counts, guidance scales, prompts and seeds.

    Args:
        count: How many.
        steps: Step counts, of which each request has one.
        size: Width and height in pixels.
        seed: Of the mixture.
    """
    chance = random.Random(seed)
    return [
        ImageRequest(
            prompt=chance.choice(PROMPTS),
            settings=GenerationSettings(
                num_images=1,
                num_inference_steps=chance.choice(steps),
                guidance_scale=chance.choice(GUIDANCE_SCALES),
                width=size,
                height=size,
                seed=index,
            ),
        )
        for index in range(count)
    ]


def with_settings(request: ImageRequest, **changes: Any) -> ImageRequest:
    """The same request, with other settings."""
    return replace(request, settings=request.settings.model_copy(update=changes))


def poisson(requests: Sequence[ImageRequest], per_second: float, seed: int = 0) -> list[Arrival]:
    """The requests, arriving independently of each other."""
    chance = random.Random(seed)
    at, arrivals = 0.0, []
    for request in requests:
        at += chance.expovariate(per_second)
        arrivals.append(Arrival(request, at))
    return arrivals


def at_once(requests: Sequence[ImageRequest]) -> list[Arrival]:
    """The requests, all there from the start."""
    return [Arrival(request) for request in requests]


def serve_serially(pipeline: DiffusionPipeline, load: Sequence[Arrival]) -> Outcome:
    """Serve a load with stock pipeline calls, first come first served."""
    start, latencies = time.perf_counter(), []
    with torch.inference_mode():
        for arrival in load:
            time.sleep(max(0.0, start + arrival.at - time.perf_counter()))
            draw_image(pipeline, arrival.request)
            latencies.append(time.perf_counter() - start - arrival.at)
    return Outcome(latencies, time.perf_counter() - start)


def serve_together(engine: Engine, load: Sequence[Arrival]) -> Outcome:
    """Serve a load with the engine."""
    start, done = time.perf_counter(), {}
    generations = []
    for index, arrival in enumerate(load):
        time.sleep(max(0.0, start + arrival.at - time.perf_counter()))
        generation = engine.submit(arrival.request)
        generation.future.add_done_callback(lambda _, index=index: done.__setitem__(index, time.perf_counter()))
        generations.append(generation)
    for generation in generations:
        generation.future.result(WAIT_SECONDS)
    return Outcome([done[index] - start - each.at for index, each in enumerate(load)], max(done.values()) - start)


class Crowd:
    """Eight images of fifty steps that are under way.

    Args:
        engine: That makes them.
        like: What they look like, but for their steps and seeds.
    """

    def __init__(self, engine: Engine, like: ImageRequest) -> None:
        self._under_way = threading.Semaphore(0)
        self.generations = [
            engine.submit(replace(with_settings(like, num_inference_steps=50, seed=seed), on_step=self._note))
            for seed in range(8)
        ]
        for _ in self.generations:
            self._under_way.acquire()

    def _note(self, step: int) -> None:
        if step == 1:
            self._under_way.release()

    def disperse(self) -> None:
        """Cancel them."""
        for generation in self.generations:
            generation.cancel()
        for generation in self.generations:
            generation.future.exception(WAIT_SECONDS)


def seconds_of(work: Any, *arguments: Any) -> float:
    """How long a call takes."""
    started = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - started
