"""Keeps an autoencoder in single precision where half precision is too coarse for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from diffusers import DiffusionPipeline


def keep_autoencoder_precise(pipeline: DiffusionPipeline) -> None:
    """Convert a float16 autoencoder that overflows, such as SDXL's, to float32 once.

    Its pipelines convert it there and back around each decode. All images share it, so one image would convert it while
    another one uses it.

    Args:
        pipeline: As it was loaded; others are left as they are.
    """
    autoencoder = pipeline.components.get("vae")
    if not hasattr(pipeline, "upcast_vae") or autoencoder is None or autoencoder.dtype != torch.float16:
        return
    if not getattr(autoencoder.config, "force_upcast", False):
        return
    autoencoder.to(torch.float32)
    autoencoder.register_to_config(force_upcast=False)
    for name in ("encode", "decode"):
        setattr(autoencoder, name, _given_float32(getattr(autoencoder, name)))


def _given_float32(code: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(code)
    def call(*args: Any, **kwargs: Any) -> Any:
        return code(*map(_to_float32, args), **{name: _to_float32(value) for name, value in kwargs.items()})

    return call


def _to_float32(value: Any) -> Any:
    return value.to(torch.float32) if isinstance(value, torch.Tensor) else value
