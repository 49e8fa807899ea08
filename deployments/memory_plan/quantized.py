"""The bytes of a component's weights, as they are and in fewer bits."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import torch

from deployments.catalog.loading import Quantization
from deployments.memory_plan.plan import QuantizedWeights, Role, Weights
from deployments.pipelines.denoisers import denoiser_names
from deployments.pipelines.offload import is_text_encoder

# Bits of a weight, and bytes that stand beside them for each of so many weights (0: for each row of the matrix):
# torchao/quantization/quant_api.py, and https://huggingface.co/docs/bitsandbytes/reference/functional.
_PACKED: dict[tuple[str, str], tuple[int, int, int]] = {
    ("torchao", "int8"): (8, 2, 0),
    ("torchao", "float8"): (8, 4, 0),
    ("bitsandbytes", "int8"): (8, 4, 0),
    ("bitsandbytes", "nf4"): (4, 4, 64),
    ("bitsandbytes", "fp4"): (4, 4, 64),
}


def weigh(modules: Mapping[str, torch.nn.Module], quantization: Quantization | None) -> QuantizedWeights:
    """Weigh the components of a pipeline.

    Args:
        modules: By name; on ``meta``.
        quantization: Of the weights that it names; None for none.
    """
    names: tuple[str, ...] = ()
    if quantization is not None:
        names = quantization.components or tuple(denoiser_names(modules))
    return QuantizedWeights(
        quantization=quantization,
        weights=tuple(
            _weigh(name, module, quantization if name in names else None) for name, module in modules.items()
        ),
    )


def _weigh(name: str, module: torch.nn.Module, quantization: Quantization | None) -> Weights:
    seen: set[int] = set()
    layers = [(layer, size) for layer in module.modules() if (size := _bytes_of(layer, quantization, seen))]
    total = sum(size for _, size in layers)
    shrunk = 1.0
    if quantization is not None and quantization.file is not None:
        shrunk = Path(quantization.file).stat().st_size / total
    linear = [layer.weight.nbytes for layer, _ in layers if isinstance(layer, torch.nn.Linear)]
    beside = [one + other for (_, one), (_, other) in pairwise(layers)]
    return Weights(
        component=name,
        class_name=type(module).__name__,
        role=_role(name, module),
        size=round(total * shrunk),
        layers=round(max(beside, default=total) * shrunk),
        unpacked=max(linear, default=0) if quantization is not None else 0,
    )


def _role(name: str, module: torch.nn.Module) -> Role:
    if denoiser_names([name]):
        return Role.DENOISER
    if is_text_encoder(name, module):
        return Role.TEXT_ENCODER
    return Role.AUTOENCODER if callable(getattr(module, "decode", None)) else Role.OTHER


def _bytes_of(layer: torch.nn.Module, quantization: Quantization | None, seen: set[int]) -> int:
    """Of a layer's own weights, but for those that another layer shares with it.

    Args:
        layer: Its children are layers themselves.
        quantization: Of its weights.
        seen: The tensors of the layers before it; its own are added.
    """
    own = [*layer.parameters(recurse=False), *layer.buffers(recurse=False)]
    size = sum(tensor.nbytes for tensor in own if id(tensor) not in seen)
    seen.update(map(id, own))
    if size == 0 or quantization is None or quantization.method == "gguf" or not isinstance(layer, torch.nn.Linear):
        return size
    bits, scale, group = _PACKED[quantization.method, str(quantization.kind)]
    weights = layer.weight.numel()
    scales = scale * (layer.out_features if group == 0 else -(-weights // group))
    return size - layer.weight.nbytes + weights * bits // 8 + scales
