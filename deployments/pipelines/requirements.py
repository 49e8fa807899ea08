"""What a model's loading needs of this machine: packages, files and a compiler, looked up before any download."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import shutil
from pathlib import Path

import torch
from diffusers.models.attention_dispatch import AttentionBackendName, _check_attention_backend_requirements

from deployments.catalog.loading import Loading
from deployments.pipelines.exceptions import ModelLoadError, one_line

# What torch compiles with: C++ for the processor; for GPUs triton, which needs C.
_CPU_COMPILERS, _GPU_COMPILERS = ("CXX", "g++", "clang++"), ("CC", "gcc", "clang", "cc")


def check_requirements(loading: Loading, device: str) -> None:
    """Check that all that a model's loading needs is installed.

    Args:
        loading: What is to be switched on.
        device: Where the model computes.

    Raises:
        ModelLoadError: If something is missing, with the command that installs it.
    """
    quantization = loading.quantization
    if quantization is not None:
        if importlib.util.find_spec(quantization.method) is None:
            raise ModelLoadError(
                f'quantization with {quantization.method} needs its package: pip install "{quantization.method}".'
            )
        if quantization.method == "gguf" and not Path(quantization.file or "").is_file():
            raise ModelLoadError(f"the quantized file {Path(quantization.file or '').name} is not there.")
    _check_attention(loading.attention_backend)
    variable, *programs = _CPU_COMPILERS if device == "cpu" else _GPU_COMPILERS
    if loading.compile and variable not in os.environ and not any(map(shutil.which, programs)):
        raise ModelLoadError(f"loading.compile needs a compiler: apt-get install {programs[0]}.")


def _check_attention(backend: str) -> None:
    if backend in ("auto", "native"):
        return
    if backend == "xformers":
        _check_xformers()
    try:
        _check_attention_backend_requirements(AttentionBackendName(backend))
    except RuntimeError as error:
        raise ModelLoadError(f"loading.attention_backend: {error}") from error


def _check_xformers() -> None:
    """Its kernels are built for one version of torch; with any other one the package is there, and they are not."""
    if importlib.util.find_spec("xformers") is None:
        raise ModelLoadError('the attention backend xformers needs its package: pip install "xformers".')
    error = getattr(importlib.import_module("xformers._cpp_lib"), "_cpp_library_load_exception", None)
    if error is not None:
        version = importlib.metadata.version("xformers")
        raise ModelLoadError(
            f"loading.attention_backend: the kernels of xformers {version} do not load with torch {torch.__version__}: "
            f"{one_line(error)} Take native, or the xformers for this torch: pip install --upgrade xformers."
        )
