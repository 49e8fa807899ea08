"""Models on disk in all the forms that are loaded, made from the tiny pipeline."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from diffusers import ControlNetModel, StableDiffusionPipeline
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file

from tests.support.tiny_pipelines import tiny_stable_diffusion

_RESNET = {
    "norm1": "in_layers.0",
    "conv1": "in_layers.2",
    "time_emb_proj": "emb_layers.1",
    "norm2": "out_layers.0",
    "conv2": "out_layers.3",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "conv_norm_out": "out.0",
    "conv_out": "out.2",
}
_UNET_BLOCKS = {  # of two blocks with one layer each; those that go up have one more
    "down_blocks.0.resnets.0": "input_blocks.1.0",
    "down_blocks.0.attentions.0": "input_blocks.1.1",
    "down_blocks.0.downsamplers.0.conv": "input_blocks.2.0.op",
    "down_blocks.1.resnets.0": "input_blocks.3.0",
    "mid_block.resnets.0": "middle_block.0",
    "mid_block.attentions.0": "middle_block.1",
    "mid_block.resnets.1": "middle_block.2",
    "up_blocks.0.resnets.0": "output_blocks.0.0",
    "up_blocks.0.resnets.1": "output_blocks.1.0",
    "up_blocks.0.upsamplers.0.conv": "output_blocks.1.1.conv",
    "up_blocks.1.resnets.0": "output_blocks.2.0",
    "up_blocks.1.attentions.0": "output_blocks.2.1",
    "up_blocks.1.resnets.1": "output_blocks.3.0",
    "up_blocks.1.attentions.1": "output_blocks.3.1",
}
_VAE_RULES = [
    (r"encoder\.down_blocks\.(\d)\.resnets", r"encoder.down.\1.block"),
    (r"encoder\.down_blocks\.(\d)\.downsamplers\.0", r"encoder.down.\1.downsample"),
    (r"decoder\.up_blocks\.0\.resnets", "decoder.up.1.block"),
    (r"decoder\.up_blocks\.1\.resnets", "decoder.up.0.block"),
    (r"decoder\.up_blocks\.0\.upsamplers\.0", "decoder.up.1.upsample"),
    (r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm"),
    (r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1"),
    (r"mid_block\.attentions\.0\.to_out\.0", "mid.attn_1.proj_out"),
    (r"mid_block\.resnets\.0", "mid.block_1"),
    (r"mid_block\.resnets\.1", "mid.block_2"),
    (r"conv_shortcut", "nin_shortcut"),
    (r"conv_norm_out", "norm_out"),
]


def save_folder(folder: Path, pipeline: StableDiffusionPipeline | None = None) -> Path:
    """A model in diffusers format."""
    (pipeline or tiny_stable_diffusion()).save_pretrained(folder)
    return folder


def save_single_file(path: Path, pipeline: StableDiffusionPipeline | None = None) -> Path:
    """The same weights in one file, under the names that the first Stable Diffusion gave them."""
    pipeline = pipeline or tiny_stable_diffusion()
    weights = {
        **{f"model.diffusion_model.{_unet_name(name)}": value for name, value in pipeline.unet.state_dict().items()},
        **{f"first_stage_model.{_vae_name(name)}": value for name, value in pipeline.vae.state_dict().items()},
        **{
            f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}": value
            for name, value in pipeline.text_encoder.state_dict().items()
        },
    }
    save_file({name: value.contiguous() for name, value in weights.items()}, path)
    return path


def save_lora(
    folder: Path, pipeline: StableDiffusionPipeline | None = None, seed: int = 0, *, with_text_encoder: bool = False
) -> Path:
    """A LoRA of random weights, large enough to be seen."""
    pipeline = pipeline or tiny_stable_diffusion()
    torch.manual_seed(seed)
    layers = {"unet_lora_layers": _random_lora(pipeline.unet, ["to_q", "to_k", "to_v"])}
    if with_text_encoder:
        layers["text_encoder_lora_layers"] = _random_lora(pipeline.text_encoder, ["q_proj", "v_proj"])
    StableDiffusionPipeline.save_lora_weights(folder, **layers)
    return folder


def save_controlnet(folder: Path, pipeline: StableDiffusionPipeline | None = None) -> Path:
    """A ControlNet of random weights, in diffusers format; a new one would have no effect."""
    unet = (pipeline or tiny_stable_diffusion()).unet
    controlnet = ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(4, 8))
    torch.manual_seed(0)
    for layer in [*controlnet.controlnet_down_blocks, controlnet.controlnet_mid_block]:
        torch.nn.init.normal_(layer.weight, std=0.3)
    torch.nn.init.normal_(controlnet.controlnet_cond_embedding.conv_out.weight, std=0.3)
    controlnet.save_pretrained(folder)
    return folder


def _random_lora(module: torch.nn.Module, targets: list[str]) -> dict[str, torch.Tensor]:
    module.add_adapter(LoraConfig(r=2, init_lora_weights=False, target_modules=targets))
    return {name: torch.randn_like(value) for name, value in get_peft_model_state_dict(module).items()}


def _unet_name(name: str) -> str:
    parts = _RESNET if ".resnets." in name else {}
    for ours, original in [*_UNET_ENDS.items(), *_UNET_BLOCKS.items(), *parts.items()]:
        name = re.sub(rf"(^|\.){re.escape(ours)}\.", rf"\g<1>{original}.", name)
    return name


def _vae_name(name: str) -> str:
    for pattern, original in _VAE_RULES:
        name = re.sub(pattern, original, name)
    return name
