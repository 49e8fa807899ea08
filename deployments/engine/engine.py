"""The step batcher: many images of one model in the making, one thread, one forward for all that can share it.

Every image runs its stock pipeline in a greenlet. A gate in front of each shared module pauses the image there; when
all images are paused, the engine joins calls that agree into one forward and resumes their images with its parts.
Images join at the next module call and leave when they are done (continuous batching, as Orca does it for language
models, https://www.usenix.org/conference/osdi22/presentation/yu).
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import DiffusionPipeline
from greenlet import getcurrent

from deployments.engine.exceptions import (
    EngineError,
    EngineStoppedError,
    GenerationCancelledError,
    UngroupableError,
)
from deployments.engine.gates import gate_shared_modules
from deployments.engine.generation import Generation, current_generation
from deployments.engine.grouping import Call, read_call, run_together
from deployments.engine.request import ImageRequest


@dataclass
class EngineStatistics:
    """What the engine has done so far.

    Attributes:
        forwards: How many forwards ran, by module class and by the number of images that shared one.
        forward_seconds: Time inside forwards.
        busy_seconds: Time with at least one image in the making.
    """

    forwards: Counter[tuple[str, int]] = field(default_factory=Counter)
    forward_seconds: float = 0.0
    busy_seconds: float = 0.0

    @property
    def widest_batch(self) -> int:
        """The most images that ever shared a forward."""
        return max((width for _, width in self.forwards), default=0)

    @property
    def grouped_share(self) -> float:
        """The share of module calls that ran in company, in 0..1."""
        calls = sum(width * count for (_, width), count in self.forwards.items())
        alone = sum(count for (_, width), count in self.forwards.items() if width == 1)
        return 1 - alone / calls if calls else 0.0


class Engine:
    """Makes images with one pipeline, many at once, on a thread of its own.

    Args:
        pipeline: A loaded diffusers pipeline; from now on it belongs to the engine.
        max_batch: Images that share a forward at most.
        name: Of the thread.
    """

    def __init__(self, pipeline: DiffusionPipeline, *, max_batch: int, name: str = "engine") -> None:
        self.statistics = EngineStatistics()
        self._pipeline = pipeline
        self._max_batch = max_batch
        self._arrivals: queue.SimpleQueue[Generation | None] = queue.SimpleQueue()
        self._generations: list[Generation] = []
        self._ungroupable: set[Callable[..., Any]] = set()
        self._turns = 0
        self._stopping = False
        self._lock = threading.Lock()
        pipeline.set_progress_bar_config(disable=True)
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
            EngineStoppedError: If the engine was stopped.
        """
        generation = Generation(request)
        with self._lock:
            if not self.is_alive:
                raise EngineStoppedError
            self._arrivals.put(generation)
        return generation

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
                    self._admit_arrivals()
                    started = time.perf_counter()
                    self._abort_cancelled()
                    self._forward_next_group()
                    self.statistics.busy_seconds += time.perf_counter() - started
        finally:
            self._abandon_everything()

    def _admit_arrivals(self) -> None:
        while not self._stopping and (not self._generations or not self._arrivals.empty()):
            arrival = self._arrivals.get()
            if arrival is None:
                return
            self._generations.append(arrival)
            if arrival.is_cancelled:
                arrival.abort(GenerationCancelledError())
            else:
                arrival.start(self._pipeline)
            self._forget_finished()

    def _abort_cancelled(self) -> None:
        for generation in self._generations:
            if generation.is_cancelled and generation.waiting_call is not None:
                generation.abort(GenerationCancelledError())
        self._forget_finished()

    def _forward_next_group(self) -> None:
        group = self._next_group()
        if not group:
            return
        calls = [generation.waiting_call for generation in group if generation.waiting_call is not None]
        try:
            results = self._forward(calls)
        except Exception as error:
            self._forward_one_by_one(group, error)
        else:
            for generation, result in zip(group, results, strict=True):
                generation.resume(result)
        self._forget_finished()

    def _next_group(self) -> list[Generation]:
        """Whoever is first in line, and the next whose calls agree with it.

        Newcomers are served before those who have taken a step, so that the encoding of their prompts, which is short,
        does not keep them from joining the next step; everyone else in the order of their pauses.
        """
        paused = (generation for generation in self._generations if generation.waiting_call is not None)
        waiting = sorted(paused, key=lambda generation: (generation.steps_done > 0, generation.turn))
        group: list[Generation] = []
        for generation in waiting:
            if not group or self._agree(group[0], generation):
                group.append(generation)
            if len(group) == self._max_batch:
                break
        return group

    def _agree(self, first: Generation, other: Generation) -> bool:
        mine, theirs = first.waiting_call, other.waiting_call
        if mine is None or theirs is None or mine.target in self._ungroupable:
            return False
        return mine.key == theirs.key

    def _forward(self, calls: list[Call]) -> list[Any]:
        started = time.perf_counter()
        try:
            return run_together(calls)
        finally:
            self.statistics.forward_seconds += time.perf_counter() - started
            self.statistics.forwards[calls[0].owner, len(calls)] += 1

    def _forward_one_by_one(self, group: list[Generation], error: Exception) -> None:
        """A forward that fails in company is tried alone, so that an image can only fail by itself."""
        if len(group) == 1:
            group[0].abort(error)
            return
        for generation in group:
            call = generation.waiting_call
            if call is None:
                continue
            if isinstance(error, UngroupableError):
                self._ungroupable.add(call.target)
            try:
                (result,) = self._forward([call])
            except Exception as own_error:
                generation.abort(own_error)
            else:
                generation.resume(result)

    def _pause_at_gate(self, target: Callable[..., Any], owner: str, args: tuple[Any, ...], kwargs: Any) -> Any:
        generation = current_generation()
        if generation is None:
            return target(*args, **kwargs)
        try:
            generation.waiting_call = read_call(target, owner, args, kwargs)
        except UngroupableError:
            return target(*args, **kwargs)
        self._turns += 1
        generation.turn = self._turns
        hub = getcurrent().parent
        if hub is None:
            raise EngineError("The image lost its engine.")
        return hub.switch()

    def _forget_finished(self) -> None:
        self._generations = [generation for generation in self._generations if not generation.future.done()]

    def _abandon_everything(self) -> None:
        with self._lock:
            self._stopping = True
            while not self._arrivals.empty():
                arrival = self._arrivals.get()
                if arrival is not None:
                    self._generations.append(arrival)
        for generation in self._generations:
            if not generation.future.done():
                generation.abort(EngineStoppedError())
