"""Downloads all weights of the catalog's models from the hub, as the replicas would."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from deployments.catalog.catalog import Catalog, load_catalog
from deployments.settings.service import load_settings

_NEEDED_BESIDE_PIPELINES = ["*.json", "*.safetensors"]


@dataclass(frozen=True)
class Download:
    """Something that a model needs from the hub."""

    model_id: str
    repo: str
    is_pipeline: bool
    arguments: dict[str, Any]


def downloads(catalog: Catalog) -> Iterator[Download]:
    """What the models of a catalog need from the hub: pipelines, ControlNets and LoRAs."""
    for model_id, entry in catalog.models.items():
        token = entry.token(os.environ)
        if entry.source == "huggingface":
            arguments = {"revision": entry.revision, "variant": entry.variant, "token": token}
            yield Download(model_id, entry.repo, True, arguments | {"use_safetensors": True})
        loras = [*entry.loading.loras, *entry.request_loras.values()]
        beside = [(lora, lora.weight_name) for lora in loras]
        beside += [(entry.controlnet, None)] if entry.controlnet else []
        for part, file in beside:
            if part.source == "huggingface":
                patterns = [file] if file else _NEEDED_BESIDE_PIPELINES
                arguments = {"revision": part.revision, "token": token, "allow_patterns": patterns}
                yield Download(model_id, part.repo, False, arguments)


def warm_up(catalog: Catalog, fetch: Callable[[Download], None]) -> list[str]:
    """Download all that a catalog needs, and return a line for each failure."""
    problems = []
    for download in downloads(catalog):
        print(f"{download.model_id}: {download.repo}", flush=True)  # noqa: T201 - the Job's log
        try:
            fetch(download)
        except Exception as error:
            problems.append(f"{download.model_id}: {download.repo}: {' '.join(str(error).split())[:300]}")
    return problems


def _from_hub(download: Download) -> None:
    from diffusers import DiffusionPipeline  # noqa: PLC0415 - it takes long to import
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    fetch = DiffusionPipeline.download if download.is_pipeline else snapshot_download
    fetch(download.repo, **download.arguments)


if __name__ == "__main__":
    sys.exit("\n".join(warm_up(load_catalog(load_settings().catalog_path, os.environ), _from_hub)) or None)
