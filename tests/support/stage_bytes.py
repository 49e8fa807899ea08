"""What a stock pipeline's calls take of the pretended GPU, call by call, and its config files without weights."""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline

from deployments.engine.request import ImageRequest
from deployments.engine.shells import call_arguments
from deployments.engine.stages import stage_of
from deployments.pipelines.offload import place_pipeline
from tests.support.pretended_gpu import PretendedGpu, pretend_gpu


@dataclass(frozen=True)
class MeasuredCall:
    """The most bytes on the device during a call of a component, weights included."""

    component: str
    stage: str
    peak: int


def save_configs(pipeline: DiffusionPipeline, folder: Path) -> Path:
    """Save a pipeline's config files as the hub has them, without weights and tokenizers."""
    pipeline.save_config(folder)
    for name, component in pipeline.components.items():
        if hasattr(component, "save_config"):
            component.save_config(folder / name)
        elif isinstance(component, torch.nn.Module):
            component.config.save_pretrained(folder / name)
    return folder


def measure_stages(
    pipeline: DiffusionPipeline, request: ImageRequest, images: int = 1, offload: str = "none"
) -> list[MeasuredCall]:
    """Draw on the pretended GPU with the stock pipeline.

    Args:
        pipeline: On the CPU; it cannot be used afterwards.
        request: What to draw.
        images: How many at once.
        offload: Where the weights wait.
    """
    measured: list[MeasuredCall] = []
    with pretend_gpu() as gpu, torch.inference_mode():
        for name, component in pipeline.components.items():
            if isinstance(component, torch.nn.Module):
                entrance = "decode" if hasattr(component, "decode") else "forward"
                # Around the module's __call__ and so around the hooks that bring its weights.
                _watch(gpu, name, component, entrance, measured)
        place_pipeline(pipeline, offload, "cuda")
        arguments = call_arguments(pipeline, request, lambda step, latents: None)
        for name in ("prompt", "negative_prompt"):
            if arguments.get(name) is not None:
                arguments[name] = [arguments[name]] * images
        # From the first image on, tables of positions are there, and the order in which layers are fetched is known.
        pipeline(**arguments)
        measured.clear()
        pipeline(**arguments)
    return measured


def _watch(gpu: PretendedGpu, name: str, module: Any, entrance: str, measured: list[MeasuredCall]) -> None:
    original: Callable[..., Any] = getattr(module, entrance)
    stage = stage_of(original).value
    kind = type(module)

    def watched(call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def run(*args: Any, **kwargs: Any) -> Any:
            gc.collect()  # language models' caches of keys and values refer to themselves
            gpu.peak = gpu.live
            result = call(*args, **kwargs)
            measured.append(MeasuredCall(name, stage, gpu.peak))
            return result

        return run

    if entrance == "forward":
        module.__class__ = type(
            kind.__name__, (kind,), {"__call__": watched(kind.__call__), "__module__": kind.__module__}
        )
    else:
        setattr(module, entrance, watched(original))
