"""Loads a model of the catalog, checks what the catalog promises of it, and names its weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline

from deployments.accelerator import find_accelerator, limit_memory, why_unusable
from deployments.catalog.entry import ModelEntry
from deployments.catalog.loading import Loading
from deployments.engine.shells import compatible_schedulers
from deployments.model.download import check_download
from deployments.pipelines.exceptions import ModelLoadError
from deployments.pipelines.loading import load_pipeline, weights_fingerprint
from deployments.pipelines.tasks import can_do

# Where weights wait changes no picture.
_WITHOUT_EFFECT = {"memory", "may_quantize", "offload"}


def load_model(entry: ModelEntry, environ: Mapping[str, str], *, is_parked: bool = False) -> DiffusionPipeline:
    """Load a model of the catalog.

    Args:
        entry: What the catalog says of it.
        environ: The environment, for the token of the hub.
        is_parked: Whether its weights stay in main memory, from where the pool copies them to the device.

    Raises:
        ModelLoadError: If it cannot be loaded, with the reason in one line.
    """
    device = device_of(entry)
    check_download(entry, environ)
    if device != "cpu":
        limit_memory(entry.replicas.num_gpus)
    pipeline = load_pipeline(entry, device, token=entry.token(environ), is_parked=is_parked)
    _check_tasks(entry, type(pipeline))
    unknown = set(entry.schedulers) - set(compatible_schedulers(pipeline))
    if unknown:
        choice = ", ".join(compatible_schedulers(pipeline)) or "none can be chosen"
        raise ModelLoadError(f"schedulers: the model cannot use {', '.join(sorted(unknown))}. It can use: {choice}.")
    return pipeline


def device_of(entry: ModelEntry) -> str:
    """Where a model computes, as torch names it.

    Raises:
        ModelLoadError: It is to compute on a GPU, and torch can use none here, or one of another kind.
    """
    wanted, gpus = entry.loading.device, entry.replicas.num_gpus
    # A copy that holds no GPU leaves those it can see to others.
    if wanted == "cpu" or (wanted == "auto" and gpus == 0):
        return "cpu"
    found = find_accelerator()
    if found is None:
        reason = why_unusable() or (
            "This machine has no GPU; to compute on its processor, set replicas.num_gpus: 0 and leave loading.device "
            "out."
        )
        raise ModelLoadError(f"{entry.public_name} needs a GPU (replicas.num_gpus is {gpus:g}). {reason}")
    if wanted not in ("auto", found.kind):
        raise ModelLoadError(
            f"loading.device: {entry.public_name} is to compute on {wanted}, and the GPU here is {found.kind}, "
            f"{found.name}; leave it out."
        )
    return found.kind


def weights_of(entry: ModelEntry) -> str:
    """Identify a model's weights: by a hash of local files, else by the repository and its revision.

    Where the entry changes what is computed with them, by a LoRA or quantization, say, a digest of that follows.
    """
    name = _weights_name(entry.source, entry.location(), entry.revision)
    what_changes: Any = {"loading": set(Loading.model_fields) - _WITHOUT_EFFECT, "prompt_encoding": True, "dtype": True}
    changes = entry.model_dump_json(include=what_changes, exclude_defaults=True)
    return name if changes == "{}" else f"{name}+{hashlib.sha256(changes.encode()).hexdigest()[:8]}"


def lora_weights_of(entry: ModelEntry) -> dict[str, str]:
    """Identify the weights of each LoRA that a request may choose, by name; as :func:`weights_of`."""
    return {name: _weights_name(lora.source, lora.repo, lora.revision) for name, lora in entry.request_loras.items()}


def controlnet_weights_of(entry: ModelEntry) -> str | None:
    """Identify the weights of a model's ControlNet, if it has one; as :func:`weights_of`."""
    found = entry.controlnet
    return None if found is None else _weights_name(found.source, found.repo, found.revision)


def _weights_name(source: str, location: str, revision: str | None) -> str:
    if source == "huggingface":
        return f"{location}@{revision or 'main'}"
    return f"sha256:{weights_fingerprint(Path(location))}"


def _check_tasks(entry: ModelEntry, loaded: type[DiffusionPipeline]) -> None:
    """Check that a model's family can do the tasks that the catalog promises."""
    for name, tasks, with_controlnet in (
        ("tasks", entry.tasks or (), False),
        ("controlnet.tasks", entry.control_tasks, True),
    ):
        missing = [task for task in tasks if not can_do(loaded, task, with_controlnet=with_controlnet)]
        if missing:
            raise ModelLoadError(f"{name}: a {loaded.__name__} cannot do {', '.join(missing)}; leave it out.")
