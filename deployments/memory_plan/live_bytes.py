"""Counts the bytes of live tensors while a pipeline runs on torch's ``meta`` device, where nothing is computed."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from deployments.engine.trees import tensors_of

_ATTENTION = functional.scaled_dot_product_attention
_RMS_NORMS = (functional.rms_norm, torch.rms_norm)
_CONVOLUTION = torch.ops.aten.convolution.default
# cuDNN computes these with tensor cores, float32 as TF32, which want the channels last; pipelines have them first. So
# it keeps a copy of what is given and of what it gives in the other order:
# https://docs.nvidia.com/deeplearning/performance/dl-performance-convolutional/index.html#tensor-layout
_TRANSPOSED = (torch.float16, torch.bfloat16, torch.float32)
_ITEM = torch.ops.aten._local_scalar_dense.default


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts each storage that an operation makes, from when it is made until its last tensor is gone.

    Outside of modules, tensors of the CPU stand for those that a pipeline has on its device; inside, only those on
    ``meta`` are counted.

    Attributes:
        live: Bytes now.
        peak: Most bytes since it was last set.
        full: The same with the workspaces of convolutions.
        counts_cpu: Whether tensors on the CPU are counted.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = 0
        self.peak = self.full = 0
        self.counts_cpu = True

    def reset(self) -> None:
        """Begin to look for the most bytes."""
        self.peak = self.full = self.live

    def note(self, peak: int, full: int) -> None:
        """Note that there were so many bytes at once."""
        self.peak, self.full = max(self.peak, peak), max(self.full, peak, full)

    def count(self, tensor: torch.Tensor, like: torch.Tensor | None = None) -> None:
        """Count a tensor's storage, unless it is counted already.

        Args:
            tensor: Any.
            like: Whose storage it stands for: then that one's bytes are counted for as long as either is there.
        """
        storage = tensor.untyped_storage()
        if getattr(storage, "_counted", None) is None:
            counted = None if like is None else getattr(like.untyped_storage(), "_counted", None)
            storage._counted = counted or _Bytes(self, storage.nbytes())  # type: ignore[attr-defined]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and count what it makes. A value that nobody knows is True, or 1."""
        if func is _ITEM and args[0].is_meta:
            return args[0].dtype == torch.bool or 1
        result = func(*args, **(kwargs or {}))
        given = {tensor.untyped_storage()._cdata for tensor in tensors_of(args)}
        for tensor in tensors_of(result):
            if (self.counts_cpu or tensor.is_meta) and tensor.untyped_storage()._cdata not in given:
                self.count(tensor)
        if func is _CONVOLUTION and result.is_meta and result.dtype in _TRANSPOSED:
            self.note(self.live, self.live + args[0].nbytes + result.nbytes)
        return result


class FusedKernels(TorchFunctionMode):
    """Gives operations that are one kernel on a GPU the memory of that kernel: their result and nothing else.

    Attention keeps no matrix of queries by keys: PyTorch chooses flash, cuDNN or memory-efficient attention, each of
    which computes in tiles (https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html).
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, or make what it would give."""
        kwargs = kwargs or {}
        if func is _ATTENTION:
            return _attended(*args, **kwargs)
        if func in _RMS_NORMS and args[0].is_meta:
            return torch.empty_like(args[0])
        return func(*args, **kwargs)


class _Bytes:
    """Bytes that are counted for as long as this object lives."""

    def __init__(self, counter: LiveBytes, size: int) -> None:
        self._counter = counter
        self._size = size
        counter.live += size
        counter.note(counter.live, counter.live)

    def __del__(self) -> None:
        self._counter.live -= self._size


def _attended(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
    if not query.is_meta:
        return _ATTENTION(query, key, value, *args, **kwargs)
    if query.ndim != 4:
        return query.new_empty((*query.shape[:-1], value.shape[-1]))
    # The kernels write the heads of a token side by side.
    batch, heads, tokens, _ = query.shape
    return query.new_empty((batch, tokens, heads, value.shape[-1])).transpose(1, 2)
