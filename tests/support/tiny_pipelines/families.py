"""A tiny pipeline for each family that the service is made for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import diffusers
from diffusers import DiffusionPipeline, EulerDiscreteScheduler, LCMScheduler, SCMScheduler

from tests.support.tiny_pipelines.assembly import tiny_pipeline

NOISE_SCHEDULERS = (
    "EulerDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
    "DDIMScheduler",
)


@dataclass(frozen=True)
class Family:
    """A family of pipelines.

    Attributes:
        build: Makes its text-to-image pipeline.
        sides: The lengths of a picture's sides that its tiny pipeline can make.
        guidance_scales: Some that make sense for it.
        schedulers: Some that it can use besides its own.
        inputs: What has to be said to the pipeline besides.
    """

    build: Callable[[], DiffusionPipeline]
    sides: tuple[int, int] = (16, 24)
    guidance_scales: tuple[float, ...] = (3.0, 1.0, 7.5, 0.0)
    schedulers: tuple[str, ...] = ()
    inputs: Mapping[str, Any] = field(default_factory=dict)


def _of(class_name: str, **sizes: dict[str, Any]) -> Callable[[], DiffusionPipeline]:
    return lambda: tiny_pipeline(getattr(diffusers, class_name), sizes)


def _turbo() -> DiffusionPipeline:
    scheduler = EulerDiscreteScheduler(timestep_spacing="trailing", steps_offset=1)
    return tiny_pipeline(diffusers.StableDiffusionXLPipeline, scheduler=scheduler)


def _latent_consistency() -> DiffusionPipeline:
    sizes = {"unet": {"time_cond_proj_dim": 16}}
    return tiny_pipeline(diffusers.LatentConsistencyModelPipeline, sizes, scheduler=LCMScheduler(clip_sample=False))


def _sana_sprint() -> DiffusionPipeline:
    sizes = {"transformer": {"guidance_embeds": True, "qk_norm": "rms_norm_across_heads"}}
    return tiny_pipeline(diffusers.SanaSprintPipeline, sizes, scheduler=SCMScheduler())


_UNBINNED = {"use_resolution_binning": False}

FAMILIES: dict[str, Family] = {
    "stable-diffusion": Family(_of("StableDiffusionPipeline"), schedulers=NOISE_SCHEDULERS),
    "stable-diffusion-xl": Family(_of("StableDiffusionXLPipeline"), schedulers=NOISE_SCHEDULERS),
    "sdxl-turbo": Family(_turbo, guidance_scales=(0.0,)),
    "latent-consistency": Family(_latent_consistency, guidance_scales=(8.5, 4.0)),
    "stable-diffusion-3": Family(_of("StableDiffusion3Pipeline")),
    "flux": Family(_of("FluxPipeline", transformer={"guidance_embeds": True})),
    "flux-schnell": Family(_of("FluxPipeline"), guidance_scales=(0.0,)),
    "chroma": Family(_of("ChromaPipeline")),
    "pixart-sigma": Family(_of("PixArtSigmaPipeline"), schedulers=NOISE_SCHEDULERS, inputs=_UNBINNED),
    "sana": Family(_of("SanaPipeline"), sides=(32, 64), inputs=_UNBINNED),
    "sana-sprint": Family(
        _sana_sprint,
        sides=(32, 64),
        inputs=_UNBINNED,
    ),
    "qwen-image": Family(_of("QwenImagePipeline")),
    "z-image": Family(_of("ZImagePipeline")),
}

_GUIDANCE = (3.0, 1.0)

CONTROLLED_FAMILIES: dict[str, Family] = {
    "stable-diffusion-controlnet": Family(_of("StableDiffusionControlNetPipeline"), guidance_scales=_GUIDANCE),
    "stable-diffusion-xl-controlnet": Family(_of("StableDiffusionXLControlNetPipeline"), guidance_scales=_GUIDANCE),
    "stable-diffusion-3-controlnet": Family(_of("StableDiffusion3ControlNetPipeline"), guidance_scales=_GUIDANCE),
    "flux-controlnet": Family(_of("FluxControlNetPipeline"), guidance_scales=_GUIDANCE),
    "qwen-image-controlnet": Family(_of("QwenImageControlNetPipeline"), guidance_scales=_GUIDANCE),
    "sana-controlnet": Family(
        _of("SanaControlNetPipeline"), sides=(32, 64), guidance_scales=_GUIDANCE, inputs=_UNBINNED
    ),
    "z-image-controlnet": Family(_of("ZImageControlNetPipeline"), guidance_scales=_GUIDANCE),
}
"""Those with a ControlNet; their pipelines draw without it as well."""
