"""Too little memory, and a device that faults: what becomes of the images."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace

import torch
from diffusers import DiffusionPipeline

from benchmarks.gpu_check.bench import Bench
from benchmarks.gpu_check.families import WAIT_SECONDS, draw_all
from benchmarks.gpu_check.models import Model
from benchmarks.gpu_check.report import Section, Verdict
from deployments.engine.engine import Engine

_SPARE_FOR_TWO = 2.5
_ENDS_WITHIN_SECONDS = 10


def check_out_of_memory(bench: Bench, model: Model, pipeline: DiffusionPipeline) -> Section:
    """Leave room for some two images, and ask for eight at once: all of them must be made."""
    section = Section(f"{model.name}: out of memory", ("what", "value", "verdict"))
    if not bench.is_cuda:
        section.verdict = Verdict.NOT_RUN
        return section
    engine = Engine(pipeline, max_batch=8)
    size = model.sizes[1]
    try:
        draw_all(engine, [model.request(0, size, num_inference_steps=2)])
        bench.free_memory()
        used = torch.cuda.memory_allocated(bench.device)
        torch.cuda.reset_peak_memory_stats(bench.device)
        draw_all(engine, [model.request(1, size, num_inference_steps=2)])
        by_image = torch.cuda.max_memory_allocated(bench.device) - used
        bench.free_memory()
        total = torch.cuda.get_device_properties(bench.device).total_memory
        allowed = torch.cuda.memory_reserved(bench.device) + _SPARE_FOR_TWO * by_image
        torch.cuda.set_per_process_memory_fraction(min(1.0, allowed / total), bench.device)
        requests = [model.request(seed, size, num_inference_steps=2) for seed in range(8)]
        generations = [engine.submit(request) for request in requests]
        failed = [each.future.exception(WAIT_SECONDS) for each in generations]
        made = failed.count(None)
        section.judge(made == len(requests), f"images made of {len(requests)} at {allowed / 1e9:.1f} GB", made)
        section.notes += [str(error)[:300] for error in failed if error is not None][:1]
        section.rows.append(["widest forward", engine.statistics.widest_batch, ""])
    finally:
        engine.stop(WAIT_SECONDS)
        torch.cuda.set_per_process_memory_fraction(1.0, bench.device)
    return section


def check_device_fault(bench: Bench) -> Section:
    """Have a kernel fail in a process of its own: the engine must stop, so that the replica is replaced."""
    section = Section("A device fault", ("what", "value", "verdict"))
    if not bench.is_cuda:
        section.verdict = Verdict.NOT_RUN
        return section
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_check.faults"], capture_output=True, text=True, timeout=120, check=False
    )
    answer = done.stdout.strip().splitlines()[-1:] or [done.stderr[-300:]]
    section.notes += [f"The image's error: `{line}`" for line in done.stdout.strip().splitlines()[-2:-1]]
    section.judge(answer == ["stopped"], "the engine after a device-side assertion", answer[0])
    return section


def _fault() -> None:
    from tests.support.tiny_pipelines.families import FAMILIES  # noqa: PLC0415 - of the faulting process only

    family = FAMILIES["flux"]
    pipeline = family.build().to("cuda")
    engine = Engine(pipeline, max_batch=8)
    model = Model("tiny", lambda _: pipeline, sizes=(16, 24), steps=3, guidance_scale=3.0)
    draw_all(engine, [model.request(0, 16)])

    def break_device(step: int) -> None:
        if step == 1:
            torch.zeros(1, device="cuda")[torch.tensor([9], device="cuda")]  # an index beyond the end

    generation = engine.submit(replace(model.request(1, 16), on_step=break_device))
    error = generation.future.exception(WAIT_SECONDS)
    print(type(error).__name__, str(error)[:100].replace("\n", " "))
    # The engine ends after the image, on its own thread.
    threads = [thread for thread in threading.enumerate() if thread.name == "engine"]
    for thread in threads:
        thread.join(_ENDS_WITHIN_SECONDS)
    print("still alive" if engine.is_alive else "stopped")
    sys.stdout.flush()
    # Python's own end would wait for a device that answers nothing.
    os._exit(0)


if __name__ == "__main__":
    _fault()
