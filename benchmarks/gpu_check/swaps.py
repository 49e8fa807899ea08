"""A model's way from main memory to the device and back, as a pool changes models; and offloaded, in use."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from diffusers import DiffusionPipeline

from benchmarks.gpu_check.bench import Bench
from benchmarks.gpu_check.families import WAIT_SECONDS, draw_all
from benchmarks.gpu_check.models import Model
from benchmarks.gpu_check.report import Section, Verdict
from deployments.engine.engine import Engine
from deployments.pipelines.offload import place_pipeline
from deployments.pipelines.weights import Weights


def check_swaps(bench: Bench, model: Model, pipeline: DiffusionPipeline) -> Section:
    """Bring the weights in and park them, twice; then draw with offloaded modules and layers."""
    section = Section(f"{model.name}: pool swaps and offload", ("what", "seconds", "GB/s"))
    if not bench.is_accelerator:
        section.verdict = Verdict.NOT_RUN
        return section
    pipeline.to("cpu")
    bench.free_memory()
    took = _timed(bench, lambda: Weights(pipeline, str(bench.device)))
    weights = Weights(pipeline, str(bench.device))
    size = weights.size / 1e9
    section.rows.append(["get the weights ready for swaps", took, size / took])
    for turn in ("first", "second"):
        took = _timed(bench, weights.bring_in)
        section.rows.append([f"bring in, {turn} time", took, size / took])
        section.rows.append([f"park, {turn} time", _timed(bench, weights.park), ""])
    for offload in ("model", "group"):
        place_pipeline(pipeline, offload, str(bench.device))
        engine = Engine(pipeline, max_batch=8)
        try:
            requests = [model.request(seed, model.sizes[0]) for seed in range(4)]
            draw_all(engine, requests[:1])
            for what, asked in (("one image", requests[:1]), ("four images", requests)):
                section.rows.append(
                    [f"offload: {offload}, {what}", _timed(bench, partial(draw_all, engine, asked)), ""]
                )
        finally:
            engine.stop(WAIT_SECONDS)
        if offload == "model":
            pipeline.remove_all_hooks()
    return section


def _timed(bench: Bench, work: Callable[[], object]) -> float:
    bench.synchronize()
    started = time.perf_counter()
    work()
    bench.synchronize()
    return time.perf_counter() - started
