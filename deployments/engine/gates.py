"""Gates in front of the modules that all images of a model share, where no hook can take them away."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial, wraps
from typing import Any

import torch

Forward = Callable[..., Any]
CallGate = Callable[[Forward, str, tuple[Any, ...], dict[str, Any]], Any]


def gate_shared_modules(components: dict[str, Any], gate: CallGate) -> None:
    """Route every call of a pipeline's heavy modules through ``gate``.

    An autoencoder is called by its ``encode`` and ``decode``, most others as a function. All hooks of a module are
    behind its gate, and see the joined calls.

    Args:
        components: The pipeline's components by name.
        gate: Is given the function, the class name of its module, and the call's arguments; returns the result.
    """
    for component in _distinct_modules(components.values()):
        wrap_calls(component, partial(_gated, component, gate))
        for name in ("encode", "decode"):
            if callable(getattr(component, name, None)):
                setattr(component, name, _gated(component, gate, getattr(component, name)))


def wrap_calls(module: torch.nn.Module, wrap: Callable[[Forward], Forward]) -> None:
    """Put a function around what a call of a module runs: its hooks, and the forward that it has then.

    The attribute ``forward`` is no place for it: hooks of diffusers and accelerate replace that when they come, and put
    back what they found when they go; with streams, group offloading does so in the midst of the first forward.

    Args:
        module: Called as a function.
        wrap: Is given what a call runs, with the name and signature of ``forward``; returns what is to be run.
    """
    run: Forward = module._compiled_call_impl or module._call_impl

    @wraps(module.forward)
    def call(*args: Any, **kwargs: Any) -> Any:
        return run(*args, **kwargs)

    module._compiled_call_impl = wrap(call)


def _distinct_modules(components: Iterable[Any]) -> list[torch.nn.Module]:
    """Some pipelines know one module by two names; some hold a list of them."""
    flat = (item for component in components for item in (component if isinstance(component, list) else [component]))
    return list({id(item): item for item in flat if isinstance(item, torch.nn.Module)}.values())


def _gated(module: torch.nn.Module, gate: CallGate, target: Forward) -> Forward:
    owner = type(module).__name__

    @wraps(target)  # pipelines and hooks look at a function's signature
    def call(*args: Any, **kwargs: Any) -> Any:
        return gate(target, owner, args, kwargs)

    return call
