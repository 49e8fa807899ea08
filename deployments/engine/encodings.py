"""A bounded memory of encoded prompts: the same prompt need not pass through its text encoder twice."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import torch

from deployments.engine.grouping import Call
from deployments.engine.stages import Stage, stage_of
from deployments.engine.trees import map_tensors, tensors_of


class EncodingCache:
    """Results of text encoder calls, the longest unused of which are dropped first.

    Args:
        max_bytes: What the kept tensors may take together; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def get(self, key: Hashable) -> Any | None:
        """A result of its own to whoever asks, or None."""
        if key not in self._kept:
            return None
        self._kept.move_to_end(key)
        return map_tensors(torch.clone, self._kept[key][0])  # pipelines may change what they are given

    def put(self, key: Hashable, result: Any) -> None:
        """Keep a copy of a result."""
        size = sum(tensor.nbytes for tensor in tensors_of(result))
        if size > self._max_bytes or key in self._kept:
            return
        self._kept[key] = (map_tensors(torch.clone, result), size)
        self._bytes += size
        while self._bytes > self._max_bytes:
            _, (_, dropped) = self._kept.popitem(last=False)
            self._bytes -= dropped

    def clear(self) -> None:
        """Keep nothing of what there is."""
        self._kept.clear()
        self._bytes = 0


def encoding_key(call: Call, *, alone: bool) -> Hashable | None:
    """What identifies the result of a text encoder's call, or None for a call of another kind.

    Args:
        call: Any call.
        alone: Whether the result must be that of a forward without company, which may differ in its last bits.
    """
    if stage_of(call.target) is not Stage.ENCODING or not call.columns:
        return None
    words = [column for column in call.columns if isinstance(column, torch.Tensor)]
    if len(words) != len(call.columns) or any(column.is_floating_point() for column in words):
        return None
    return (call.key, alone, *(column.cpu().contiguous().numpy().tobytes() for column in words))
