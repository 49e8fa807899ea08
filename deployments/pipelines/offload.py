"""Offloads a pipeline's weights: keeps them on the device, or in main memory until they are used."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from accelerate.hooks import UserCpuOffloadHook
from diffusers import DiffusionPipeline

from deployments.accelerator import KINDS_WITH_STREAMS
from deployments.pipelines.exceptions import ModelLoadError


def place_pipeline(pipeline: DiffusionPipeline, offload: str, device: str) -> None:
    """Put a pipeline's modules on the device, or offload them.

    Args:
        pipeline: On the CPU.
        offload: ``none`` puts all of it on the device; ``model`` brings whole modules there when they are called, and
            ``group`` their layers.
        device: Where it computes.

    Raises:
        ModelLoadError: If there is nothing to offload from.
    """
    if offload == "none":
        pipeline.to(device)
        return
    if torch.device(device).type == "cpu":
        raise ModelLoadError(f"offload: {offload} needs a GPU, and this model computes on the CPU.")
    if offload == "model":
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
    """Keep single layers on the device; on a GPU the next ones are fetched meanwhile."""
    pipeline.enable_group_offload(
        onload_device=torch.device(device),
        offload_device=torch.device("cpu"),
        offload_type="leaf_level",
        use_stream=torch.device(device).type in KINDS_WITH_STREAMS,
    )


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
