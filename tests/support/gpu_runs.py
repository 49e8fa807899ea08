"""The same requests on the CPU and on a pretended GPU: the same pictures, in forwards of the same widths."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import numpy as np
from diffusers import DiffusionPipeline

from deployments.catalog.entry import ModelEntry
from deployments.catalog.loading import Loading
from deployments.engine import generation
from deployments.engine.engine import Engine
from deployments.engine.forward_clock import Launch
from deployments.engine.generation import Generation, Picture
from deployments.engine.policy import Policy
from deployments.engine.request import ImageRequest
from deployments.pipelines.exceptions import ModelLoadError
from deployments.pipelines.tuning import tune_pipeline
from deployments.pipelines.weights import Weights
from tests.support.family_requests import requests_of_all_kinds
from tests.support.forward_costs import FixedCosts
from tests.support.forward_counts import counted_forwards
from tests.support.pretended_gpu import Fault, pretend_gpu
from tests.support.tiny_pipelines.families import CONTROLLED_FAMILIES, FAMILIES, Family

ALL_FAMILIES = {**FAMILIES, **CONTROLLED_FAMILIES}
WAIT = 120
TOLERANCE = 1e-5
MAX_BATCH = 4


@dataclass
class Run:
    """What came of some requests.

    Attributes:
        pictures: In the order of the requests; an error where there is none.
        forwards: How many ran, by module and rows.
        faults: What would have gone wrong on a GPU.
        peak: Most bytes of the device.
    """

    pictures: list[Picture | Exception]
    forwards: Counter[tuple[str, int]]
    faults: list[Fault] = field(default_factory=list)
    peak: int = 0


def run_on_gpu(name: str, *, is_pooled: bool = False, **loading: Any) -> Run:
    """Requests of all kinds, on a pretended GPU.

    Args:
        name: Of a family of tiny pipelines.
        is_pooled: Whether the weights come from main memory, after having gone there once.
        loading: Of the catalog's entry.
    """
    with pretend_gpu() as gpu:
        run = _run(ALL_FAMILIES[name], "cuda", Loading(**loading), is_pooled=is_pooled)
    return replace(run, faults=list(gpu.faults), peak=gpu.peak)


@functools.cache
def run_on_cpu(name: str, **loading: Any) -> Run:
    """The same on the CPU, where nothing is offloaded."""
    return _run(ALL_FAMILIES[name], "cpu", Loading(**loading))


def assert_same(mine: Run, expected: Run) -> None:
    """The same pictures in forwards of the same number and widths, and no fault."""
    assert_same_pictures(mine, expected)
    assert mine.forwards == expected.forwards


def assert_same_pictures(mine: Run, expected: Run) -> None:
    """The same pictures, or the same refusals, and no fault."""
    assert not mine.faults
    for one, other in zip(mine.pictures, expected.pictures, strict=True):
        if isinstance(one, Exception) or isinstance(other, Exception):
            assert repr(one) == repr(other)
        else:
            assert np.abs(one - other).max() <= TOLERANCE


@contextmanager
def without_chance() -> Iterator[None]:
    """Have forwards take a second each, and images come a microsecond apart, as far as the engine's policy knows.

    What is grouped must not depend on how busy the machine is.
    """
    note, arrivals = Policy.note, itertools.count()

    def note_a_second(policy: Policy, launch: Launch, seconds: float) -> None:
        note(policy, launch, 1.0)

    clock = SimpleNamespace(monotonic=lambda: next(arrivals) * 1e-6)
    with patch.object(Policy, "note", note_a_second), patch.object(generation, "time", clock):
        yield


def draw_staggered(engine: Engine, requests: Sequence[ImageRequest]) -> list[Picture | Exception]:
    """The first request's picture, and those of others that come two by two at its steps."""
    first, *others = requests
    companions: list[Generation] = []

    def submit_next(step: int) -> None:
        companions.extend(engine.submit(request) for request in others[2 * step - 2 : 2 * step])

    host = engine.submit(replace(first, on_step=submit_next))
    host.future.exception(WAIT)
    return [_result(image) for image in [host, *companions]]


def _run(family: Family, device: str, loading: Loading, *, is_pooled: bool = False) -> Run:
    pipeline = family.build()
    tile, larger = family.sides
    requests = requests_of_all_kinds(family, pipeline, larger if loading.vae_tiling else tile)
    _cut_into_tiles(pipeline.vae, tile)
    with without_chance(), counted_forwards(pipeline) as forwards:
        tune_pipeline(pipeline, ModelEntry(repo="tiny/tiny", loading=loading), device, is_parked=is_pooled)
        if is_pooled:
            weights = Weights(pipeline, device)
            weights.bring_in()
            weights.park()
            weights.bring_in()
        forwards.clear()
        engine = _engine(pipeline)
        try:
            pictures = draw_staggered(engine, requests)
        finally:
            engine.stop(WAIT)
    return Run(pictures, forwards)


def _cut_into_tiles(autoencoder: Any, side: int) -> None:
    """Have tiles of this side, if there are to be any; some autoencoders have large ones whatever size they are of."""
    for direction in ("height", "width"):
        if hasattr(autoencoder, f"tile_sample_min_{direction}"):
            setattr(autoencoder, f"tile_sample_min_{direction}", side)
            setattr(autoencoder, f"tile_sample_stride_{direction}", 3 * side // 4)


def _engine(pipeline: DiffusionPipeline) -> Engine:
    """With a step cache, where the family can have one."""
    options: dict[str, Any] = {"max_batch": MAX_BATCH, "exact_rows": MAX_BATCH}
    try:
        return Engine(pipeline, costs=FixedCosts(), has_step_cache=True, **options)
    except ModelLoadError:
        return Engine(pipeline, costs=FixedCosts(), **options)


def _result(image: Generation) -> Picture | Exception:
    error = image.future.exception(WAIT)
    if isinstance(error, Exception):
        return error
    return image.future.result(WAIT)
