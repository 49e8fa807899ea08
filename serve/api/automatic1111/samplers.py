"""AUTOMATIC1111's samplers (its ``modules/sd_samplers_kdiffusion.py``) and their schedulers of diffusers.

https://huggingface.co/docs/diffusers/api/schedulers/overview pairs them. A model's catalog entry says which of them it
can use.
"""

from __future__ import annotations

from dataclasses import dataclass

from deployments.catalog.entry import ModelEntry
from serve.errors import ApiError


class SamplerNotFoundError(ApiError):
    """Sampler not found."""

    status = 404
    code = "sampler_not_found"


@dataclass(frozen=True)
class Sampler:
    """A sampler.

    Attributes:
        name: AUTOMATIC1111's name of it.
        aliases: Its other names.
        scheduler: The class of diffusers; None for the model's own.
        schedule: The noise schedule that its name includes: ``karras``; empty for the scheduler's own.
    """

    name: str
    aliases: tuple[str, ...]
    scheduler: str | None
    schedule: str = ""


OWN = Sampler("Default", ("default", "automatic"), None)
SAMPLERS = (
    OWN,
    Sampler("DPM++ 2M", ("k_dpmpp_2m",), "DPMSolverMultistepScheduler"),
    Sampler("DPM++ 2M Karras", ("k_dpmpp_2m_ka",), "DPMSolverMultistepScheduler", "karras"),
    Sampler("DPM++ SDE", ("k_dpmpp_sde",), "DPMSolverSDEScheduler"),
    Sampler("DPM++ SDE Karras", ("k_dpmpp_sde_ka",), "DPMSolverSDEScheduler", "karras"),
    Sampler("Euler a", ("k_euler_a", "k_euler_ancestral"), "EulerAncestralDiscreteScheduler"),
    Sampler("Euler", ("k_euler",), "EulerDiscreteScheduler"),
    Sampler("LMS", ("k_lms",), "LMSDiscreteScheduler"),
    Sampler("LMS Karras", ("k_lms_ka",), "LMSDiscreteScheduler", "karras"),
    Sampler("Heun", ("k_heun",), "HeunDiscreteScheduler"),
    Sampler("DPM2", ("k_dpm_2",), "KDPM2DiscreteScheduler"),
    Sampler("DPM2 Karras", ("k_dpm_2_ka",), "KDPM2DiscreteScheduler", "karras"),
    Sampler("DPM2 a", ("k_dpm_2_a",), "KDPM2AncestralDiscreteScheduler"),
    Sampler("DPM2 a Karras", ("k_dpm_2_a_ka",), "KDPM2AncestralDiscreteScheduler", "karras"),
    Sampler("LCM", ("k_lcm",), "LCMScheduler"),
    Sampler("DDIM", ("ddim",), "DDIMScheduler"),
    Sampler("PLMS", ("plms",), "PNDMScheduler"),
    Sampler("UniPC", ("unipc",), "UniPCMultistepScheduler"),
)
AUTOMATIC, KARRAS = "automatic", "karras"


def schedule_of(entry: ModelEntry) -> str:
    """Return the noise schedule of a model, by the config of its own scheduler."""
    own = entry.loading.scheduler
    return KARRAS if own is not None and own.config.get("use_karras_sigmas") else AUTOMATIC


def samplers_of(entry: ModelEntry) -> list[Sampler]:
    """Return the samplers that a request for a model may name. One without a noise schedule uses the model's."""
    schedules = ("", schedule_of(entry))
    return [
        each for each in SAMPLERS if each is OWN or (each.scheduler in entry.schedulers and each.schedule in schedules)
    ]


def scheduler_named(entry: ModelEntry, sampler: str | None, schedule: str | None) -> str | None:
    """Return the scheduler class of diffusers for a sampler; None for the model's own.

    Args:
        entry: The model.
        sampler: Its name or an alias of it, in any case; None or empty for the model's own.
        schedule: AUTOMATIC1111's "scheduler", the noise schedule; None or empty for the model's own.

    Raises:
        SamplerNotFoundError: The model cannot use it.
    """
    own = schedule_of(entry)
    if (schedule or AUTOMATIC).lower() not in (AUTOMATIC, own):
        raise SamplerNotFoundError(
            f'scheduler: this model has not the noise schedule "{(schedule or "")[:64]}"; {own} would be right.'
        )
    wanted, possible = (sampler or OWN.name).lower(), samplers_of(entry)
    for each in possible:
        if wanted in (each.name.lower(), *each.aliases):
            return each.scheduler
    names = ", ".join(each.name for each in possible)
    raise SamplerNotFoundError(
        f'sampler_name: this model has not the sampler "{(sampler or "")[:64]}"; it has: {names}.'
    )


def sampler_of(entry: ModelEntry, scheduler: str | None) -> str:
    """Return the name of a scheduler's sampler."""
    return next((each.name for each in samplers_of(entry) if each.scheduler == scheduler), OWN.name)
