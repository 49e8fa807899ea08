"""Checks of what the models of a catalog need of this machine: a GPU, main memory, packages."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from deployments.catalog.catalog import Catalog
from deployments.doctor.facts.hub import Hub
from deployments.doctor.facts.machine import Machine
from deployments.doctor.finding import Finding, Level, gigabytes

_FIELDS = "loading.quantization, attention_backend or compile"


def check_models_gpu(machine: Machine, catalog: Catalog) -> Iterator[Finding]:
    """Whether the catalog's models need a GPU that is not there."""
    wanting = [model_id for model_id, entry in catalog.models.items() if entry.replicas.num_gpus > 0]
    check = "models on a GPU"
    accelerator = machine.torch.accelerator
    if not wanting:
        yield Finding(check, Level.OK, "No model of the catalog needs one.")
    elif accelerator is not None:
        yield Finding(check, Level.OK, f"{', '.join(wanting)}: {accelerator.name}.")
    else:
        level = Level.PROBLEM if machine.torch.why_unusable else Level.WARNING
        sentence = (
            f"{', '.join(wanting)}: torch can use no GPU of this machine; another node of a cluster may have one."
        )
        yield Finding(check, level, sentence, "CYBERIMAGE_CATALOG=configs/cpu.yaml make run")


def check_extras(missing: Mapping[str, str]) -> Iterator[Finding]:
    """Each model that lacks a package, a file or a compiler.

    Args:
        missing: As :func:`~deployments.doctor.facts.requirements.find_missing` gives it.
    """
    for model_id, sentence in missing.items():
        remedy = f"install it, or change {_FIELDS} of {model_id} in the catalog"
        yield Finding("extras", Level.PROBLEM, f"{model_id}: {sentence}", remedy)
    if not missing:
        yield Finding("extras", Level.OK, "No model of the catalog needs a package, file or compiler that is missing.")


def check_models_memory(machine: Machine, catalog: Catalog, hub: Hub) -> Iterator[Finding]:
    """Whether main memory holds what offloaded models keep there, and what pools may park there."""
    check = "models in main memory"
    total = machine.memory.total
    has = f"this machine has {gigabytes(total)}"
    sizes = {each.model_id: each.total_bytes or 0 for each in hub.repositories if each.holds_pipeline}
    found = [
        Finding(
            check,
            Level.PROBLEM,
            f"{model_id} keeps {gigabytes(sizes[model_id])} there, by loading.offload, and {has}.",
            "add memory, or choose a smaller model or loading.quantization in the catalog",
        )
        for model_id, entry in catalog.models.items()
        if entry.loading.offload != "none" and entry.pool is None and sizes.get(model_id, 0) > total
    ]
    found += [
        Finding(
            check,
            Level.WARNING,
            f"Pool {name} may park {gigabytes(pool.parked_memory)} there, and {has}.",
            f"lower pools.{name}.parked_memory in the catalog",
        )
        for name, pool in catalog.pools.items()
        if pool.parked_memory is not None and pool.parked_memory > total
    ]
    yield from found or [Finding(check, Level.OK, "What offloaded and parked models take fits, as far as it is known.")]
