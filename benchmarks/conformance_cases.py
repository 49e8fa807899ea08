"""What pipeline classes need for an examination besides tiny components: other sizes, and inputs."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from deployments.engine.request import ImageRequest
from deployments.parameters import GenerationSettings

_SIDE = 32
_SIDES = {"Flux2KleinPipeline": 64, "Flux2KleinKVPipeline": 64, "ZImageOmniPipeline": 64, "Flux2Pipeline": 64}
# Inputs that exclude another.
_WITHOUT = {
    "HeliosPipeline": ("video",),
    "HeliosPyramidPipeline": ("video",),
    "LTXConditionPipeline": ("video",),
    "CosmosVideoToWorldPipeline": ("video",),
    "Cosmos2_5_PredictBasePipeline": ("video",),
    "ChronoEditPipeline": ("image_embeds",),
    "WanImageToVideoPipeline": ("image_embeds",),
    "SkyReelsV2ImageToVideoPipeline": ("image_embeds",),
    "SkyReelsV2DiffusionForcingImageToVideoPipeline": ("image_embeds",),
    "StableUnCLIPImg2ImgPipeline": ("image_embeds",),
    "WanAnimatePipeline": ("image_embeds",),
    "Cosmos3OmniPipeline": ("video",),
}
_CONTROLLED = {"transformer": {"in_channels": 32, "out_channels": 16}}
_PIXELS = {"unet": {"in_channels": 3, "out_channels": 6}}
_LARGER_PIXELS = {"unet": {"in_channels": 6, "out_channels": 6, "class_embed_type": "timestep"}}
_EMBEDDED = {
    "unet": {
        "out_channels": 8,
        "addition_embed_type": "image",
        "encoder_hid_dim": 32,
        "encoder_hid_dim_type": "image_proj",
    }
}
_HINTED = {
    "unet": {
        "in_channels": 8,
        "out_channels": 8,
        "addition_embed_type": "image_hint",
        "encoder_hid_dim": 32,
        "encoder_hid_dim_type": "image_proj",
    }
}
_WORDS_AND_PICTURE = {
    "unet": {
        "out_channels": 8,
        "addition_embed_type": "text_image",
        "encoder_hid_dim": 32,
        "encoder_hid_dim_type": "text_image_proj",
    }
}
_WORDS_AND_INPAINTED_PICTURE = {"unet": _WORDS_AND_PICTURE["unet"] | {"in_channels": 9}}
_CONTINUOUS_TIME = {"transformer": {"guidance_embeds": True, "qk_norm": "rms_norm_across_heads"}}
_EIGHTFOLD = {
    "vae": {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "block_out_channels": (8,) * 4,
    }
}
_WITHOUT_IMAGE_ENCODER = {"transformer": {"in_channels": 10, "out_channels": 4, "image_dim": None}}
_MARIGOLD = {"default_denoising_steps": 4, "default_processing_resolution": _SIDE}
COMPONENTS: dict[str, dict[str, Any]] = {
    "SanaSprintPipeline": {"scheduler": diffusers.SCMScheduler()},
    "SanaSprintImg2ImgPipeline": {"scheduler": diffusers.SCMScheduler()},
    "Krea2Pipeline": {"text_encoder_select_layers": (1, 2)},
    "MarigoldDepthPipeline": {
        "prediction_type": "depth",
        "scale_invariant": True,
        "shift_invariant": True,
        **_MARIGOLD,
    },
    "MarigoldNormalsPipeline": {"prediction_type": "normals", **_MARIGOLD},
    "MarigoldIntrinsicsPipeline": {
        "prediction_type": "intrinsics",
        "target_properties": {"target_names": ["albedo", "material"]},
        **_MARIGOLD,
    },
}
"""Components that are made otherwise than by their type, by pipeline class."""
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "FluxControlPipeline": _CONTROLLED,
    "FluxControlImg2ImgPipeline": _CONTROLLED,
    "FluxControlInpaintPipeline": _CONTROLLED,
    "FluxFillPipeline": {"transformer": {"in_channels": 48, "out_channels": 16}},
    "CogView4ControlPipeline": {"transformer": {"in_channels": 8, "out_channels": 4}},
    "LatentConsistencyModelPipeline": {"unet": {"time_cond_proj_dim": 16}},
    "LatentConsistencyModelImg2ImgPipeline": {"unet": {"time_cond_proj_dim": 16}},
    "IFPipeline": _PIXELS,
    "IFImg2ImgPipeline": _PIXELS,
    "IFInpaintingPipeline": _PIXELS,
    "IFSuperResolutionPipeline": _LARGER_PIXELS,
    "IFImg2ImgSuperResolutionPipeline": _LARGER_PIXELS,
    "IFInpaintingSuperResolutionPipeline": _LARGER_PIXELS,
    "HunyuanVideo15Pipeline": {"transformer": {"in_channels": 9, "out_channels": 4}},
    "HunyuanVideo15ImageToVideoPipeline": {"transformer": {"in_channels": 9, "out_channels": 4}},
    "WanVACEPipeline": {"transformer": {"vace_layers": [0], "vace_in_channels": 24}},
    "MarigoldDepthPipeline": {"unet": {"in_channels": 8}},
    "MarigoldNormalsPipeline": {"unet": {"in_channels": 8}},
    "MarigoldIntrinsicsPipeline": {"unet": {"in_channels": 12, "out_channels": 8}},
    "PixArtSigmaPAGPipeline": {"transformer": {"num_layers": 2}},
    "SanaPAGPipeline": {"transformer": {"num_layers": 2}},
    "StableDiffusion3PAGPipeline": {"transformer": {"num_layers": 2}},
    "StableDiffusion3PAGImg2ImgPipeline": {"transformer": {"num_layers": 2}},
    "WanImageToVideoPipeline": _WITHOUT_IMAGE_ENCODER,
    "SkyReelsV2ImageToVideoPipeline": {"transformer": {"in_channels": 10, "out_channels": 4}},
    "StableDiffusion3ControlNetInpaintingPipeline": {"controlnet": {"extra_conditioning_channels": 1}},
    "QwenImageControlNetInpaintPipeline": {"controlnet": {"extra_condition_channels": 4}},
    "ZImageControlNetInpaintPipeline": {"controlnet": {"control_in_dim": 9}},
    "HunyuanImageRefinerPipeline": {
        "transformer": {
            "patch_size": (1, 1, 1),
            "rope_axes_dim": (4, 6, 6),
            "in_channels": 16,
            "out_channels": 8,
        }
    },
    "HunyuanDiTPipeline": _EIGHTFOLD,
    "HunyuanDiTControlNetPipeline": _EIGHTFOLD,
    "HunyuanDiTPAGPipeline": {**_EIGHTFOLD, "transformer": {"num_layers": 2}},
    "StableVideoDiffusionPipeline": {"image_encoder": {"image_size": 224, "patch_size": 32}},
    "WanAnimatePipeline": {"transformer": {"image_dim": None}},
    "SanaSprintPipeline": _CONTINUOUS_TIME,
    "SanaSprintImg2ImgPipeline": _CONTINUOUS_TIME,
    "LongCatImagePipeline": {"vae": {"latent_channels": 16}},
    "LongCatImageEditPipeline": {"vae": {"latent_channels": 16}},
    "KandinskyPipeline": _WORDS_AND_PICTURE,
    "KandinskyImg2ImgPipeline": _WORDS_AND_PICTURE,
    "KandinskyInpaintPipeline": _WORDS_AND_INPAINTED_PICTURE,
    "KandinskyCombinedPipeline": _WORDS_AND_PICTURE,
    "KandinskyImg2ImgCombinedPipeline": _WORDS_AND_PICTURE,
    "KandinskyInpaintCombinedPipeline": _WORDS_AND_INPAINTED_PICTURE,
    "KandinskyV22ControlnetPipeline": _HINTED,
    "KandinskyV22ControlnetImg2ImgPipeline": _HINTED,
    "ChronoEditPipeline": {"transformer": {"in_channels": 10, "out_channels": 4}},
    "LucyEditPipeline": {"transformer": {"in_channels": 8, "out_channels": 4}},
    "KandinskyV22Pipeline": _EMBEDDED,
    "KandinskyV22Img2ImgPipeline": _EMBEDDED,
    "KandinskyV22InpaintPipeline": {"unet": _EMBEDDED["unet"] | {"in_channels": 9}},
    "KandinskyV22CombinedPipeline": _EMBEDDED,
    "KandinskyV22Img2ImgCombinedPipeline": _EMBEDDED,
    "KandinskyV22InpaintCombinedPipeline": {"unet": _EMBEDDED["unet"] | {"in_channels": 9}},
    "Krea2Pipeline": {"transformer": {"num_text_layers": 2}},
    "StableDiffusionInstructPix2PixPipeline": {"unet": {"in_channels": 8}},
    "StableDiffusionXLInstructPix2PixPipeline": {"unet": {"in_channels": 8}},
    "StableDiffusionUpscalePipeline": {"unet": {"in_channels": 7, "num_class_embeds": 1000}},
}
"""Where a class has components of other sizes than its relatives, by pipeline class and component."""
_FRAMES = 5


def three_requests(pipeline_class: type[DiffusionPipeline]) -> list[ImageRequest]:
    """Requests of different prompts, guidance, steps and seeds, with whatever images the class takes."""
    parameters = inspect.signature(pipeline_class.__call__).parameters
    side = _SIDES.get(pipeline_class.__name__, _SIDE)
    without = _WITHOUT.get(pipeline_class.__name__, ())

    def inputs(seed: int) -> dict[str, Any]:
        return {name: value for name, value in _inputs(parameters, side, seed).items() if name not in without}

    first = ImageRequest(
        prompt="a red circle",
        negative_prompt="green" if "negative_prompt" in parameters else "",
        settings=GenerationSettings(
            num_images=1,
            num_inference_steps=4,
            guidance_scale=3.0,
            width=side,
            height=side,
            seed=1,
            max_sequence_length=24,
        ),
        inputs=inputs(1),
    )

    def other(prompt: str, seed: int, **changes: Any) -> ImageRequest:
        settings = first.settings.model_copy(update={"seed": seed, **changes})
        return replace(first, prompt=prompt, settings=settings, inputs=inputs(seed))

    return [
        first,
        other("a ring", 2, guidance_scale=5.0),
        other("a large star", 3, num_inference_steps=3),
    ]


def _inputs(parameters: Any, side: int, seed: int) -> dict[str, Any]:
    random = np.random.default_rng(seed)

    def picture() -> Image.Image:
        return Image.fromarray(random.integers(0, 255, (side, side, 3), dtype=np.uint8))

    def mask() -> Image.Image:
        corner = np.zeros((side, side), dtype=np.uint8)
        corner[: side // 2] = 255
        return Image.fromarray(corner)

    makers: dict[str, Any] = {
        "image": picture,
        "control_image": picture,
        "mask_image": mask,
        "video": lambda: [picture() for _ in range(_FRAMES)],
        "conditioning_frames": lambda: [picture() for _ in range(_FRAMES)],
        "pose_video": lambda: [picture() for _ in range(_FRAMES)],
        "face_video": lambda: [picture() for _ in range(_FRAMES)],
        "control_mask": mask,
        "num_frames": lambda: _FRAMES,
        "frames": lambda: _FRAMES,
        "overlap_history": lambda: 1,
        "return_index": lambda: -1,
        "use_resolution_binning": lambda: False,
        "_auto_resize": lambda: False,
        "guidance_schedule": lambda: None,
        "image_embeds": lambda: torch.randn(1, 32, generator=torch.Generator().manual_seed(seed)),
        "negative_image_embeds": lambda: torch.zeros(1, 32),
        "strength": lambda: 0.8,
        "control_mode": lambda: 0,
        "hint": lambda: torch.rand(1, 3, 8 * side, 8 * side, generator=torch.Generator().manual_seed(seed)),
        "original_image": picture,
        "max_area": lambda: side * side,
        "text_encoder_out_layers": lambda: (0, 1, 2),
    }
    return {name: make() for name, make in makers.items() if name in parameters}
