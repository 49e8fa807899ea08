"""Pipelines of full size with random weights, from the config files of real models; and tiny ones for a CPU."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline

from deployments.engine.request import ImageRequest
from deployments.parameters import GenerationSettings
from tests.support.tiny_pipelines.families import FAMILIES
from tests.support.tiny_pipelines.text import tiny_tokenizer

CONFIGS = Path(__file__).parent.parent / "model_configs"
_CLIP_TOKENS = 77
_TOKENS = 1024


@dataclass(frozen=True)
class Model:
    """A model and the requests that it is measured with.

    Attributes:
        name: For people.
        build: Makes its pipeline on a device.
        sizes: Width and height in pixels, small and large.
        steps: Denoising steps of a request.
        guidance_scale: Of a request.
        weight_bytes: Of all its components.
        configs: The folder with its config files, if it was made from some.
        dtype: Of its weights.
        max_sequence_length: Prompt tokens, where the pipeline takes a limit.
    """

    name: str
    build: Callable[[torch.device], DiffusionPipeline]
    sizes: tuple[int, int]
    steps: int
    guidance_scale: float
    weight_bytes: int = 0
    configs: Path | None = None
    dtype: torch.dtype = torch.float32
    max_sequence_length: int | None = None

    def request(self, seed: int, size: int, **changes: Any) -> ImageRequest:
        """A request for one image.

        Args:
            seed: Of the image; the prompt contains it too.
            size: Width and height in pixels.
            changes: Settings that differ.
        """
        settings = {
            "num_images": 1,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "width": size,
            "height": size,
            "seed": seed,
            "max_sequence_length": self.max_sequence_length,
            **changes,
        }
        return ImageRequest(prompt=f"photograph number {seed} of a harbour", settings=GenerationSettings(**settings))


def random_pipeline(name: str, dtype: torch.dtype, device: torch.device) -> DiffusionPipeline:
    """A pipeline of a real model's classes and sizes; its weights are as torch initializes them.

    Args:
        name: A folder of ``benchmarks/model_configs``.
        dtype: Of the weights.
        device: Where they are made, so that nothing large passes through main memory.
    """
    folder = CONFIGS / name
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    torch.manual_seed(0)
    components = {
        key: _component(folder / key, *value, dtype=dtype, device=device)
        for key, value in index.items()
        if isinstance(value, list)
    }
    options = {key: value for key, value in index.items() if not key.startswith("_") and not isinstance(value, list)}
    pipeline = getattr(diffusers, index["_class_name"])(**components, **options)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def small_models() -> list[Model]:
    """Tiny pipelines of two families."""
    return [
        Model(f"tiny {name}", partial(_tiny, name), sizes=(64, 128), steps=6, guidance_scale=3.0)
        for name in ("stable-diffusion-xl", "flux")
    ]


def _tiny(name: str, device: torch.device) -> DiffusionPipeline:
    torch.manual_seed(0)
    return FAMILIES[name].build().to(device)


def _component(
    folder: Path, library: str | None, class_name: str | None, *, dtype: torch.dtype, device: torch.device
) -> Any:
    if class_name is None or class_name.endswith(("ImageProcessor", "FeatureExtractor", "SafetyChecker")):
        return None
    if "Tokenizer" in class_name or "Processor" in class_name:
        return tiny_tokenizer(_CLIP_TOKENS if class_name.startswith("CLIP") else _TOKENS)
    if library == "diffusers":
        kind = getattr(diffusers, class_name)
        config = kind.load_config(folder)
        if issubclass(kind, diffusers.SchedulerMixin):
            return kind.from_config(config)
        with torch.device(device), _default_dtype(dtype):
            return kind.from_config(config).to(dtype).eval()
    kind = getattr(transformers, class_name)
    with torch.device(device):
        return kind._from_config(kind.config_class.from_pretrained(folder), dtype=dtype).eval()


@contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """New tensors have this dtype inside the block, so that weights are not made twice as large first."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _full_size(folder: str, dtype: torch.dtype, **fields: Any) -> Model:
    build = partial(random_pipeline, folder, dtype)
    return Model(build=build, sizes=(512, 1024), configs=CONFIGS / folder, dtype=dtype, **fields)


FULL_SIZE = (
    _full_size(
        "stable-diffusion-xl-base-1.0",
        torch.float16,
        name="SDXL",
        steps=6,
        guidance_scale=5.0,
        weight_bytes=7_000_000_000,
    ),
    _full_size(
        "FLUX.1-dev",
        torch.bfloat16,
        name="FLUX.1-dev",
        steps=4,
        guidance_scale=3.5,
        weight_bytes=34_000_000_000,
        max_sequence_length=512,
    ),
    _full_size(
        "Z-Image-Turbo",
        torch.bfloat16,
        name="Z-Image-Turbo",
        steps=4,
        guidance_scale=0.0,
        weight_bytes=21_000_000_000,
        max_sequence_length=512,
    ),
)
"""In the order in which they are measured."""
