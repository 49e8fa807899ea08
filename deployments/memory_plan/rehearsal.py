"""Runs a stock pipeline without values, and counts what each of its modules' calls needs."""

from __future__ import annotations

import gc
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging
from torch.overrides import TorchFunctionMode

from deployments.engine.request import ImageRequest
from deployments.engine.shells import call_arguments, shell_for
from deployments.engine.stages import Stage, stage_of
from deployments.engine.trees import map_tensors, tensors_of
from deployments.memory_plan.live_bytes import FusedKernels, LiveBytes
from deployments.memory_plan.repeats import Repeated, Repeats, describe, make_like, map_results

# As many as a row of tiles and one more have at the size that is counted, so that tiles are blended.
_MOST_TILES = 10
_ENTRANCES = ("forward", "encode", "decode")
_CPU, _META = torch.device("cpu"), torch.device("meta")


@dataclass(frozen=True)
class CountedCall:
    """What a call of a module needs besides the weights.

    Attributes:
        component: The module's name in the pipeline.
        stage: What the call is for.
        peak: Most bytes of tensors at once, those that the pipeline keeps meanwhile included.
        full: The same with the workspaces of convolutions.
        is_saving: Whether it decodes with slicing and tiling.
    """

    component: str
    stage: Stage
    peak: int = 0
    full: int = 0
    is_saving: bool = False


class _EnoughTilesError(Exception):
    """Further tiles need what those before them needed."""


class Rehearsal:
    """A pipeline on ``meta`` whose modules can be called from the stock code, which runs on the CPU.

    Pipelines read values of their schedulers, which tensors on ``meta`` do not have. So the pipeline itself computes, a
    few latents only, with zeros for what modules give; a call of a module goes to ``meta``, where it is counted.

    Args:
        pipeline: On ``meta``; it belongs to the rehearsal from now on.
    """

    def __init__(self, pipeline: DiffusionPipeline) -> None:
        self._pipeline = pipeline
        self._counter = LiveBytes()
        self._is_inside = False
        self._calls: list[CountedCall] = []
        self._encoded: dict[Hashable, Repeated] = {}
        self._repeats = Repeats(self._counter)
        self._counts_saving = False
        for name, component in pipeline.components.items():
            if isinstance(component, torch.nn.Module):
                for tensor in [*component.parameters(), *component.buffers()]:
                    self._counter.count(tensor)
                self._repeats.watch(component)
                self._gate(name, component)
        # What modules make once and keep, such as tables of positions, counts as tensors.
        self._weights = self._counter.live

    def count(self, request: ImageRequest, images: int, *, counts_saving: bool = False) -> list[CountedCall]:
        """Make images as the engine makes them, and count each call of a module.

        Args:
            request: What to make.
            images: How many at once.
            counts_saving: Whether decoding is counted a second time, with slicing and tiling.

        Raises:
            Exception: Whatever the pipeline raises where it needs values.
        """
        self._calls, self._counts_saving = [], counts_saving
        shell = shell_for(self._pipeline, request)
        arguments = call_arguments(shell, request, lambda step, latents: None)
        for name in ("prompt", "negative_prompt"):
            if arguments.get(name) is not None:
                arguments[name] = [arguments[name]] * images
        with _without_warnings(), torch.no_grad(), _ValuesForPipelines(self), FusedKernels(), self._counter:
            shell(**arguments)
        return self._calls

    @property
    def is_inside(self) -> bool:
        """Whether a module is being called."""
        return self._is_inside

    def zeros_for(self, tensor: torch.Tensor) -> torch.Tensor:
        """A tensor on the CPU, of zeros, that stands for one on ``meta``."""
        with torch.utils._python_dispatch._disable_current_modes():
            values = torch.zeros(tensor.shape, dtype=tensor.dtype)
            self._counter.count(values, like=tensor)
        return values

    def _gate(self, name: str, module: torch.nn.Module) -> None:
        kind = type(module)
        device = property(lambda _: _META if self._is_inside else _CPU)
        module.__class__ = type(kind.__name__, (kind,), {"device": device, "__module__": kind.__module__})
        for entrance in _ENTRANCES:
            function = getattr(module, entrance, None)
            if callable(function):
                setattr(module, entrance, self._counted(name, module, function))

    def _counted(self, component: str, module: torch.nn.Module, function: Callable[..., Any]) -> Callable[..., Any]:
        stage = stage_of(function)

        def call(*args: Any, **kwargs: Any) -> Any:
            if self._is_inside:
                return function(*args, **kwargs)
            if stage is Stage.ENCODING:
                return self._encode(component, function, args, kwargs)
            result = self._run(CountedCall(component, stage), function, args, kwargs)
            if self._counts_saving and stage is Stage.DECODING and _can_save(module):
                self._decode_in_tiles(component, module, function, args, kwargs)
            return map_results(self.zeros_for, result)

        call.__wrapped__ = function  # type: ignore[attr-defined]
        return call

    def _encode(self, component: str, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Prompts are as long at every size, so equal calls of an encoder are counted once."""
        key = (component, function.__name__, *(tensor.shape for tensor in [*tensors_of(args), *tensors_of(kwargs)]))
        around = self._counter.live - self._weights
        known = self._encoded.get(key)
        if known is None:
            result = self._run(CountedCall(component, Stage.ENCODING), function, args, kwargs)
            last = self._calls[-1]
            self._encoded[key] = Repeated(last.peak - around, last.full - around, describe(result))
            result = map_results(self.zeros_for, result)
            # Caches of keys and values refer to themselves.
            gc.collect()
            return result
        self._calls.append(CountedCall(component, Stage.ENCODING, around + known.size, around + known.full))
        return make_like(known.result)

    def _decode_in_tiles(
        self, component: str, autoencoder: Any, decode: Callable[..., Any], args: Any, kwargs: Any
    ) -> None:
        """Decode the first tiles; what the finished ones take is left to the plan, which knows the picture's size."""
        left = iter(range(_MOST_TILES))

        def count_tile(*_: Any) -> None:
            if next(left, None) is None:
                raise _EnoughTilesError

        hook = autoencoder.decoder.register_forward_pre_hook(count_tile)
        autoencoder.enable_slicing()
        autoencoder.enable_tiling()
        self._counter.reset()
        try:
            with self._inside():
                decode(*self._on_meta(args), **self._on_meta(kwargs))
        except _EnoughTilesError:
            pass
        finally:
            hook.remove()
            autoencoder.disable_slicing()
            autoencoder.disable_tiling()
        self._note(CountedCall(component, Stage.DECODING, is_saving=True))

    def _run(self, call: CountedCall, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self._repeats.forget()
        self._counter.reset()
        with self._inside():
            result = function(*self._on_meta(args), **self._on_meta(kwargs))
        self._note(call)
        return result

    def _note(self, call: CountedCall) -> None:
        counter = self._counter
        self._calls.append(replace(call, peak=counter.peak - self._weights, full=counter.full - self._weights))

    @contextmanager
    def _inside(self) -> Iterator[None]:
        self._is_inside, self._counter.counts_cpu = True, False
        try:
            yield
        finally:
            self._is_inside, self._counter.counts_cpu = False, True

    def _on_meta(self, tree: Any) -> Any:
        def moved(tensor: torch.Tensor) -> torch.Tensor:
            with torch.utils._python_dispatch._disable_current_modes():
                return torch.empty_strided(tensor.size(), tensor.stride(), dtype=tensor.dtype, device=_META)

        return map_tensors(moved, tree)


def _can_save(module: torch.nn.Module) -> bool:
    """Whether an autoencoder can decode one image after another, and large ones in tiles."""
    return all(hasattr(module, name) for name in ("enable_slicing", "enable_tiling", "decoder"))


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Prompts are made up here, so what pipelines say of them is of no use."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


class _ValuesForPipelines(TorchFunctionMode):
    """Gives zeros to a pipeline that reads a module's weights or buffers itself."""

    def __init__(self, rehearsal: Rehearsal) -> None:
        super().__init__()
        self._rehearsal = rehearsal

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if self._rehearsal.is_inside or getattr(func, "__name__", "") == "__get__":
            return func(*args, **kwargs)
        if any(tensor.is_meta for tensor in [*tensors_of(args), *tensors_of(kwargs)]):
            args, kwargs = map_tensors(self._known, args), map_tensors(self._known, kwargs)
        return func(*args, **kwargs)

    def _known(self, tensor: torch.Tensor) -> torch.Tensor:
        return self._rehearsal.zeros_for(tensor) if tensor.is_meta else tensor
