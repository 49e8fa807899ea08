"""A bounded cache of encoded prompts: the same prompt does not pass through its text encoder twice."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import Any

import torch
from cachetools import LRUCache
from transformers import PreTrainedModel

from deployments.engine.grouping import Call
from deployments.engine.stages import Stage, stage_of
from deployments.engine.trees import all_tensors_of, leaves_of, map_tensors, tensors_of
from deployments.pipelines.host_tokens import tokens_of


class EncodingCache:
    """Results of text encoder calls; evicts the least recently used.

    Args:
        max_bytes: Most bytes of the tensors together; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._kept: LRUCache[Hashable, Any] = LRUCache(max_bytes, getsizeof=_bytes_of)

    @property
    def kept_bytes(self) -> int:
        """Bytes of all tensors that are kept."""
        return int(self._kept.currsize)

    def get(self, key: Hashable) -> Any | None:
        """Return a copy of a result, as pipelines may change what they are given; None where it is not kept."""
        return map_tensors(torch.clone, self._kept.get(key))

    def put(self, key: Hashable, result: Any) -> None:
        """Keep a copy of a result, unless it takes more than all the memory.

        Results with objects in them that change as they are used, such as a language model's cache, are not kept.
        """
        if key not in self._kept and _is_plain(result) and _bytes_of(result) <= self._kept.maxsize:
            self._kept[key] = map_tensors(torch.clone, result)

    def clear(self) -> None:
        """Drop all results."""
        self._kept.clear()


def keep_no_past(components: Iterable[Any]) -> None:
    """Switch off the key-value caches of language models that encode prompts.

    By default they return the keys and values of all layers for a next token, which a text encoder never has: some
    twenty times as many bytes as the encoding. A call that asks for a cache, as ``generate`` does, still has one.

    Args:
        components: Of a pipeline.
    """
    for component in components:
        for module in component.modules() if isinstance(component, PreTrainedModel) else ():
            config: Any = getattr(module, "config", None)
            if getattr(config, "use_cache", None):
                config.use_cache = False


def encoding_key(call: Call, *, alone: bool) -> Hashable | None:
    """What identifies the result of a text encoder's call, or None for a call of another kind.

    Args:
        call: Any call.
        alone: Whether the result must be that of a forward of this call alone; others may differ in their last bits.
    """
    if stage_of(call.target) is not Stage.ENCODING or not call.columns or not call.has_plain_leaves:
        return None
    words = tensors_of([call.columns, call.leaves])
    if any(isinstance(column, list) for column in call.columns) or any(word.is_floating_point() for word in words):
        return None
    return (call.layout, call.loras, alone, *map(tokens_of, words))


def _is_plain(result: Any) -> bool:
    return all(isinstance(leaf, torch.Tensor | bool | int | float | str | None) for leaf in leaves_of(result))


def _bytes_of(result: Any) -> int:
    return sum(tensor.nbytes for tensor in all_tensors_of(result))
