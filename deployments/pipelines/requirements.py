"""What a model's loading needs of this machine: packages, files and a compiler, looked up before any download."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path

from diffusers.models.attention_dispatch import AttentionBackendName, _check_attention_backend_requirements

from deployments.catalog.loading import Loading
from deployments.pipelines.exceptions import ModelLoadError

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
    if backend == "xformers" and importlib.util.find_spec("xformers") is None:
        raise ModelLoadError('the attention backend xformers needs its package: pip install "xformers".')
    try:
        _check_attention_backend_requirements(AttentionBackendName(backend))
    except RuntimeError as error:
        raise ModelLoadError(f"loading.attention_backend: {error}") from error
