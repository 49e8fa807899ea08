"""Tunes a loaded pipeline: sampler, LoRAs, attention kernels, and ways to need less memory or time."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from diffusers import DiffusionPipeline, SchedulerMixin

from deployments.catalog.entry import ModelEntry
from deployments.catalog.loading import SchedulerChoice
from deployments.pipelines.attention import choose_attention
from deployments.pipelines.denoisers import denoisers
from deployments.pipelines.exceptions import ModelLoadError
from deployments.pipelines.long_prompts import encode_long_prompts
from deployments.pipelines.lora import add_loras
from deployments.pipelines.offload import place_pipeline

STORAGE_DTYPES = {"float8_e4m3fn": torch.float8_e4m3fn, "float8_e5m2": torch.float8_e5m2}
"""The number formats of ``loading.layerwise_casting``."""


def tune_pipeline(
    pipeline: DiffusionPipeline, entry: ModelEntry, device: str, token: str | None = None, *, is_parked: bool = False
) -> None:
    """Apply the tuning of a catalog entry, and put the pipeline on its device.

    All of it must be done before an engine puts its gates in front of the modules: what diffusers hooks into a module
    then lies behind the gate, and sees the joined calls.

    Args:
        pipeline: A pipeline on the CPU, as it was read.
        entry: The model.
        device: Where it computes.
        token: Of the hub, for LoRAs.
        is_parked: Whether its weights stay where they are, in main memory.

    Raises:
        ModelLoadError: If the pipeline cannot do it.
    """
    loading = entry.loading
    if not loading.safety_checker:
        remove_safety_checker(pipeline)
    if loading.scheduler is not None:
        choose_scheduler(pipeline, loading.scheduler)
    add_loras(pipeline, loading.loras, token, entry.request_loras)
    if loading.layerwise_casting != "none":
        cast_layerwise(pipeline, STORAGE_DTYPES[loading.layerwise_casting])
    if loading.vae_slicing:
        _vae_method(pipeline, "enable_slicing")()
    if loading.vae_tiling:
        _vae_method(pipeline, "enable_tiling")()
    if not is_parked:
        place_pipeline(pipeline, loading.offload, device)
    choose_attention(pipeline, loading.attention_backend)
    if loading.compile:
        compile_blocks(pipeline)
    if entry.prompt_encoding == "long":
        encode_long_prompts(pipeline, device)


def remove_safety_checker(pipeline: DiffusionPipeline) -> None:
    """Remove a pipeline's safety checker, if it has one."""
    if getattr(pipeline, "safety_checker", None) is not None:
        pipeline.safety_checker = None
        if "requires_safety_checker" in pipeline.config:
            pipeline.register_to_config(requires_safety_checker=False)


def choose_scheduler(pipeline: DiffusionPipeline, choice: SchedulerChoice) -> None:
    """Replace a pipeline's scheduler by another one, with the config of the old one but for what is given.

    Args:
        pipeline: Its scheduler is replaced.
        choice: A class of diffusers, and arguments of that class.

    Raises:
        ModelLoadError: If the pipeline cannot use it, or it knows no such argument.
    """
    current = getattr(pipeline, "scheduler", None)
    if not isinstance(current, SchedulerMixin):
        raise ModelLoadError(f"a {type(pipeline).__name__} has no scheduler to choose.")
    possible = {kind.__name__: kind for kind in [*current.compatibles, type(current)] if _is_installed(kind)}
    name, config = choice.name, choice.config
    if name not in possible:
        raise ModelLoadError(f"this model cannot use the scheduler {name}; it can use {', '.join(sorted(possible))}.")
    known = inspect.signature(possible[name].__init__).parameters
    unknown = sorted(set(config) - set(known))
    if unknown:
        raise ModelLoadError(f"{name} has no argument {', '.join(unknown)}.")
    pipeline.scheduler = possible[name].from_config(current.config, **config)


def cast_layerwise(pipeline: DiffusionPipeline, storage: torch.dtype) -> None:
    """Keep the denoiser's layers in a small dtype, and compute them in the one it was loaded in.

    Raises:
        ModelLoadError: If the denoiser cannot do so.
    """
    for module in denoisers(pipeline):
        if not hasattr(module, "enable_layerwise_casting"):
            raise ModelLoadError(f"{type(module).__name__} cannot cast its layers one by one.")
        module.enable_layerwise_casting(storage_dtype=storage, compute_dtype=module.dtype)


def compile_blocks(pipeline: DiffusionPipeline) -> None:
    """Compile the blocks that a denoiser repeats, once for all batch sizes.

    Raises:
        ModelLoadError: If diffusers does not say which blocks those are.
    """
    for module in denoisers(pipeline):
        if not getattr(module, "_repeated_blocks", None):
            raise ModelLoadError(f"{type(module).__name__} names no repeated blocks; compile does not work for it.")
        module.compile_repeated_blocks(dynamic=True)


def _is_installed(scheduler_class: type) -> bool:
    """Classes whose requirements are missing are stand-ins that raise when they are made."""
    return ".dummy_" not in scheduler_class.__module__


def _vae_method(pipeline: DiffusionPipeline, name: str) -> Any:
    vae = getattr(pipeline, "vae", None)
    method = getattr(vae, name, None)
    if not callable(method):
        raise ModelLoadError(f"the autoencoder of a {type(pipeline).__name__} has no {name}.")
    return method
