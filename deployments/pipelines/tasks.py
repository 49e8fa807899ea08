"""The pipeline of a model's family that does a task, around the same modules."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

import diffusers
from diffusers import DiffusionPipeline

from deployments.parameters import Task
from deployments.pipelines.exceptions import MissingInputError, UnknownTaskError, UnsuitableRequestError

_CLASS_INFIX: dict[Task, str] = {"text2image": "", "image2image": "Img2Img", "inpaint": "Inpaint"}
_TASK_NAMES: dict[Task, str] = {"text2image": "text-to-image", "image2image": "image-to-image", "inpaint": "inpainting"}

_TASK_ARGUMENTS: dict[Task, tuple[str, ...]] = {
    "text2image": (),
    "image2image": ("image", "strength"),
    "inpaint": ("image", "mask_image", "strength"),
}
_PLAIN_CHANNELS = 4


def pipeline_for(pipeline: DiffusionPipeline, task: Task, inputs: Mapping[str, Any]) -> DiffusionPipeline:
    """The pipeline for a task; it shares the components of the one given and neither copies nor moves any.

    A model with a ControlNet makes what comes with a ``control_image`` (or, for text-to-image, with any input that only
    the ControlNet's pipeline knows) through it, and everything else without it. A text-to-image
    request is otherwise for the pipeline as it was loaded, which may take an image of its own, as those for editing do.

    Args:
        pipeline: Of the model's family.
        task: What is to be done.
        inputs: The arguments that come with it.

    Raises:
        MissingInputError: If the task needs an image or a mask that is not there.
        UnknownTaskError: If the family has no pipeline for the task.
        UnsuitableRequestError: If there is a control image, and no ControlNet.
    """
    _check_inputs(pipeline, task, inputs)
    if task == "text2image":
        return _for_prompts(pipeline, inputs)
    has_controlnet = pipeline.components.get("controlnet") is not None
    wanted = _class_for(type(pipeline), task, with_controlnet=has_controlnet and "control_image" in inputs)
    if wanted is type(pipeline):
        return pipeline
    if wanted is None:
        raise UnknownTaskError(f"{type(pipeline).__name__} has no counterpart for {_TASK_NAMES[task]}.")
    built = rebuild(wanted, pipeline, _TASK_NAMES[task])
    if task == "inpaint":
        _show_plain_unet(built)
    return built


def call_parameters(pipeline: DiffusionPipeline) -> Mapping[str, inspect.Parameter]:
    """The parameters of a pipeline's call by name."""
    return inspect.signature(type(pipeline).__call__).parameters


def can_do(loaded: type[DiffusionPipeline], task: Task, *, with_controlnet: bool = False) -> bool:
    """Whether there is a pipeline for a task, of a pipeline's family, that takes the usual arguments.

    Args:
        loaded: The class of the model's pipeline.
        task: What is to be done.
        with_controlnet: Whether a control image comes along.
    """
    wanted = _class_for(loaded, task, with_controlnet=with_controlnet)
    if wanted is None:
        return False
    known = inspect.signature(wanted.__call__).parameters
    control = {"control_image"} if with_controlnet and (task != "text2image" or "image" not in known) else set()
    return {*_TASK_ARGUMENTS[task], *control} <= known.keys()


def _for_prompts(pipeline: DiffusionPipeline, inputs: Mapping[str, Any]) -> DiffusionPipeline:
    """The loaded pipeline, unless it is for more than what has come with the prompt, and a plain one does."""
    has_controlnet = pipeline.components.get("controlnet") is not None
    if not has_controlnet and ("image" in inputs or "image" not in call_parameters(pipeline)):
        return pipeline
    plain = _class_for(type(pipeline), "text2image", with_controlnet=False)
    if plain in (None, type(pipeline)) or not inputs.keys() <= inspect.signature(plain.__call__).parameters.keys():
        return pipeline
    return rebuild(plain, pipeline, _TASK_NAMES["text2image"])


def _show_plain_unet(pipeline: DiffusionPipeline) -> None:
    """Let a U-Net that takes nothing but latents pass for a plain one, however many channels these have.

    Pipelines for inpainting know plain U-Nets by 4 channels, and those made for inpainting by 9.
    """
    unet, vae = pipeline.components.get("unet"), pipeline.components.get("vae")
    if unet is None or vae is None:
        return
    if unet.config.in_channels == vae.config.latent_channels != _PLAIN_CHANNELS:
        # The copy has the same layers, and the same gate in front of them, which torch leaves out of copies.
        pipeline.unet = copy.copy(unet)
        pipeline.unet._compiled_call_impl = unet._compiled_call_impl
        pipeline.unet.register_to_config(in_channels=_PLAIN_CHANNELS)


def _check_inputs(pipeline: DiffusionPipeline, task: Task, inputs: Mapping[str, Any]) -> None:
    if "control_image" in inputs and not _takes_control(pipeline):
        raise UnsuitableRequestError("There is a control image, but the model has no ControlNet.")
    if task != "text2image" and inputs.get("image") is None:
        raise MissingInputError(f"{_TASK_NAMES[task].capitalize()} needs an image to start from.")
    if task == "inpaint" and inputs.get("mask_image") is None:
        raise MissingInputError("Inpainting needs a mask image.")


def _takes_control(pipeline: DiffusionPipeline) -> bool:
    return pipeline.components.get("controlnet") is not None or "control_image" in call_parameters(pipeline)


@cache
def families() -> dict[Task, Mapping[str, type[DiffusionPipeline]]]:
    """By task, the pipeline class of each family."""
    # Imports every pipeline of the library, which takes seconds and most models never need.
    from diffusers.pipelines import auto_pipeline  # noqa: PLC0415

    return {
        "text2image": auto_pipeline.AUTO_TEXT2IMAGE_PIPELINES_MAPPING,
        "image2image": auto_pipeline.AUTO_IMAGE2IMAGE_PIPELINES_MAPPING,
        "inpaint": auto_pipeline.AUTO_INPAINT_PIPELINES_MAPPING,
    }


def _class_for(loaded: type[DiffusionPipeline], task: Task, *, with_controlnet: bool) -> type[DiffusionPipeline] | None:
    """The class of the loaded one's family for a task: as the library pairs them, else by the way it names them."""
    names = [name for classes in families().values() for name, member in classes.items() if member is loaded]
    for name in names:
        family = name if with_controlnet else name.replace("-controlnet-union", "").replace("-controlnet", "")
        if family in families()[task]:
            return families()[task][family]
    stem = loaded.__name__.removesuffix("Pipeline")
    for infix in ("Img2Img", "Inpaint", *(() if with_controlnet else ("ControlNet",))):
        stem = stem.replace(infix, "")
    found: type[DiffusionPipeline] | None = getattr(diffusers, f"{stem}{_CLASS_INFIX[task]}Pipeline", None)
    return found


def rebuild(
    wanted: type[DiffusionPipeline],
    pipeline: DiffusionPipeline,
    purpose: str,
    added: Mapping[str, Any] | None = None,
) -> DiffusionPipeline:
    """A pipeline of another class around the same components.

    Args:
        wanted: The class.
        pipeline: Whose components and options it gets.
        purpose: What it is for, as an error names it.
        added: Components that the pipeline lacks, by name.

    Raises:
        UnknownTaskError: If the class needs a component that is not there.
    """
    component_names, option_names = wanted._get_signature_keys(wanted)
    components = {name: pipeline.components.get(name) for name in component_names} | dict(added or {})
    missing = [name for name, component in components.items() if component is None and name in _required(wanted)]
    if missing:
        raise UnknownTaskError(f"The model lacks what {purpose} needs: {', '.join(missing)}.")
    options = {name: pipeline.config[name] for name in option_names if name in pipeline.config}
    built = wanted(**components, **options)
    for name, value in vars(pipeline).items():
        # Settings such as that of the progress bar, and methods that were replaced when the model was loaded.
        if name == "_progress_bar_config" or (name not in built.config and callable(getattr(wanted, name, None))):
            setattr(built, name, value)
    return built


def _required(wanted: type[DiffusionPipeline]) -> set[str]:
    parameters = inspect.signature(wanted.__init__).parameters.values()
    optional = {parameter.name for parameter in parameters if parameter.default is not inspect.Parameter.empty}
    return {parameter.name for parameter in parameters} - optional - set(wanted._optional_components)
