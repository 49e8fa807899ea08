"""Requests that share forwards in the engine, held against their stock runs."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from diffusers import DiffusionPipeline

from deployments.engine.costs import ForwardCosts
from deployments.engine.engine import Engine
from deployments.engine.generation import Generation
from deployments.engine.request import ImageRequest
from deployments.engine.statistics import EngineStatistics
from tests.support.drawing import draw_image

TOLERANCE = 1e-4
WAIT = 120


class WidthIsFree(ForwardCosts):
    """Whether the engine finds company worth its time depends on how busy the machine is; here it always does."""

    def cap(self, name: str, most_rows: int, waiting_rows: int) -> int:
        return most_rows


def draw_in_company(
    pipeline: DiffusionPipeline, requests: Sequence[ImageRequest]
) -> tuple[list[np.ndarray], EngineStatistics]:
    """The pictures of an engine to which the requests come one by one, at the steps of the first."""
    engine = Engine(pipeline, max_batch=8, costs=WidthIsFree())
    generations: list[Generation] = []
    first, *others = requests

    def submit_next(step: int) -> None:
        generations.extend(engine.submit(request) for request in others[2 * step - 2 : 2 * step])

    host = engine.submit(_watched(first, submit_next))
    try:
        pictures = [host.future.result(WAIT), *(generation.future.result(WAIT) for generation in generations)]
    finally:
        engine.stop(WAIT)
    return pictures, engine.statistics


def _watched(request: ImageRequest, on_step) -> ImageRequest:
    return replace(request, on_step=on_step)


def assert_company_changes_nothing(pipeline: DiffusionPipeline, requests: Sequence[ImageRequest]) -> EngineStatistics:
    """Draw requests in company and alone; the images must be equal."""
    with torch.inference_mode():
        alone = [draw_image(pipeline, request) for request in requests]
    together, statistics = draw_in_company(pipeline, requests)
    assert len(together) == len(requests)
    differences = [np.abs(mine - theirs).max() for mine, theirs in zip(together, alone, strict=True)]
    assert max(differences) <= TOLERANCE, differences
    assert len({picture.tobytes() for picture in together}) == len(requests)
    return statistics
