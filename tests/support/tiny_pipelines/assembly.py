"""Any pipeline class of diffusers, assembled from tiny components by the type hints of its constructor."""

import inspect
import typing
from collections.abc import Mapping
from enum import Enum
from typing import Any

import torch
from diffusers import DDIMScheduler, DiffusionPipeline, SchedulerMixin, SD3Transformer2DModel
from diffusers.guiders import BaseGuidance
from transformers import (
    AutoProcessor,
    CLIPTextModelWithProjection,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)

from tests.support.tiny_pipelines.models import PACKED_LATENTS, tiny_model
from tests.support.tiny_pipelines.text import TEXT_WIDTH, TinyProcessor, tiny_text_model, tiny_tokenizer

# Results must not depend on the last bits: clipping random values makes much of little.
_SCHEDULER_OPTIONS = {"clip_sample": False, "steps_offset": 1}


def tiny_pipeline(
    pipeline_class: type[DiffusionPipeline], sizes: Mapping[str, Mapping[str, Any]] | None = None, **components: Any
) -> DiffusionPipeline:
    """A pipeline with tiny components.

    Args:
        pipeline_class: Of diffusers.
        sizes: By the name of a component, what differs in it.
        components: Those that are not to be made from their type.

    Raises:
        TypeError: If a component's type is none that can be made.
    """
    hints = typing.get_type_hints(pipeline_class.__init__)
    parameters = list(inspect.signature(pipeline_class.__init__).parameters.values())[1:]
    made = dict(components)
    for parameter in parameters:
        if parameter.name in made or _is_left_out(parameter, hints.get(parameter.name)):
            continue
        own_sizes = _sizes_in_company(hints).get(parameter.name, {})
        given_sizes = (sizes or {}).get(parameter.name, {})
        made[parameter.name] = _component(parameter.name, hints[parameter.name], {**own_sizes, **given_sizes})
    pipeline = pipeline_class(**made)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _sizes_in_company(hints: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The sizes that a component must have because of the others."""
    if hints.get("transformer") is SD3Transformer2DModel:
        return {"vae": {"latent_channels": PACKED_LATENTS}, "text_encoder_3": {"d_model": 2 * TEXT_WIDTH}}
    if "unet" not in hints or hints.get("text_encoder_2") is not CLIPTextModelWithProjection:
        return {}
    # Text encoders side by side, and the picture's size as a condition.
    denoiser = {
        "cross_attention_dim": 2 * TEXT_WIDTH,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 6 * 8 + TEXT_WIDTH,
    }
    return {"unet": denoiser, "controlnet": denoiser}


def _is_left_out(parameter: inspect.Parameter, hint: Any) -> bool:
    if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
        return True
    has_default = parameter.default is not inspect.Parameter.empty
    return has_default and not (parameter.default is None and _is_needed(parameter.name, hint))


def _is_needed(name: str, hint: Any) -> bool:
    """Some pipelines have None as the default of what they cannot do without."""
    return name in ("transformer", "vae", "scheduler", "text_encoder_2", "tokenizer_2") or (
        name == "safety_checker" and "Cosmos" in str(hint)
    )


def _component(name: str, hint: Any, sizes: Mapping[str, Any]) -> Any:
    if name in ("safety_checker", "watermarker"):
        return _HarmlessChecker() if "Cosmos" in str(hint) else None
    types = [member for member in (typing.get_args(hint) or (hint,)) if inspect.isclass(member)]
    types.sort(key=lambda member: member.__name__ != "AutoencoderKLWan")
    for member in types:
        if issubclass(member, Enum):
            return DDIMScheduler(**_SCHEDULER_OPTIONS)
        if "ImageProcessor" in member.__name__:
            return member(size={"height": 16, "width": 16}, crop_size={"height": 16, "width": 16})
        if issubclass(member, ProcessorMixin | AutoProcessor):
            return TinyProcessor()
        if issubclass(member, BaseGuidance):
            return member()
        if issubclass(member, SchedulerMixin):
            return _scheduler(member)
        if issubclass(member, PreTrainedTokenizerBase) or "Tokenizer" in member.__name__:
            return tiny_tokenizer(**sizes)
        if issubclass(member, PreTrainedModel):
            return tiny_text_model(member, **sizes)
        if issubclass(member, torch.nn.Module):
            return tiny_model(member, **sizes)
    raise TypeError(f"{name}: {hint} cannot be made.")


class _HarmlessChecker(torch.nn.Module):
    """Stands in for Cosmos's checker, which is a package of its own with models of its own."""

    device = torch.device("cpu")
    dtype = torch.float32

    def check_text_safety(self, prompt: str) -> bool:
        """No prompt is unsafe."""
        return True

    def check_video_safety(self, frames: Any) -> Any:
        """No face is to be blurred."""
        return frames


def _scheduler(scheduler_class: type[SchedulerMixin]) -> SchedulerMixin:
    known = inspect.signature(scheduler_class.__init__).parameters
    options = {name: value for name, value in _SCHEDULER_OPTIONS.items() if name in known}
    made: SchedulerMixin = scheduler_class(**options)
    return made
