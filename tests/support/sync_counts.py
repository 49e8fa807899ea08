"""How often the host waits for a pretended GPU, and copies to and from it: per denoising step, and per image."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import torch
from diffusers import DiffusionPipeline

from deployments.engine.engine import Engine
from deployments.engine.generation import Generation
from deployments.engine.request import ImageRequest
from tests.support.drawing import draw_image
from tests.support.forward_costs import FixedCosts
from tests.support.gpu_runs import MAX_BATCH, WAIT, without_chance
from tests.support.image_requests import image_request
from tests.support.pretended_gpu import PretendedGpu, pretend_gpu
from tests.support.tiny_pipelines.families import FAMILIES, Family

FEW, MANY = 3, 5
COMPANY = 4
_numbers = itertools.count()  # each prompt is a new one, which no cache knows


class Counts(NamedTuple):
    """Of one image.

    Attributes:
        step_syncs: Per denoising step, how often the host waits until the device has nothing left to do.
        step_copies: Per denoising step, copies between host and device.
        image_syncs: Besides, per image.
        image_copies: Besides, per image.
    """

    step_syncs: float
    step_copies: float
    image_syncs: float
    image_copies: float

    def beyond(self, stock: Counts) -> Counts:
        """What there is more than with the stock pipeline."""
        return Counts(*(round(mine - theirs, 2) for mine, theirs in zip(self, stock, strict=True)))


def count_syncs(name: str) -> dict[str, Counts]:
    """The counts of a family: ``stock``, and of the engine ``alone``, ``watched`` and ``in company`` of four.

    The engine has made such images before: what it checks of the first ones is not counted.

    Args:
        name: Of the family.
    """
    with pretend_gpu() as gpu, without_chance():
        pipeline = FAMILIES[name].build().to("cuda")
        counts = {"stock": _counts(gpu, lambda requests: _draw_stock(pipeline, requests), FAMILIES[name], 1)}
        engine = Engine(pipeline, max_batch=MAX_BATCH, costs=FixedCosts())
        try:
            for mode, images in (("alone", 1), ("watched", 1), ("in company", COMPANY)):
                draw = _Drawing(gpu, engine, is_watched=mode == "watched")
                counts[mode] = _counts(gpu, draw, FAMILIES[name], images)
        finally:
            engine.stop(WAIT)
    return counts


def places_of_syncs(name: str) -> Counter[tuple[str, str]]:
    """Where the engine waits or copies while it makes one watched image of a family, by kind and place."""
    with pretend_gpu() as gpu, without_chance():
        engine = Engine(FAMILIES[name].build().to("cuda"), max_batch=MAX_BATCH, costs=FixedCosts())
        draw = _Drawing(gpu, engine, is_watched=True)
        draw(_requests(FAMILIES[name], 1, FEW))
        gpu.forget()
        draw(_requests(FAMILIES[name], 1, MANY))
        engine.stop(WAIT)
    return gpu.syncs | gpu.copies


class _Drawing:
    """Draws images that come all at once, when another one is done.

    Args:
        gpu: Counts from when they come.
        engine: On whose thread they are submitted.
        is_watched: Whether each step's preview is wanted.
    """

    def __init__(self, gpu: PretendedGpu, engine: Engine, *, is_watched: bool) -> None:
        self._gpu, self._engine, self._is_watched = gpu, engine, is_watched

    def __call__(self, requests: list[ImageRequest]) -> None:
        generations: list[Generation] = []
        are_submitted = threading.Event()

        def submit(_: object) -> None:
            self._gpu.forget()
            generations.extend(self._engine.submit(self._watched(request)) for request in requests)
            are_submitted.set()

        # On the engine's own thread, so that it finds them all when it looks for new ones.
        self._engine.submit(_short(requests[0])).future.add_done_callback(submit)
        are_submitted.wait(WAIT)
        for generation in generations:
            generation.future.result(WAIT)

    def _watched(self, request: ImageRequest) -> ImageRequest:
        return replace(request, on_preview=lambda step, preview: None) if self._is_watched else request


def _counts(gpu: PretendedGpu, draw: Callable[[list[ImageRequest]], None], family: Family, images: int) -> Counts:
    totals = []
    for steps in (MANY, FEW, MANY):  # the first one shows the engine what there is to check
        gpu.forget()
        draw(_requests(family, images, steps))
        totals.append((sum(gpu.syncs.values()) / images, sum(gpu.copies.values()) / images))
    _, few, many = totals
    steps = [(more - less) / (MANY - FEW) for less, more in zip(few, many, strict=True)]
    besides = [less - FEW * step for less, step in zip(few, steps, strict=True)]
    return Counts(*(round(value, 2) for value in (*steps, *besides)))


def _draw_stock(pipeline: DiffusionPipeline, requests: list[ImageRequest]) -> None:
    with torch.inference_mode():
        for request in requests:
            draw_image(pipeline, request)


def _short(request: ImageRequest) -> ImageRequest:
    settings = request.settings.model_copy(update={"num_inference_steps": 1})
    return replace(request, prompt="first", settings=settings)


def _requests(family: Family, images: int, steps: int) -> list[ImageRequest]:
    return [
        image_request(
            f"ring {next(_numbers):04}",
            num_inference_steps=steps,
            guidance_scale=family.guidance_scales[0],
            negative_prompt="green",
            width=family.sides[0],
            height=family.sides[0],
            seed=index,
            max_sequence_length=24,
            inputs=family.inputs,
        )
        for index in range(images)
    ]
