"""Measures how well the built-in model follows captions: ``python -m models.training.adherence``.

The captions describe scenes that no training picture shows, the pictures come from the stock diffusers pipeline, and
:mod:`models.training.judge` reads them without knowing the captions.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray
from tqdm import tqdm  # type: ignore[import-untyped, unused-ignore]

from deployments.catalog.catalog import load_catalog
from deployments.catalog.entry import ModelEntry
from models.training.judge import Verdict, judge
from models.training.language import SHAPES, SIZES, Scene, held_out_captions

LIMITS = {"colour": 0.97, "background": 0.98, "place": 0.95, "shape": 0.90}
NEGATIVE_PROMPT = "a circle on a blue background"
NEGATIVE_COLOURS = 3  # the model's most frequent colours

CATALOG = Path(__file__).resolve().parents[2] / "configs" / "cpu.yaml"
_TIMED_CAPTION = "a large red circle on a blue background"
_TIMED_RUNS = 5

Pipeline = Any
Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Settings:
    """How pictures are generated."""

    steps: int
    guidance: float
    width: int
    height: int
    batch: int


@dataclass
class Tally:
    """Counts right verdicts."""

    right: int = 0
    asked: int = 0

    def add(self, is_right: bool) -> None:
        """Count one verdict."""
        self.right += is_right
        self.asked += 1

    @property
    def share(self) -> float:
        """The share of right verdicts, in 0..1; 0 where there were none."""
        return self.right / self.asked if self.asked else 0.0


@dataclass
class Adherence:
    """How many pictures show what their captions say."""

    attributes: dict[str, Tally] = field(default_factory=lambda: {name: Tally() for name in LIMITS})
    everything: Tally = field(default_factory=Tally)
    shape_by_size: dict[str, Tally] = field(default_factory=lambda: {size: Tally() for size in SIZES})
    shape_by_shape: dict[str, Tally] = field(default_factory=lambda: {shape: Tally() for shape in SHAPES})

    def add(self, scene: Scene, verdict: Verdict) -> None:
        """Compare a verdict with the scene that was asked for."""
        right = {name: getattr(verdict, name) == getattr(scene, name) for name in LIMITS}
        for name, is_right in right.items():
            self.attributes[name].add(is_right)
        self.everything.add(all(right.values()))
        self.shape_by_size[scene.size].add(right["shape"])
        self.shape_by_shape[scene.shape].add(right["shape"])

    def missed(self) -> list[str]:
        """Return the attributes that are right less often than required."""
        return [name for name, limit in LIMITS.items() if self.attributes[name].share < limit]


def main() -> int:
    """Measure, print the figures, and return 1 if one is below its limit."""
    entry = load_catalog(CATALOG, {}).get("shapes")
    options = _parse(entry)
    torch.set_num_threads(options.threads)
    settings = read_settings(entry, options.steps, options.guidance, options.batch)
    pipeline = load_pipeline(options.model)
    adherence = measure_adherence(pipeline, settings, options.captions)
    negative = measure_negative_prompts(pipeline, settings, options.negative_seeds)
    seconds = time_one_image(pipeline, settings)
    print(table(adherence, negative, seconds, settings))
    if options.json:
        figures = _figures(adherence, negative, seconds, settings)
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    missed = adherence.missed()
    if missed:
        print(f"Below the limit: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


def read_settings(entry: ModelEntry, steps: int | None, guidance: float | None, batch: int) -> Settings:
    """Return the model's default settings, with those given.

    Args:
        entry: The model's entry in the catalog.
        steps: Denoising steps; None for the default.
        guidance: Guidance scale; None for the default.
        batch: Pictures generated together.
    """
    return Settings(
        steps=entry.steps.default if steps is None else steps,
        guidance=entry.guidance.default if guidance is None else guidance,
        width=entry.size.default_width,
        height=entry.size.default_height,
        batch=batch,
    )


def load_pipeline(folder: Path | str) -> Pipeline:
    """Load a saved pipeline for the CPU.

    Raises:
        OSError: The folder holds no pipeline.
    """
    pipeline = DiffusionPipeline.from_pretrained(str(folder), torch_dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generate(
    pipeline: Pipeline,
    prompts: Sequence[str],
    seeds: Sequence[int],
    settings: Settings,
    negative_prompt: str = "",
) -> list[Picture]:
    """Generate one picture for each prompt, in batches.

    Args:
        pipeline: A text-to-image pipeline on the CPU.
        prompts: What the pictures should show.
        seeds: One for each prompt; a picture depends on its own seed only.
        settings: How to generate them.
        negative_prompt: What none of them should show.

    Returns:
        RGB pictures of shape (height, width, 3).
    """
    pictures: list[Picture] = []
    starts = range(0, len(prompts), settings.batch)
    for start in tqdm(starts, desc=f"without {negative_prompt}" if negative_prompt else "pictures", unit="batch"):
        chosen = slice(start, start + settings.batch)
        images = pipeline(
            prompt=list(prompts[chosen]),
            negative_prompt=[negative_prompt] * len(prompts[chosen]),
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            width=settings.width,
            height=settings.height,
            generator=[torch.Generator("cpu").manual_seed(seed) for seed in seeds[chosen]],
        ).images
        pictures += [np.asarray(image.convert("RGB")) for image in images]
    return pictures


def measure_adherence(pipeline: Pipeline, settings: Settings, captions: int) -> Adherence:
    """Judge the pictures of the first held-out captions; their seeds are 0, 1, 2 and so on.

    Args:
        pipeline: A text-to-image pipeline on the CPU.
        settings: How to generate the pictures.
        captions: How many, at most 500.
    """
    pairs = held_out_captions()[:captions]
    pictures = generate(pipeline, [caption for _, caption in pairs], range(len(pairs)), settings)
    adherence = Adherence()
    for (scene, _), picture in zip(pairs, pictures, strict=True):
        adherence.add(scene, judge(picture))
    return adherence


def measure_negative_prompts(pipeline: Pipeline, settings: Settings, seeds: int) -> dict[str, tuple[float, float]]:
    """Measure how often the model chooses a colour, without and with a negative prompt that names it.

    Args:
        pipeline: A text-to-image pipeline on the CPU.
        settings: How to generate the pictures.
        seeds: Pictures of each kind; 0 skips the measurement.

    Returns:
        For the colours it likes best, their shares of the pictures without and with the negative prompt, in 0..1.
    """
    if not seeds:
        return {}
    prompts = [NEGATIVE_PROMPT] * seeds

    def colours_of(pictures: Iterable[Picture]) -> Counter[str | None]:
        return Counter(judge(picture).colour for picture in pictures)

    unasked = colours_of(generate(pipeline, prompts, range(seeds), settings))
    favourites = [colour for colour, _ in unasked.most_common() if colour is not None][:NEGATIVE_COLOURS]
    return {
        colour: (
            unasked[colour] / seeds,
            colours_of(generate(pipeline, prompts, range(seeds), settings, negative_prompt=colour))[colour] / seeds,
        )
        for colour in favourites
    }


def time_one_image(pipeline: Pipeline, settings: Settings) -> float:
    """Return the median time of one picture alone, in seconds; the first run is a warm-up."""
    times = []
    for seed in range(_TIMED_RUNS + 1):
        start = time.perf_counter()
        pipeline(
            _TIMED_CAPTION,
            num_inference_steps=settings.steps,
            guidance_scale=settings.guidance,
            width=settings.width,
            height=settings.height,
            generator=torch.Generator("cpu").manual_seed(seed),
        )
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def table(adherence: Adherence, negative: dict[str, tuple[float, float]], seconds: float, settings: Settings) -> str:
    """Format the figures for people."""
    asked = adherence.everything.asked
    lines = [f"{asked} held-out captions, {settings.steps} steps, guidance {settings.guidance:g}", ""]
    lines.append(f"{'attribute':<12}{'right':>8}{'required':>10}")
    for name, limit in LIMITS.items():
        share = adherence.attributes[name].share
        lines.append(f"{name:<12}{share:>8.1%}{limit:>10.0%}{'' if share >= limit else '  below'}")
    lines.append(f"{'all four':<12}{adherence.everything.share:>8.1%}")
    for title, tallies in (("by size", adherence.shape_by_size), ("by shape", adherence.shape_by_shape)):
        lines += ["", f"shape, {title}"]
        lines += [f"{name:<12}{tally.share:>8.1%}  of {tally.asked}" for name, tally in tallies.items()]
    if negative:
        lines += ["", f'"{NEGATIVE_PROMPT}"', f"{'colour':<12}{'by itself':>10}{'negative prompt':>17}"]
        lines += [f"{colour:<12}{without:>10.1%}{with_it:>17.1%}" for colour, (without, with_it) in negative.items()]
    lines += ["", f"one image: {seconds:.2f} s (batch 1, {torch.get_num_threads()} threads, median of {_TIMED_RUNS})"]
    return "\n".join(lines)


def _figures(
    adherence: Adherence, negative: dict[str, tuple[float, float]], seconds: float, settings: Settings
) -> dict[str, Any]:
    """Format the figures for programs."""

    def shares(tallies: dict[str, Tally]) -> dict[str, float]:
        return {name: tally.share for name, tally in tallies.items()}

    return {
        "captions": adherence.everything.asked,
        "settings": asdict(settings),
        "required": LIMITS,
        "right": {**shares(adherence.attributes), "all": adherence.everything.share},
        "shape_by_size": shares(adherence.shape_by_size),
        "shape_by_shape": shares(adherence.shape_by_shape),
        "negative_prompts": {
            colour: {"without": without, "with": with_it} for colour, (without, with_it) in negative.items()
        },
        "seconds_per_image": seconds,
        "threads": torch.get_num_threads(),
    }


def _parse(entry: ModelEntry) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure how well the built-in model follows captions.")
    parser.add_argument("--model", type=Path, default=Path(entry.location()), help="folder of the pipeline")
    parser.add_argument("--captions", type=int, default=500, help="how many held-out captions, at most 500")
    parser.add_argument("--batch", type=int, default=25, help="pictures generated together")
    parser.add_argument("--steps", type=int, help=f"denoising steps, {entry.steps.default} if left out")
    parser.add_argument("--guidance", type=float, help=f"guidance scale, {entry.guidance.default:g} if left out")
    parser.add_argument("--negative-seeds", type=int, default=60, help="pictures for each negative prompt; 0: skip")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="CPU threads")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
