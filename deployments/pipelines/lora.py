"""LoRAs: small sets of weights that are added to a model's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffusers import DiffusionPipeline
from diffusers.utils.peft_utils import set_weights_and_activate_adapters

from deployments.catalog.loading import Lora
from deployments.pipelines.exceptions import ModelLoadError, one_line

REQUEST_PREFIX = "request_"
"""Begins the adapter names of LoRAs that are off unless a request asks for them."""


def add_loras(
    pipeline: DiffusionPipeline,
    loras: Sequence[Lora],
    token: str | None = None,
    request_loras: Mapping[str, Lora] | None = None,
) -> None:
    """Add LoRAs to a pipeline's weights: some that are all active, and others that are off.

    Args:
        pipeline: Its denoiser, and where a LoRA has weights for them its text encoders, are changed.
        loras: In any order; the result is their sum.
        token: Of the hub.
        request_loras: Those that are off, by the names under which a request may ask for them.

    Raises:
        ModelLoadError: If one cannot be read, or is not for this family of models.
    """
    chosen = {f"lora_{number}": lora for number, lora in enumerate(loras)}
    choosable = {f"{REQUEST_PREFIX}{name}": lora for name, lora in (request_loras or {}).items()}
    if not chosen and not choosable:
        return
    if not hasattr(pipeline, "load_lora_weights"):
        raise ModelLoadError(f"a {type(pipeline).__name__} takes no LoRAs.")
    for name, lora in (chosen | choosable).items():
        _add(pipeline, name, lora, token)
    for component, known in pipeline.get_list_adapters().items():
        active = {name: lora.scale for name, lora in chosen.items() if name in known}
        # The pipeline's own set_adapters cannot deactivate all of them.
        set_weights_and_activate_adapters(getattr(pipeline, component), list(active), list(active.values()))


def _add(pipeline: DiffusionPipeline, name: str, lora: Lora, token: str | None) -> None:
    if lora.is_local and not Path(lora.repo).exists():
        raise ModelLoadError(f"the LoRA {lora.public_name} is not there.")
    arguments: dict[str, Any] = {"use_safetensors": True, "local_files_only": lora.is_local}
    if not lora.is_local:
        arguments |= {"revision": lora.revision, "token": token}
    if lora.weight_name is not None:
        arguments["weight_name"] = lora.weight_name
    try:
        pipeline.load_lora_weights(lora.repo, adapter_name=name, **arguments)
    except Exception as error:
        reason = one_line(str(error).replace(lora.repo, lora.public_name), 200)
        raise ModelLoadError(
            f"the LoRA {lora.public_name} cannot be used with a {type(pipeline).__name__}; is it for another family of "
            f"models? ({reason})"
        ) from error
    # Weights of other names are passed over with no more than a warning.
    if not any(name in adapters for adapters in pipeline.get_list_adapters().values()):
        raise ModelLoadError(
            f"the LoRA {lora.public_name} has no weights for a {type(pipeline).__name__}; "
            "it is for another family of models."
        )
