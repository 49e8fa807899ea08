"""Activates the LoRAs that an image asks for, over weights that all images share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from deployments.parameters import LoraChoice
from deployments.pipelines.exceptions import UnsuitableRequestError
from deployments.pipelines.lora import REQUEST_PREFIX

LoraSet = tuple[tuple[str, float], ...]
"""Names and scales, in the order of the names."""


def lora_set(loras: Iterable[LoraChoice]) -> LoraSet:
    """LoRAs in a form that is equal for equal requests; a scale of 0 is none.

    Args:
        loras: In any order.
    """
    return tuple(sorted((lora.name, lora.scale) for lora in loras if lora.scale))


class LoraSets:
    """Switches a pipeline's modules from one set of LoRAs to another; those that are always on stay active.

    Args:
        components: The pipeline's, by name, with all LoRAs loaded.
    """

    def __init__(self, components: Mapping[str, Any]) -> None:
        modules = [part for part in components.values() if hasattr(part, "peft_config")]
        self._layers = {module: _lora_layers(module) for module in modules}
        self._known = {module: list(module.peft_config) for module in modules}
        self._active: dict[torch.nn.Module, LoraSet] = {}

    def within(self, module: Any, loras: LoraSet) -> LoraSet:
        """Those of a set that have weights for a module.

        Raises:
            UnsuitableRequestError: If the pipeline has no LoRA of one of the names.
        """
        for name, _ in loras:
            if not any(_adapter(name) in known for known in self._known.values()):
                raise UnsuitableRequestError(f'The model has no LoRA "{name}".')
        known = self._known.get(module, [])
        return tuple((name, scale) for name, scale in loras if _adapter(name) in known)

    def activate(self, module: Any, loras: LoraSet) -> None:
        """Activate these LoRAs for the next forward of a module. Does nothing where they are active.

        Args:
            module: Of the pipeline.
            loras: What :meth:`within` gave for it.
        """
        if self._active.get(module, ()) == loras:
            return
        names = [name for name in self._known[module] if not name.startswith(REQUEST_PREFIX)]
        names += [_adapter(name) for name, _ in loras]
        for layer in self._layers[module]:
            # What set_adapter does, less a walk over parameters to freeze them, which takes far longer than this loop.
            layer._active_adapter = names
            for name, scale in loras:
                layer.set_scale(_adapter(name), scale)
        self._active[module] = loras


def _adapter(name: str) -> str:
    return REQUEST_PREFIX + name


def _lora_layers(module: torch.nn.Module) -> list[Any]:
    # A second's import, which only models with LoRAs need.
    from peft.tuners.tuners_utils import BaseTunerLayer  # noqa: PLC0415

    return [layer for layer in module.modules() if isinstance(layer, BaseTunerLayer)]
