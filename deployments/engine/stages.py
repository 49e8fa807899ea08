"""The three stages of making an image, by the modules that are called."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from enum import Enum
from functools import cache
from typing import Any

from transformers import PreTrainedModel


class Stage(Enum):
    """What a call of a shared module is for."""

    ENCODING = "encoding"
    DENOISING = "denoising"
    DECODING = "decoding"


@cache
def stage_of(target: Callable[..., Any]) -> Stage:
    """The stage that a module's function belongs to.

    Text and image encoders come from transformers, autoencoders are called by ``encode`` and ``decode``; everything
    else denoises.

    Args:
        target: A module's bound function, with or without hooks around it.
    """
    if _name(target) == "decode":
        return Stage.DECODING
    if _name(target) == "encode" or isinstance(module_of(target), PreTrainedModel):
        return Stage.ENCODING
    return Stage.DENOISING


def _name(target: Callable[..., Any]) -> str:
    return getattr(inspect.unwrap(target), "__name__", "")


@cache
def module_of(target: Callable[..., Any]) -> Any:
    """The module whose function it is, or None.

    Args:
        target: A module's bound function, with or without hooks around it.
    """
    # Hooks wrap a module's method, decorators wrap the function inside of that.
    inner: Any = target
    while inner is not None and not hasattr(inner, "__self__"):
        inner = getattr(inner, "__wrapped__", None)
    return getattr(inner, "__self__", None)
