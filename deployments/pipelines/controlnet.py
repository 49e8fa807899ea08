"""ControlNets: networks that make an image follow the lines, the depth or the poses of another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoModel, DiffusionPipeline

from deployments.catalog.tasks import ControlNet
from deployments.pipelines.exceptions import ModelLoadError, one_line
from deployments.pipelines.tasks import families, rebuild

# A ControlNet that differs from the denoiser in one of these was made for another family.
_SHARED_DIMENSIONS = ("cross_attention_dim", "joint_attention_dim", "pooled_projection_dim", "addition_embed_type")


def add_controlnet(
    pipeline: DiffusionPipeline, chosen: ControlNet, dtype: torch.dtype, token: str | None = None
) -> DiffusionPipeline:
    """The pipeline of a model's family that takes a control image, around the same modules and a ControlNet.

    Args:
        pipeline: As it was read.
        chosen: Where the ControlNet is; only its safetensors are read, and no code from its repository runs.
        dtype: Of its weights.
        token: Of the hub, for gated models.

    Raises:
        ModelLoadError: If the ControlNet cannot be read, or is not for this family of models.
    """
    return join_controlnet(pipeline, _read(chosen, dtype, token), chosen)


def join_controlnet(pipeline: DiffusionPipeline, controlnet: Any, chosen: ControlNet) -> DiffusionPipeline:
    """The pipeline of a model's family that takes a control image, around the same modules and a ControlNet.

    Args:
        pipeline: As it was read.
        controlnet: The module.
        chosen: What the catalog says of it.

    Raises:
        ModelLoadError: If it is not for this family of models.
    """
    wanted = _pipeline_class(type(pipeline))
    expected = () if wanted is None else wanted._get_signature_types()["controlnet"]
    if wanted is None:
        raise ModelLoadError(f"a {type(pipeline).__name__} takes no ControlNet.")
    kinds = tuple(kind for kind in expected if isinstance(kind, type))
    if not isinstance(controlnet, kinds) or not _fits(controlnet, pipeline):
        raise ModelLoadError(
            f"the ControlNet {chosen.public_name}, a {type(controlnet).__name__}, cannot be used with a "
            f"{type(pipeline).__name__}; it is for another family of models."
        )
    return rebuild(wanted, pipeline, "ControlNet", {"controlnet": controlnet})


def _read(chosen: ControlNet, dtype: torch.dtype, token: str | None) -> Any:
    if chosen.is_local and not Path(chosen.repo, "config.json").is_file():
        raise ModelLoadError(f"the ControlNet {chosen.public_name} is not there: a folder with a config.json.")
    try:
        return AutoModel.from_pretrained(
            chosen.repo,
            dtype=dtype,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=chosen.is_local,
            revision=chosen.revision,
            token=token,
        )
    except Exception as error:
        reason = one_line(str(error).replace(chosen.repo, chosen.public_name))
        raise ModelLoadError(f"the ControlNet {chosen.public_name} could not be loaded: {reason}") from error


def _pipeline_class(loaded: type[DiffusionPipeline]) -> type[DiffusionPipeline] | None:
    classes = families()["text2image"]
    names = [f"{name}-controlnet" for name, member in classes.items() if member is loaded]
    return next((classes[name] for name in names if name in classes), None)


def _fits(controlnet: Any, pipeline: DiffusionPipeline) -> bool:
    denoiser = pipeline.components.get("unet") or pipeline.components.get("transformer")
    if denoiser is None:
        return False
    return all(
        controlnet.config[name] == denoiser.config[name]
        for name in _SHARED_DIMENSIONS
        if name in controlnet.config and name in denoiser.config
    )
