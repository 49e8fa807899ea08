"""What the engine gains over stock pipeline calls: ``python -m benchmarks.engine``.

Everything that is compared is measured in one run, in turn; the figures are ratios of it. Two regimes:
*overhead-bound*, where a forward of many rows costs little more than one of few (the built-in model at its own size),
and *compute-bound*, where rows gain nothing by company (the same weights at a larger size).
"""

from __future__ import annotations

import argparse
import functools
import json
import random
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import DiffusionPipeline, SD3Transformer2DModel, UNet2DConditionModel

from benchmarks.engine_loads import (
    WAIT_SECONDS,
    Crowd,
    at_once,
    mixed_requests,
    poisson,
    seconds_of,
    serve_serially,
    serve_together,
    with_settings,
)
from deployments.catalog.entry import ModelEntry
from deployments.engine.engine import Engine
from deployments.engine.latent_colours import LatentColours
from deployments.engine.request import ImageRequest
from deployments.engine.step_cache import CachedPass, Passenger, StepCache
from deployments.pipelines.exceptions import GenerationCancelledError
from deployments.pipelines.loading import load_pipeline

SCHEDULERS = (
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "UniPCMultistepScheduler",
)
MAX_BATCH = 8
WALK_STEPS = 28
CACHE_THRESHOLD = 0.5  # blocks of random weights change more between steps than trained ones


@dataclass(frozen=True)
class Regime:
    """A model at a size.

    Attributes:
        name: For people.
        load: Loads the pipeline.
        size: Width and height in pixels.
        steps: Step counts of the mixture.
        count: Requests of the mixture.
    """

    name: str
    load: Callable[[], DiffusionPipeline]
    size: int
    steps: tuple[int, ...]
    count: int


def main() -> None:
    """Read the command line, measure, and print."""
    options = _parse()
    torch.set_num_threads(options.threads)
    overhead = Regime("overhead-bound, 64x64", lambda: _load(options.model), 64, (4, 10, 20, 50), 96)
    compute = Regime("compute-bound, 384x384", lambda: _load(options.model), 384, (2, 4, 8, 16), 64)
    large = Regime("ten times the weights, 64x64", lambda: _enlarge(_load(options.model)), 64, (4, 8), 32)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "throughput, overhead-bound": lambda: measure_throughput(overhead, options.rounds),
        "throughput, large model": lambda: measure_throughput(large, 1),
        "short job among long ones, overhead-bound": lambda: measure_short_job(overhead),
        "short job among long ones, compute-bound": lambda: measure_short_job(compute),
        "tail against serial, overhead-bound": lambda: measure_tail(overhead, options.rounds),
        "tail against serial, compute-bound": lambda: measure_tail(compute, options.rounds),
        "joining and leaving": lambda: measure_joining(overhead),
        "step cache, 12-block transformer": lambda: measure_step_cache(options.rounds),
        "deterministic": lambda: measure_deterministic(overhead, options.deterministic, options.rounds),
        "previews": lambda: measure_previews(overhead, options.rounds),
        "scheduler steps": lambda: measure_scheduler_steps(overhead),
    }
    figures: dict[str, dict[str, Any]] = {}
    for name, measure in parts.items():
        if options.only and options.only not in name:
            continue
        figures[name] = measure()
        print(f"\n{name}")
        for key, value in figures[name].items():
            print(f"  {key:<58}{_written(value)}", flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


def measure_throughput(regime: Regime, rounds: int) -> dict[str, Any]:
    """Images a second with 32 requests in flight, against stock calls one after another, and where the time goes."""
    stock, engine = regime.load(), _engine(regime)
    requests = mixed_requests(regime.count, regime.steps, regime.size)
    serve_together(engine, at_once(requests[:16]))
    costs = {images: _cost(stock, regime.size, images) for images in (1, 8)}
    before = replace(engine.statistics)
    gains = []
    for _ in range(rounds):
        serial = serve_serially(stock, at_once(requests))
        gains.append(serve_together(engine, at_once(requests)).rate / serial.rate)
    after = engine.statistics
    engine.stop()
    ideal = 8 * costs[1] / costs[8]
    busy = after.busy_seconds - before.busy_seconds
    return {
        "regime": regime.name,
        "share of engine time inside forwards": (after.forward_seconds - before.forward_seconds) / busy,
        "images a second, engine / serial, each round": gains,
        "ideal 8 c(1)/c(8)": ideal,
        "share of the ideal (median round)": statistics.median(gains) / ideal,
        "rows in a denoising forward (mean)": (after.rows - before.rows) / (after.steps - before.steps),
    }


def measure_short_job(regime: Regime) -> dict[str, Any]:
    """A four-step image among eight of fifty steps, against the same image alone."""
    engine = _engine(regime)
    like = mixed_requests(1, regime.steps, regime.size)[0]
    short = with_settings(like, num_inference_steps=4, guidance_scale=3.0)
    like = with_settings(like, guidance_scale=3.0)
    _draw(engine, short)
    alone, among = [], []
    for _ in range(3):
        alone.append(seconds_of(_draw, engine, short))
        crowd = Crowd(engine, like)
        among.append(seconds_of(_draw, engine, short))
        crowd.disperse()
    engine.stop()
    return {
        "regime": regime.name,
        "seconds alone (median of 3)": statistics.median(alone),
        "seconds among eight of fifty steps (median of 3)": statistics.median(among),
        "ratio": statistics.median(among) / statistics.median(alone),
    }


def measure_tail(regime: Regime, rounds: int) -> dict[str, Any]:
    """Latencies under Poisson arrivals at 0.8 of the serial capacity, against a serial server."""
    stock, engine = regime.load(), _engine(regime)
    requests = mixed_requests(regime.count, regime.steps, regime.size)
    serve_together(engine, at_once(requests[:16]))
    capacity = serve_serially(stock, at_once(requests[:12])).rate
    latencies: list[tuple[np.ndarray, np.ndarray]] = []
    for number in range(rounds):
        load = poisson(requests, 0.8 * capacity, seed=number)
        serial, together = serve_serially(stock, load), serve_together(engine, load)
        latencies.append((np.array(together.latencies), np.array(serial.latencies)))
    engine.stop()
    steps = np.array([request.settings.num_inference_steps for request in requests])
    everyone, shortest = np.full(len(steps), True), steps == min(regime.steps)
    figures: dict[str, Any] = {"regime": regime.name}
    for name, percent, who in (("p50", 50, everyone), ("p95", 95, everyone), ("p95 of the shortest", 95, shortest)):
        rounds_of = [(mine[who], theirs[who]) for mine, theirs in latencies]
        together_of_all, serial_of_all = (np.concatenate(each) for each in zip(*rounds_of, strict=True))
        figures[f"{name}, engine / serial, each round"] = [_ratio(*each, percent) for each in rounds_of]
        figures[f"{name}, engine / serial, all rounds"] = _ratio(together_of_all, serial_of_all, percent)
    return figures


def _ratio(mine: np.ndarray, theirs: np.ndarray, percent: float) -> float:
    return float(np.percentile(mine, percent) / np.percentile(theirs, percent))


def measure_joining(regime: Regime) -> dict[str, Any]:
    """How many steps the others take before a newcomer's first, and how many a cancelled image still takes."""
    engine = _engine(regime)
    like = with_settings(mixed_requests(1, regime.steps, regime.size)[0], guidance_scale=3.0)
    _draw(engine, with_settings(like, num_inference_steps=2))
    crowd = Crowd(engine, like)
    at: list[int] = []
    taken: list[int] = []

    def note(step: int) -> None:
        if step == 1:
            at.append(engine.statistics.steps)

    def cancel_at_second(step: int) -> None:
        taken.append(step)
        if step == 2:
            victims[0].cancel()

    before = engine.statistics.steps
    newcomer = engine.submit(replace(with_settings(like, num_inference_steps=4), prompt="a ring, cyan", on_step=note))
    newcomer.future.result(WAIT_SECONDS)
    long = with_settings(like, num_inference_steps=50)
    victims = [engine.submit(replace(long, prompt="a cross, pink", on_step=cancel_at_second))]
    victims[0].future.exception(WAIT_SECONDS)
    crowd.disperse()
    engine.stop()
    return {
        "denoising forwards from submission to the end of its first": at[0] - before,
        "steps of an image after it was cancelled": len(taken) - 2,
    }


def measure_deterministic(regime: Regime, count: int, rounds: int) -> dict[str, Any]:
    """Bytes alone and in a crowd that comes and goes, and what the padding costs."""
    chance = random.Random(1)
    requests = [
        with_settings(each, scheduler=SCHEDULERS[index % len(SCHEDULERS)], deterministic=True)
        for index, each in enumerate(mixed_requests(count, range(2, 21), regime.size, seed=1))
    ]
    engine = _engine(regime)
    alone = [_draw(engine, each) for each in requests]
    crowd = [engine.submit(each) for each in requests]
    strangers = mixed_requests(count // 4, range(2, 21), regime.size, seed=2)
    passing = [engine.submit(each) for each in strangers]
    for each in chance.sample(passing, len(passing) // 2):
        each.cancel()
    equal = sum(np.array_equal(mine, each.future.result(WAIT_SECONDS)) for mine, each in zip(alone, crowd, strict=True))
    cancelled = sum(isinstance(each.future.exception(WAIT_SECONDS), GenerationCancelledError) for each in passing)
    shares = []
    for _ in range(rounds):
        free = serve_together(engine, at_once([with_settings(each, deterministic=False) for each in requests]))
        shares.append(serve_together(engine, at_once(requests)).rate / free.rate)
    engine.stop()
    return {
        "images, with how many schedulers": [count, len(SCHEDULERS)],
        "equal to the bit, alone and in company": equal,
        "strangers that came, and were cancelled": [len(passing), cancelled],
        "throughput, deterministic / free, each round": shares,
    }


def measure_previews(regime: Regime, rounds: int) -> dict[str, Any]:
    """Images a second where every image shows what it is becoming after each step, against none that does."""
    engine = _engine(regime)
    plain = mixed_requests(regime.count, regime.steps, regime.size)
    shown: list[int] = []
    spent: list[float] = []
    LatentColours.preview = _timed(LatentColours.preview, spent)  # type: ignore[method-assign]
    watched = [replace(each, on_preview=lambda step, _: shown.append(step)) for each in plain]
    serve_together(engine, at_once(watched[:16]))
    shares, rates = [], []
    for _ in range(rounds):
        shown.clear()
        spent.clear()
        without = serve_together(engine, at_once(plain))
        before = engine.statistics.busy_seconds
        rates.append(serve_together(engine, at_once(watched)).rate / without.rate)
        shares.append(sum(spent) / (engine.statistics.busy_seconds - before))
    engine.stop()
    return {
        "previews of how many images": [len(shown), len(watched)],
        "images a second, with previews / without, each round": rates,
        "share of engine time in previews, each round": shares,
    }


def measure_scheduler_steps(regime: Regime) -> dict[str, Any]:
    """The share of the engine's time that goes into the schedulers' steps, the most that joining them could save."""
    spent: list[float] = []
    for name in SCHEDULERS:
        scheduler_class = getattr(diffusers, name)
        setattr(scheduler_class, "step", _timed(scheduler_class.step, spent))  # noqa: B010 - of a class by its name
    engine = _engine(regime)
    requests = mixed_requests(regime.count, regime.steps, regime.size)
    mixed = [with_settings(each, scheduler=SCHEDULERS[index % len(SCHEDULERS)]) for index, each in enumerate(requests)]
    serve_together(engine, at_once(mixed[:16]))
    shares = {}
    for kind, load in {"the model's own": requests, f"{len(SCHEDULERS)} mixed": mixed}.items():
        before = engine.statistics.busy_seconds
        spent.clear()
        serve_together(engine, at_once(load))
        shares[kind] = sum(spent) / (engine.statistics.busy_seconds - before)
    engine.stop()
    return {f"share of engine time in scheduler steps, {kind}": share for kind, share in shares.items()}


def _timed(step: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    @functools.wraps(step)
    def timed(*args: Any, **kwargs: Any) -> Any:
        started = time.perf_counter()
        try:
            return step(*args, **kwargs)
        finally:
            spent.append(time.perf_counter() - started)

    return timed


def measure_step_cache(rounds: int) -> dict[str, Any]:
    """A walk of 28 steps through a transformer of random weights, with and without its step cache."""
    torch.manual_seed(0)
    denoiser = SD3Transformer2DModel(
        sample_size=32,
        num_layers=12,
        attention_head_dim=32,
        num_attention_heads=6,
        joint_attention_dim=64,
        caption_projection_dim=192,
        pooled_projection_dim=64,
        in_channels=16,
        out_channels=16,
        pos_embed_max_size=32,
    ).eval()
    cache = StepCache(denoiser)
    _walk(denoiser, None, None)
    gains, kept = [], CachedPass(CACHE_THRESHOLD)
    for _ in range(rounds):
        kept = CachedPass(CACHE_THRESHOLD)
        full = seconds_of(_walk, denoiser, None, None)
        gains.append(full / seconds_of(_walk, denoiser, cache, kept))
    stock, cached = _walk(denoiser, None, None), _walk(denoiser, cache, CachedPass(CACHE_THRESHOLD))
    return {
        "speed with / without, each round": gains,
        "full steps, and skipped ones": [WALK_STEPS - kept.skipped, kept.skipped],
        "relative difference of the result": float((stock - cached).norm() / stock.norm()),
    }


@torch.inference_mode()
def _walk(denoiser: torch.nn.Module, cache: StepCache | None, kept: CachedPass | None) -> torch.Tensor:
    """Follow the velocities from noise to an image in 28 steps, two rows wide."""
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 16, 32, 32, generator=generator)
    words, pooled = torch.randn(2, 32, 64, generator=generator), torch.randn(2, 64, generator=generator)
    for step in range(WALK_STEPS):
        time = torch.full((2,), 1000.0 * (1 - step / WALK_STEPS))
        with cache.carrying([Passenger(2, kept)], fixed_width=False) if cache else nullcontext():
            velocity = denoiser(latents.expand(2, -1, -1, -1), words, pooled, time).sample
        latents = latents - velocity.mean(dim=0, keepdim=True) / WALK_STEPS
    return latents


def _draw(engine: Engine, request: ImageRequest) -> Any:
    return engine.submit(request).future.result(WAIT_SECONDS)


def _engine(regime: Regime) -> Engine:
    return Engine(regime.load(), max_batch=MAX_BATCH)


def _load(folder: Path) -> DiffusionPipeline:
    pipeline = load_pipeline(ModelEntry(repo=str(folder), source="local", dtype="float32"))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _enlarge(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    """The pipeline with random weights in a U-Net ten times as large; it draws nothing, and costs what it would."""
    config = {
        **pipeline.unet.config,
        "block_out_channels": tuple(3 * width for width in pipeline.unet.config.block_out_channels),
    }
    torch.manual_seed(0)
    large = UNet2DConditionModel.from_config(config).eval()
    factor = large.num_parameters() / pipeline.unet.num_parameters()
    print(f"the large U-Net has {factor:.1f} times the weights")
    pipeline.register_modules(unet=large)
    return pipeline


def _cost(pipeline: DiffusionPipeline, size: int, images: int) -> float:
    """Seconds of one denoising forward for so many guided images: the median of seven."""
    unet, side = pipeline.unet, size // pipeline.vae_scale_factor
    latents = torch.randn(2 * images, unet.config.in_channels, side, side)
    words = torch.randn(2 * images, pipeline.tokenizer.model_max_length, unet.config.cross_attention_dim)
    with torch.inference_mode():
        return statistics.median(seconds_of(unet, latents, 500, words) for _ in range(7))


def _written(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        return ", ".join(map(_written, value))
    return str(value)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare the engine with stock pipeline calls.")
    parser.add_argument("--model", type=Path, default=Path("models/shapes"), help="folder of the pipeline")
    parser.add_argument("--rounds", type=int, default=3, help="how often each comparison is repeated")
    parser.add_argument("--deterministic", type=int, default=200, help="deterministic images")
    parser.add_argument("--only", default="", help="only the parts whose names contain this")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
