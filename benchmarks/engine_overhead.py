"""What the host does outside the modules' forwards: milliseconds of CPU time for each image and denoising step.

A GPU idles meanwhile, unless it has a forward to do. Tiny pipelines of four families denoise 1, 4 and 8 images in
step; the CPU time of the engine's thread counts, less that within the forwards. The same is measured of the stock
pipeline: its share, above all the scheduler's, is not the engine's to save.

    OMP_NUM_THREADS=1 python -m benchmarks.engine_overhead
"""

from __future__ import annotations

import argparse
import cProfile
import functools
import json
import pstats
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline

from deployments.engine.engine import Engine
from deployments.engine.request import ImageRequest
from deployments.engine.shells import call_arguments, shell_for
from tests.support.forward_costs import FixedCosts
from tests.support.image_requests import image_request
from tests.support.tiny_pipelines import tiny_pipeline

FAMILIES = {
    "SD": diffusers.StableDiffusionPipeline,
    "SDXL": diffusers.StableDiffusionXLPipeline,
    "SD3": diffusers.StableDiffusion3Pipeline,
    "FLUX": diffusers.FluxPipeline,
}
WAIT = 300
_SKIPPED = 2  # the first steps, which find their kernels


@dataclass
class Stopwatch:
    """CPU time of a thread at each step of each image, less the time within forwards."""

    inside: float = 0.0
    depth: int = 0
    marks: list[tuple[int, float]] = field(default_factory=list)

    def mark(self, step: int, *_: Any) -> None:
        """Note a step of an image."""
        self.marks.append((step, time.thread_time() - self.inside))

    def leave_out(self, module: torch.nn.Module) -> None:
        """Take the time of a module's forwards as time within."""
        for name in ("forward", "encode", "decode"):
            function = getattr(module, name, None)
            if callable(function):
                setattr(module, name, self._timed(function))

    def milliseconds(self, images: int) -> float:
        """For each image and step, while all images denoise."""
        steps = [step for step, _ in self.marks]
        first = [place for place, step in enumerate(steps) if step == _SKIPPED][images - 1]
        last = steps.index(max(steps)) - 1
        return 1e3 * (self.marks[last][1] - self.marks[first][1]) / (last - first)

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            began, self.depth = time.thread_time(), self.depth + 1
            try:
                return function(*args, **kwargs)
            finally:
                self.depth -= 1
                self.inside += 0 if self.depth else time.thread_time() - began

        return call


def main() -> None:
    """Print a table, and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    parser.add_argument("--images", nargs="+", type=int, default=[1, 4, 8])
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", type=int, default=0, help="Print so many lines of a profile of the engine.")
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    for family in options.families:
        stock = stock_milliseconds(family, options.steps, options.rounds)
        for images in options.images:
            engine = engine_milliseconds(family, images, options.steps, options.rounds, options.profile)
            rows.append({"family": family, "images": images, "stock": stock, "engine": engine})
            print(
                f"{family:5} {images} images: {engine:.3f} ms an image and step, "
                f"{stock:.3f} of them the stock pipeline's, {engine - stock:.3f} the engine's"
            )
    if options.write:
        options.write.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def stock_milliseconds(family: str, steps: int, rounds: int) -> float:
    """What a stock pipeline does outside its modules."""
    watch, pipeline = _watched(family)
    found = []
    with torch.inference_mode():
        for seed in range(rounds + 1):
            watch.marks.clear()
            wanted = _request(seed, steps)
            shell = shell_for(pipeline, wanted)
            shell(**call_arguments(shell, wanted, watch.mark))
            found.append(watch.milliseconds(1))
    return min(found[1:])  # other processes only ever add to it


def engine_milliseconds(family: str, images: int, steps: int, rounds: int, profiled: int = 0) -> float:
    """What the engine's thread does outside the modules, the images' pipelines included."""
    watch, pipeline = _watched(family)
    profile = cProfile.Profile()
    engine = Engine(pipeline, max_batch=images, costs=FixedCosts())
    found = []
    for seed in range(rounds + 1):
        watch.marks.clear()
        wanted = [_request(seed * images + index, steps, watch.mark) for index in range(images)]
        for generation in [engine.submit(request) for request in wanted]:
            generation.future.result(WAIT)
        found.append(watch.milliseconds(images))
        if profiled and seed == 0:
            engine.submit(_request(0, 1, lambda _: profile.enable())).future.result(WAIT)
    engine.stop(WAIT)
    if profiled:
        profile.disable()
        pstats.Stats(profile).sort_stats("tottime").print_stats(profiled)
    return min(found[1:])  # other processes only ever add to it


def _watched(family: str) -> tuple[Stopwatch, DiffusionPipeline]:
    watch, pipeline = Stopwatch(), tiny_pipeline(FAMILIES[family])
    pipeline.set_progress_bar_config(disable=True)
    for component in pipeline.components.values():
        if isinstance(component, torch.nn.Module):
            watch.leave_out(component)
    return watch, pipeline


def _request(seed: int, steps: int, mark: Callable[[int], None] = lambda _: None) -> ImageRequest:
    return image_request(f"a ring {seed}", seed=seed, num_inference_steps=steps, on_step=mark)


if __name__ == "__main__":
    main()
