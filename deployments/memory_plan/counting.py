"""Makes a model's memory plan: builds it from its config files and counts a few rehearsals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline
from PIL import Image

from deployments.accelerator import Accelerator
from deployments.catalog.entry import ModelEntry
from deployments.catalog.loading import Lora, WeightsPart
from deployments.engine.engine import CACHED_ENCODINGS_BYTES
from deployments.engine.request import ImageRequest
from deployments.engine.stages import Stage
from deployments.memory_plan.blueprint import Blueprint, build_blueprint, build_controlnet
from deployments.memory_plan.config_files import find_configs, find_controlnet_config
from deployments.memory_plan.plan import (
    MIB,
    CountedSize,
    MemoryPlan,
    Need,
    QuantizedWeights,
    Role,
    UncountableError,
    Weights,
)
from deployments.memory_plan.quantized import weigh
from deployments.memory_plan.rehearsal import CountedCall, Rehearsal
from deployments.parameters import GenerationSettings
from deployments.pipelines.controlnet import join_controlnet
from deployments.pipelines.exceptions import one_line
from deployments.pipelines.loading import choose_dtype
from deployments.pipelines.precision import keep_autoencoder_precise
from deployments.pipelines.tuning import STORAGE_DTYPES, cast_layerwise

# A LoRA on the hub is weighed only when it is read; most of those for the largest models are smaller.
_LORA_BYTES = 256 * MIB
# Above 1, a pipeline computes each step with the prompt and without it.
_MOST_GUIDANCE = 5.0
_PROMPT = "a photograph of a fox in the snow"


def plan_entry(entry: ModelEntry, accelerator: Accelerator, environ: Mapping[str, str]) -> MemoryPlan:
    """Find a model's config files, and count what it needs on a GPU.

    Args:
        entry: What the catalog says of it.
        accelerator: The GPU, which need not be here.
        environ: The environment, for the token of the hub.

    Raises:
        UncountableError: The files cannot be had, or the pipeline needs values to run.
    """
    token = entry.token(environ)
    configs, controlnet = find_configs(entry, token), find_controlnet_config(entry, token)
    return plan_model(entry, configs, choose_dtype(entry.dtype, accelerator), controlnet)


def plan_model(
    entry: ModelEntry,
    configs: Path,
    dtype: torch.dtype,
    controlnet: Path | None = None,
    inputs: Mapping[str, Any] | None = None,
) -> MemoryPlan:
    """Count what a model needs; nothing is downloaded, and no weight is made.

    The pipeline makes one image at three sizes, and two at one of them, so that a size and a number of images in
    between can be told from these.

    Args:
        entry: What the catalog says of it.
        configs: The folder with its config files, as :mod:`deployments.memory_plan.config_files` finds it.
        dtype: In which it computes.
        controlnet: The folder with the config of its ControlNet.
        inputs: Further arguments of its pipeline's call.

    Raises:
        UncountableError: A config is missing, or the pipeline needs values to run.
    """
    try:
        blueprint = _blueprint(entry, configs, dtype, controlnet)
        variants = _variants(entry, blueprint)
        counted = _count(entry, blueprint.pipeline, inputs or {})
    except UncountableError:
        raise
    except Exception as error:
        raise UncountableError(
            f"its pipeline cannot be rehearsed: {type(error).__name__}: {one_line(error)}"
        ) from error
    return MemoryPlan(
        class_name=type(blueprint.pipeline).__name__,
        dtype=str(dtype).removeprefix("torch."),
        variants=variants,
        needs=_needs(counted),
        encodings=CACHED_ENCODINGS_BYTES,
    )


def _blueprint(entry: ModelEntry, configs: Path, dtype: torch.dtype, controlnet: Path | None) -> Blueprint:
    blueprint = build_blueprint(configs, dtype)
    if controlnet is not None and entry.controlnet is not None:
        joined = join_controlnet(blueprint.pipeline, build_controlnet(controlnet, dtype), entry.controlnet)
        blueprint = Blueprint(joined, blueprint.checkers)
    keep_autoencoder_precise(blueprint.pipeline)
    if entry.loading.layerwise_casting != "none":
        cast_layerwise(blueprint.pipeline, STORAGE_DTYPES[entry.loading.layerwise_casting])
    return blueprint if entry.loading.safety_checker else Blueprint(blueprint.pipeline, {})


def _variants(entry: ModelEntry, blueprint: Blueprint) -> tuple[QuantizedWeights, ...]:
    loading = entry.loading
    loras = tuple(_loras([*loading.loras, *entry.request_loras.values()]))
    return tuple(
        weighed.model_copy(update={"weights": weighed.weights + loras})
        for quantization in (loading.quantization, *loading.may_quantize)
        for weighed in (weigh(blueprint.modules, quantization),)
    )


def _loras(loras: Iterable[Lora]) -> Iterator[Weights]:
    for lora in loras:
        size = _size_of_files(lora) if lora.is_local else _LORA_BYTES
        name = f"LoRA {lora.public_name}"
        yield Weights(component=name, class_name="LoRA", role=Role.DENOISER, size=size, layers=0)


def _size_of_files(weights: WeightsPart) -> int:
    path = Path(weights.repo)
    files = [path] if path.is_file() else path.glob("*.safetensors")
    return sum(file.stat().st_size for file in files)


def _count(
    entry: ModelEntry, pipeline: DiffusionPipeline, inputs: Mapping[str, Any]
) -> dict[tuple[int, int], list[CountedCall]]:
    """Rehearse; gives the calls by pixels and number of images."""
    rehearsal = Rehearsal(pipeline)
    counted = {}
    sizes = list(_sizes(entry))
    largest = max(sizes, key=lambda size: size[0] * size[1])
    # Tables that modules make once, such as those of positions, are there from the first image on.
    rehearsal.count(_request(entry, *min(sizes), inputs), 1)
    for width, height in sizes:
        request = _request(entry, width, height, inputs)
        counted[width * height, 1] = rehearsal.count(request, 1, counts_saving=(width, height) == largest)
    width, height = sizes[0]
    counted[width * height, 2] = rehearsal.count(_request(entry, width, height, inputs), 2)
    return counted


def _sizes(entry: ModelEntry) -> Iterator[tuple[int, int]]:
    """The default size first, then half its sides, then a square as large as may be."""
    limits = entry.size
    sides = (limits.default_width, limits.default_height)
    chosen = [sides]
    for scale in (0.5, (limits.max_pixels / (sides[0] * sides[1])) ** 0.5):
        size = limits.fit(round(sides[0] * scale), round(sides[1] * scale))
        if size not in chosen:
            chosen.append(size)
    yield from chosen


def _request(entry: ModelEntry, width: int, height: int, inputs: Mapping[str, Any]) -> ImageRequest:
    """One that needs as much as any of its size: a long prompt, and guidance where requests may ask for it."""
    settings = GenerationSettings(
        num_images=1,
        num_inference_steps=1,
        guidance_scale=max(entry.guidance.default, min(entry.guidance.maximum, _MOST_GUIDANCE)),
        width=width,
        height=height,
        seed=0,
        max_sequence_length=entry.max_sequence_length,
    )
    control = {} if entry.controlnet is None else {"control_image": Image.new("RGB", (width, height))}
    return ImageRequest(_PROMPT, settings, negative_prompt=_PROMPT, inputs={**inputs, **control})


def _needs(counted: Mapping[tuple[int, int], list[CountedCall]]) -> tuple[Need, ...]:
    peaks: dict[tuple[str, str], dict[tuple[int, int], CountedCall]] = {}
    tiles: dict[str, int] = {}
    for size, calls in counted.items():
        for call in calls:
            if call.is_saving:
                tiles[call.component] = max(tiles.get(call.component, 0), call.full)
                continue
            of_size = peaks.setdefault((call.component, call.stage.value), {})
            of_size[size] = max(of_size.get(size, call), call, key=lambda each: each.peak)
    return tuple(
        Need(
            component=component,
            stage=stage,
            sizes=tuple(_counted_sizes(of_size)),
            tile=tiles.get(component) if stage == Stage.DECODING.value else None,
        )
        for (component, stage), of_size in peaks.items()
    )


def _counted_sizes(calls: Mapping[tuple[int, int], CountedCall]) -> Iterator[CountedSize]:
    """What a further image takes is counted at one size; at others it takes the same share of what the first does."""
    (both,) = (pixels for pixels, images in calls if images == 2)
    share = max(0.0, calls[both, 2].peak / calls[both, 1].peak - 1)
    for (pixels, images), call in sorted(calls.items(), key=lambda item: item[0]):
        if images == 1:
            workspace = call.full - call.peak
            yield CountedSize(pixels=pixels, first=call.peak, further=round(share * call.peak), workspace=workspace)
