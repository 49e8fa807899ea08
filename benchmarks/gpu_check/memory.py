"""What an image takes of the device's memory, beside what the memory plan says."""

from __future__ import annotations

import torch
from diffusers import DiffusionPipeline

from benchmarks.gpu_check.bench import Bench
from benchmarks.gpu_check.models import Model
from benchmarks.gpu_check.report import Section, Verdict
from benchmarks.gpu_check.servers import call_stock
from deployments.catalog.entry import ModelEntry
from deployments.catalog.limits import GuidanceLimits, SizeLimits
from deployments.memory_plan.counting import plan_model
from deployments.memory_plan.plan import WORKSPACE_BYTES, Choice, MemoryPlan
from tests.support.published_models import weight_bytes

_TOLERANCE = 0.10


def check_memory(bench: Bench, model: Model, pipeline: DiffusionPipeline) -> Section:
    """Measure the peak of stock calls for one image and for four; the plan must be within a tenth of it."""
    section = Section(
        f"{model.name}: memory", ("size", "images", "weights (GB)", "peak (GB)", "plan (GB)", "plan's error", "verdict")
    )
    if not bench.is_accelerator:
        section.verdict = Verdict.NOT_RUN
        return section
    plan = _plan(model)
    modules = [each for each in pipeline.components.values() if isinstance(each, torch.nn.Module)]
    weights = sum(map(weight_bytes, modules))
    for size in model.sizes:
        for count in (1, 4):
            bench.free_memory()
            before = torch.accelerator.memory_allocated(bench.device)
            torch.accelerator.reset_peak_memory_stats(bench.device)
            with torch.inference_mode():
                call_stock(pipeline, [model.request(seed, size, num_inference_steps=1) for seed in range(count)])
            # What other checks left on the device is not the model's.
            peak = torch.accelerator.max_memory_allocated(bench.device) - before + weights
            row = [size, count, weights / 1e9, peak / 1e9]
            if plan is None:
                section.rows.append([*row, "", "", ""])
                continue
            planned = _planned(plan, size * size, count)
            error = planned / peak - 1
            section.judge(abs(error) <= _TOLERANCE, *row, planned / 1e9, f"{error:+.1%}")
    return section


def _plan(model: Model) -> MemoryPlan | None:
    """From the same config files; None for a model that has none."""
    if model.configs is None:
        return None
    largest = model.sizes[-1]
    entry = ModelEntry(
        repo="owner/name",
        guidance=GuidanceLimits(maximum=model.guidance_scale, default=model.guidance_scale),
        size=SizeLimits(default_width=largest, default_height=largest, maximum=largest, max_pixels=largest**2),
        max_sequence_length=model.max_sequence_length,
    )
    return plan_model(entry, model.configs, model.dtype)


def _planned(plan: MemoryPlan, pixels: int, images: int) -> int:
    """What torch should allocate at most: the plan without its reserves for the driver, for gaps and for encodings."""
    tensors = max(need.bytes_for(pixels, images) + need.workspace_for(pixels, images) for need in plan.needs)
    return sum(each.size for each in plan.weights_of(Choice())) + tensors + WORKSPACE_BYTES
