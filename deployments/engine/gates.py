"""Gates in front of the modules that all images of a model share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

CallGate = Callable[[Callable[..., Any], str, tuple[Any, ...], dict[str, Any]], Any]


def gate_shared_modules(components: dict[str, Any], gate: CallGate) -> None:
    """Route every call of a pipeline's heavy modules through ``gate``.

    An autoencoder is called by its ``encode`` and ``decode``, everything else by its ``forward``.

    Args:
        components: The pipeline's components by name.
        gate: Is given the function, the class name of its module, and the call's arguments; returns the result.
    """
    for component in components.values():
        if isinstance(component, torch.nn.Module):
            for name in _entrances(component):
                setattr(component, name, _gated(component, getattr(component, name), gate))


def _entrances(module: torch.nn.Module) -> list[str]:
    coding = [name for name in ("encode", "decode") if callable(getattr(module, name, None))]
    return coding or ["forward"]


def _gated(module: torch.nn.Module, target: Callable[..., Any], gate: CallGate) -> Callable[..., Any]:
    owner = type(module).__name__

    def call(*args: Any, **kwargs: Any) -> Any:
        return gate(target, owner, args, kwargs)

    # Pipelines and hooks look at a forward's signature.
    call.__wrapped__ = target  # type: ignore[attr-defined]
    return call
