"""A pipeline at full size with its weights on ``meta``, built from its config files alone."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import accelerate
import diffusers
import torch
from diffusers import DiffusionPipeline, ModelMixin, SchedulerMixin
from transformers import PreTrainedModel

from deployments.memory_plan.plan import UncountableError
from deployments.memory_plan.stand_ins import StandInTokenizer

INDEX_NAME = "model_index.json"
# Of a prompt for which neither the pipeline nor the text encoder's positions set a limit.
_LONGEST_PROMPT = 512
_CHECKERS = ("safety_checker", "watermarker")
_TOKENIZERS = ("Tokenizer", "Processor", "FeatureExtractor")


@dataclass(frozen=True)
class Blueprint:
    """A pipeline whose modules have shapes and dtypes, and no values.

    Attributes:
        pipeline: With stand-ins for its tokenizers, and without checkers of finished pictures.
        checkers: Those, by name.
    """

    pipeline: DiffusionPipeline
    checkers: Mapping[str, torch.nn.Module]

    @property
    def modules(self) -> dict[str, torch.nn.Module]:
        """The modules by their names, each once."""
        components = {**self.pipeline.components, **self.checkers}
        modules = {name: each for name, each in components.items() if isinstance(each, torch.nn.Module)}
        names = {id(module): name for name, module in reversed(modules.items())}
        return {name: module for name, module in modules.items() if names[id(module)] == name}


def build_blueprint(folder: Path, dtype: torch.dtype) -> Blueprint:
    """Build a pipeline on ``meta``.

    Args:
        folder: With a ``model_index.json`` and a folder for each component, as diffusers saves a pipeline; weights and
            tokenizers need not be there.
        dtype: As the pipeline would be loaded in.

    Raises:
        UncountableError: A component's class is not known, or its config is missing.
    """
    index = _read_json(folder / INDEX_NAME)
    pipeline_class = getattr(diffusers, str(index.get("_class_name")), None)
    if pipeline_class is None:
        raise UncountableError(f"diffusers has no pipeline class {index.get('_class_name')}.")
    named = {name: value for name, value in index.items() if isinstance(value, list) and len(value) == 2}
    built: dict[str, Any] = {
        name: _build(folder / name, str(library), str(class_name), dtype)
        for name, (library, class_name) in named.items()
        if library is not None
    }
    checkers = {name: built.pop(name) for name in _CHECKERS if name in built}
    pipeline = _assemble(pipeline_class, built, index)
    pipeline.set_progress_bar_config(disable=True)
    return Blueprint(pipeline, {name: each for name, each in checkers.items() if isinstance(each, torch.nn.Module)})


def build_controlnet(folder: Path, dtype: torch.dtype) -> torch.nn.Module:
    """Build a ControlNet on ``meta``.

    Args:
        folder: With its ``config.json``, which names its class.
        dtype: Of its weights.

    Raises:
        UncountableError: The config is missing, or of a class that is not known.
    """
    class_name = str(_read_json(folder / "config.json").get("_class_name"))
    return build_module(folder, _class_named("diffusers", class_name), dtype)


def build_module(folder: Path, kind: Any, dtype: torch.dtype) -> torch.nn.Module:
    """Build a module of diffusers or transformers on ``meta``.

    Args:
        folder: With its ``config.json``.
        kind: Its class.
        dtype: Of its weights, but for those that its class keeps in float32.

    Raises:
        UncountableError: The config is missing, or not for this class.
    """
    if not (folder / "config.json").is_file():
        raise UncountableError(f"there is no {folder.name}/config.json.")
    try:
        with accelerate.init_empty_weights():
            module: torch.nn.Module
            if issubclass(kind, PreTrainedModel):
                module = kind._from_config(kind.config_class.from_pretrained(folder))
            else:
                module = kind.from_config(kind.load_config(folder))
    except Exception as error:
        raise UncountableError(f"a {kind.__name__} cannot be built from its config: {error}") from error
    module.eval().requires_grad_(False).to("meta")
    if isinstance(module, PreTrainedModel):
        module.tie_weights()
    kept = _kept_in_float32(module, dtype)
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        # Buffers that are made anew rather than read, such as rotary frequencies, keep their own dtype.
        if tensor.is_floating_point() and (isinstance(tensor, torch.nn.Parameter) or _is_read(module, name)):
            tensor.data = tensor.data.to(torch.float32 if kept & set(name.split(".")) else dtype)
    return module


def _build(folder: Path, library: str, class_name: str, dtype: torch.dtype) -> Any:
    if any(ending in class_name for ending in _TOKENIZERS):
        return StandInTokenizer(_longest_prompt(folder))
    kind = _class_named(library, class_name)
    if issubclass(kind, SchedulerMixin):
        return kind.from_pretrained(folder)
    if issubclass(kind, torch.nn.Module):
        return build_module(folder, kind, dtype)
    raise UncountableError(f"{folder.name} is a {class_name}, of which nothing is known.")


def _class_named(library: str, name: str) -> Any:
    # A component may be of a module of diffusers.pipelines, such as stable_diffusion.
    place = library if library in ("diffusers", "transformers") else f"diffusers.pipelines.{library}"
    try:
        found = getattr(importlib.import_module(place), name, None)
    except ImportError:
        found = None
    if isinstance(found, type):
        return found
    raise UncountableError(f"{library} has no class {name}.")


def _longest_prompt(folder: Path) -> int:
    """From the tokenizer's own config, else from the positions of the text encoder that it is for."""
    encoder = folder.parent / folder.name.replace("tokenizer", "text_encoder") / "config.json"
    for file, field in ((folder / "tokenizer_config.json", "model_max_length"), (encoder, "max_position_embeddings")):
        longest = _read_json(file).get(field) if file.is_file() else None
        if isinstance(longest, int) and longest <= _LONGEST_PROMPT:
            return longest
    return _LONGEST_PROMPT


def _kept_in_float32(module: torch.nn.Module, dtype: torch.dtype) -> set[str]:
    """The parts of weights' names that a class keeps in float32, as its ``from_pretrained`` does."""
    if dtype == torch.float32:
        return set()
    always = getattr(module, "_keep_in_fp32_modules_strict", None) or ()
    kept = getattr(module, "_keep_in_fp32_modules", None) or ()
    applies = isinstance(module, ModelMixin) or dtype == torch.float16
    return {*always, *(kept if applies else ())}


def _is_read(module: torch.nn.Module, name: str) -> bool:
    owner, _, buffer = name.rpartition(".")
    return buffer not in module.get_submodule(owner)._non_persistent_buffers_set


def _assemble(kind: type[DiffusionPipeline], built: Mapping[str, Any], index: Mapping[str, Any]) -> DiffusionPipeline:
    known = inspect.signature(kind.__init__).parameters
    options = {name: value for name, value in index.items() if name in known and not isinstance(value, list)}
    absent = {
        name: None
        for name, parameter in known.items()
        if name not in ("self", *built, *options) and parameter.default is parameter.empty
    }
    if "requires_safety_checker" in known:
        options["requires_safety_checker"] = False
    return kind(**{**absent, **options, **built})


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UncountableError(f"{file.name} cannot be read: {error}") from error
    return content if isinstance(content, dict) else {}
