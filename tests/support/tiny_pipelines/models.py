"""Models of diffusers with a few thousand random weights, sized by the names of their parameters."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch

from tests.support.tiny_pipelines.text import TEXT_TOKENS, TEXT_WIDTH, VOCABULARY

LATENTS = 4
PACKED_LATENTS = 4 * LATENTS
_HEADS = 2
_HEAD_WIDTH = 16
_WIDTH = _HEADS * _HEAD_WIDTH
_ROTARY = (4, 6, 6)
_LARGE = 256
_ENDINGS = {"num_attention_heads": _HEADS, "attention_head_dim": _HEAD_WIDTH, "num_layers": 1, "learnable_registers": 8}
_PACKED = 64

# By the name of a parameter; what a class does not know is left out, and what is not named here keeps its default.
_SIZES: dict[str, Any] = {
    **dict.fromkeys(["num_layers", "num_single_layers", "n_layers", "num_mmdit_layers", "num_single_dit_layers"], 1),
    **dict.fromkeys(["num_refiner_layers", "n_refiner_layers", "depth", "num_blocks_per_stage", "layers_per_block"], 1),
    **dict.fromkeys(["num_text_blocks", "num_visual_blocks", "num_double_layers", "perceiver_num_layers"], 1),
    **dict.fromkeys(["num_attention_heads", "num_heads", "n_heads", "num_cross_attention_heads"], _HEADS),
    **dict.fromkeys(["num_kv_heads", "n_kv_heads", "num_key_value_heads", "text_num_attention_heads"], _HEADS),
    **dict.fromkeys(["motion_num_attention_heads", "text_num_key_value_heads"], _HEADS),
    **dict.fromkeys(["attention_head_dim", "head_dim", "cross_attention_head_dim"], _HEAD_WIDTH),
    **dict.fromkeys(["hidden_size", "dim", "ffn_dim", "intermediate_size", "inner_dim", "model_channels"], _WIDTH),
    **dict.fromkeys(["caption_projection_dim", "cross_attention_dim"], _WIDTH),
    **dict.fromkeys(["joint_attention_dim", "caption_channels", "text_dim", "text_embed_dim"], TEXT_WIDTH),
    **dict.fromkeys(["pooled_projection_dim", "cap_feat_dim", "context_in_dim", "text_hidden_dim"], TEXT_WIDTH),
    **dict.fromkeys(["in_text_dim", "in_text_dim2", "text_embed_2_dim", "image_dim", "embedding_dim"], TEXT_WIDTH),
    **dict.fromkeys(["cross_attention_dim_t5", "text_encoder_dim"], TEXT_WIDTH),
    **dict.fromkeys(["axes_dims_rope", "axes_dims", "axes_dim_rope", "rope_axes_dim", "axes_dim"], _ROTARY),
    **dict.fromkeys(["freq_dim", "time_embed_dim", "condition_dim", "timestep_embed_dim", "adaln_lora_dim"], 16),
    **dict.fromkeys(["norm_num_groups", "motion_norm_num_groups"], 4),
    **dict.fromkeys(["latent_channels", "z_dim", "out_channels_latents"], LATENTS),
    "axes_lens": (1024, 64, 64),
    "multiple_of": 8,
    "sample_size": 8,
    "sample_height": 8,
    "sample_width": 8,
    "pos_embed_max_size": 32,
    "rope_max_seq_len": 64,
    "num_embeddings": TEXT_TOKENS,
    "max_text_seq_length": 24,
    "scale_factor_spatial": 4,
    "scale_factor_temporal": 2,
    "base_dim": 8,
    "dim_mult": [1, 1, 1],
    "num_res_blocks": 1,
    "temperal_downsample": [False, True],
    "latents_mean": [0.0] * LATENTS,
    "latents_std": [1.0] * LATENTS,
    "approximator_hidden_dim": 32,
    "approximator_layers": 1,
    "approximator_num_channels": 16,
}
_UNET: dict[str, Any] = {
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    "block_out_channels": (8, 16),
    "attention_head_dim": 2,
    "num_attention_heads": None,
    "in_channels": LATENTS,
    "out_channels": LATENTS,
}
_AUTOENCODER: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "block_out_channels": (8, 8),
    "sample_size": 16,
    "shift_factor": 0.1,
}
# Where a model needs other values than those of its parameters' names.
_CLASS_SIZES: dict[str, dict[str, Any]] = {
    "UNet2DConditionModel": _UNET,
    "FluxControlNetModel": {"in_channels": PACKED_LATENTS},
    "ControlNetModel": _UNET | {"conditioning_embedding_out_channels": (8, 8)},
    "AutoencoderKL": _AUTOENCODER,
    "AutoencoderKLFlux2": _AUTOENCODER,
    "AutoencoderDC": {
        "attention_head_dim": 2,
        "encoder_block_types": ("ResBlock", "EfficientViTBlock"),
        "decoder_block_types": ("ResBlock", "EfficientViTBlock"),
        "encoder_block_out_channels": (8, 8),
        "decoder_block_out_channels": (8, 8),
        "encoder_qkv_multiscales": ((), (5,)),
        "decoder_qkv_multiscales": ((), (5,)),
        "encoder_layers_per_block": (1, 1),
        "decoder_layers_per_block": (1, 1),
    },
    "SparseControlNetModel": _UNET
    | {
        "down_block_types": ("CrossAttnDownBlockMotion", "DownBlockMotion"),
        "conditioning_embedding_out_channels": (8, 8),
    },
    "Flux2Transformer2DModel": {"joint_attention_dim": 3 * TEXT_WIDTH, "axes_dims_rope": (4, 4, 4, 4)},
    "SD3ControlNetModel": {
        "in_channels": PACKED_LATENTS,
        "pooled_projection_dim": 2 * TEXT_WIDTH,
        "joint_attention_dim": 2 * TEXT_WIDTH,
    },
    "T2IAdapter": {"channels": (8, 16), "num_res_blocks": 1, "downscale_factor": 2},
    "Kandinsky3UNet": {
        "groups": 4,
        "block_out_channels": (16, 32, 64, 128),
        "attention_head_dim": 8,
        "encoder_hid_dim": TEXT_WIDTH,
    },
    "DreamLiteUNetModel": {"num_attention_heads": None, "attention_head_dim": 8},
    "LatteTransformer3DModel": {
        "patch_size": 2,
        "norm_type": "ada_norm_single",
        "norm_elementwise_affine": False,
        "out_channels": 2 * LATENTS,
    },
    "HunyuanDiT2DModel": {"in_channels": LATENTS, "patch_size": 2, "text_len_t5": 256},
    "HunyuanDiT2DControlNetModel": {
        "in_channels": LATENTS,
        "patch_size": 2,
        "text_len_t5": 256,
        "transformer_num_layers": 1,
    },
    "ControlNetUnionModel": _UNET
    | {
        "conditioning_embedding_out_channels": (8, 8),
        "num_trans_channel": 8,
        "num_trans_head": 2,
        "num_proj_channel": 8,
    },
    "LTXVideoTransformer3DModel": {"in_channels": LATENTS, "out_channels": LATENTS},
    "BriaFiboTransformer2DModel": {"in_channels": LATENTS, "joint_attention_dim": 2 * TEXT_WIDTH},
    "LongCatImageTransformer2DModel": {"in_channels": 64},
    "EasyAnimateTransformer3DModel": {"patch_size": 2, "in_channels": LATENTS, "out_channels": LATENTS},
    "ZImageControlNetModel": {
        "control_layers_places": [0],
        "control_refiner_layers_places": [0],
        "control_in_dim": LATENTS,
        "add_control_noise_refiner": "control_noise_refiner",
    },
    "AutoencoderKLMochi": {
        "encoder_block_out_channels": (32,) * 4,
        "decoder_block_out_channels": (32,) * 4,
        "layers_per_block": (1,) * 5,
        "latent_channels": 12,
        "latents_mean": [0.0] * 12,
        "latents_std": [1.0] * 12,
    },
    "MochiTransformer3DModel": {"in_channels": 12},
    "AutoencoderKLTemporalDecoder": {"down_block_types": ("DownEncoderBlock2D",) * 2, "block_out_channels": (32, 32)},
    "HunyuanImageTransformer2DModel": {"rope_axes_dim": (8, 8)},
    "NucleusMoEImageTransformer2DModel": {"in_channels": PACKED_LATENTS, "out_channels": LATENTS},
    "UNetSpatioTemporalConditionModel": {
        "down_block_types": ("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        "up_block_types": ("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        "block_out_channels": (32, 64),
        "num_attention_heads": (2, 4),
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 24,
        "in_channels": 2 * LATENTS,
        "out_channels": LATENTS,
    },
    "AutoencoderKLHunyuanImage": {
        "in_channels": 3,
        "out_channels": 3,
        "block_out_channels": (32, 32),
        "spatial_compression_ratio": 2,
        "latent_channels": PACKED_LATENTS,
        "scaling_factor": 0.5,
    },
    "WanAnimateTransformer3DModel": {"in_channels": 2 * LATENTS + 4, "out_channels": LATENTS},
    "OmniGenTransformer2DModel": {"pad_token_id": 0, "vocab_size": len(VOCABULARY)},
    "MotionAdapter": {"block_out_channels": (8, 16), "motion_layers_per_block": 1},
    "SD3Transformer2DModel": {
        "in_channels": PACKED_LATENTS,
        "out_channels": PACKED_LATENTS,
        "pooled_projection_dim": 2 * TEXT_WIDTH,
        "joint_attention_dim": 2 * TEXT_WIDTH,
    },
    "PixArtTransformer2DModel": {"in_channels": LATENTS, "out_channels": 2 * LATENTS},
    "ZImageTransformer2DModel": {"axes_lens": (1024, 64, 64)},
}


def tiny_model(model_class: type[torch.nn.Module], **changes: Any) -> torch.nn.Module:
    """A model with random weights, none of which is zero, so that all of its inputs show in its outputs.

    Args:
        model_class: Of diffusers.
        changes: Parameters that shall differ from the small ones.
    """
    torch.manual_seed(0)
    known = inspect.signature(model_class.__init__).parameters
    sizes = _SIZES | _CLASS_SIZES.get(model_class.__name__, {}) | changes
    given = {name: _in_form_of(known[name].default, value) for name, value in sizes.items() if name in known}
    guessed = {name: _small(name, parameter.default) for name, parameter in known.items() if name not in given}
    if "Transformer" in model_class.__name__ or "ControlNet" in model_class.__name__:
        guessed |= _channels(known, given)
    model = model_class(**{name: value for name, value in guessed.items() if value is not None}, **given).eval()
    for name, parameter in model.named_parameters():
        # Some start as zeros, so that nothing would pass them; the pad tokens of some are not even initialised.
        if not parameter.any() or not parameter.isfinite().all() or "_token" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    if "latents_std" in known and isinstance(getattr(model.decoder, "conv_out", None), torch.nn.Conv3d):
        # As they start, these autoencoders give pictures that are all grey.
        torch.nn.init.normal_(model.decoder.conv_out.weight, std=0.2)
    return model


def _in_form_of(default: Any, value: Any) -> Any:
    """One value for all where a parameter has several."""
    several = isinstance(default, list | tuple) and isinstance(value, int)
    return type(default)([value] * len(default)) if several else value


def _channels(known: Mapping[str, inspect.Parameter], given: Mapping[str, Any]) -> dict[str, int]:
    """Transformers take and give latents; those that take many channels take packed ones."""
    return {
        name: PACKED_LATENTS if known[name].default >= _PACKED else LATENTS
        for name in ("in_channels", "out_channels")
        if name in known and name not in given and isinstance(known[name].default, int)
    } | ({"in_channels": LATENTS} if _is_none(known.get("in_channels")) and "in_channels" not in given else {})


def _is_none(parameter: inspect.Parameter | None) -> bool:
    return parameter is not None and parameter.default is None


def _small(name: str, default: Any) -> Any:
    """A small value for a parameter that no table names, or None to leave it at its default."""
    if isinstance(default, list | tuple) and "channels" in name and all(isinstance(width, int) for width in default):
        return type(default)(min(width, 8) for width in default)
    if isinstance(default, int) and not isinstance(default, bool):
        for ending, value in _ENDINGS.items():
            if name.endswith(ending):
                return value
    if isinstance(default, int) and default >= _LARGE and name.endswith(("dim", "dims", "channels", "size", "width")):
        return _WIDTH
    return None
