"""One model with its engine: turns claims into stored images."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import platform
from collections.abc import Coroutine
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from PIL import Image as Picture

from deployments.catalog import ModelEntry
from deployments.engine.costs import ForwardCosts
from deployments.engine.engine import Engine
from deployments.engine.exceptions import EngineError, GenerationCancelledError, ModelLoadError
from deployments.engine.generation import Generation
from deployments.engine.loading import device_name, execution_device
from deployments.engine.previews import Preview
from deployments.engine.prompt_length import PromptLimit
from deployments.engine.request import ImageRequest
from deployments.job_tracker import JobTracker
from deployments.jobs.records import Claim, JobPhase, JobState, NewImage
from deployments.model_loading import load_model, weights_of
from deployments.progress import JobProgress, ProgressReporter
from deployments.storage.base import Storage
from deployments.storage.image_file import encode_png, image_id, image_key
from deployments.version import package_version

logger = logging.getLogger(__name__)

_REPORT_SECONDS = 0.2


class ImageModel:
    """Runs the jobs of one model.

    A pipeline that cannot be loaded does not take the replica down: its jobs fail with the reason.

    Args:
        model_id: The model's key in the catalog.
        entry: What the catalog says of it.
        storage: Where images go.
        tracker: The cluster's job tracker.
        costs_file: Where it is kept what forwards take on this device; None for nowhere.
    """

    def __init__(
        self,
        model_id: str,
        entry: ModelEntry,
        storage: Storage,
        tracker: JobTracker,
        costs_file: Path | None = None,
    ) -> None:
        _leave_a_core_free(entry.replicas.num_cpus)
        self._model_id = model_id
        self._entry = entry
        self._storage = storage
        self._tracker = tracker
        self._reporter = ProgressReporter(self._tracker, _REPORT_SECONDS)
        self._work: set[asyncio.Task[None]] = set()
        self._engine: Engine | None = None
        self._load_failure = ""
        try:
            self._load(costs_file)
        except ModelLoadError as error:
            self._load_failure = str(error)
            logger.error("Model %s is unavailable: %s", model_id, error)  # noqa: TRY400 - one line, no traceback

    def _load(self, costs_file: Path | None) -> None:
        entry = self._entry
        pipeline = load_model(entry, os.environ)
        self._weights = weights_of(entry)
        self._prompt_limit = PromptLimit(pipeline, takes_long_prompts=entry.prompt_encoding == "long")
        self._sampler = type(pipeline.scheduler).__name__ if hasattr(pipeline, "scheduler") else None
        self._engine = Engine(
            pipeline,
            max_batch=entry.max_batch,
            name=f"engine-{self._model_id}",
            costs=ForwardCosts(costs_file, f"{device_name(execution_device(pipeline))}, torch {torch.__version__}"),
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
        await asyncio.shield(self._keep(self._run(claim)))

    def check_health(self) -> None:
        """Raise if the engine's thread has died; Ray Serve then replaces the replica."""
        if self._engine is not None and not self._engine.is_alive:
            raise EngineError("The engine has stopped.")

    def describe(self) -> dict[str, Any]:
        """What the engine has done, for tests and operators."""
        if self._engine is None:
            return {"model_id": self._model_id, "load_failure": self._load_failure}
        statistics = self._engine.statistics
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

    def _keep(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._work.add(task)
        task.add_done_callback(self._work.discard)
        return task

    async def _run(self, claim: Claim) -> None:
        try:
            await self._make_and_record(claim)
        except GenerationCancelledError:
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
            generations += self._start_images(self._engine, claim, progress)
            progress.phase = JobPhase.GENERATING
            futures = [asyncio.wrap_future(generation.future) for generation in generations]
            try:
                pictures = await asyncio.gather(*futures)
            except BaseException:
                stop()
                await asyncio.gather(*futures, return_exceptions=True)
                raise
            progress.phase = JobPhase.SAVING
            images = [
                await self._store(claim, index, picture, generation.skipped_passes)
                for index, (picture, generation) in enumerate(zip(pictures, generations, strict=True))
            ]
            completed = await self._tracker.complete(claim.job_id, claim.fence, images)
        if not completed:
            await self._discard_if_cancelled(claim, images)

    def _start_images(self, engine: Engine, claim: Claim, progress: JobProgress) -> list[Generation]:
        """Every image of a job is an image of its own to the engine, so each can be made again from its own seed."""
        settings = claim.request.settings
        steps_done = [0] * settings.num_images

        def start(index: int) -> Generation:
            def on_step(step: int) -> None:
                steps_done[index] = step
                progress.step = sum(steps_done)

            def on_preview(step: int, preview: Preview) -> None:
                progress.preview = preview

            return engine.submit(
                ImageRequest(
                    prompt=claim.request.prompt,
                    negative_prompt=claim.request.negative_prompt,
                    num_inference_steps=settings.num_inference_steps,
                    guidance_scale=settings.guidance_scale,
                    width=settings.width,
                    height=settings.height,
                    seed=settings.seed_of(index),
                    max_sequence_length=settings.max_sequence_length,
                    scheduler=settings.scheduler,
                    deterministic=settings.deterministic,
                    step_cache=settings.step_cache,
                    on_preview=on_preview,
                    on_step=on_step,
                )
            )

        return [start(index) for index in range(settings.num_images)]

    async def _store(self, claim: Claim, index: int, picture: np.ndarray[Any, Any], skipped_passes: int) -> NewImage:
        """Write the file first and record it second: a file without a record can be swept, the reverse is a lie."""
        if not np.isfinite(picture).all():
            raise EngineError("The model produced values that are not numbers; another dtype may help.")
        metadata = self._metadata(claim, index) | _peculiarities(claim, picture, skipped_passes)
        content = await asyncio.to_thread(encode_png, _to_picture(picture), metadata)
        identity = image_id(claim.job_id, index)
        key = image_key(identity, claim.created_at.date(), "png")
        await self._storage.write(key, content)
        return NewImage(
            id=identity,
            index=index,
            key=key,
            media_type="image/png",
            byte_count=len(content),
            sha256=hashlib.sha256(content).hexdigest(),
            metadata=metadata,
        )

    def _metadata(self, claim: Claim, index: int) -> dict[str, Any]:
        request = claim.request
        return {
            "model_id": request.model_id,
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            "settings": request.settings.model_dump(exclude_none=True) | {"seed": request.settings.seed_of(index)},
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
        job = await self._tracker.get(claim.job_id)
        if job.state is JobState.CANCELLED:
            for image in images:
                await self._storage.delete(image.key)


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


def _to_picture(values: np.ndarray[Any, Any]) -> Picture.Image:
    return Picture.fromarray(np.rint(values * 255).astype(np.uint8))


def _explain(error: Exception) -> tuple[str, bool]:
    """An error as one sentence, and whether another attempt may fare better."""
    if isinstance(error, torch.OutOfMemoryError):
        return "There is not enough GPU memory for an image of this size.", False
    if isinstance(error, EngineError):
        return str(error), error.retryable
    if isinstance(error, ValueError | TypeError):
        return f"The model refused the request: {' '.join(str(error).split())[:300]}", False
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}", True
