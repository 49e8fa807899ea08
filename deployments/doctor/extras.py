"""Checks of what the models of a catalog need of this machine: a GPU, main memory, packages, a compiler."""

from __future__ import annotations

from collections.abc import Iterator

from deployments.catalog.catalog import Catalog
from deployments.catalog.entry import ModelEntry
from deployments.doctor.facts.hub import Hub
from deployments.doctor.facts.machine import Machine
from deployments.doctor.finding import Finding, Level, gigabytes

_ATTENTION_PACKAGES = {
    "xformers": "xformers",
    "flash": "flash-attn",
    "flash_varlen": "flash-attn",
    "sage": "sageattention",
    "sage_varlen": "sageattention",
}


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


def check_extras(machine: Machine, catalog: Catalog) -> Iterator[Finding]:
    """Each package and program that a model needs and that is not installed."""
    found = [
        Finding("extras", Level.PROBLEM, f"{model_id}: {need}.", remedy)
        for model_id, entry in catalog.models.items()
        for need, remedy in _missing(entry, machine)
    ]
    installed = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    none = f"No model of the catalog needs one that is missing; installed: {installed or 'none'}."
    yield from found or [Finding("extras", Level.OK, none)]


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


def _missing(entry: ModelEntry, machine: Machine) -> Iterator[tuple[str, str]]:
    """What a model needs and this machine lacks, with the command that brings it."""
    loading = entry.loading
    needed: dict[str, str] = {}
    if loading.quantization is not None:
        needed[loading.quantization.method] = f"quantization with {loading.quantization.method}"
    if package := _ATTENTION_PACKAGES.get(loading.attention_backend):
        needed[package] = f"the attention backend {loading.attention_backend}"
    if loading.loras or entry.request_loras:
        needed["peft"] = "a LoRA"
    on_gpu = entry.replicas.num_gpus > 0
    if loading.compile and on_gpu:
        needed["triton"] = "compile"
    for package, purpose in needed.items():
        if package not in machine.packages:
            yield f"{purpose} needs the package {package}", f"pip install {package}"
    if loading.compile and not machine.c_compiler:
        yield "compile needs a C compiler", "apt-get install g++" if not on_gpu else "apt-get install gcc libc6-dev"
