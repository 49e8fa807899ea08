"""Gates in front of the modules that all images of a model share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

_ENTRANCES = ("forward", "encode", "decode")

CallGate = Callable[[Callable[..., Any], str, tuple[Any, ...], dict[str, Any]], Any]


def gate_shared_modules(components: dict[str, Any], gate: CallGate) -> None:
    """Route every call of a pipeline's heavy modules through ``gate``.

    An autoencoder is called by its ``encode`` and ``decode``, most others by their ``forward``.

    Args:
        components: The pipeline's components by name.
        gate: Is given the function, the class name of its module, and the call's arguments; returns the result.
    """
    for component in _distinct_modules(components.values()):
        for name in _ENTRANCES:
            if callable(getattr(component, name, None)):
                setattr(component, name, _gated(component, getattr(component, name), gate))


def _distinct_modules(components: Iterable[Any]) -> list[torch.nn.Module]:
    """Some pipelines know one module by two names; some hold a list of them."""
    flat = (item for component in components for item in (component if isinstance(component, list) else [component]))
    return list({id(item): item for item in flat if isinstance(item, torch.nn.Module)}.values())


def _gated(module: torch.nn.Module, target: Callable[..., Any], gate: CallGate) -> Callable[..., Any]:
    owner = type(module).__name__

    def call(*args: Any, **kwargs: Any) -> Any:
        return gate(target, owner, args, kwargs)

    # Pipelines and hooks look at a forward's signature.
    call.__wrapped__ = target  # type: ignore[attr-defined]
    return call
