"""Puts a pretended GPU in the place of the real one that is not there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch

from tests.support.pretended_gpu.device import PretendedGpu
from tests.support.pretended_gpu.mode import PretendingMode


@contextlib.contextmanager
def pretend_gpu(capacity: int | None = None, **options: Any) -> Iterator[PretendedGpu]:
    """Have a GPU: on this thread, and on all threads that are started meanwhile.

    Args:
        capacity: Its bytes; None for no limit.
        options: Of :class:`PretendedGpu`.
    """
    gpu = PretendedGpu(capacity, **options)
    run = threading.Thread.run

    def run_pretending(thread: threading.Thread) -> None:
        with PretendingMode(gpu):
            run(thread)

    with contextlib.ExitStack() as stack:
        for owner, answers in _answers(gpu).items():
            for name, answer in answers.items():
                stack.enter_context(patch.object(owner, name, answer, create=True))
        stack.enter_context(patch.object(threading.Thread, "run", run_pretending))
        stack.enter_context(PretendingMode(gpu))
        yield gpu


def _answers(gpu: PretendedGpu) -> dict[Any, dict[str, Any]]:
    """What modules of torch say of the device, by module and name."""
    return {
        torch: {
            "Stream": _class_like(torch.Stream, gpu.make_stream),
            "Event": _class_like(torch.Event, gpu.make_event),
        },
        torch.version: {"cuda": "13.0"},
        torch.cuda: {**_common(gpu), **_cuda(gpu)},
        torch.cuda.memory: _memory(gpu),
        torch.accelerator: {**_common(gpu), **_accelerator(gpu)},
        torch.accelerator.memory: {**_memory(gpu), "get_memory_info": lambda *_: (gpu.free, gpu.total)},
    }


def _streams(gpu: PretendedGpu, stream: type, event: type) -> dict[str, Any]:
    return {"Stream": _class_like(stream, gpu.make_stream), "Event": _class_like(event, gpu.make_event)}


def _common(gpu: PretendedGpu) -> dict[str, Any]:
    def synchronize(*_: Any) -> None:
        gpu.note("synchronize")
        gpu.note_sync("synchronize")

    def set_stream(stream: Any) -> None:
        gpu.current_stream = stream

    return {
        "is_available": _always(True),
        "device_count": _always(1),
        "synchronize": synchronize,
        "current_stream": lambda *_: gpu.current_stream,
        "set_stream": set_stream,
        **_memory(gpu),
    }


def _memory(gpu: PretendedGpu) -> dict[str, Any]:
    def reset_peak(*_: Any) -> None:
        gpu.peak = gpu.live

    return {
        "empty_cache": gpu.empty_cache,
        "memory_allocated": lambda *_: gpu.live,
        "max_memory_allocated": lambda *_: gpu.peak,
        "memory_reserved": lambda *_: gpu.reserved,
        "max_memory_reserved": lambda *_: gpu.reserved,
        "reset_peak_memory_stats": reset_peak,
    }


def _cuda(gpu: PretendedGpu) -> dict[str, Any]:
    major, minor = gpu.capability
    properties = SimpleNamespace(
        name=gpu.name, major=major, minor=minor, total_memory=gpu.total, multi_processor_count=132, is_integrated=False
    )

    return {
        "_lazy_init": _always(None),
        **_streams(gpu, torch.cuda.Stream, torch.cuda.Event),
        "stream": lambda stream: stream or contextlib.nullcontext(),
        "default_stream": lambda *_: gpu.default_stream,
        "current_device": _always(0),
        "set_device": _always(None),
        "device": lambda *_: contextlib.nullcontext(),
        "get_device_name": _always(gpu.name),
        "get_device_capability": _always(gpu.capability),
        "get_device_properties": _always(properties),
        "get_arch_list": _always([f"sm_{major}{minor}"]),
        "is_bf16_supported": lambda including_emulation=True: including_emulation or major >= 8,
        "manual_seed": _always(None),
        "manual_seed_all": _always(None),
        "mem_get_info": lambda *_: (gpu.free, gpu.total),
        "set_per_process_memory_fraction": lambda fraction, *_: gpu.cap(fraction),
        "ipc_collect": _always(None),
    }


def _accelerator(gpu: PretendedGpu) -> dict[str, Any]:
    return {
        "current_accelerator": _always(torch.device("cuda")),
        "current_device_index": _always(0),
        "empty_host_cache": _always(None),
        "current_device_idx": _always(0),
        "set_device_index": _always(None),
        "get_memory_info": lambda *_: (gpu.free, gpu.total),
        "device_index": lambda *_: contextlib.nullcontext(),
    }


def _always(answer: Any) -> Callable[..., Any]:
    return lambda *_, **__: answer


def _class_like(real: type, make: Callable[..., Any]) -> type:
    """A class in the place of torch's own, as callers name these in annotations and ``isinstance``."""

    class Made(type):
        def __call__(cls, *args: Any, **options: Any) -> Any:
            return make(*args, **options)

        def __instancecheck__(cls, instance: Any) -> bool:
            return type(instance).__name__ == real.__name__

    return Made(real.__name__, (), {})
