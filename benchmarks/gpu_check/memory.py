"""What each stage of a model takes of the device's memory."""

from __future__ import annotations

import torch
from diffusers import DiffusionPipeline

from benchmarks.gpu_check.bench import Bench
from benchmarks.gpu_check.families import WAIT_SECONDS
from benchmarks.gpu_check.models import Model
from benchmarks.gpu_check.report import Section, Verdict
from deployments.engine.engine import Engine
from deployments.engine.request import ImageRequest


def check_memory(bench: Bench, model: Model, pipeline: DiffusionPipeline) -> Section:
    """Measure the peak of an image and of four in company, above the weights."""
    section = Section(f"{model.name}: memory", ("size", "images", "weights (GB)", "peak above them (GB)"))
    if not bench.is_accelerator:
        section.verdict = Verdict.NOT_RUN
        return section
    bench.free_memory()
    weights = torch.accelerator.memory_allocated(bench.device)
    engine = Engine(pipeline, max_batch=8)
    try:
        for size in model.sizes:
            for count in (1, 4):
                bench.free_memory()
                torch.accelerator.reset_peak_memory_stats(bench.device)
                draw(engine, [model.request(seed, size, num_inference_steps=2) for seed in range(count)])
                peak = torch.accelerator.max_memory_allocated(bench.device)
                section.rows.append([size, count, weights / 1e9, (peak - weights) / 1e9])
    finally:
        engine.stop(WAIT_SECONDS)
    return section


def draw(engine: Engine, requests: list[ImageRequest]) -> None:
    """Make images together."""
    generations = [engine.submit(request) for request in requests]
    for generation in generations:
        generation.future.result(WAIT_SECONDS)
