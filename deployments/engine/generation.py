"""One image in the making: a stock pipeline call that pauses at every shared module."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline, SchedulerMixin
from greenlet import GreenletExit, greenlet
from numpy.typing import NDArray

from deployments.engine.exceptions import EngineStoppedError
from deployments.engine.grouping import Call
from deployments.engine.request import ImageRequest

Picture = NDArray[np.float32]


class Generation:
    """An image that the engine is making.

    Attributes:
        request: What was asked for.
        future: Of the picture, of shape (height, width, 3), with values in 0..1.
        waiting_call: The module call at which it is paused, if it is.
        turn: Rises with every pause; the lowest has waited longest.
        steps_done: Denoising steps so far.
    """

    def __init__(self, request: ImageRequest) -> None:
        self.request = request
        self.future: Future[Picture] = Future()
        self.future.set_running_or_notify_cancel()
        self.waiting_call: Call | None = None
        self.turn = 0
        self.steps_done = 0
        self._cancelled = False
        self._greenlet: _GenerationGreenlet | None = None

    @property
    def is_cancelled(self) -> bool:
        """Whether somebody asked to cancel it."""
        return self._cancelled

    def cancel(self) -> None:
        """Ask the engine to give it up before its next module call. Safe from any thread."""
        self._cancelled = True

    def start(self, pipeline: DiffusionPipeline) -> None:
        """Run up to the first pause. Only on the engine's thread."""
        self._greenlet = _GenerationGreenlet(self, pipeline)
        self._greenlet.switch()

    def resume(self, result: Any) -> None:
        """Hand in the result of the waiting call and run up to the next pause."""
        self.waiting_call = None
        if self._greenlet is not None:
            self._greenlet.switch(result)

    def note_step(self, step: int) -> None:
        """Take note of the denoising steps done, and tell whoever watches the request."""
        self.steps_done = step
        self.request.on_step(step)

    def abort(self, error: BaseException) -> None:
        """Raise an error where the image is paused, or end it if it never started."""
        self.waiting_call = None
        if self._greenlet is None:
            self.future.set_exception(error)
        else:
            self._greenlet.throw(error)


class _GenerationGreenlet(greenlet):
    """Carries its generation, so that a gate can tell whose call it sees."""

    def __init__(self, generation: Generation, pipeline: DiffusionPipeline) -> None:
        super().__init__()
        self.generation = generation
        self._pipeline = pipeline

    def run(self) -> None:
        """Call the pipeline and settle the future."""
        future = self.generation.future
        try:
            image = draw_image(self._pipeline, self.generation.request, self.generation.note_step)
        except GreenletExit:
            future.set_exception(EngineStoppedError())
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(image)


def current_generation() -> Generation | None:
    """The generation whose pipeline is running right now, if any."""
    running = greenlet.getcurrent()
    return running.generation if isinstance(running, _GenerationGreenlet) else None


def draw_image(
    pipeline: DiffusionPipeline, request: ImageRequest, on_step: Callable[[int], None] | None = None
) -> Picture:
    """Run one stock pipeline call in a shell of its own.

    Args:
        pipeline: Its modules are shared; its schedulers are copied.
        request: What to draw.
        on_step: Told the number of steps done, instead of the request's own watcher.

    Returns:
        The picture, of shape (height, width, 3), with values in 0..1.
    """
    shell = _shell(pipeline)
    image: Picture = shell(**_call_arguments(shell, request, on_step or request.on_step)).images[0]
    return image


def _shell(pipeline: DiffusionPipeline) -> DiffusionPipeline:
    """A pipeline object for one call: pipelines and schedulers keep the state of a call on themselves."""
    shell = copy.copy(pipeline)
    for name, component in pipeline.components.items():
        if isinstance(component, SchedulerMixin):
            setattr(shell, name, copy.deepcopy(component))
    return shell


def _call_arguments(
    pipeline: DiffusionPipeline, request: ImageRequest, on_step: Callable[[int], None]
) -> dict[str, Any]:
    """The request in the pipeline's own words; what the pipeline does not know is left out."""

    def on_step_end(_: DiffusionPipeline, step: int, __: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        on_step(step + 1)
        return tensors

    wanted = {
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt or None,
        "num_inference_steps": request.num_inference_steps,
        "guidance_scale": request.guidance_scale,
        "width": request.width,
        "height": request.height,
        "generator": torch.Generator("cpu").manual_seed(request.seed),
        "max_sequence_length": request.max_sequence_length,
        "callback_on_step_end": on_step_end,
        "output_type": "np",
    }
    known = inspect.signature(type(pipeline).__call__).parameters
    return {name: value for name, value in wanted.items() if name in known and value is not None}
