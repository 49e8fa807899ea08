"""The metadata of an image: what it was made of, with what, and how it can be made again."""

from __future__ import annotations

import logging
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Self

import diffusers
import torch
from diffusers import DiffusionPipeline

from deployments.catalog.entry import ModelEntry
from deployments.engine.generation import Generation
from deployments.jobs.records.jobs import Claim, JobRequest
from deployments.model.inputs import JobInputs
from deployments.model.loading import controlnet_weights_of, lora_weights_of, weights_of
from deployments.parameters import GenerationSettings
from deployments.pipelines.prompt_length import PromptLimit
from deployments.version import package_version

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelFacts:
    """What the metadata of each image says of its model.

    Attributes:
        weights: Identifies the model's weights.
        lora_weights: The same of each LoRA that a request may choose, by name.
        controlnet_weights: The same of the ControlNet; None where there is none.
        sampler: Class name of the pipeline's own scheduler; None where there is none.
        prompt_limit: How much of a prompt the text encoders read.
    """

    weights: str
    lora_weights: Mapping[str, str]
    controlnet_weights: str | None
    sampler: str | None
    prompt_limit: PromptLimit

    @classmethod
    def of(cls, entry: ModelEntry, pipeline: DiffusionPipeline) -> Self:
        """Collect the facts; local weight files are read and hashed.

        Args:
            entry: The model's entry in the catalog.
            pipeline: As it was loaded from the entry.
        """
        return cls(
            weights_of(entry),
            lora_weights_of(entry),
            controlnet_weights_of(entry),
            type(pipeline.scheduler).__name__ if hasattr(pipeline, "scheduler") else None,
            PromptLimit(pipeline, takes_long_prompts=entry.prompt_encoding == "long"),
        )


def image_metadata(claim: Claim, facts: ModelFacts, inputs: JobInputs, generation: Generation) -> dict[str, Any]:
    """The metadata of one image.

    Args:
        claim: The image's job.
        facts: Of the model that made it.
        inputs: The pictures that the job starts from.
        generation: The image, finished.
    """
    request, settings = claim.request, claim.request.settings
    index = generation.request.index
    metadata = {
        "model_id": request.model_id,
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "settings": settings.model_dump(mode="json", exclude_none=True) | {"seed": settings.seed_of(index)},
        "image_number": index + 1,
        "total_images": settings.num_images,
        "job_id": claim.job_id,
        "created_at": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "sampler": settings.scheduler or facts.sampler,
        "weights": facts.weights,
        **_truncations(request, facts.prompt_limit),
        "version": package_version(),
        "versions": {
            "diffusers": diffusers.__version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
        **_origins(settings, facts, inputs),
    }
    if settings.step_cache:
        metadata["skipped_passes"] = generation.skipped_passes
    if generation.findings.is_flagged:
        metadata["warning"] = "The model's safety checker flagged the picture, and painted it over."
        logger.warning("Job %s: the safety checker flagged a picture", claim.job_id)
    elif generation.findings.is_black:
        metadata["warning"] = "The picture is black all over."
        logger.warning("Job %s: a picture is black all over", claim.job_id)
    return metadata


def _truncations(request: JobRequest, limit: PromptLimit) -> dict[str, Any]:
    """How much of a prompt the text encoders did not read, where they did not read all of it."""
    prompts = {"prompt_truncated": request.prompt, "negative_prompt_truncated": request.negative_prompt}
    found = {name: limit.check(prompt, request.settings.max_sequence_length) for name, prompt in prompts.items()}
    return {name: asdict(truncation) for name, truncation in found.items() if truncation is not None}


def _origins(settings: GenerationSettings, facts: ModelFacts, inputs: JobInputs) -> dict[str, Any]:
    """What the image was made of besides the model and the prompt."""
    found: dict[str, Any] = {}
    if inputs.lineage:
        found["made_from"] = dict(inputs.lineage)
    if settings.control_image is not None:
        found["controlnet_weights"] = facts.controlnet_weights
    if settings.loras:
        found["lora_weights"] = {lora.name: facts.lora_weights.get(lora.name) for lora in settings.loras}
    return found
