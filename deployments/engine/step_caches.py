"""The step caches of a pipeline's denoisers, and which images each forward carries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch

from deployments.engine.grouping import Call
from deployments.engine.stages import module_of
from deployments.engine.step_cache import DenoiserPasses, Passenger, StepCache
from deployments.pipelines.exceptions import ModelLoadError

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

    def with_memory(self, call: Call, passes: DenoiserPasses, step: int) -> Call:
        """A denoiser's call with what its image keeps; any other call as it is.

        Args:
            call: Of a shared module.
            passes: Those of the image.
            step: Denoising steps that the image has done.
        """
        module = module_of(call.target)
        if not passes.threshold or module not in self._caches:
            return call
        return replace(call, cached=passes.next(module, step))

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
