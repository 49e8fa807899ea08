"""The step caches of a pipeline's denoisers, and who is carried in which forward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from deployments.engine.stages import module_of
from deployments.engine.step_cache import CachedPass, Passenger, StepCache
from deployments.pipelines.exceptions import ModelLoadError

if TYPE_CHECKING:
    from deployments.engine.generation import Generation
    from deployments.engine.grouping import Call

_DENOISERS = ("unet", "transformer", "transformer_2", "prior")


class StepCaches:
    """One for each denoiser of a pipeline.

    Args:
        components: The pipeline's, by name; none for a pipeline without step caches.

    Raises:
        ModelLoadError: If there are components, and no denoiser among them that can have a step cache.
    """

    def __init__(self, components: Mapping[str, Any]) -> None:
        denoisers = [components.get(name) for name in _DENOISERS]
        try:
            self._caches = {part: StepCache(part) for part in denoisers if isinstance(part, torch.nn.Module)}
        except ValueError as error:
            raise ModelLoadError(f"step_cache: {error}") from error
        if components and not self._caches:
            raise ModelLoadError("step_cache: the pipeline has no denoiser that could have one.")

    def with_memory(self, call: Call, generation: Generation) -> Call:
        """A denoiser's call with what its image keeps; any other call as it is.

        Pipelines that call the denoiser several times a step, for the prompt and for its negative, do so in a fixed
        order: each place in the step has a memory of its own.
        """
        threshold = generation.request.settings.step_cache
        module = module_of(call.target)
        if not threshold or module not in self._caches:
            return call
        place = (id(module), generation.calls_in_step)
        generation.calls_in_step += 1
        return replace(call, cached=generation.passes.setdefault(place, CachedPass(threshold)))

    def carrying(self, calls: Sequence[Call], padded_rows: int | None) -> AbstractContextManager[None]:
        """Within this, a forward of these calls uses and fills their memories.

        Args:
            calls: In the order of their rows.
            padded_rows: The exact number of rows that the forward has, or None if any will do.
        """
        if all(call.cached is None for call in calls):
            return nullcontext()
        passengers = [Passenger(call.rows, call.cached) for call in calls]
        padding = (padded_rows or 0) - sum(call.rows for call in calls)
        if padding > 0:
            passengers.append(Passenger(padding, is_padding=True))
        return self._caches[module_of(calls[0].target)].carrying(passengers, fixed_width=padded_rows is not None)
