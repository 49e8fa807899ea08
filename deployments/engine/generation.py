"""The generation of one image: a stock pipeline call that pauses at every shared module."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from greenlet import GreenletExit, greenlet
from numpy.typing import NDArray
from PIL.Image import Image

from deployments.engine.grouping import Call
from deployments.engine.image_previews import ImagePreviews
from deployments.engine.latent_colours import LatentColours
from deployments.engine.picture_checks import DecodingCheck, PictureFindings
from deployments.engine.request import ImageRequest
from deployments.engine.shells import call_arguments, changes_modules, shell_for
from deployments.engine.stages import Stage, stage_of
from deployments.engine.step_cache import DenoiserPasses
from deployments.pipelines.exceptions import EngineError, EngineStoppedError, GenerationCancelledError

Picture = NDArray[np.float32]


class Generation:
    """One image on its way through the engine.

    Attributes:
        request: What to make.
        future: Of the picture, of shape (height, width, 3), with values in 0..1.
        waiting_call: The module call at which it is paused, if it is.
        arrival: When it was submitted, in seconds of a clock that all images share.
        steps_done: Denoising steps so far.
        passes: What it keeps of its passes through denoisers; the step caches write it.
        pauses: Whether it pauses at calls. A pipeline that changes the shared modules while it runs must not.
        latents: After the last step, where its pipeline shows them.
        findings: What is to say about its picture, once there is one.
    """

    def __init__(self, request: ImageRequest) -> None:
        self.request = request
        self.arrival = time.monotonic()
        self.future: Future[Picture] = Future()
        self.future.set_running_or_notify_cancel()
        self.waiting_call: Call | None = None
        self.steps_done = 0
        self.passes = DenoiserPasses(request.settings.step_cache)
        self.pauses = True
        self.latents: torch.Tensor | None = None
        self.findings = PictureFindings()
        self._decoding = DecodingCheck()
        self._cancelled = False
        self._greenlet: _GenerationGreenlet | None = None

    @property
    def is_cancelled(self) -> bool:
        """Whether it was cancelled."""
        return self._cancelled

    @property
    def steps_left(self) -> int:
        """Denoising steps still to do."""
        return max(0, self.request.settings.denoising_steps - self.steps_done)

    @property
    def skipped_passes(self) -> int:
        """Passes in which most of the denoiser was skipped."""
        return self.passes.skipped

    def cancel(self) -> None:
        """Cancel the image; the engine aborts it before its next module call. Safe from any thread."""
        self._cancelled = True

    def start(self, pipeline: DiffusionPipeline, colours: LatentColours | None = None) -> None:
        """Run up to the first pause. Only on the engine's thread.

        Args:
            pipeline: Makes the image.
            colours: Of its latents, for previews.
        """
        self._greenlet = _GenerationGreenlet(self, pipeline, colours)
        self._greenlet.switch()

    def pause(self, call: Call) -> Any:
        """Wait at a module call, and return its result. Only from within the image's own pipeline.

        Raises:
            EngineError: If there is no engine that could give it.
        """
        self.waiting_call = call
        hub = greenlet.getcurrent().parent
        if hub is None:
            raise EngineError("The image lost its engine.")
        result = hub.switch()
        if stage_of(call.target) is Stage.DECODING:
            self._decoding.note(self.latents, result)
        return result

    def inspect(self, picture: Picture, output: Any) -> None:
        """Look at the finished picture.

        Args:
            picture: What becomes of the image.
            output: Of its pipeline.

        Raises:
            NotNumbersError: If some value is not a number.
        """
        self._decoding.require_numbers(picture, self.request)
        self.findings = PictureFindings.of(picture, output)

    def resume(self, result: Any) -> None:
        """Hand in the result of the waiting call and run up to the next pause."""
        self.waiting_call = None
        if self._greenlet is not None:
            self._greenlet.switch(result)

    def note_step(self, step: int) -> None:
        """Record the denoising steps done, and report them to the request's callback."""
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
    """Carries its generation, so that a gate knows whose call it sees."""

    def __init__(self, generation: Generation, pipeline: DiffusionPipeline, colours: LatentColours | None) -> None:
        super().__init__()
        self.generation = generation
        self._pipeline = pipeline
        self._colours = colours
        self._previews: ImagePreviews | None = None

    def run(self) -> None:
        """Call the pipeline and settle the future."""
        future, request = self.generation.future, self.generation.request
        try:
            shell = shell_for(self._pipeline, request)
            self.generation.pauses = not changes_modules(shell)
            if self._colours is not None:
                self._previews = ImagePreviews(self._colours, shell, request)
            output = shell(**call_arguments(shell, request, self._note_step))
            image = first_picture(output)
            self.generation.inspect(image, output)
            if self._previews is not None:
                self._previews.finish(image)
        except GreenletExit:
            future.set_exception(EngineStoppedError())
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(image)

    def _note_step(self, step: int, latents: torch.Tensor | None) -> None:
        if self.generation.is_cancelled and not self.generation.pauses:
            raise GenerationCancelledError
        self.generation.note_step(step)
        self.generation.latents = latents
        if self._previews is not None:
            self._previews.note_step(step, latents)


def current_generation() -> Generation | None:
    """The generation whose pipeline is running right now, if any."""
    running = greenlet.getcurrent()
    return running.generation if isinstance(running, _GenerationGreenlet) else None


def first_picture(output: Any) -> Picture:
    """The first sample of a pipeline's output, which its first field holds.

    Of shape (height, width, 3), with values in 0..1; a video is of shape (frames, height, width, 3).
    """
    (samples, *_) = output.values() if isinstance(output, Mapping) else output
    sample = samples[0]
    if isinstance(sample, Image):
        return _to_array(sample) / np.float32(255)
    return np.stack([_to_array(frame) for frame in sample]) if isinstance(sample, list) else _to_array(sample)


def _to_array(sample: Any) -> Picture:
    array: Picture = np.asarray(sample.float().cpu() if isinstance(sample, torch.Tensor) else sample, dtype=np.float32)
    return array
