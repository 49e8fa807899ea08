"""Finds a model's config files, and downloads no others."""

from __future__ import annotations

from pathlib import Path

from diffusers.loaders.single_file_utils import fetch_diffusers_config, load_single_file_checkpoint
from huggingface_hub import snapshot_download

from deployments.catalog.entry import ModelEntry
from deployments.memory_plan.plan import UncountableError
from deployments.pipelines.exceptions import one_line

_PIPELINE_CONFIGS = ["model_index.json", "*/config.json", "*/scheduler_config.json", "*/tokenizer_config.json"]


def find_configs(entry: ModelEntry, token: str | None = None) -> Path:
    """The folder with a pipeline's config files; those of the hub are some kilobytes.

    Args:
        entry: What the catalog says of it.
        token: Of the hub, for gated models.

    Raises:
        UncountableError: The hub does not give them, or there are none.
    """
    where, revision = entry.location(), entry.revision
    if entry.is_single_file:
        where, revision = entry.loading.config or _config_on_the_hub(where), None
    folder = Path(where)
    if not entry.is_local or (entry.is_single_file and not folder.is_dir()):
        folder = _download(where, revision, token, _PIPELINE_CONFIGS)
    if not (folder / "model_index.json").is_file():
        raise UncountableError(f"{folder.name} has no model_index.json.")
    return folder


def find_controlnet_config(entry: ModelEntry, token: str | None = None) -> Path | None:
    """The folder with the config of a model's ControlNet; None where it has none.

    Args:
        entry: What the catalog says of the model.
        token: Of the hub.

    Raises:
        UncountableError: The hub does not give it.
    """
    chosen = entry.controlnet
    if chosen is None:
        return None
    return Path(chosen.repo) if chosen.is_local else _download(chosen.repo, chosen.revision, token, ["config.json"])


def _download(repo: str, revision: str | None, token: str | None, patterns: list[str]) -> Path:
    try:
        return Path(snapshot_download(repo, revision=revision, token=token, allow_patterns=patterns))
    except Exception as error:
        raise UncountableError(f"the config files of {repo} cannot be had: {one_line(error)}") from error


def _config_on_the_hub(file: str) -> str:
    try:
        return str(fetch_diffusers_config(load_single_file_checkpoint(file))["pretrained_model_name_or_path"])
    except Exception as error:
        raise UncountableError(f"the kind of {Path(file).name} is not known: {one_line(error)}") from error
