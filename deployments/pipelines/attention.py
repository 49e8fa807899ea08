"""The attention kernels of a pipeline's denoisers: chosen, and compared with torch's own before they are relied on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import DiffusionPipeline
from diffusers.models import attention_processor
from diffusers.models.attention_dispatch import _AttentionBackendRegistry

from deployments.catalog.entry import ModelEntry
from deployments.pipelines.denoisers import denoisers
from deployments.pipelines.exceptions import ModelLoadError, one_line
from deployments.pipelines.tasks import call_parameters, pipeline_for

# Processors that xformers can take the place of: it computes what they do. With any other one diffusers drops what that
# does beside attention, such as rotary embeddings, norms of queries and linear attention.
_WITH_XFORMERS: dict[type, type] = {
    attention_processor.AttnProcessor: attention_processor.XFormersAttnProcessor,
    attention_processor.AttnProcessor2_0: attention_processor.XFormersAttnProcessor,
    attention_processor.JointAttnProcessor2_0: attention_processor.XFormersJointAttnProcessor,
}
# How far a denoiser's result may be from that with torch's own kernels, relative to its size (root mean squares). Other
# kernels add in another order: a few times the dtype's resolution, over all layers.
_TOLERANCES = {torch.float32: 1e-3, torch.float16: 2e-2, torch.bfloat16: 5e-2}
# These compute with 8 bits.
_COARSE_BACKENDS, _COARSE_TOLERANCE = ("sage", "sage_varlen"), 0.3


def choose_attention(pipeline: DiffusionPipeline, backend: str) -> None:
    """Choose the attention kernels of the denoisers. What of them xformers cannot do exactly stays as it is.

    Args:
        pipeline: Its denoisers are changed.
        backend: A backend of diffusers; ``auto`` and ``native`` are torch's own kernels.

    Raises:
        ModelLoadError: If a denoiser cannot use them.
    """
    if backend in ("auto", "native"):
        return
    for denoiser in denoisers(pipeline):
        if _takes_backends(denoiser):
            _set_backend(denoiser, backend)
        elif backend == "xformers":
            _use_xformers(denoiser)
        else:
            raise ModelLoadError(f"{type(denoiser).__name__} takes the attention backends native and xformers only.")


def check_attention(pipeline: DiffusionPipeline, entry: ModelEntry) -> None:
    """Compare a denoiser's first forward with the chosen kernels to that with torch's own.

    Args:
        pipeline: On its device, with the kernels that the entry names.
        entry: The model.

    Raises:
        ModelLoadError: If the results differ by more than rounding, or cannot be compared.
    """
    backend = entry.loading.attention_backend
    if backend in ("auto", "native"):
        return
    first = _first_call(pipeline, entry)
    name = type(first.denoiser).__name__
    try:
        with torch.inference_mode(), torch.compiler.set_stance("force_eager"):
            chosen = first.repeat()
            with _native(first.denoiser):
                expected = first.repeat()
    except Exception as error:
        reason = one_line(error)
        raise ModelLoadError(f"loading.attention_backend: {name} cannot use {backend}: {reason}") from error
    limit = _COARSE_TOLERANCE if backend in _COARSE_BACKENDS else _TOLERANCES.get(expected.dtype, 1e-3)
    difference = _relative_difference(chosen, expected)
    if not difference <= limit:  # nor where it is no number
        raise ModelLoadError(
            f"loading.attention_backend: with {backend} the result of {name} differs by {difference:.1%} from that "
            f"with torch's own kernels, which is more than rounding ({limit:.1%}); take native."
        )


class _FirstCallError(Exception):
    """A pipeline reached a denoiser; with its arguments."""

    def __init__(self, denoiser: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        super().__init__()
        self.denoiser = denoiser
        self._args = args
        self._kwargs = kwargs

    def repeat(self) -> torch.Tensor:
        """The call's result."""
        result = self.denoiser(*self._args, **self._kwargs)
        tensor: torch.Tensor = result if isinstance(result, torch.Tensor) else result[0]
        return tensor


def _first_call(pipeline: DiffusionPipeline, entry: ModelEntry) -> _FirstCallError:
    """The first call of a denoiser for the smallest image of a model."""

    def stop(denoiser: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        raise _FirstCallError(denoiser, args, kwargs)

    width, height = entry.size.fit(entry.size.minimum, entry.size.minimum)
    arguments = {
        "prompt": "a red circle",
        "num_inference_steps": entry.steps.default,
        "width": width,
        "height": height,
        "generator": torch.Generator("cpu").manual_seed(0),
    }
    hooks = [each.register_forward_pre_hook(stop, with_kwargs=True) for each in denoisers(pipeline)]
    try:
        plain = pipeline_for(pipeline, "text2image", {})
        plain.set_progress_bar_config(disable=True)
        known = call_parameters(plain)
        with torch.inference_mode():
            plain(**{name: value for name, value in arguments.items() if name in known})
    except _FirstCallError as reached:
        return reached
    except Exception as error:
        reason = one_line(error)
    else:
        reason = "it calls no denoiser."
    finally:
        for hook in hooks:
            hook.remove()
    raise ModelLoadError(
        f"loading.attention_backend: {entry.loading.attention_backend} could not be compared with torch's own kernels; "
        f"take native. A {type(pipeline).__name__} made no image from a prompt: {reason}"
    )


def _takes_backends(module: torch.nn.Module) -> bool:
    return any(hasattr(getattr(each, "processor", None), "_attention_backend") for each in module.modules())


def _set_backend(denoiser: Any, backend: str) -> None:
    """Set the backend of one denoiser; diffusers also has those of other models use it that have none of their own."""
    active, _ = _AttentionBackendRegistry.get_active_backend()
    try:
        denoiser.set_attention_backend(backend)
    finally:
        _AttentionBackendRegistry.set_active_backend(active)


def _use_xformers(denoiser: torch.nn.Module) -> None:
    others = set()
    found = False
    for layer in _attention_layers(denoiser):
        if _is_exact_with_xformers(layer):
            layer.set_processor(_WITH_XFORMERS[type(layer.processor)]())
            found = True
        else:
            others.add(type(layer.processor).__name__)
    if not found:
        raise ModelLoadError(
            f"loading.attention_backend: xformers does not compute what {type(denoiser).__name__} does "
            f"({', '.join(sorted(others)) or 'no attention that diffusers knows'}); take native."
        )


def _is_exact_with_xformers(layer: Any) -> bool:
    """Whether xformers has all that a layer's processor does: no norms of queries and keys, and the same scale."""
    processor = type(layer.processor)
    if processor is attention_processor.JointAttnProcessor2_0:
        return True
    has_norms = getattr(layer, "norm_q", None) is not None or getattr(layer, "norm_k", None) is not None
    scales = processor is attention_processor.AttnProcessor or getattr(layer, "scale_qk", True)
    return processor in _WITH_XFORMERS and not has_norms and scales


def _attention_layers(denoiser: torch.nn.Module) -> list[Any]:
    return [each for each in denoiser.modules() if callable(getattr(each, "set_processor", None))]


@contextmanager
def _native(denoiser: Any) -> Iterator[None]:
    """Within this, a denoiser computes with torch's own kernels."""
    natives = {kind: native for native, kind in _WITH_XFORMERS.items()}
    before = [(layer, layer.processor) for layer in _attention_layers(denoiser)]
    backends = [(processor, getattr(processor, "_attention_backend", None)) for _, processor in before]
    for layer, processor in before:
        if type(processor) in natives:
            layer.set_processor(natives[type(processor)]())
        elif hasattr(processor, "_attention_backend"):
            processor._attention_backend = None
    try:
        yield
    finally:
        for layer, processor in before:
            layer.set_processor(processor)
        for processor, backend in backends:
            if hasattr(processor, "_attention_backend"):
                processor._attention_backend = backend


def _relative_difference(value: torch.Tensor, expected: torch.Tensor) -> float:
    difference = (value.double() - expected.double()).square().mean().sqrt()
    return float(difference / expected.double().square().mean().sqrt())
