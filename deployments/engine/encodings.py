"""A bounded cache of encoded prompts: the same prompt does not pass through its text encoder twice."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from cachetools import LRUCache

from deployments.engine.grouping import Call
from deployments.engine.stages import Stage, stage_of
from deployments.engine.trees import map_tensors, tensors_of


class EncodingCache:
    """Results of text encoder calls; evicts the least recently used.

    Args:
        max_bytes: Most bytes of the tensors together; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._kept: LRUCache[Hashable, Any] = LRUCache(max_bytes, getsizeof=_bytes_of)

    def get(self, key: Hashable) -> Any | None:
        """Return a copy of a result, as pipelines may change what they are given; None where it is not kept."""
        return map_tensors(torch.clone, self._kept.get(key))

    def put(self, key: Hashable, result: Any) -> None:
        """Keep a copy of a result, unless it takes more than all the memory."""
        if key not in self._kept and _bytes_of(result) <= self._kept.maxsize:
            self._kept[key] = map_tensors(torch.clone, result)

    def clear(self) -> None:
        """Drop all results."""
        self._kept.clear()


def encoding_key(call: Call, *, alone: bool) -> Hashable | None:
    """What identifies the result of a text encoder's call, or None for a call of another kind.

    Args:
        call: Any call.
        alone: Whether the result must be that of a forward of this call alone; others may differ in their last bits.
    """
    if stage_of(call.target) is not Stage.ENCODING or not call.columns:
        return None
    words = [column for column in call.columns if isinstance(column, torch.Tensor)]
    if len(words) != len(call.columns) or any(column.is_floating_point() for column in words):
        return None
    return (call.key, alone, *(column.cpu().contiguous().numpy().tobytes() for column in words))


def _bytes_of(result: Any) -> int:
    return sum(tensor.nbytes for tensor in tensors_of(result))
