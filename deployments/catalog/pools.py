"""Pools: several models that take turns in the same replicas."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ByteSize, Field

from deployments.catalog.entry import ModelEntry
from deployments.catalog.file import suggestion
from deployments.catalog.loading import Loading
from deployments.catalog.part import CatalogPart, Problem
from deployments.catalog.replicas import Replicas


class Pool(CatalogPart):
    """Copies that several models share, and how much of each copy's memory their weights may take."""

    replicas: Replicas = Field(default_factory=Replicas, description="Copies, each of which serves all the models.")
    memory: ByteSize | None = Field(
        default=None,
        description="Most bytes of weights on the GPU at once, such as 20GiB; empty: what is free when a copy starts, "
        "less reserve.",
    )
    reserve: ByteSize = Field(
        default=ByteSize(4 << 30), description="Bytes of the GPU left to images in the making, where memory is empty."
    )
    parked_memory: ByteSize | None = Field(
        default=None,
        description="Most bytes of weights kept in main memory, those on the GPU included; empty: all that were read.",
    )
    residency_seconds: float = Field(
        default=30.0,
        ge=0,
        description="Seconds for which a model that was brought in keeps its place while it has work.",
    )


def member_problems(entry: ModelEntry, pools: Mapping[str, Pool]) -> list[Problem]:
    """Find why a model cannot be in its pool: the fields, and what is wrong with each.

    Args:
        entry: Of a model that names a pool.
        pools: Those there are.
    """
    name = entry.pool or ""
    if name not in pools:
        return [("pool", f'there is no pool "{name}"{suggestion(name, list(pools))}')]
    replicas = pools[name].replicas
    problems = _moving_problems(entry.loading)
    if "replicas" in entry.model_fields_set and entry.replicas != replicas:
        problems.append(("replicas", f"the copies are those of its pool (pools.{name}.replicas); leave it out"))
    if replicas.num_gpus > 0 and entry.loading.device == "cpu":
        problems.append(("loading.device", "cpu does not go with a pool that has a GPU"))
    if replicas.num_gpus == 0:
        problems += entry.loading.gpu_problems()
    return problems


def _moving_problems(loading: Loading) -> list[Problem]:
    """The fields of a model's loading that keep a pool from moving its weights as a whole."""
    problems = []
    if loading.offload != "none":
        problems.append(("loading.offload", "does not go with a pool, which itself moves models to the GPU and away"))
    quantizations = [("loading.quantization", loading.quantization)] if loading.quantization else []
    quantizations += [("loading.may_quantize", each) for each in loading.may_quantize]
    problems += [
        (field, "bitsandbytes loads past the pool, straight to the GPU; take torchao or gguf")
        for field, quantization in quantizations
        if quantization.method == "bitsandbytes"
    ]
    return problems
