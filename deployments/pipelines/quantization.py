"""Weights in fewer bits: quantized while they are read, or read from a GGUF file."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline

from deployments.catalog.loading import Quantization
from deployments.pipelines.denoisers import denoiser_names
from deployments.pipelines.exceptions import ModelLoadError


def quantization_arguments(
    quantization: Quantization, index: Mapping[str, Any], config: str, dtype: torch.dtype
) -> dict[str, Any]:
    """The arguments of a pipeline's ``from_pretrained`` that quantize it.

    Args:
        quantization: What is asked for.
        index: The pipeline's ``model_index.json``: library and class of each component.
        config: The folder or hub id of the components' configs.
        dtype: In which the model computes.

    Raises:
        ModelLoadError: If the pipeline has no such component.
    """
    if quantization.method == "gguf":
        return _gguf_denoiser(Path(quantization.file or ""), index, config, dtype)
    names = quantization.components or tuple(denoiser_names(index))
    missing = [name for name in names if not isinstance(index.get(name), list) or index[name][0] is None]
    if missing or not names:
        have = [name for name, value in index.items() if isinstance(value, list) and value[0] is not None]
        raise ModelLoadError(f"it has no component {', '.join(missing)} to quantize; it has {', '.join(have)}.")
    make = _MAKERS[quantization.method]
    mapping = {name: make(str(index[name][0]), str(quantization.kind), dtype) for name in names}
    return {"quantization_config": diffusers.PipelineQuantizationConfig(quant_mapping=mapping)}


def check_quantized(pipeline: DiffusionPipeline, quantization: Quantization) -> None:
    """Check that something was quantized: where no layer has a shape that a method can do, it leaves them all.

    Args:
        pipeline: As it was read.
        quantization: What was asked for.

    Raises:
        ModelLoadError: If all weights of a component are as they were.
    """
    components = pipeline.components
    for name in quantization.components or denoiser_names(components):
        if all(type(parameter) is torch.nn.Parameter for parameter in components[name].parameters()):
            raise ModelLoadError(
                f"loading.quantization: no layer of {name}, a {type(components[name]).__name__}, can be quantized with "
                f"{quantization.method} {quantization.kind or ''}".rstrip()
                + "; leave it out."
            )


def _gguf_denoiser(file: Path, index: Mapping[str, Any], config: str, dtype: torch.dtype) -> dict[str, Any]:
    names = denoiser_names(index)
    if len(names) != 1:
        raise ModelLoadError("a .gguf file takes the place of one denoiser, and this pipeline has none or several.")
    (name,) = names
    model_class = getattr(diffusers, str(index[name][1]))
    if not hasattr(model_class, "from_single_file"):
        raise ModelLoadError(f"diffusers cannot read a {model_class.__name__} from a .gguf file.")
    model = model_class.from_single_file(
        str(file),
        quantization_config=diffusers.GGUFQuantizationConfig(compute_dtype=dtype),
        config=config,
        subfolder=name,
        dtype=dtype,
        local_files_only=Path(config).is_dir(),
    )
    return {name: model}


def _library(name: str) -> Any:
    return transformers if name == "transformers" else diffusers


def _torchao(library: str, kind: str, _: torch.dtype) -> Any:
    torchao = importlib.import_module("torchao.quantization")
    kinds = {"int8": "Int8WeightOnlyConfig", "float8": "Float8WeightOnlyConfig"}
    return _library(library).TorchAoConfig(getattr(torchao, kinds[kind])())


def _bitsandbytes(library: str, kind: str, dtype: torch.dtype) -> Any:
    config = _library(library).BitsAndBytesConfig
    if kind == "int8":
        return config(load_in_8bit=True)
    return config(load_in_4bit=True, bnb_4bit_quant_type=kind, bnb_4bit_compute_dtype=dtype)


_MAKERS: dict[str, Callable[[str, str, torch.dtype], Any]] = {"torchao": _torchao, "bitsandbytes": _bitsandbytes}
