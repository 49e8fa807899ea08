"""Asks the hub about a model before it is downloaded: whether it may be read, and whether it fits on the disk."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from huggingface_hub import constants

from deployments.catalog.catalog import Catalog
from deployments.catalog.entry import ModelEntry
from deployments.doctor.facts.hub import ask_hub
from deployments.doctor.facts.machine import look_at_volume
from deployments.doctor.finding import Level
from deployments.doctor.hub_models import check_access, check_hub_disk
from deployments.pipelines.exceptions import ModelLoadError


def check_download(entry: ModelEntry, environ: Mapping[str, str]) -> None:
    """Refuse a download that would fail, with what the doctor says of it. A hub that does not answer refuses nothing.

    Args:
        entry: What the catalog says of the model.
        environ: The environment, for tokens.

    Raises:
        ModelLoadError: A repository may not be read, or the disk of the hub's cache is too small; with the way out.
    """
    hub = ask_hub(Catalog.model_construct(models={entry.public_name: entry}), environ)
    hub = replace(hub, repositories=tuple(each for each in hub.repositories if not each.is_cached))
    if hub.silence or not hub.repositories:
        return
    findings = list(check_access(hub))
    if entry.loading.quantization is None or entry.loading.quantization.method != "gguf":
        # Beside a .gguf file the largest part of the repository is not downloaded.
        findings += check_hub_disk(look_at_volume(Path(constants.HF_HUB_CACHE)), hub)
    for finding in findings:
        if finding.level is Level.PROBLEM:
            reason = f"{finding.sentence.rstrip('.')}; {finding.remedy}"
            raise ModelLoadError(f"{entry.public_name} could not be loaded: {reason}")
