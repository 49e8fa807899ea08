"""Reads a diffusers pipeline: from a hub, a local folder, a single file, or the project itself, one way for all."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import torch
from diffusers import DiffusionPipeline
from diffusers.loaders.single_file_utils import fetch_diffusers_config, load_single_file_checkpoint
from transformers import CLIPTextModel

from deployments.accelerator import Accelerator, find_accelerator
from deployments.catalog.entry import ModelEntry
from deployments.catalog.loading import PICKLE_SUFFIXES
from deployments.pipelines.controlnet import add_controlnet
from deployments.pipelines.exceptions import ModelLoadError
from deployments.pipelines.precision import keep_autoencoder_precise
from deployments.pipelines.quantization import check_quantized, quantization_arguments
from deployments.pipelines.requirements import check_requirements
from deployments.pipelines.tuning import tune_pipeline

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_SINGLE_FILE_SUFFIX = ".safetensors"
_LONGEST_REASON = 500


def load_pipeline(
    entry: ModelEntry, device: str | None = None, *, token: str | None = None, is_parked: bool = False
) -> DiffusionPipeline:
    """Load a model's pipeline onto a device; safetensors only, and no code from the model's repository.

    Args:
        entry: What the catalog says of it.
        device: A torch device; None takes the GPU where there is one.
        token: Of the hub, for gated models.
        is_parked: Whether the weights stay in main memory, from which somebody else brings them to the device.

    Raises:
        ModelLoadError: If it cannot be loaded, with the reason in one line.
    """
    accelerator = None if device == "cpu" else find_accelerator()
    where = device or (accelerator.kind if accelerator is not None else "cpu")
    dtype = choose_dtype(entry.dtype, accelerator)
    try:
        check_requirements(entry.loading, where)
        pipeline = _read(entry, dtype, token)
        if entry.loading.quantization is not None:
            check_quantized(pipeline, entry.loading.quantization)
        if entry.controlnet is not None:
            pipeline = add_controlnet(pipeline, entry.controlnet, dtype, token)
        keep_autoencoder_precise(pipeline)
        tune_pipeline(pipeline, entry, where, token, is_parked=is_parked)
        # After LoRAs are loaded, whose names diffusers changes only where there is no text_model.
        _name_clip_layers(pipeline)
    except ModelLoadError as error:
        raise ModelLoadError(f"{entry.public_name} could not be loaded: {error}") from error
    except Exception as error:
        raise ModelLoadError(f"{entry.public_name} could not be loaded: {_reason(error, entry)}") from error
    return pipeline


def execution_device(pipeline: DiffusionPipeline) -> torch.device:
    """Where a pipeline computes; with offloading, that is not where its weights are."""
    return torch.device(getattr(pipeline, "_execution_device", pipeline.device))


def device_name(device: torch.device) -> str:
    """What a device is called, such as ``NVIDIA H100 80GB HBM3``, or the processor's kind with its threads."""
    accelerator = None if device.type == "cpu" else find_accelerator()
    if accelerator is not None:
        return accelerator.name
    return f"{platform.machine()} with {torch.get_num_threads()} threads"


def choose_dtype(name: str, accelerator: Accelerator | None) -> torch.dtype:
    """The dtype for a name of the catalog.

    Args:
        name: Of a dtype, or ``auto``, which is bfloat16 where the GPU computes it natively, else float16.
        accelerator: The GPU that the model computes on; None for the CPU, where ``auto`` is float32.
    """
    if name != "auto":
        return _DTYPES[name]
    if accelerator is None:
        return torch.float32
    return torch.bfloat16 if accelerator.has_bfloat16 else torch.float16


def weights_fingerprint(path: Path) -> str:
    """A short hash over the names and bytes of a local pipeline's files: it changes when the model does.

    Args:
        path: A folder, or a single file.
    """
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
    for file in files:
        digest.update(file.relative_to(path.parent if path.is_file() else path).as_posix().encode())
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()[:16]


def _name_clip_layers(pipeline: DiffusionPipeline) -> None:
    """Let the layers of a CLIP text encoder be found where diffusers looks for them.

    Its pipelines read ``text_encoder.text_model.final_layer_norm`` where they skip layers, and transformers 5 has no
    ``text_model`` in a ``CLIPTextModel`` any more.
    """
    text_encoder = pipeline.components.get("text_encoder")
    if isinstance(text_encoder, CLIPTextModel) and not hasattr(text_encoder, "text_model"):
        # Not registered as a module, so that each parameter is counted and moved once.
        vars(text_encoder)["text_model"] = SimpleNamespace(**dict(text_encoder.named_children()))


def _read(entry: ModelEntry, dtype: torch.dtype, token: str | None) -> DiffusionPipeline:
    location = entry.location()
    if entry.is_local:
        _check_local_files(Path(location))
        if Path(location).is_file():
            return _read_single_file(entry, dtype, token)
    return DiffusionPipeline.from_pretrained(
        location,
        dtype=dtype,
        revision=entry.revision,
        variant=entry.variant,
        token=token,
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=entry.is_local,
        **_quantized(entry, location, dtype, token),
    )


def _check_local_files(path: Path) -> None:
    """Refuse what diffusers would refuse without saying what would be right."""
    if path.suffix.lower() in PICKLE_SUFFIXES:
        raise ModelLoadError("it is a pickle, which can run code when it is read; convert it to .safetensors.")
    if path.is_file():
        if path.suffix != _SINGLE_FILE_SUFFIX:
            raise ModelLoadError("a model of one file must be a .safetensors file.")
        return
    if not path.exists():
        raise ModelLoadError("there is no such folder or file.")
    if not (path / "model_index.json").is_file():
        raise ModelLoadError("it is not a diffusers pipeline: it has no model_index.json.")
    for component in sorted(folder for folder in path.iterdir() if folder.is_dir()):
        suffixes = {file.suffix for file in component.iterdir()}
        if suffixes & PICKLE_SUFFIXES and _SINGLE_FILE_SUFFIX not in suffixes:
            raise ModelLoadError(
                f"the weights of {component.name} are a pickle, which can run code when it is read; "
                "convert them to .safetensors."
            )


def _read_single_file(entry: ModelEntry, dtype: torch.dtype, token: str | None) -> DiffusionPipeline:
    config = entry.loading.config or _config_on_the_hub(entry.location())
    is_folder = Path(config).is_dir()
    if is_folder and not (Path(config) / "model_index.json").is_file():
        raise ModelLoadError(f"its config {Path(config).name} has no model_index.json.")
    class_name = _class_name_in(config, token)
    pipeline_class = getattr(diffusers, class_name, None)
    if pipeline_class is None or not hasattr(pipeline_class, "from_single_file"):
        raise ModelLoadError(f"diffusers cannot make a {class_name} of a single file; take a folder or a hub id.")
    return pipeline_class.from_single_file(
        entry.location(),
        config=config,
        dtype=dtype,
        token=token,
        local_files_only=is_folder,
        **_quantized(entry, config, dtype, token),
    )


def _class_name_in(config: str, token: str | None) -> str:
    """The class is in the config: the base class of all pipelines cannot read a single file."""
    try:
        index = DiffusionPipeline.load_config(config, token=token, local_files_only=Path(config).is_dir())
    except OSError as error:
        raise ModelLoadError(
            f"the configs of its components cannot be had from {config} on the hub; give a folder that has them as "
            "loading.config."
        ) from error
    return str(index["_class_name"])


def _config_on_the_hub(location: str) -> str:
    """The hub id of the model whose weights have the same names and shapes as the file's."""
    return str(fetch_diffusers_config(load_single_file_checkpoint(location))["pretrained_model_name_or_path"])


def _quantized(entry: ModelEntry, config: str, dtype: torch.dtype, token: str | None) -> dict[str, Any]:
    if entry.loading.quantization is None:
        return {}
    index = DiffusionPipeline.load_config(
        config, revision=entry.revision, token=token, local_files_only=Path(config).is_dir()
    )
    return quantization_arguments(entry.loading.quantization, index, config, dtype)


def _reason(error: Exception, entry: ModelEntry) -> str:
    """An error of diffusers in one line, with what would be right where that is known."""
    text = " ".join(str(error).split())
    if "trust_remote_code" in text:
        return (
            "it brings code of its own, which is never run; take a model whose pipeline and components are classes "
            "of diffusers and transformers."
        )
    if "meta tensor" in text or "expected shape" in text:
        return "its weights are not those that its config describes."
    if entry.is_local:
        text = text.replace(entry.location(), entry.public_name)
    if "safetensors" in text and ("no file named" in text or "does not appear to have" in text):
        text += " Only safetensors are read, as pickles can run code: take a revision or variant that has them."
    return text[:_LONGEST_REASON]
