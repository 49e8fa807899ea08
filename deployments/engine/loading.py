"""Loads a diffusers pipeline from a hub, from a local folder, or from the project itself: one way for all three."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

from deployments.engine.exceptions import ModelLoadError

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class PipelineSource:
    """Where a pipeline comes from and how it is loaded.

    Attributes:
        location: A hub id, or the path of a folder in diffusers format.
        is_local: Whether ``location`` is a folder; then nothing is downloaded.
        dtype: ``float32``, ``float16``, ``bfloat16``, or ``auto``: bfloat16 on a GPU and float32 on a CPU.
        revision: Branch, tag or commit on the hub.
        variant: Of the weight files, such as ``fp16``.
        token: Of the hub, for gated models.
    """

    location: str
    is_local: bool = False
    dtype: str = "auto"
    revision: str | None = None
    variant: str | None = None
    token: str | None = None


def load_pipeline(source: PipelineSource, device: str | None = None) -> DiffusionPipeline:
    """Load a pipeline onto a device; safetensors only, and no code from the model's repository.

    Args:
        source: What to load.
        device: A torch device; None takes the GPU where there is one.

    Raises:
        ModelLoadError: If it cannot be loaded, with the reason in one line.
    """
    if source.is_local and not (Path(source.location) / "model_index.json").is_file():
        raise ModelLoadError(f"{source.location} is not a diffusers pipeline: it has no model_index.json.")
    where = device or default_device()
    try:
        pipeline = DiffusionPipeline.from_pretrained(
            source.location,
            torch_dtype=choose_dtype(source.dtype, where),
            revision=source.revision,
            variant=source.variant,
            token=source.token,
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=source.is_local,
        )
        return pipeline.to(where)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ModelLoadError(f"{source.location} could not be loaded: {reason[:500]}") from error


def default_device() -> str:
    """``cuda`` where a GPU is visible, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def choose_dtype(name: str, device: str) -> torch.dtype:
    """The dtype for a name of the catalog."""
    if name == "auto":
        return torch.float32 if device == "cpu" else torch.bfloat16
    return _DTYPES[name]


def weights_fingerprint(folder: Path) -> str:
    """A short hash over the names and bytes of a local pipeline's files: it changes when the model does."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(path.relative_to(folder).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
