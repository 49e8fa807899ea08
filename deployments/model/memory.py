"""Plans the memory of a model before its weights are downloaded, and chooses what the catalog leaves open."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from deployments.accelerator import Accelerator, find_accelerator, free_bytes
from deployments.catalog.entry import ModelEntry
from deployments.memory_plan.choice import MemoryFit, Room, choose_memory, settled
from deployments.memory_plan.counting import plan_entry
from deployments.memory_plan.plan import UncountableError
from deployments.model.loading import device_of

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Settled:
    """A model as it is loaded.

    Attributes:
        entry: With what the catalog leaves open as it was chosen.
        fit: Why; None where it computes on the CPU, or nothing could be counted.
    """

    entry: ModelEntry
    fit: MemoryFit | None = None


def settle_memory(entry: ModelEntry, environ: Mapping[str, str]) -> Settled:
    """Choose where a model's weights wait, by the free memory of the GPU.

    A model whose config files cannot be had, or whose pipeline cannot be rehearsed, is loaded as the catalog has it:
    what is wrong with it, loading says best.

    Args:
        entry: What the catalog says of it.
        environ: The environment, for the token of the hub.

    Raises:
        ModelLoadError: It does not fit, or there is no GPU.
    """
    if device_of(entry) == "cpu":
        return Settled(entry)
    accelerator = find_accelerator()
    if accelerator is None:
        return Settled(entry)
    try:
        plan = plan_entry(entry, accelerator, environ)
    except UncountableError as error:
        logger.info("The memory of %s is not planned: %s", entry.public_name, error)
        return Settled(entry)
    fit = choose_memory(entry, plan, _room(entry, accelerator))
    logger.info("The memory of %s: %s", entry.public_name, fit.reason)
    return Settled(settled(entry, fit.choice), fit)


def _room(entry: ModelEntry, accelerator: Accelerator) -> Room:
    # In a pool, what other models take now is free when this one comes in.
    free = free_bytes() if entry.pool is None else None
    return Room.on(accelerator.total_bytes, min(1.0, entry.replicas.num_gpus)).beside(free)
