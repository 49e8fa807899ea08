"""The modules of a pipeline that run at every denoising step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from diffusers import DiffusionPipeline

_DENOISERS = ("unet", "transformer", "transformer_2")


def denoiser_names(components: Iterable[str]) -> list[str]:
    """The names of the denoisers among a pipeline's components.

    Args:
        components: Names of components.
    """
    return [name for name in components if name in _DENOISERS]


def denoisers(pipeline: DiffusionPipeline) -> list[Any]:
    """A pipeline's U-Net or transformers."""
    components = pipeline.components
    return [components[name] for name in denoiser_names(components) if isinstance(components[name], torch.nn.Module)]
