"""What the models of a catalog need of this machine and do not find."""

from __future__ import annotations

from deployments.catalog.catalog import Catalog
from deployments.catalog.entry import ModelEntry
from deployments.errors import CyberImageError


def find_missing(catalog: Catalog) -> dict[str, str]:
    """Look up the packages, files and compilers that the loading of each model needs.

    Args:
        catalog: The models.

    Returns:
        By model id, what is missing, in a sentence with what brings it.
    """
    asking = {model_id: entry for model_id, entry in catalog.models.items() if _asks_for_something(entry)}
    if not asking:
        return {}
    # What loads models checks the same; it imports torch and diffusers, which takes seconds.
    from deployments.pipelines.requirements import check_requirements  # noqa: PLC0415

    missing = {}
    for model_id, entry in asking.items():
        try:
            check_requirements(entry.loading, "cpu" if _computes_on_cpu(entry) else "cuda")
        except CyberImageError as error:
            missing[model_id] = str(error)
    return missing


def _asks_for_something(entry: ModelEntry) -> bool:
    loading = entry.loading
    return bool(loading.quantization or loading.compile or loading.attention_backend not in ("auto", "native"))


def _computes_on_cpu(entry: ModelEntry) -> bool:
    return entry.replicas.num_gpus == 0 or entry.loading.device == "cpu"
