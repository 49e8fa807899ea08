"""Token ids that are known on the host, although the pipeline has sent them to the device.

The engine looks encoded prompts up by their tokens. A pipeline makes these on the host and moves them to the device; to
copy them back would wait for everything that the device still has to do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, ProcessorMixin


def remember_tokens(components: Iterable[Any]) -> None:
    """Make the tokenizers among a pipeline's components note what they give, see :func:`tokens_of`.

    Args:
        components: Of a pipeline.
    """
    for component in components:
        if isinstance(component, PreTrainedTokenizerBase | ProcessorMixin):
            component.__class__ = _remembering(type(component))


def tokens_of(tensor: torch.Tensor) -> bytes:
    """The values of a tensor of integers. Waits for the device where they are not known on the host.

    Args:
        tensor: What a tokenizer gave, moved to any device as it was; or any other tensor.
    """
    known: bytes | None = getattr(tensor, "_host_values", None)
    return _values(tensor.cpu()) if known is None else known


def _remembering(kind: type[Any]) -> type[Any]:
    """A tokenizer's class with a call that notes the tensors which it gives."""
    if "_remembers_tokens" in vars(kind):
        return kind

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = kind.__call__(self, *args, **kwargs)
        if isinstance(result, Mapping):
            for value in result.values():
                if isinstance(value, torch.Tensor) and not value.is_floating_point() and value.device.type == "cpu":
                    value.to = partial(_moved, value)  # type: ignore[method-assign]
        return result

    names = {"__call__": call, "__module__": kind.__module__, "__doc__": kind.__doc__, "_remembers_tokens": True}
    return type(kind.__name__, (kind,), names)


def _moved(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    moved = torch.Tensor.to(tensor, *args, **kwargs)
    if moved.dtype is tensor.dtype and moved is not tensor:
        moved._host_values = _values(tensor)  # type: ignore[attr-defined]
    return moved


def _values(tensor: torch.Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()
