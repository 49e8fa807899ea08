"""Offloads a pipeline's weights: keeps them on the device, or in main memory until they are used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from accelerate.hooks import UserCpuOffloadHook
from diffusers import DiffusionPipeline
from diffusers.hooks import apply_group_offloading
from transformers import PreTrainedModel

from deployments.accelerator import KINDS_WITH_STREAMS
from deployments.pipelines.exceptions import ModelLoadError


def place_pipeline(pipeline: DiffusionPipeline, offload: str, device: str) -> None:
    """Put a pipeline's modules on the device, or offload them.

    Args:
        pipeline: On the CPU.
        offload: ``none`` puts all of it on the device; ``model`` brings whole modules there when they are called,
            ``group`` their layers, and ``encoders`` only the layers of text encoders.
        device: Where it computes.

    Raises:
        ModelLoadError: If there is nothing to offload from.
    """
    if offload == "none":
        pipeline.to(device)
        return
    if torch.device(device).type == "cpu":
        raise ModelLoadError(f"offload: {offload} needs a GPU, and this model computes on the CPU.")
    if offload == "encoders":
        offload_encoders(pipeline, device)
    elif offload == "model":
        offload_modules(pipeline, device)
    else:
        offload_groups(pipeline, device)


def offload_modules(pipeline: DiffusionPipeline, device: str) -> None:
    """Keep one module at a time on the device.

    Diffusers offloads along the order in which one image calls the modules, and starts over after each image. With
    many images under way there is no such order, and starting over would take away the engine's gates: here each
    module sends all others away when it is called, and nothing is done between images.
    """
    pipeline.enable_model_cpu_offload(device=device)
    hooks = list(pipeline._all_hooks)
    for hook in hooks:
        hook.hook.prev_module_hook = _OtherModules([other for other in hooks if other is not hook])
    pipeline.maybe_free_model_hooks = _keep_hooks


def offload_groups(pipeline: DiffusionPipeline, device: str) -> None:
    """Keep single layers on the device; on a GPU the next ones are fetched meanwhile.

    Raises:
        ModelLoadError: If two components have layers in common, which diffusers would move twice.
    """
    seen: set[torch.nn.Module] = set()
    for name, module in pipeline.components.items():
        layers = set(module.modules()) if isinstance(module, torch.nn.Module) else set()
        if seen & layers:
            raise ModelLoadError(
                f"offload: group does not go with the {name} of a {type(pipeline).__name__}, which has layers of "
                "another component; take encoders or model."
            )
        seen |= layers
    pipeline.enable_group_offload(**_by_layers(device))


def offload_encoders(pipeline: DiffusionPipeline, device: str) -> None:
    """Keep single layers of the text encoders on the device, and all else there for good.

    A prompt is encoded once for all steps of its image, so what takes nearly all of the time takes no more of it.

    Raises:
        ModelLoadError: If the pipeline has no text encoder.
    """
    modules = {name: each for name, each in pipeline.components.items() if isinstance(each, torch.nn.Module)}
    if not any(is_text_encoder(name, module) for name, module in modules.items()):
        raise ModelLoadError(f"offload: encoders needs a text encoder, and a {type(pipeline).__name__} has none.")
    for name, module in modules.items():
        if is_text_encoder(name, module):
            apply_group_offloading(module, **_by_layers(device))
        else:
            module.to(device)


def is_text_encoder(name: str, component: Any) -> bool:
    """Whether a component encodes prompts.

    Args:
        name: In the pipeline.
        component: Of any kind.
    """
    return name.startswith("text_encoder") and isinstance(component, PreTrainedModel)


def _by_layers(device: str) -> dict[str, Any]:
    return {
        "onload_device": torch.device(device),
        "offload_device": torch.device("cpu"),
        "offload_type": "leaf_level",
        "use_stream": torch.device(device).type in KINDS_WITH_STREAMS,
    }


class _OtherModules(UserCpuOffloadHook):  # type: ignore[misc]
    """In the place of the one module before, all modules but the one that is called."""

    def __init__(self, others: Sequence[UserCpuOffloadHook]) -> None:
        self._others = others

    @property
    def model(self) -> torch.nn.Module:
        """One that is on the device, if any is: only then is ``offload`` called."""
        modules: list[torch.nn.Module] = [other.model for other in self._others]
        return next((module for module in modules if not _is_on_cpu(module)), modules[0])

    def offload(self) -> None:
        """Send them all to main memory."""
        for other in self._others:
            if not _is_on_cpu(other.model):
                other.offload()

    def remove(self) -> None:
        """The hooks are removed each from its own module."""


def _is_on_cpu(module: torch.nn.Module) -> bool:
    parameter = next(module.parameters(), None)
    return parameter is None or parameter.device.type == "cpu"


def _keep_hooks() -> None:
    """In the place of ``maybe_free_model_hooks``."""
