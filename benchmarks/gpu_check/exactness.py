"""Deterministic images of a full-size model: the same bytes alone and in company."""

from __future__ import annotations

from diffusers import DiffusionPipeline

from benchmarks.gpu_check.bench import Bench
from benchmarks.gpu_check.families import WAIT_SECONDS
from benchmarks.gpu_check.models import Model
from benchmarks.gpu_check.report import Section
from deployments.engine.engine import Engine


def check_exactness(bench: Bench, model: Model, pipeline: DiffusionPipeline) -> Section:
    """Draw a deterministic image alone, again, and among three others that are none."""
    section = Section(f"{model.name}: deterministic", ("compared", "same bytes", "verdict"))
    size = model.sizes[0]
    asked = model.request(1, size, deterministic=True)
    engine = Engine(pipeline, max_batch=8)
    try:
        alone = engine.submit(asked).future.result(WAIT_SECONDS)
        again = engine.submit(asked).future.result(WAIT_SECONDS)
        others = [engine.submit(model.request(seed, size)) for seed in (2, 3)]
        among = engine.submit(asked).future.result(WAIT_SECONDS)
        for other in others:
            other.future.result(WAIT_SECONDS)
    finally:
        engine.stop(WAIT_SECONDS)
    for name, picture in (("alone, twice", again), ("alone, and among others", among)):
        same = picture.tobytes() == alone.tobytes()
        section.judge(same, name, same)
    return section
