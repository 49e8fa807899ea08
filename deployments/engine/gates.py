"""Gates in front of the modules that all images of a model share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import torch

CallGate = Callable[[Callable[..., Any], str, tuple[Any, ...], dict[str, Any]], Any]


def gate_shared_modules(components: dict[str, Any], gate: CallGate) -> None:
    """Route every call of a pipeline's heavy modules through ``gate``.

    An autoencoder is called by its ``encode`` and ``decode``, most others as a function. The gate of a module that is
    called as a function is not put on its ``forward``: hooks of diffusers and accelerate replace that attribute when
    they come, and put back what they found when they go, with streams in the midst of the first forward. All hooks are
    behind the gate, those of torch too, and see the joined calls.

    Args:
        components: The pipeline's components by name.
        gate: Is given the function, the class name of its module, and the call's arguments; returns the result.
    """
    for component in _distinct_modules(components.values()):
        # What torch runs, in the place of hooks and forward, where a module is called.
        component._compiled_call_impl = _gated(component, _called(component), gate)
        for name in ("encode", "decode"):
            if callable(getattr(component, name, None)):
                setattr(component, name, _gated(component, getattr(component, name), gate))


def _distinct_modules(components: Iterable[Any]) -> list[torch.nn.Module]:
    """Some pipelines know one module by two names; some hold a list of them."""
    flat = (item for component in components for item in (component if isinstance(component, list) else [component]))
    return list({id(item): item for item in flat if isinstance(item, torch.nn.Module)}.values())


def _called(module: torch.nn.Module) -> Callable[..., Any]:
    """What a call of the module runs: its hooks and the forward that it has then. Name and signature are forward's."""
    run: Callable[..., Any] = module._compiled_call_impl or module._call_impl

    @wraps(module.forward)
    def call(*args: Any, **kwargs: Any) -> Any:
        return run(*args, **kwargs)

    return call


def _gated(module: torch.nn.Module, target: Callable[..., Any], gate: CallGate) -> Callable[..., Any]:
    owner = type(module).__name__

    @wraps(target)  # pipelines and hooks look at a function's signature
    def call(*args: Any, **kwargs: Any) -> Any:
        return gate(target, owner, args, kwargs)

    return call
