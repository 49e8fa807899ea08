"""Skips most of a denoiser where a step would hardly differ from the one before; each image has its own cache.

Of a transformer, the first block always runs. Where what it adds has changed little since the last full step, the other
blocks are skipped and add what they added then (first-block cache, as in
https://github.com/chengzeyi/ParaAttention). Of a U-Net, the outermost level always runs, and the features of the inner
ones are those of the last full step (DeepCache, https://arxiv.org/abs/2312.00858).

Each image decides for itself and keeps its own memory, so that its steps do not depend on the other images. In a
forward that several images share, the inner blocks compute only the rows that need them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from diffusers.hooks._common import _SPATIAL_TRANSFORMER_BLOCK_IDENTIFIERS
from diffusers.hooks._helpers import TransformerBlockRegistry

from deployments.engine.gates import Forward, wrap_calls
from deployments.engine.trees import flatten, leaves_of, map_tensors, unflatten

_Form = tuple[torch.Size | None, ...]

# Tensors of these arguments belong to places of the picture, not to rows of the batch.
_SHARED_ARGUMENTS = frozenset({"image_rotary_emb", "rotary_emb", "freqs_cis", "temporal_rotary_emb"})


@dataclass
class CachedPass:
    """What one image keeps of its passes through a denoiser.

    Attributes:
        threshold: The relative change of the outermost block below which the inner ones are skipped.
        change: What the outermost block gave at the last full step.
        inner: What the inner blocks gave then.
        skipped: Steps without the inner blocks.
    """

    threshold: float
    change: torch.Tensor | None = None
    inner: list[torch.Tensor | None] = field(default_factory=list)
    skipped: int = 0

    def is_alike(self, change: torch.Tensor) -> torch.Tensor | None:
        """Compare a step with the last full one; call it once a step.

        Args:
            change: What the outermost block gave for the image's rows.

        Returns:
            Whether the inner blocks may be skipped, as a tensor on the device; None before the first full step.
        """
        if self.change is None:
            return None
        return (change - self.change).abs().mean() <= self.threshold * self.change.abs().mean()

    def note(self, change: torch.Tensor, *, skips: bool) -> None:
        """Record what was decided of a step."""
        if skips:
            self.skipped += 1
        else:
            self.change = change.clone()


class DenoiserPasses:
    """What one image keeps of all its passes through denoisers.

    Pipelines that call a denoiser several times a step, for the prompt and for its negative, do so in a fixed order:
    each place in the step has a memory of its own.

    Args:
        threshold: Of :class:`CachedPass`; with 0, all blocks run at every step.
    """

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self._kept: dict[tuple[torch.nn.Module, int], CachedPass] = {}
        self._step = 0
        self._calls_in_step = 0

    @property
    def skipped(self) -> int:
        """Passes in which the inner blocks were skipped."""
        return sum(kept.skipped for kept in self._kept.values())

    def next(self, denoiser: torch.nn.Module, step: int) -> CachedPass:
        """What is kept for the next call of a denoiser.

        Args:
            denoiser: That is called.
            step: Denoising steps that the image has done.
        """
        if step != self._step:
            self._step, self._calls_in_step = step, 0
        place = (denoiser, self._calls_in_step)
        self._calls_in_step += 1
        return self._kept.setdefault(place, CachedPass(self.threshold))


@dataclass(frozen=True)
class Passenger:
    """The rows of one image in a forward.

    Attributes:
        rows: How many they are.
        cached: What the image keeps; None for an image without a cache.
        is_padding: Whether the rows only fill up the forward.
    """

    rows: int
    cached: CachedPass | None = None
    is_padding: bool = False


class StepCache:
    """The cache of one denoiser. Without passengers its forwards are unchanged.

    Args:
        denoiser: A U-Net, or a transformer whose blocks diffusers knows; calls of its blocks are wrapped.

    Raises:
        ValueError: If it is neither.
    """

    def __init__(self, denoiser: torch.nn.Module) -> None:
        self._trip: _Trip | None = None
        self._forms: dict[tuple[torch.nn.Module, _Form], Any] = {}
        outermost, inner, self._adds = _find_blocks(denoiser)
        self._read_change = _change_reader(outermost, self._adds)
        wrap_calls(outermost, self._outermost)
        for block in inner:
            wrap_calls(block, partial(self._inner, block, is_last=block is inner[-1]))

    @contextmanager
    def carrying(self, passengers: Sequence[Passenger], *, fixed_width: bool) -> Iterator[None]:
        """Within this, forwards use and fill the caches of these passengers.

        Args:
            passengers: In the order of their rows.
            fixed_width: Compute all rows wherever one needs it, as the number of rows may show in the last bits.
        """
        self._trip = _Trip(list(passengers), fixed_width)
        try:
            yield
        finally:
            self._trip = None

    def _outermost(self, forward: Forward) -> Forward:
        def call(*args: Any, **kwargs: Any) -> Any:
            result = forward(*args, **kwargs)
            if self._trip is not None:
                self._trip.start(self._read_change(result, args, kwargs), result)
            return result

        call.__wrapped__ = forward  # type: ignore[attr-defined]
        return call

    def _inner(self, block: torch.nn.Module, forward: Forward, is_last: bool) -> Forward:
        def call(*args: Any, **kwargs: Any) -> Any:
            trip = self._trip
            if trip is None:
                return forward(*args, **kwargs)
            result = self._run_some(block, forward, trip, args, kwargs)
            return trip.end(result, adds=self._adds) if is_last else result

        call.__wrapped__ = forward  # type: ignore[attr-defined]
        return call

    def _run_some(self, block: torch.nn.Module, forward: Forward, trip: _Trip, args: Any, kwargs: Any) -> Any:
        if trip.nobody_computes:
            return map_tensors(lambda form: form.new_zeros((trip.rows, *form.shape[1:])), self._forms[block, trip.form])
        if trip.everybody_computes:
            result = forward(*args, **kwargs)
        else:
            shared = {name: value for name, value in kwargs.items() if name in _SHARED_ARGUMENTS}
            some_args, some_kwargs = map_tensors(lambda each: _select(each, trip.rows, trip.index), (args, kwargs))
            part = forward(*some_args, **(some_kwargs | shared))
            result = map_tensors(lambda each: _spread(each, trip.rows, trip.index), part)
        self._forms[block, trip.form] = map_tensors(lambda each: each[:0], result)
        return result


class _Trip:
    """One forward: who is in it, and which rows the inner blocks compute."""

    def __init__(self, passengers: list[Passenger], fixed_width: bool) -> None:
        self._passengers = passengers
        self._fixed_width = fixed_width
        self._computes: list[bool] = []
        self._start: list[Any] = []
        self.rows = sum(passenger.rows for passenger in passengers)
        self.index = torch.empty(0, dtype=torch.long)
        self.form: _Form = ()

    @property
    def nobody_computes(self) -> bool:
        return not any(self._computes)

    @property
    def everybody_computes(self) -> bool:
        return all(self._computes) or (self._fixed_width and not self.nobody_computes)

    def start(self, change: torch.Tensor, result: Any) -> None:
        """Decide for each image whether the inner blocks run."""
        parts = torch.split(change, [passenger.rows for passenger in self._passengers])
        skips = _skips(self._passengers, parts)
        self._computes = [not each.is_padding and not skip for each, skip in zip(self._passengers, skips, strict=True)]
        if not self.nobody_computes and not self.everybody_computes:
            self.index = self._computed_rows(change.device)
        self._start = leaves_of(result)
        self.form = tuple(leaf.shape[1:] if isinstance(leaf, torch.Tensor) else None for leaf in self._start)

    def _computed_rows(self, device: torch.device) -> torch.Tensor:
        rows, first = list[torch.Tensor](), 0
        for computes, passenger in zip(self._computes, self._passengers, strict=True):
            if computes:
                # Made on the device: a list of numbers would be copied there, and the copy waits for the device.
                rows.append(torch.arange(first, first + passenger.rows, device=device))
            first += passenger.rows
        return torch.cat(rows)

    def end(self, result: Any, *, adds: bool) -> Any:
        """Fill in the skipped rows from their last full step, and keep what the computed ones have now."""
        leaves, structure = flatten(map_tensors(torch.clone, result))
        start = self._start if adds else [None] * len(leaves)
        first = 0
        for computes, passenger in zip(self._computes, self._passengers, strict=True):
            rows = slice(first, first + passenger.rows)
            first += passenger.rows
            if passenger.cached is None:
                continue
            if computes:
                passenger.cached.inner = [_difference(*pair, rows) for pair in zip(leaves, start, strict=True)]
                continue
            for leaf, given, kept in zip(leaves, start, passenger.cached.inner, strict=True):
                if isinstance(leaf, torch.Tensor) and kept is not None:
                    leaf[rows] = kept if given is None else kept + given[rows]
        return unflatten(leaves, structure)


def _skips(passengers: Sequence[Passenger], changes: Sequence[torch.Tensor]) -> list[bool]:
    """Which images skip the inner blocks. The host must know before it goes on: it waits once, for all images."""
    cached = [(each.cached, change) for each, change in zip(passengers, changes, strict=True) if each.cached]
    alike = [kept.is_alike(change) for kept, change in cached]
    comparable = [each for each in alike if each is not None]
    answers = iter(torch.stack(comparable).tolist() if comparable else [])
    skips = {id(kept): each is not None and next(answers) for (kept, _), each in zip(cached, alike, strict=True)}
    for kept, change in cached:
        kept.note(change, skips=skips[id(kept)])
    return [each.cached is not None and skips[id(each.cached)] for each in passengers]


def _difference(leaf: Any, given: torch.Tensor | None, rows: slice) -> torch.Tensor | None:
    """What was added to some rows; the last block of some transformers gives nothing for the words."""
    if not isinstance(leaf, torch.Tensor):
        return None
    return leaf[rows].clone() if given is None else leaf[rows] - given[rows]


def _find_blocks(denoiser: torch.nn.Module) -> tuple[torch.nn.Module, list[torch.nn.Module], bool]:
    """The outermost block, the inner ones in their order, and whether these add to what they are given."""
    down, up = getattr(denoiser, "down_blocks", None), getattr(denoiser, "up_blocks", None)
    if isinstance(down, torch.nn.ModuleList) and isinstance(up, torch.nn.ModuleList) and len(up) > 1:
        middle = [block for block in [getattr(denoiser, "mid_block", None)] if block is not None]
        return down[0], [*down[1:], *middle, *up[:-1]], False
    lists = [getattr(denoiser, name, None) for name in _SPATIAL_TRANSFORMER_BLOCK_IDENTIFIERS]
    blocks = [block for found in lists if isinstance(found, torch.nn.ModuleList) for block in found]
    if len(blocks) < 2:
        raise ValueError(f"{type(denoiser).__name__} has no blocks that a step cache could skip.")
    return blocks[0], blocks[1:], True


def _change_reader(block: torch.nn.Module, adds: bool) -> Callable[[Any, Any, Any], torch.Tensor]:
    """What to compare between steps: what a transformer's block adds to its input, or what a U-Net's gives."""
    if not adds:
        return lambda result, args, kwargs: result[0]
    words = TransformerBlockRegistry.get(type(block))

    def read(result: Any, args: Any, kwargs: Any) -> torch.Tensor:
        given = words._get_parameter_from_args_kwargs(words.hidden_states_argument_name, args, kwargs)
        hidden = result if isinstance(result, torch.Tensor) else result[words.return_hidden_states_index]
        change: torch.Tensor = hidden - given
        return change

    return read


def _select(tensor: torch.Tensor, rows: int, index: torch.Tensor) -> torch.Tensor:
    return tensor[index] if tensor.ndim > 0 and tensor.shape[0] == rows else tensor


def _spread(part: torch.Tensor, rows: int, index: torch.Tensor) -> torch.Tensor:
    """Rows at their places, with zeros between them."""
    whole = part.new_zeros((rows, *part.shape[1:]))
    whole[index] = part
    return whole
