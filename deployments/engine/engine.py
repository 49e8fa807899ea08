"""The step batcher: many images of one model at once, one thread, one forward for all images that can share it.

Every image runs its stock pipeline in a greenlet. A gate in front of each shared module pauses the image there; when
all images are paused, the engine joins calls that agree into one forward and resumes their images with its parts.
Images join at the next module call and leave when they are done (continuous batching, as Orca does it for language
models, https://www.usenix.org/conference/osdi22/presentation/yu).
"""

from __future__ import annotations

import logging
import queue
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import torch
from diffusers import DiffusionPipeline

from deployments.engine.checked_kinds import CheckedKinds
from deployments.engine.checking import CheckedGroups
from deployments.engine.costs import ForwardCosts, name_of
from deployments.engine.device_faults import is_device_fault
from deployments.engine.encodings import EncodingCache, keep_no_past
from deployments.engine.exactness import exact_rows_on
from deployments.engine.forwards import Forwards
from deployments.engine.gates import gate_shared_modules
from deployments.engine.generation import Generation, current_generation
from deployments.engine.grouping import read_call
from deployments.engine.latent_colours import LatentColours
from deployments.engine.lora_sets import LoraSets, lora_set
from deployments.engine.memory import keep_freed_memory
from deployments.engine.offloading import ModuleTurns, takes_turns
from deployments.engine.policy import Group, MostImages, Policy
from deployments.engine.request import ImageRequest
from deployments.engine.stages import module_of, stage_of
from deployments.engine.statistics import EngineStatistics
from deployments.engine.step_caches import StepCaches
from deployments.pipelines.exceptions import (
    EngineStoppedError,
    GenerationCancelledError,
    UngroupableError,
    one_line,
)
from deployments.pipelines.host_tokens import remember_tokens
from deployments.pipelines.loading import execution_device

logger = logging.getLogger(__name__)

CACHED_ENCODINGS_BYTES = 256 << 20
"""Most bytes of encoded prompts that an engine keeps."""


class Engine:
    """Makes images with one pipeline, many at once, on a thread of its own.

    Args:
        pipeline: A loaded diffusers pipeline; from now on it belongs to the engine.
        max_batch: Most images that share a forward.
        name: Of the thread.
        costs: Seconds of forwards on this device; left out, they are learned again.
        exact_rows: Rows of the denoising forwards that decide about a deterministic image's bytes, 1 for alone; None:
            by the device.
        has_step_cache: Whether images may skip most of the denoiser in steps that change little.
        most_images: Most images of a width and height in pixels that the memory lets denoise together.
        most_decoded: The same of decoding.

    Attributes:
        statistics: What it has done.
        failure: Why it has ended by itself, as after a fault of the device; empty if it has not.

    Raises:
        ModelLoadError: If a step cache is wanted, and no denoiser of the pipeline can have one.
    """

    def __init__(  # noqa: PLR0913 - each has its default but two
        self,
        pipeline: DiffusionPipeline,
        *,
        max_batch: int,
        name: str = "engine",
        costs: ForwardCosts | None = None,
        exact_rows: int | None = None,
        has_step_cache: bool = False,
        most_images: MostImages | None = None,
        most_decoded: MostImages | None = None,
    ) -> None:
        self.statistics = EngineStatistics()
        self.failure = ""
        self._pipeline = pipeline
        self._costs = costs or ForwardCosts()
        self._step_caches = StepCaches(pipeline.components if has_step_cache else {})
        self._device = execution_device(pipeline)
        if self._device.type == "cpu":
            keep_freed_memory()
        notes = self._costs.notes
        groups = CheckedGroups(self._step_caches, CheckedKinds(notes.section("groups"), notes.write))
        self._policy = Policy(
            self._costs,
            groups,
            max_batch,
            exact_rows or exact_rows_on(self._device),
            turns=ModuleTurns() if takes_turns(pipeline) else None,
            most_images=most_images,
            most_decoded=most_decoded,
        )
        encodings = EncodingCache(CACHED_ENCODINGS_BYTES)
        self._loras = LoraSets(pipeline.components)
        self._forwards = Forwards(self._policy, groups, encodings, self._loras, self.statistics, self._device)
        self._arrivals: queue.SimpleQueue[Generation | None] = queue.SimpleQueue()
        self._generations: list[Generation] = []
        self._stopping = False
        self._lock = threading.Lock()
        self._colours = LatentColours.fitted_to(pipeline)
        pipeline.set_progress_bar_config(disable=True)
        keep_no_past(pipeline.components.values())
        remember_tokens(pipeline.components.values())
        gate_shared_modules(pipeline.components, self._pause_at_gate)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the engine can still make images."""
        return self._thread.is_alive() and not self._stopping

    def submit(self, request: ImageRequest) -> Generation:
        """Start an image. Safe from any thread.

        Raises:
            EngineStoppedError: If the engine was stopped, or has failed.
        """
        generation = Generation(request)
        with self._lock:
            if not self.is_alive:
                raise EngineStoppedError(self.failure)
            self._arrivals.put(generation)
        return generation

    def forget_encodings(self) -> None:
        """Clear the cache of encoded prompts. Only while the engine makes no image."""
        self._forwards.encodings.clear()

    def stop(self, timeout: float | None = None) -> None:
        """Abort all images and end the thread.

        Args:
            timeout: Seconds to wait for the forward that is running; None for as long as it takes.
        """
        with self._lock:
            self._stopping = True
            self._arrivals.put(None)
        self._thread.join(timeout)

    def _run(self) -> None:
        # Grad mode is one per thread: without inference mode around everything, the no_grad blocks of interleaved
        # pipelines would restore each other's state.
        try:
            with torch.inference_mode():
                while not self._stopping:
                    self._wait_for_work()
                    started = time.perf_counter()
                    # Whatever comes while the device is waited for takes part in the next choice.
                    self._forwards.keep_pace()
                    self._admit_arrivals()
                    self._abort_cancelled()
                    self._forward_next_group()
                    self.statistics.busy_seconds += time.perf_counter() - started
        except Exception as error:
            self.failure = f"The engine failed: {type(error).__name__}: {one_line(error)}"
            logger.exception("The engine stops, and makes no more images")
        finally:
            self._abandon_everything()

    def _wait_for_work(self) -> None:
        if not self._generations:
            self._forwards.collect()
            self._admit(self._arrivals.get())

    def _admit_arrivals(self) -> None:
        while not self._arrivals.empty():
            self._admit(self._arrivals.get())

    def _admit(self, arrival: Generation | None) -> None:
        """Start an image; None only wakes the thread when the engine stops."""
        if arrival is None or self._stopping:
            return
        self._generations.append(arrival)
        if arrival.is_cancelled:
            arrival.abort(GenerationCancelledError())
        else:
            arrival.start(self._pipeline, self._colours)
        self._forget_finished()

    def _abort_cancelled(self) -> None:
        for generation in self._generations:
            if generation.is_cancelled and generation.waiting_call is not None:
                generation.abort(GenerationCancelledError())
        self._forget_finished()

    def _forward_next_group(self) -> None:
        waiting = [each for each in self._generations if each.waiting_call is not None]
        group = self._policy.choose(waiting)
        if group is None or self._forwards.find_exact_width(group):
            return
        self._policy.note_lost(group, waiting)
        failure = self._forward(group)
        # Only now, as the error's traceback held what the forward had allocated.
        if isinstance(failure, torch.OutOfMemoryError):
            self._retreat(group, failure)
        elif failure is not None:
            self._forward_one_by_one(group, failure)
        self._forget_finished()

    def _forward(self, group: Group) -> Exception | None:
        """Run a group's forward and resume its images, or return why it failed."""
        try:
            results = self._forwards.run(group)
        except Exception as error:
            if is_device_fault(error, self._device):
                raise
            _free_frames(error)
            return error
        for generation, result in zip(group.generations, results, strict=True):
            generation.resume(result)
        return None

    def _retreat(self, group: Group, error: torch.OutOfMemoryError) -> None:
        """Limit the width after a forward ran out of memory; its images go into the next, narrower one."""
        name = name_of(group.calls[0])
        self._forwards.encodings.clear()
        if self._device.type != "cpu":
            torch.accelerator.empty_cache()
        if group.padded_rows is not None and group.padded_rows == self._policy.exact_widths.of(name)[0]:
            self._policy.exact_widths.refuse(name)
        elif len(group.generations) > 1 or group.padded_rows is not None:
            self._costs.note_out_of_memory(name, group.padded_rows or sum(call.rows for call in group.calls))
        else:
            group.generations[0].abort(error)

    def _forward_one_by_one(self, group: Group, error: Exception) -> None:
        """Run each call of a failed group alone, so that an image fails only by its own fault."""
        if len(group.generations) == 1 and group.padded_rows is None:
            group.generations[0].abort(error)
            return
        for generation in group.generations:
            failure = self._forward(Group([generation]))
            if failure is not None:
                generation.abort(failure)

    def _pause_at_gate(self, target: Callable[..., Any], owner: str, args: tuple[Any, ...], kwargs: Any) -> Any:
        generation = current_generation()
        if generation is None:
            return target(*args, **kwargs)
        if generation.request.on_stage is not None:
            generation.request.on_stage(stage_of(target).value)
        loras = self._loras.within(module_of(target), lora_set(generation.request.settings.loras))
        try:
            call = read_call(target, owner, args, kwargs, loras) if generation.pauses else None
        except UngroupableError:
            call = None
        if call is None:
            self._loras.activate(module_of(target), loras)
            return target(*args, **kwargs)
        known = self._forwards.recall(call, alone=generation.request.settings.deterministic)
        if known is not None:
            return known
        return generation.pause(self._step_caches.with_memory(call, generation.passes, generation.steps_done))

    def _forget_finished(self) -> None:
        """Look at what the finished images ended with: a pipeline's own code may be the first to meet a fault."""
        finished = [generation for generation in self._generations if generation.future.done()]
        for generation in finished:
            error = generation.future.exception()
            if error is not None and is_device_fault(error, self._device):
                raise error
        if finished:
            self._generations = [generation for generation in self._generations if generation not in finished]
        self.statistics.images = len(self._generations)

    def _abandon_everything(self) -> None:
        with self._lock:
            self._stopping = True
            while not self._arrivals.empty():
                arrival = self._arrivals.get()
                if arrival is not None:
                    self._generations.append(arrival)
        for generation in self._generations:
            if not generation.future.done():
                generation.abort(EngineStoppedError(self.failure))


def _free_frames(error: BaseException | None) -> None:
    """Clear the variables of the calls that an error came through; among them are the tensors of a forward."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
