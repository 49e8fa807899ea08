"""One model with its engine: turns claims into stored images."""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import diffusers
import numpy as np
import torch
from diffusers import DiffusionPipeline

from deployments.background import TaskSet
from deployments.catalog.entry import ModelEntry
from deployments.engine.costs import ForwardCosts
from deployments.engine.engine import Engine
from deployments.engine.generation import Generation
from deployments.engine.previews import Preview
from deployments.engine.request import ImageRequest
from deployments.jobs.records.jobs import Claim, JobPhase, JobState, NewImage
from deployments.model.inputs import JobInputs, read_inputs
from deployments.model.loading import controlnet_weights_of, load_model, lora_weights_of, weights_of
from deployments.model.saving import save_image
from deployments.parameters import GenerationSettings
from deployments.pipelines.exceptions import EngineError, GenerationCancelledError, ModelLoadError
from deployments.pipelines.loading import device_name, execution_device
from deployments.pipelines.prompt_length import PromptLimit
from deployments.settings.service import Settings
from deployments.storage.base import Storage
from deployments.storage.opening import open_storage
from deployments.storage.patience import patient
from deployments.storage.thumbnails import delete_image_files
from deployments.telemetry.logs import about
from deployments.telemetry.traces import StageTimes, current_tracer, generate_span, note_stages, save_span
from deployments.tracker.job_tracker import JobTracker
from deployments.tracker.progress import JobProgress, ProgressReporter
from deployments.version import package_version

logger = logging.getLogger(__name__)


class ImageModel:
    """Runs the jobs of one model.

    A pipeline that cannot be loaded does not take the replica down: its jobs fail with the reason.

    Args:
        model_id: The model's key in the catalog.
        entry: What the catalog says of it.
        storage: Where images go.
        tracker: The cluster's job tracker.
        costs_file: Where it is kept what forwards take on this device; None for nowhere.
        report_seconds: Between two reports on where its jobs stand.
    """

    def __init__(  # noqa: PLR0913 - each is a part of its own
        self,
        model_id: str,
        entry: ModelEntry,
        storage: Storage,
        tracker: JobTracker,
        costs_file: Path | None = None,
        *,
        report_seconds: float = 0.2,
    ) -> None:
        _leave_a_core_free(entry.replicas.num_cpus)
        self._model_id = model_id
        self._entry = entry
        self._storage = storage
        self._tracker = tracker
        self._reporter = ProgressReporter(self._tracker, report_seconds)
        self._work = TaskSet()
        self._engine: Engine | None = None
        self._load_failure = ""
        self._costs_file = costs_file
        with about(model=model_id), self._noting_failure():
            self._load()

    @classmethod
    def opened(cls, model_id: str, entry: ModelEntry, settings: Settings, tracker: JobTracker) -> Self:
        """A model with the storage and the folder that the service's settings name."""
        storage = patient(open_storage(settings.storage, settings.images_dir), settings.storage.patience_seconds)
        costs_file = settings.data_dir / "forward-costs" / f"{model_id}.json"
        report_seconds = settings.dispatch.report_seconds
        return cls(model_id, entry, storage, tracker, costs_file, report_seconds=report_seconds)

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        try:
            yield
        except ModelLoadError as error:
            self._load_failure = str(error)
            logger.error("Model %s is unavailable: %s", self._model_id, error)  # noqa: TRY400 - one line, no traceback
        except Exception as error:
            # Raised, it would have Ray Serve try a few more times and then give up, with no reason for clients to read.
            self._load_failure = f"{self._entry.repo} could not be loaded: {type(error).__name__}: {_one_line(error)}"
            logger.exception("Model %s is unavailable", self._model_id)

    def _load(self) -> None:
        began = time.monotonic()
        self._start_engine(self._read())
        logger.info("Model %s was loaded in %.1f s", self._model_id, time.monotonic() - began)

    def _read(self, *, is_parked: bool = False) -> DiffusionPipeline:
        entry = self._entry
        pipeline = load_model(entry, os.environ, is_parked=is_parked)
        self._weights = weights_of(entry)
        self._lora_weights = lora_weights_of(entry)
        self._controlnet_weights = controlnet_weights_of(entry)
        self._prompt_limit = PromptLimit(pipeline, takes_long_prompts=entry.prompt_encoding == "long")
        self._sampler = type(pipeline.scheduler).__name__ if hasattr(pipeline, "scheduler") else None
        return pipeline

    def _start_engine(self, pipeline: DiffusionPipeline) -> None:
        entry = self._entry
        device = f"{device_name(execution_device(pipeline))}, torch {torch.__version__}"
        self._engine = Engine(
            pipeline,
            max_batch=entry.max_batch,
            name=f"engine-{self._model_id}",
            costs=ForwardCosts(self._costs_file, device),
            exact_rows=entry.exact_rows,
            has_step_cache=entry.step_cache.maximum > 0,
        )

    @property
    def load_failure(self) -> str:
        """Why the model could not be loaded; empty if it was."""
        return self._load_failure

    async def generate(self, claim: Claim) -> None:
        """Run a claimed job to its end, and record that end with the tracker.

        The job does not depend on the caller: if the dispatcher goes away, it is finished all the same.
        """
        await asyncio.shield(self._work.start(self._run(claim)))

    def check_health(self) -> None:
        """Raise if the engine's thread has died; Ray Serve then replaces the replica."""
        engine = self._engine
        if engine is not None and not engine.is_alive:
            raise EngineError("The engine has stopped.")

    def describe(self) -> dict[str, Any]:
        """What the engine has done, for tests and operators."""
        engine = self._engine
        if engine is None:
            return {"model_id": self._model_id, "load_failure": self._load_failure}
        statistics = engine.statistics
        return {
            "model_id": self._model_id,
            "widest_batch": statistics.widest_batch,
            "grouped_share": statistics.grouped_share,
            "forward_share": statistics.forward_share,
            "steps": statistics.steps,
            "step_seconds": statistics.step_seconds,
            "rows": statistics.rows,
            "padded_rows": statistics.padded_rows,
            "cached_encodings": statistics.cached_encodings,
            "images": statistics.images,
            "pid": os.getpid(),
        }

    async def _run(self, claim: Claim) -> None:
        with about(job_id=claim.job_id, model=self._model_id):
            await self._attempt(claim)

    async def _attempt(self, claim: Claim) -> None:
        began = time.monotonic()
        logger.info("Attempt %d began", claim.fence)
        try:
            with generate_span(claim):
                await self._make_and_record(claim)
            logger.info("Attempt %d ended after %.2f s", claim.fence, time.monotonic() - began)
        except GenerationCancelledError:
            logger.info("Attempt %d was stopped after %.2f s", claim.fence, time.monotonic() - began)
            await self._tracker.confirm_cancel(claim.job_id, claim.fence)
        except Exception as error:
            message, retryable = _explain(error)
            logger.exception("Job %s, attempt %d: %s", claim.job_id, claim.fence, message)
            await self._tracker.fail(claim.job_id, claim.fence, message, retryable=retryable)

    async def _make_and_record(self, claim: Claim) -> None:
        if self._engine is None:
            raise ModelLoadError(self._load_failure)
        generations: list[Generation] = []

        def stop() -> None:
            for generation in generations:
                generation.cancel()

        with self._reporter.follow(claim, stop) as progress:
            inputs = await read_inputs(self._tracker, self._storage, claim.request.settings)
            stages = [StageTimes() for _ in range(claim.request.settings.num_images)]
            generations += self._start_images(self._engine, claim, inputs, progress, stages)
            progress.phase = JobPhase.GENERATING
            futures = [asyncio.wrap_future(generation.future) for generation in generations]
            try:
                pictures = await asyncio.gather(*futures)
            except BaseException:
                stop()
                await asyncio.gather(*futures, return_exceptions=True)
                raise
            progress.phase = JobPhase.SAVING
            images = []
            for index, (picture, generation) in enumerate(zip(pictures, generations, strict=True)):
                note_stages(claim, index, stages[index])
                with save_span(claim, index):
                    images.append(await self._store(claim, index, picture, inputs, generation.skipped_passes))
            completed = await self._tracker.complete(claim.job_id, claim.fence, images)
        if not completed:
            await self._discard_if_cancelled(claim, images)

    def _start_images(
        self, engine: Engine, claim: Claim, inputs: JobInputs, progress: JobProgress, stages: list[StageTimes]
    ) -> list[Generation]:
        """Every image of a job is an image of its own to the engine, so each can be made again from its own seed."""
        settings = claim.request.settings
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
                    prompt=claim.request.prompt,
                    settings=settings,
                    negative_prompt=claim.request.negative_prompt,
                    index=index,
                    inputs=inputs.pictures,
                    priority=claim.priority.urgency,
                    on_preview=on_preview,
                    on_step=on_step,
                    on_stage=stages[index].note if current_tracer() is not None else None,
                )
            )
            generation.future.add_done_callback(stages[index].end)
            return generation

        return [start(index) for index in range(settings.num_images)]

    async def _store(
        self, claim: Claim, index: int, picture: np.ndarray[Any, Any], inputs: JobInputs, skipped_passes: int
    ) -> NewImage:
        """Write the file first and record it second: a file without a record can be swept, the reverse is a lie."""
        if not np.isfinite(picture).all():
            raise EngineError("The model produced values that are not numbers; another dtype may help.")
        metadata = self._metadata(claim, index) | self._origins(claim.request.settings, inputs)
        metadata |= _peculiarities(claim, picture, skipped_passes)
        return await save_image(self._storage, claim, index, picture, metadata)

    def _metadata(self, claim: Claim, index: int) -> dict[str, Any]:
        request = claim.request
        return {
            "model_id": request.model_id,
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            "settings": request.settings.model_dump(mode="json", exclude_none=True)
            | {"seed": request.settings.seed_of(index)},
            "image_number": index + 1,
            "total_images": request.settings.num_images,
            "job_id": claim.job_id,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
            "sampler": request.settings.scheduler or self._sampler,
            "weights": self._weights,
            **self._truncations(claim),
            "version": package_version(),
            "versions": {
                "diffusers": diffusers.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
            },
        }

    def _origins(self, settings: GenerationSettings, inputs: JobInputs) -> dict[str, Any]:
        """What went into the picture besides the model and the prompt, where there is such a thing."""
        found: dict[str, Any] = {}
        if inputs.lineage:
            found["made_from"] = dict(inputs.lineage)
        if settings.control_image is not None:
            found["controlnet_weights"] = self._controlnet_weights
        if settings.loras:
            found["lora_weights"] = {lora.name: self._lora_weights.get(lora.name) for lora in settings.loras}
        return found

    def _truncations(self, claim: Claim) -> dict[str, Any]:
        """What of the prompts the text encoders did not read, where that is so."""
        request = claim.request
        prompts = {"prompt_truncated": request.prompt, "negative_prompt_truncated": request.negative_prompt}
        found = {
            name: self._prompt_limit.check(prompt, request.settings.max_sequence_length)
            for name, prompt in prompts.items()
        }
        return {name: asdict(truncation) for name, truncation in found.items() if truncation is not None}

    async def _discard_if_cancelled(self, claim: Claim, images: list[NewImage]) -> None:
        """A cancelled job has no later attempt that could own these keys; a stale attempt's may be another's."""
        job = await self._tracker.jobs.get(claim.job_id)
        if job.state is JobState.CANCELLED:
            for image in images:
                await delete_image_files(self._storage, image.key)


def _leave_a_core_free(num_cpus: float) -> None:
    """Torch takes every core it can; then the proxy starves and fails its health checks."""
    cores = len(os.sched_getaffinity(0))
    torch.set_num_threads(max(1, min(cores - 1, round(num_cpus) or 1)))


def _peculiarities(claim: Claim, picture: np.ndarray[Any, Any], skipped_passes: int) -> dict[str, Any]:
    """What a reader of the metadata should know, where there is such a thing."""
    found: dict[str, Any] = {}
    if claim.request.settings.step_cache:
        found["skipped_passes"] = skipped_passes
    if not picture.any():
        # Half precision overflows to black in some autoencoders, and safety checkers paint over what they refuse.
        found["warning"] = "The picture is black all over."
        logger.warning("Job %s: a picture is black all over", claim.job_id)
    return found


def _explain(error: Exception) -> tuple[str, bool]:
    """An error as one sentence, and whether another attempt may fare better."""
    if isinstance(error, torch.OutOfMemoryError):
        return "There is not enough GPU memory for an image of this size.", False
    if isinstance(error, EngineError):
        return str(error), error.retryable
    if isinstance(error, ValueError | TypeError):
        return f"The model refused the request: {_one_line(error)}", False
    return f"{type(error).__name__}: {_one_line(error)}", True


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
