"""A pipeline object of its own for every image, and the request in that pipeline's words."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from diffusers.guiders import BaseGuidance

from deployments.engine.request import ImageRequest
from deployments.pipelines.exceptions import IncompatibleSchedulerError, UnknownInputError
from deployments.pipelines.tasks import call_parameters, pipeline_for

StepWatcher = Callable[[int, torch.Tensor | None], None]

# Sana-Sprint has a default for its one intermediate timestep, and refuses it with any other number of steps.
_STEPS_WITH_INTERMEDIATE = 2


def shell_for(pipeline: DiffusionPipeline, request: ImageRequest) -> DiffusionPipeline:
    """The pipeline for a request's task and scheduler, to be called once.

    Pipelines, schedulers and guiders keep the state of a call on themselves, so the shell has its
    own. Modules are shared.

    Args:
        pipeline: As it was loaded.
        request: What to draw.

    Raises:
        IncompatibleSchedulerError: If the model cannot use the request's scheduler.
        UnsuitableRequestError: If the model's family cannot do the task.
    """
    shell = pipeline_for(_own_copy(pipeline, {}), request.settings.task, request.inputs)
    if request.settings.scheduler is not None:
        shell.scheduler = _scheduler_named(request.settings.scheduler, shell)
    return shell


def call_arguments(pipeline: DiffusionPipeline, request: ImageRequest, on_step: StepWatcher) -> dict[str, Any]:
    """A request as arguments of a pipeline's call. Parameters that the pipeline does not know are left out.

    Args:
        pipeline: The shell that will be called.
        request: What to draw.
        on_step: Told the number of steps done, and the latents where the pipeline shows them.

    Raises:
        UnknownInputError: If the request has an input that the pipeline does not know.
    """
    known, settings = call_parameters(pipeline), request.settings
    wanted = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt or None,
        **settings.call_arguments,
        "generator": torch.Generator("cpu").manual_seed(settings.seed_of(request.index)),
        "output_type": "np",
        **_guidance(known, request),
        **_step_callback(known, on_step),
    }
    arguments = {name: value for name, value in wanted.items() if name in known and value is not None}
    if "intermediate_timesteps" in known and settings.num_inference_steps != _STEPS_WITH_INTERMEDIATE:
        arguments["intermediate_timesteps"] = None
    return arguments | _inputs(pipeline, known, request)


def changes_modules(pipeline: DiffusionPipeline) -> bool:
    """Whether a pipeline gives the shared modules other attention processors while it runs.

    Perturbed-attention guidance and its like do, and put the old ones back at the end. In between, no other image
    may use the modules.
    """
    call = inspect.unwrap(type(pipeline).__call__)
    return "set_attn_processor" in call.__code__.co_names


def compatible_schedulers(pipeline: DiffusionPipeline) -> list[str]:
    """Names of the scheduler classes that a request may ask a pipeline for."""
    scheduler = pipeline.components.get("scheduler")
    return sorted(member.__name__ for member in scheduler.compatibles) if scheduler is not None else []


def _own_copy(pipeline: DiffusionPipeline, copies: dict[int, Any]) -> DiffusionPipeline:
    """A shallow copy, but for schedulers and guiders, and for the pipelines that a combined one is made of."""
    shell = copy.copy(pipeline)
    for name, value in vars(pipeline).items():
        if id(value) not in copies:
            if isinstance(value, SchedulerMixin | BaseGuidance):
                copies[id(value)] = copy.deepcopy(value)
            elif isinstance(value, DiffusionPipeline):
                copies[id(value)] = _own_copy(value, copies)
            else:
                continue
        setattr(shell, name, copies[id(value)])
    return shell


def _scheduler_named(name: str, pipeline: DiffusionPipeline) -> SchedulerMixin:
    if name not in compatible_schedulers(pipeline):
        choice = ", ".join(compatible_schedulers(pipeline)) or "none can be chosen"
        raise IncompatibleSchedulerError(f"The model cannot use the scheduler {name!r}. It can use: {choice}.")
    scheduler = pipeline.components["scheduler"]
    compatibles = {member.__name__: member for member in scheduler.compatibles}
    try:
        built: SchedulerMixin = compatibles[name].from_config(scheduler.config)
    except (ImportError, ValueError) as error:
        raise IncompatibleSchedulerError(f"The scheduler {name} cannot be used here: {error}") from error
    return built


def _guidance(known: Mapping[str, inspect.Parameter], request: ImageRequest) -> dict[str, Any]:
    """The guidance scale by the name under which the pipeline takes it.

    Where ``guidance_scale`` is for distilled models and has no default, ``true_cfg_scale`` is what others call
    guidance. It has an effect only together with a negative prompt, and a blank one stands for none.
    """
    scale, distilled = request.settings.guidance_scale, known.get("guidance_scale")
    if "true_cfg_scale" not in known or (distilled is not None and distilled.default is not None):
        return {"guidance_scale": scale}
    blank = " " if scale > 1 else None
    return {"true_cfg_scale": scale, "negative_prompt": request.negative_prompt or blank}


def _step_callback(known: Mapping[str, inspect.Parameter], on_step: StepWatcher) -> dict[str, Any]:
    def on_step_end(_: DiffusionPipeline, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        on_step(step + 1, tensors.get("latents"))
        return tensors

    if "callback_on_step_end" in known:
        return {"callback_on_step_end": on_step_end}
    return {"callback": lambda step, *_: on_step(step + 1, None)}


def _inputs(
    pipeline: DiffusionPipeline, known: Mapping[str, inspect.Parameter], request: ImageRequest
) -> dict[str, Any]:
    """What only the pipeline of the request's task takes."""
    scales = {"strength": request.settings.strength, "controlnet_conditioning_scale": request.settings.control_scale}
    given = {**request.inputs, **{name: scale for name, scale in scales.items() if scale is not None}}
    if "control_image" in given and "control_image" not in known and "image" not in given:
        given["image"] = given.pop("control_image")
    unknown = sorted(name for name in given if name not in known)
    if unknown:
        raise UnknownInputError(f"{type(pipeline).__name__} takes no {', '.join(unknown)}.")
    return given
