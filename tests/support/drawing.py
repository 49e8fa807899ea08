"""Images that a stock pipeline draws alone, to compare those of an engine with."""

from __future__ import annotations

from collections.abc import Callable

from diffusers import DiffusionPipeline

from deployments.engine.generation import Picture, first_picture
from deployments.engine.request import ImageRequest
from deployments.engine.shells import call_arguments, shell_for


def draw_image(
    pipeline: DiffusionPipeline, request: ImageRequest, on_step: Callable[[int], None] | None = None
) -> Picture:
    """Run one stock pipeline call in a shell of its own, with the LoRAs that are active.

    Args:
        pipeline: Its modules are shared; its schedulers are copied.
        request: What to draw.
        on_step: Called with the number of steps done, instead of the request's own watcher.

    Returns:
        The picture, of shape (height, width, 3), with values in 0..1. Pipelines for other things return other shapes: a
        video is of shape (frames, height, width, 3).

    Raises:
        UnsuitableRequestError: If the model's family cannot do what is asked.
    """
    watch = on_step or request.on_step
    shell = shell_for(pipeline, request)
    return first_picture(shell(**call_arguments(shell, request, lambda step, _: watch(step))))
