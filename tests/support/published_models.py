"""The published models of ``benchmarks/model_configs``, built without weights on torch's ``meta`` device."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

MODEL_CONFIGS = Path(__file__).parents[2] / "benchmarks" / "model_configs"


def published_models() -> list[str]:
    """The names of the folders."""
    return sorted(path.parent.name for path in MODEL_CONFIGS.glob("*/model_index.json"))


def model_index(name: str) -> dict[str, Any]:
    """What ``model_index.json`` of a folder says."""
    return json.loads((MODEL_CONFIGS / name / "model_index.json").read_text(encoding="utf-8"))


def build_parts(name: str) -> dict[str, torch.nn.Module]:
    """Build each part that has weights, by its name in ``model_index.json``; none of them takes memory."""
    folder = MODEL_CONFIGS / name
    parts = {}
    for part, kind in model_index(name).items():
        if not (folder / part / "config.json").exists():
            continue
        library, class_name = kind
        with torch.device("meta"):
            if library == "diffusers":
                model_class = getattr(diffusers, class_name)
                parts[part] = model_class.from_config(model_class.load_config(folder / part))
            else:
                model_class = getattr(transformers, class_name)
                parts[part] = model_class._from_config(model_class.config_class.from_pretrained(folder / part))
    return parts


def weight_count(module: torch.nn.Module) -> int:
    """How many numbers a part's weight files hold: its parameters and the buffers that are saved with them."""
    return sum(tensor.numel() for tensor in _weights(module))


def weight_bytes(module: torch.nn.Module) -> int:
    """The bytes of the same, in the formats in which the part has them."""
    return sum(tensor.nbytes for tensor in _weights(module))


def _weights(module: torch.nn.Module) -> Iterable[torch.Tensor]:
    # Once each: the output layer of a language model may be its embedding, under another name.
    return {id(tensor): tensor for tensor in module.state_dict(keep_vars=True).values()}.values()
