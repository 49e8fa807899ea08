"""Teaches a U-Net where in the picture each of its cells is. Used in training only."""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.transformers.transformer_2d import Transformer2DModel

_WEIGHT = 0.05
_AMPLITUDE = 3.0
_DIRECTIONS = 4


class PlaceProbes(torch.nn.Module):
    """Unit vectors along which the input of every attention block must tell a cell's coordinates.

    A U-Net has no positional embedding. Convolutions can learn the place of a cell from the padding at the borders, but
    words such as *left* move as much paint to one side as they take from the other: as long as places are unknown,
    their gradients should about cancel out. The probes are there to break that symmetry. They leave with the end of the
    training; the U-Net stays a stock one.

    Args:
        unet: Its attention blocks are watched.
    """

    def __init__(self, unet: torch.nn.Module) -> None:
        super().__init__()
        blocks = [block for block in unet.modules() if isinstance(block, Transformer2DModel)]
        self.directions = torch.nn.ParameterList(
            torch.nn.Parameter(torch.randn(_DIRECTIONS, block.config.in_channels)) for block in blocks
        )
        self._seen: dict[int, torch.Tensor] = {}
        for index, block in enumerate(blocks):
            block.register_forward_pre_hook(self._watcher(index))

    def _watcher(self, index: int) -> Any:
        def watch(_: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
            if self.training:
                self._seen[index] = args[0]

        return watch

    def loss(self) -> torch.Tensor:
        """The mean squared error of the coordinates read in the last forward, weighted; a scalar."""
        errors = []
        for index, hidden in self._seen.items():
            unit = torch.nn.functional.normalize(self.directions[index], dim=1)
            read = torch.einsum("bchw,dc->bdhw", hidden, unit)
            errors.append(((read - _coordinates(hidden.shape[-1])) ** 2).mean())
        self._seen.clear()
        return _WEIGHT * torch.stack(errors).mean()


def _coordinates(side: int) -> torch.Tensor:
    """Across, down, and how far from the middle on either axis: of shape (1, 4, side, side)."""
    line = torch.linspace(-1, 1, side)
    down, across = torch.meshgrid(line, line, indexing="ij")
    return _AMPLITUDE * torch.stack((across, down, 2 * across.abs() - 1, 2 * down.abs() - 1))[None]
