"""How often the host waits for the device in a denoising step: of the stock pipeline, and of the engine."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

from benchmarks.gpu_check.bench import Bench
from benchmarks.gpu_check.families import WAIT_SECONDS, draw_all, watched
from benchmarks.gpu_check.models import Model
from benchmarks.gpu_check.report import Section, Verdict
from deployments.engine.engine import Engine
from tests.support.drawing import draw_image

_COMPANY = 4
_STEPS = 4
# New kinds of groups are tried once, which waits for the device.
_ROUNDS_BEFORE = 2


def check_syncs(bench: Bench, model: Model, pipeline: DiffusionPipeline) -> Section:
    """Count what CUDA calls synchronizing operations, by step and image."""
    section = Section(f"{model.name}: synchronizations", ("who", "by step and image", "most of them", "verdict"))
    if not bench.is_cuda:
        section.verdict = Verdict.NOT_RUN
        section.notes.append("Only CUDA counts them; the budget test counts them on a pretended device.")
        return section

    def stock(steps: int) -> None:
        with torch.inference_mode():
            draw_image(pipeline, model.request(0, model.sizes[0], num_inference_steps=steps))

    of_stock, places = _by_step(stock, _STEPS)
    section.rows.append(["stock pipeline", of_stock, _most(places), ""])
    engine = Engine(pipeline, max_batch=8)
    try:
        for name, count, is_watched in (
            ("engine, one image", 1, False),
            ("engine, one image, watched", 1, True),
            (f"engine, {_COMPANY} images", _COMPANY, False),
            (f"engine, {_COMPANY} images, watched", _COMPANY, True),
        ):
            in_engine, places = _by_step(partial(_draw, engine, model, count, is_watched), _STEPS)
            by_image = in_engine / count
            section.judge(by_image <= of_stock + 0.05, name, by_image, _most(places))
    finally:
        engine.stop(WAIT_SECONDS)
    return section


def _draw(engine: Engine, model: Model, count: int, is_watched: bool, steps: int) -> None:
    pictures: list[object] = []
    requests = [model.request(seed, model.sizes[0], num_inference_steps=steps) for seed in range(count)]
    draw_all(engine, [watched(each, pictures) if is_watched else each for each in requests])


def _by_step(work: Callable[[int], None], steps: int) -> tuple[float, Counter[str]]:
    """Those of a step: the difference of two runs, one with twice the steps, so that the rest of an image cancels."""
    for _ in range(_ROUNDS_BEFORE):
        work(2 * steps)
    with counted_syncs() as short:
        work(steps)
    with counted_syncs() as long:
        work(2 * steps)
    return (long.total() - short.total()) / steps, long - short


@contextmanager
def counted_syncs() -> Iterator[Counter[str]]:
    """Count the host's waits for the device by the line of Python that caused them."""
    places: Counter[str] = Counter()
    synchronize = torch.cuda.synchronize

    def counted(*args: object, **kwargs: object) -> None:
        places["torch.cuda.synchronize"] += 1
        synchronize(*args, **kwargs)

    torch.cuda.synchronize = counted
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield places
    finally:
        torch.cuda.set_sync_debug_mode("default")
        torch.cuda.synchronize = synchronize
    for warning in caught:
        if "synchroniz" in str(warning.message):
            places[f"{Path(warning.filename).name}:{warning.lineno}"] += 1


def _most(places: Counter[str]) -> str:
    return ", ".join(f"{place} ({count})" for place, count in places.most_common(4)) or "none"
