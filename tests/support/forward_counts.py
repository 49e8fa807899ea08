"""Counts the forwards that really run, below whatever is put in front of the modules."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import torch
from diffusers import DiffusionPipeline

_ENTRANCES = ("forward", "encode", "decode")


@contextlib.contextmanager
def counted_forwards(pipeline: DiffusionPipeline) -> Iterator[Counter[tuple[str, int]]]:
    """Count the forwards of a pipeline's modules by class and entrance, and by their rows.

    Gates and the hooks of offloading take the place of a module's own ``forward``; its class keeps what they call in
    the end. So this must begin before they are put there, and end after the last forward.

    Args:
        pipeline: Its modules' classes are changed meanwhile.
    """
    counts: Counter[tuple[str, int]] = Counter()
    classes = {type(part) for part in pipeline.components.values() if isinstance(part, torch.nn.Module)}
    with contextlib.ExitStack() as stack:
        for module_class in classes:
            for entrance in _ENTRANCES:
                method = getattr(module_class, entrance, None)
                if callable(method):
                    counted = _counted(method, f"{module_class.__name__}.{entrance}", counts)
                    stack.enter_context(patch.object(module_class, entrance, counted))
        yield counts


def _counted(method: Callable[..., Any], name: str, counts: Counter[tuple[str, int]]) -> Callable[..., Any]:
    @functools.wraps(method)
    def call(*args: Any, **kwargs: Any) -> Any:
        counts[name, _rows([*args[1:], *kwargs.values()])] += 1
        return method(*args, **kwargs)

    return call


def _rows(arguments: list[Any]) -> int:
    """As many as the first argument with a batch dimension has."""
    for value in arguments:
        if (isinstance(value, torch.Tensor) and value.ndim > 1) or (isinstance(value, list) and value):
            return len(value)
    return 1
