"""Requests of all kinds that a family of pipelines can do."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from numpy.typing import NDArray
from peft import LoraConfig
from PIL import Image

from deployments.engine.request import ImageRequest
from deployments.pipelines.lora import REQUEST_PREFIX
from deployments.pipelines.tasks import can_do
from tests.support.image_requests import image_request
from tests.support.tiny_pipelines.families import Family

_LORA, _LORA_LAYERS = "ink", ["to_q", "to_k", "to_v"]


def requests_of_all_kinds(family: Family, pipeline: DiffusionPipeline, side: int) -> list[ImageRequest]:
    """A long request from a prompt, and short ones of each other kind that the pipeline can do.

    From prompts: watched, deterministic, with a step cache, and with a LoRA. From pictures: image-to-image and
    inpainting. Through a ControlNet, where there is one.

    Args:
        family: Of the pipeline.
        pipeline: Gets the LoRA, where it can have one; it is off unless a request asks for it.
        side: Of the pictures, in pixels.
    """
    start, mask, control = _picture(1, side), _left_half(side), _picture(2, side)
    kinds: list[dict[str, Any]] = [
        {"num_inference_steps": 6, "on_preview": lambda step, preview: None},
        {"prompt": "ring", "deterministic": True},
        {"prompt": "a large blue star", "step_cache": 0.4, "num_inference_steps": 4},
    ]
    if _add_lora(pipeline):
        kinds.append({"loras": ((_LORA, 0.5),)})
    if can_do(type(pipeline), "image2image"):
        kinds.append({"task": "image2image", "strength": 0.7, "inputs": {"image": start}})
    if can_do(type(pipeline), "inpaint"):
        kinds.append({"task": "inpaint", "strength": 0.8, "inputs": {"image": start, "mask_image": mask}})
    if pipeline.components.get("controlnet") is not None:
        kinds.append({"inputs": {"control_image": control}, "control_scale": 0.5})
    usual = {
        "negative_prompt": "green",
        "num_inference_steps": 3,
        "width": side,
        "height": side,
        "max_sequence_length": 24,
    }
    scales = family.guidance_scales
    requests = []
    for index, kind in enumerate(kinds):
        inputs = {**family.inputs, **kind.get("inputs", {})}
        numbers = {"seed": index, "guidance_scale": scales[index % len(scales)]}
        requests.append(image_request(**usual | numbers | kind | {"inputs": inputs}))
    return requests


def _add_lora(pipeline: DiffusionPipeline) -> bool:
    denoiser = pipeline.components.get("unet") or pipeline.components["transformer"]
    if not hasattr(denoiser, "add_adapter"):
        return False
    torch.manual_seed(0)
    adapter = LoraConfig(r=2, init_lora_weights=False, target_modules=_LORA_LAYERS)
    denoiser.add_adapter(adapter, adapter_name=REQUEST_PREFIX + _LORA)
    for layer in denoiser.modules():
        if hasattr(layer, "lora_A"):
            layer.set_adapter([])
    return True


def _picture(seed: int, side: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8))


def _left_half(side: int) -> Image.Image:
    mask: NDArray[np.uint8] = np.zeros((side, side), dtype=np.uint8)
    mask[:, : side // 2] = 255
    return Image.fromarray(mask)
