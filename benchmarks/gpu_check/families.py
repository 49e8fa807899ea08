"""Every family in the engine, in company, against its stock pipeline on the same device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from diffusers import DiffusionPipeline

from benchmarks.gpu_check.bench import Bench
from benchmarks.gpu_check.report import Section
from deployments.engine.engine import Engine
from deployments.engine.generation import Picture
from deployments.engine.request import ImageRequest
from deployments.parameters import GenerationSettings
from tests.support.drawing import draw_image
from tests.support.tiny_pipelines.families import FAMILIES, Family

# Float32 without TF32: kernels for other widths may add in another order.
_TOLERANCE = 2e-3
WAIT_SECONDS = 120


def check_families(bench: Bench) -> Section:
    """Draw four images of each family alone and together; they must be equal."""
    section = Section("Families: in company as alone", ("family", "largest difference", "shared calls", "verdict"))
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        for name, family in FAMILIES.items():
            torch.manual_seed(0)
            pipeline = family.build().to(bench.device)
            requests = _requests(family)
            with torch.inference_mode():
                alone = [draw_image(pipeline, request) for request in requests]
            together, shared = draw_together(pipeline, requests)
            difference = largest_difference(alone, together)
            section.judge(difference <= _TOLERANCE, name, difference, f"{shared:.0%}")
            bench.free_memory()
    finally:
        torch.backends.cudnn.allow_tf32 = allowed
    return section


def draw_together(pipeline: DiffusionPipeline, requests: Sequence[ImageRequest]) -> tuple[list[Picture], float]:
    """The pictures of an engine to which all requests come at once, and the share of module calls in company."""
    engine = Engine(pipeline, max_batch=8)
    try:
        return draw_all(engine, requests), engine.statistics.grouped_share
    finally:
        engine.stop(WAIT_SECONDS)


def draw_all(engine: Engine, requests: Sequence[ImageRequest]) -> list[Picture]:
    """The pictures of requests that come at once, in their order."""
    generations = [engine.submit(request) for request in requests]
    return [generation.future.result(WAIT_SECONDS) for generation in generations]


def largest_difference(some: Sequence[Picture], others: Sequence[Picture]) -> float:
    """The largest difference of a value in 0..1; infinite where a value is no number."""
    return max(
        float(np.nan_to_num(np.abs(one - other), nan=np.inf).max()) for one, other in zip(some, others, strict=True)
    )


def _requests(family: Family) -> list[ImageRequest]:
    side = family.sides[0]
    return [
        ImageRequest(
            prompt="a red circle " * (index + 1),
            settings=GenerationSettings(
                num_images=1,
                num_inference_steps=2 if "sprint" in str(family.inputs) else 3 + index % 2,
                guidance_scale=family.guidance_scales[index % len(family.guidance_scales)],
                width=side,
                height=side,
                seed=index,
            ),
            inputs=dict(family.inputs),
        )
        for index in range(4)
    ]


def watched(request: ImageRequest, pictures: list[object]) -> ImageRequest:
    """The same request with somebody who looks at its previews."""
    return replace(request, on_preview=lambda _, preview: pictures.append(preview))
