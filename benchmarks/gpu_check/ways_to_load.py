"""The built-in model through the service's own loader, in each way that the catalog knows."""

from __future__ import annotations

import importlib.util
import shutil
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.gpu_check.bench import Bench
from benchmarks.gpu_check.families import WAIT_SECONDS, draw_all, largest_difference
from benchmarks.gpu_check.report import Section, Verdict
from deployments.catalog.entry import ModelEntry
from deployments.catalog.loading import Loading
from deployments.engine.engine import Engine
from deployments.engine.generation import Picture
from deployments.engine.request import ImageRequest
from deployments.parameters import GenerationSettings
from deployments.pipelines.exceptions import ModelLoadError
from deployments.pipelines.loading import load_pipeline

# Without a background of its own a picture is as likely black as white, and rounding decides.
_PROMPTS = (
    "a large red circle on a blue background",
    "a small yellow star, black background",
    "a green ring on a white background",
)
_CLOSE, _SIMILAR = 5e-3, 5e-2
_REFERENCE = "float32"


@dataclass(frozen=True)
class Way:
    """One way to load the model.

    Attributes:
        name: For people.
        loading: Fields of the catalog's ``loading``.
        dtype: Of the weights.
        needs: A package, or a program, without which it cannot be.
        accelerator_only: Whether it needs more than a CPU.
        tolerance: Largest mean difference to the reference; fewer bits draw another picture.
        entry: Further fields of the catalog entry.
    """

    name: str
    loading: dict[str, Any]
    dtype: str = "float32"
    needs: str = ""
    accelerator_only: bool = False
    tolerance: float = _CLOSE

    @property
    def is_possible(self) -> bool:
        """Whether what it needs is installed."""
        return not self.needs or bool(importlib.util.find_spec(self.needs) or shutil.which(self.needs))


WAYS = (
    Way(_REFERENCE, {}),
    Way("auto dtype", {}, dtype="auto", tolerance=_SIMILAR),
    Way("float16", {}, dtype="float16", accelerator_only=True, tolerance=_SIMILAR),
    Way("VAE slicing and tiling", {"vae_slicing": True, "vae_tiling": True}),
    Way("offload: model", {"offload": "model"}, accelerator_only=True),
    Way("offload: group, streams", {"offload": "group"}, accelerator_only=True),
    Way("layerwise casting, float8", {"layerwise_casting": "float8_e4m3fn"}, tolerance=_SIMILAR),
    Way("attention: flex", {"attention_backend": "flex"}, accelerator_only=True),
    Way("attention: xformers", {"attention_backend": "xformers"}, needs="xformers", accelerator_only=True),
    Way("compile", {"compile": True}, needs="gcc"),
    Way("torchao int8", {"quantization": {"method": "torchao", "kind": "int8"}}, needs="torchao", tolerance=_SIMILAR),
    Way(
        "torchao float8",
        {"quantization": {"method": "torchao", "kind": "float8"}},
        dtype="bfloat16",
        needs="torchao",
        accelerator_only=True,
        tolerance=_SIMILAR,
    ),
    *(
        Way(
            f"bitsandbytes {kind}",
            {"quantization": {"method": "bitsandbytes", "kind": kind}},
            dtype="float16",
            needs="bitsandbytes",
            accelerator_only=True,
            tolerance=_SIMILAR,
        )
        for kind in ("int8", "nf4")
    ),
)


def check_ways_to_load(bench: Bench) -> Section:
    """Draw three images together in each way; compare them with those of float32 on the same device."""
    columns = ("way", "load (s)", "draw, second time (s)", "mean difference", "shared calls", "verdict")
    section = Section("Ways to load", columns)
    reference: list[Picture] = []
    for way in WAYS:
        if not way.is_possible or (way.accelerator_only and not bench.is_accelerator):
            section.rows.append([way.name, "", "", "", "", Verdict.NOT_RUN.value])
            continue
        try:
            pictures, row = _draw(bench, way)
        except ModelLoadError as error:
            section.rows.append([way.name, f"refused: {error}", "", "", "", Verdict.MEASURED.value])
            continue
        except Exception as error:
            section.judge(False, way.name, f"{type(error).__name__}: {str(error)[:200]}", "", "", "")
            continue
        reference = reference or pictures
        far = max(float(np.abs(one - other).mean()) for one, other in zip(reference, pictures, strict=True))
        is_number = np.isfinite(largest_difference(pictures, pictures))
        section.judge(bool(is_number) and far <= way.tolerance, *row[:3], far, row[3])
        bench.free_memory()
    return section


def _draw(bench: Bench, way: Way) -> tuple[list[Picture], list[Any]]:
    entry = ModelEntry(repo="shapes", source="builtin", dtype=way.dtype, loading=Loading(**way.loading))
    torch.manual_seed(0)
    began = time.perf_counter()
    engine = Engine(load_pipeline(entry, str(bench.device)), max_batch=8)
    loaded = time.perf_counter()
    try:
        _draw_prompts(engine)
        first = time.perf_counter()
        pictures = _draw_prompts(engine)
        again = time.perf_counter()
        return pictures, [way.name, loaded - began, again - first, f"{engine.statistics.grouped_share:.0%}"]
    finally:
        engine.stop(WAIT_SECONDS)


def _draw_prompts(engine: Engine) -> list[Picture]:
    settings = GenerationSettings(num_images=1, num_inference_steps=10, guidance_scale=1.5, width=64, height=64, seed=7)
    return draw_all(engine, [ImageRequest(prompt=prompt, settings=settings) for prompt in _PROMPTS])
