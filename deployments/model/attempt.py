"""One attempt at a claimed job: from the claim to stored images, and to the record of how it ended."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass

import torch

from deployments.engine.engine import Engine
from deployments.engine.generation import Generation
from deployments.engine.latent_colours import Preview
from deployments.engine.request import ImageRequest
from deployments.jobs.records.jobs import Claim, JobPhase, JobState, NewImage
from deployments.model.inputs import JobInputs, read_inputs
from deployments.model.loaded_model import LoadedModel
from deployments.model.metadata import ModelFacts, image_metadata
from deployments.model.saving import save_image
from deployments.pipelines.exceptions import (
    BlackPictureError,
    EngineError,
    EngineGoneError,
    GenerationCancelledError,
    ModelLoadError,
    one_line,
)
from deployments.storage.base import Storage
from deployments.storage.thumbnails import delete_image_files
from deployments.telemetry.logs import about
from deployments.telemetry.traces import StageTimes, current_tracer, generate_span, note_stages, save_span
from deployments.tracker.job_tracker import JobTracker
from deployments.tracker.progress import JobProgress, ProgressReporter

logger = logging.getLogger(__name__)

_GIVE_BACK_AFTER_SECONDS = 1.0
_PREVIEW_SECONDS = 0.2  # as often as reports carry one


@dataclass(frozen=True)
class Attempt:
    """One attempt at a job.

    Attributes:
        claim: The job, with the fence of this attempt.
        model: Makes its images.
        storage: Where its pictures are read from, and its images are written to.
        tracker: Records how it ends.
        reporter: Reports where it stands.
    """

    claim: Claim
    model: LoadedModel
    storage: Storage
    tracker: JobTracker
    reporter: ProgressReporter

    async def run(self) -> None:
        """Make and store the images, and record the attempt's end with the tracker."""
        claim, began = self.claim, time.monotonic()
        with about(job_id=claim.job_id, model=self.model.model_id):
            logger.info("Attempt %d began", claim.fence)
            try:
                with generate_span(claim):
                    await self._make_and_record()
                logger.info("Attempt %d ended after %.2f s", claim.fence, time.monotonic() - began)
            except GenerationCancelledError:
                logger.info("Attempt %d was stopped after %.2f s", claim.fence, time.monotonic() - began)
                await self.tracker.confirm_cancel(claim.job_id, claim.fence)
            except EngineGoneError as error:
                logger.warning("Attempt %d is given back: %s", claim.fence, error)
                # Given back at once, the job would come here again before the replica has ended.
                await asyncio.sleep(_GIVE_BACK_AFTER_SECONDS)
                await self.tracker.release(claim.job_id, claim.fence, str(error), excused=True)
            except Exception as error:
                message, retryable = _explain(error)
                logger.exception("Job %s, attempt %d: %s", claim.job_id, claim.fence, message)
                await self.tracker.fail(claim.job_id, claim.fence, message, retryable=retryable)

    async def _make_and_record(self) -> None:
        engine, facts = self.model.engine, self.model.facts
        if engine is None or facts is None:
            raise ModelLoadError(self.model.failure)
        if not engine.is_alive:
            raise EngineGoneError(engine.failure)
        claim = self.claim
        generations: list[Generation] = []

        def stop() -> None:
            for generation in generations:
                generation.cancel()

        with self.reporter.follow(claim, stop) as progress:
            inputs = await read_inputs(self.tracker, self.storage, claim.request.settings)
            stages = [StageTimes() for _ in range(claim.request.settings.num_images)]
            generations += self._start_images(engine, inputs, progress, stages)
            progress.phase = JobPhase.GENERATING
            futures = [asyncio.wrap_future(generation.future) for generation in generations]
            try:
                await asyncio.gather(*futures)
            except BaseException:
                stop()
                await asyncio.gather(*futures, return_exceptions=True)
                raise
            progress.phase = JobPhase.SAVING
            images = []
            for index, generation in enumerate(generations):
                note_stages(claim, index, stages[index])
                with save_span(claim, index):
                    images.append(await self._store(generation, facts, inputs))
            completed = await self.tracker.complete(claim.job_id, claim.fence, images)
        if not completed:
            await self._discard_if_cancelled(images)

    def _start_images(
        self, engine: Engine, inputs: JobInputs, progress: JobProgress, stages: list[StageTimes]
    ) -> list[Generation]:
        """Every image of a job is an image of its own to the engine, so each can be made again from its own seed."""
        request, settings = self.claim.request, self.claim.request.settings
        steps_done = [0] * settings.num_images

        def start(index: int) -> Generation:
            def on_step(step: int) -> None:
                # Some pipelines take a step more from an image than is counted for it.
                steps_done[index] = min(step, settings.denoising_steps)
                progress.step = sum(steps_done)

            def on_preview(step: int, preview: Preview) -> None:
                progress.preview = preview

            generation = engine.submit(
                ImageRequest(
                    prompt=request.prompt,
                    settings=settings,
                    negative_prompt=request.negative_prompt,
                    index=index,
                    inputs=inputs.pictures,
                    priority=self.claim.priority.urgency,
                    on_preview=on_preview,
                    preview_seconds=_PREVIEW_SECONDS,
                    on_step=on_step,
                    on_stage=stages[index].note if current_tracer() is not None else None,
                )
            )
            generation.future.add_done_callback(stages[index].end)
            return generation

        return [start(index) for index in range(settings.num_images)]

    async def _store(self, generation: Generation, facts: ModelFacts, inputs: JobInputs) -> NewImage:
        """Write the file first and record it second: a file without a record can be swept, the reverse is a lie."""
        picture, findings = generation.future.result(), generation.findings
        if findings.is_black and not findings.is_flagged and self.model.entry.black_pictures == "refused":
            raise BlackPictureError
        metadata = image_metadata(self.claim, facts, inputs, generation)
        return await save_image(self.storage, self.claim, generation.request.index, picture, metadata)

    async def _discard_if_cancelled(self, images: list[NewImage]) -> None:
        """A cancelled job has no later attempt that could own these keys; a stale attempt's may be another's."""
        job = await self.tracker.jobs.get(self.claim.job_id)
        if job.state is JobState.CANCELLED:
            for image in images:
                await delete_image_files(self.storage, image.key)


def _explain(error: Exception) -> tuple[str, bool]:
    """An error as one sentence, and whether another attempt may fare better."""
    if isinstance(error, torch.OutOfMemoryError):
        return "There is not enough GPU memory for an image of this size.", False
    if isinstance(error, EngineError):
        return str(error), error.retryable
    if isinstance(error, ValueError | TypeError):
        return f"The model refused the request: {one_line(error)}", False
    return f"{type(error).__name__}: {one_line(error)}", True
