"""Sees every call of torch's Python interface, ``Tensor.device`` and ``Tensor.data = ...`` included."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from tests.support.pretended_gpu import rules
from tests.support.pretended_gpu.device import PretendedGpu
from tests.support.pretended_gpu.places import CPU, GPU
from tests.support.pretended_gpu.storages import (
    DeviceMemory,
    PinnedMemory,
    is_on_host,
    memory_of,
    note_written,
    pin,
    put_on_device,
    raw_device,
)

_MASKS = (torch.bool, torch.uint8)


class PretendingMode(TorchFunctionMode):
    """Computes on the CPU what would be computed on a GPU, and minds what a GPU would mind.

    Limits: what happens inside a function of torch that is written in Python is not seen; there are no kernels, no
    fragmentation, and no time.

    Args:
        gpu: What is pretended.
    """

    def __init__(self, gpu: PretendedGpu) -> None:
        super().__init__()
        self._gpu = gpu
        self._special: dict[str, Callable[..., Any]] = {
            "to": self._to,
            "cuda": lambda func, tensor, device=None, **options: self._convert(
                tensor, _device(device or GPU), **options
            ),
            "cpu": lambda func, tensor, **options: self._convert(tensor, CPU, **options),
            "numpy": self._to_numpy,
            "__array__": self._to_numpy,
            "copy_": self._copy,
            "pin_memory": self._pin,
            "is_pinned": lambda func, tensor, *_: isinstance(memory_of(tensor), PinnedMemory),
            "get_device": lambda func, tensor: -1 if self._device_of(tensor) == CPU else 0,
            "record_stream": lambda func, tensor, stream: self._gpu.note("record_stream", stream),
        }

    def __torch_function__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Answer a call of torch."""
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name == "__get__":
            return self._attribute(func, args[0])
        if name in rules.VALUE_FREE:
            return func(*args, **kwargs)
        if name in self._special:
            return self._special[name](func, *args, **kwargs)
        return self._compute(func, name, args, kwargs)

    def _attribute(self, func: Any, tensor: torch.Tensor) -> Any:
        attribute = func.__self__.__name__
        if attribute == "device":
            return self._device_of(tensor)
        if attribute == "is_cuda":
            return self._device_of(tensor) == GPU
        if attribute == "is_cpu":
            return self._device_of(tensor) == CPU
        return func(tensor)

    def _compute(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        inputs = list(_tensors((args, kwargs)))
        on_gpu = [self._device_of(tensor) == GPU for tensor in inputs]
        target = self._take_target(kwargs)
        self._check_generator(kwargs, target == GPU or any(on_gpu))
        is_pinned = bool(kwargs.pop("pin_memory", False))
        if any(on_gpu):
            self._check_devices(name, inputs, on_gpu)
            self._count_syncs(name, args, kwargs, inputs)
        result = func(*args, **kwargs)
        where = target or self._result_device(name, args, kwargs, any(on_gpu))
        if where == GPU and name in rules.MAKERS:
            result = self._make(result, rules.values_of(name, args, kwargs))
        if _is_view(result, inputs):
            return result
        self._check_order(inputs)
        if where == GPU:
            self._put(result, inputs)
        elif is_pinned:
            pin(result)
        return result

    def _take_target(self, kwargs: dict[str, Any]) -> torch.device | None:
        """The device that the caller asks for; the real call is made on the CPU in place of the GPU."""
        if kwargs.get("device") is None:
            return None
        target = _device(kwargs["device"])
        if target == GPU:
            kwargs["device"] = CPU
        return target

    def _check_generator(self, kwargs: dict[str, Any], is_on_gpu: bool) -> None:
        if is_on_gpu and isinstance(kwargs.get("generator"), torch.Generator):
            self._gpu.fail("Expected a 'cuda' device type for generator but found 'cpu'")

    def _check_devices(self, name: str, inputs: list[torch.Tensor], on_gpu: list[bool]) -> None:
        if name in rules.MIXING or all(on_gpu):
            return
        for tensor, is_gpu in zip(inputs, on_gpu, strict=True):
            if not is_gpu and is_on_host(tensor) and (tensor.ndim > 0 or name in rules.JOINING):
                self._gpu.fail(
                    "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu! "
                    f"(in {name})"
                )

    def _check_order(self, inputs: list[torch.Tensor]) -> None:
        """Find what is read before it is written: by the host, or by another stream, without waiting."""
        stream = self._gpu.current_stream
        for tensor in inputs:
            memory = memory_of(tensor)
            if memory is None:
                continue
            if isinstance(memory, PinnedMemory):
                if self._gpu.host[memory.written[0]] < memory.written[1]:
                    self._gpu.fail("The host reads pinned memory while a copy into it may be under way.")
            elif not stream.has_seen(*memory.written) and memory.written[0] != stream.stream_id:
                self._gpu.fail("A stream reads what another one writes, without waiting for it.")

    def _count_syncs(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], inputs: list[torch.Tensor]
    ) -> None:
        if name in rules.SYNCS or rules.has_unknown_size(name, args, kwargs):
            self._gpu.note_sync(name)
        elif rules.takes_values(name, args, kwargs):
            for tensor in inputs if name in rules.FILLERS else _tensors(rules.values_of(name, args, kwargs)):
                self._count_value("item", tensor)
        elif name in ("__getitem__", "__setitem__"):
            self._count_index(args[0], args[1] if isinstance(args[1], tuple) else (args[1],))
            if name == "__setitem__" and isinstance(args[2], torch.Tensor) and args[2].ndim:
                self._count_move(self._device_of(args[2]), self._device_of(args[0]))

    def _count_value(self, kind: str, tensor: torch.Tensor) -> None:
        if self._device_of(tensor) == GPU:
            self._gpu.note_sync(kind)

    def _count_index(self, tensor: torch.Tensor, index: tuple[Any, ...]) -> None:
        device = self._device_of(tensor)
        for part in index:
            if isinstance(part, slice):
                for _ in (
                    each for each in _tensors([part.start, part.stop, part.step]) if self._device_of(each) == GPU
                ):
                    self._gpu.note_sync("__index__")
            elif isinstance(part, list) and device == GPU:
                self._gpu.note_copy("H2D")
            elif isinstance(part, torch.Tensor):
                self._count_index_tensor(device, part)

    def _count_index_tensor(self, device: torch.device, index: torch.Tensor) -> None:
        where = self._device_of(index)
        if where == GPU and index.ndim == 0:
            self._gpu.note_sync("__index__")
        elif where == GPU and device == CPU:
            self._gpu.fail("indices should be either on cpu or on the same device as the indexed tensor (cpu)")
        elif where == GPU and index.dtype in _MASKS:
            self._gpu.note_sync("nonzero")
        elif where == CPU and device == GPU and index.ndim:
            self._gpu.note_copy("H2D")

    def _result_device(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], has_gpu: bool) -> torch.device:
        if not has_gpu:
            return CPU
        if name in ("__getitem__", "new_tensor"):
            return self._device_of(args[0])
        return CPU if rules.takes_values(name, args, kwargs) else GPU

    def _make(self, result: torch.Tensor, values: Any) -> torch.Tensor:
        """A tensor of the host's values is made there, and copied to the device."""
        if isinstance(values, torch.Tensor) and self._device_of(values) == GPU:
            return result
        self._gpu.note_copy("H2D")
        return result.clone()

    def _put(self, result: Any, inputs: list[torch.Tensor]) -> None:
        """Put on the device what was computed there."""
        self._gpu.current_stream.advance()
        for tensor in _tensors(result):
            if not any(tensor is each for each in inputs):
                put_on_device(tensor, self._gpu)
            note_written(tensor, self._gpu.current_stream)

    def _to(self, func: Any, tensor: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        copy = bool(kwargs.pop("copy", False))
        other = kwargs.pop("other", None) if "other" in kwargs else args[0] if args else None
        if isinstance(other, torch.Tensor):
            non_blocking = bool(kwargs.get("non_blocking", len(args) > 1 and args[1]))
            device, dtype, memory_format = self._device_of(other), other.dtype, kwargs.get("memory_format")
        else:
            args = tuple(GPU if isinstance(each, int) and not isinstance(each, bool) else each for each in args)
            device, dtype, non_blocking, memory_format = torch._C._nn._parse_to(*args, **kwargs)
        return self._convert(
            tensor,
            None if device is None else _device(device),
            dtype,
            non_blocking=non_blocking,
            copy=copy,
            memory_format=memory_format,
        )

    def _convert(
        self,
        tensor: torch.Tensor,
        device: torch.device | None,
        dtype: torch.dtype | None = None,
        *,
        non_blocking: bool = False,
        copy: bool = False,
        memory_format: torch.memory_format | None = None,
    ) -> torch.Tensor:
        before = self._device_of(tensor)
        after = device or before
        real = CPU if after == GPU else after
        options = {} if memory_format is None else {"memory_format": memory_format}
        self._check_order([tensor])
        moves = before != after and {before, after} == {CPU, GPU}
        result = tensor.to(real, dtype or tensor.dtype, copy=copy or moves, **options)
        if moves and after == CPU and non_blocking:
            pin(result)  # as torch does it
        if result is not tensor and after == GPU:
            put_on_device(result, self._gpu)
        if moves:
            self._move(tensor, result, before, after, non_blocking=non_blocking)
        elif result is not tensor and after == GPU:
            self._gpu.current_stream.advance()
            note_written(result, self._gpu.current_stream)
        return result

    def _move(
        self,
        source: torch.Tensor,
        result: torch.Tensor,
        before: torch.device,
        after: torch.device,
        *,
        non_blocking: bool,
    ) -> None:
        host_side = source if before == CPU else result
        is_async = non_blocking and isinstance(memory_of(host_side), PinnedMemory)
        self._count_move(before, after, is_async=is_async)
        note_written(result, self._gpu.current_stream)

    def _count_move(self, before: torch.device, after: torch.device, *, is_async: bool = False) -> None:
        if {before, after} == {CPU, GPU}:
            self._gpu.note_copy("H2D" if after == GPU else "D2H", is_async=is_async)

    def _copy(self, func: Any, tensor: torch.Tensor, source: torch.Tensor, non_blocking: bool = False) -> torch.Tensor:
        self._check_order([source])
        func(tensor, source)
        before, after = self._device_of(source), self._device_of(tensor)
        if {before, after} == {CPU, GPU}:
            self._move(source, tensor, before, after, non_blocking=non_blocking)
        elif after == GPU:
            self._gpu.current_stream.advance()
            note_written(tensor, self._gpu.current_stream)
        return tensor

    def _to_numpy(self, func: Any, tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        if self._device_of(tensor) == GPU:
            self._gpu.fail(
                "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory "
                "first.",
                TypeError,
            )
        self._check_order([tensor])
        return func(tensor, *args, **kwargs)

    def _pin(self, func: Any, tensor: torch.Tensor, *_: Any) -> torch.Tensor:
        if self._device_of(tensor) == GPU:
            self._gpu.fail("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")
        if isinstance(memory_of(tensor), PinnedMemory):
            return tensor
        pinned = tensor.clone()
        pin(pinned)
        return pinned

    def _device_of(self, tensor: torch.Tensor) -> torch.device:
        if isinstance(memory_of(tensor), DeviceMemory):
            return GPU
        return raw_device(tensor)


def _device(device: Any) -> torch.device:
    """A device by whatever names it.

    Raises:
        RuntimeError: If it is a GPU that is not even pretended.
    """
    given = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    if given.type != "cuda":
        return given
    if given.index not in (None, 0):
        raise RuntimeError("CUDA error: invalid device ordinal")
    return GPU


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _tensors(each)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))


def _is_view(result: Any, inputs: list[torch.Tensor]) -> bool:
    """Whether results look at an input's memory; what changes an input returns the input itself."""
    results = list(_tensors(result))
    return bool(results) and all(
        any(each is not tensor and _share_storage(each, tensor) for tensor in inputs) for each in results
    )


def _share_storage(one: torch.Tensor, other: torch.Tensor) -> bool:
    try:
        return bool(one.untyped_storage()._cdata == other.untyped_storage()._cdata)
    except (RuntimeError, NotImplementedError):
        return False
