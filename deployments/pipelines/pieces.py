"""The tensors of a pipeline in few pieces of main memory, each of which goes to a device as one copy."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch

from deployments.pipelines.exceptions import one_line

logger = logging.getLogger(__name__)

# As torch itself aligns tensors on a GPU. Kernels choose by it how many bytes they read at once, and the sum's order.
_ALIGNMENT = 512


@dataclass(frozen=True)
class Piece:
    """Memory that is copied as a whole, and the tensors in it.

    Attributes:
        here: In main memory; never changed.
        tensors: Those of the pipeline whose values it has, each with its place; None: all of it.
    """

    here: torch.Tensor
    tensors: tuple[tuple[torch.Tensor, _Place | None], ...]

    def point_to(self, memory: torch.Tensor) -> None:
        """Have the tensors use a piece of memory.

        Args:
            memory: Like ``here``, on any device.
        """
        for tensor, place in self.tensors:
            tensor.data = memory if place is None else place.of(memory)


@dataclass(frozen=True)
class _Place:
    """Where a tensor is in a piece, in bytes, and its form."""

    start: int
    end: int
    dtype: torch.dtype
    size: torch.Size
    stride: tuple[int, ...]

    def of(self, memory: torch.Tensor) -> torch.Tensor:
        """The tensor there."""
        return memory[self.start : self.end].view(self.dtype).as_strided(self.size, self.stride)


class PieceMaker:
    """Moves tensors into pieces, one piece after another, so that main memory holds little twice.

    Args:
        piece_bytes: Most bytes of a piece; a larger tensor has one of its own.
        is_pinned: Whether to take memory that the system does not move, from which a device copies by itself. Where
            there is no more of it, the rest takes other memory.
    """

    def __init__(self, piece_bytes: int, *, is_pinned: bool) -> None:
        self._piece_bytes = piece_bytes
        self._is_pinned = is_pinned

    def pieces_of(self, tensors: Iterable[torch.Tensor], *, joined: bool) -> list[Piece]:
        """Move tensors into pieces.

        Args:
            tensors: In main memory; those that share their values share them in a piece too.
            joined: Whether a piece may hold several. Tensors that are replaced on the device, one by one, are better
                off alone: memory that several share is free when all of them are.
        """
        shared: dict[object, list[torch.Tensor]] = {}
        for tensor in tensors:
            shared.setdefault(_memory_of(tensor), []).append(tensor)
        dense = [same for same in shared.values() if _is_dense(same[0])]
        loose = [same for same in shared.values() if not _is_dense(same[0])]
        pieces = [Piece(same[0].data, tuple((each, None) for each in same)) for same in loose]
        for group in _packed(dense, self._piece_bytes):
            pieces += self._fill(group, joined=joined)
        return pieces

    def _fill(self, group: list[list[torch.Tensor]], *, joined: bool) -> Iterator[Piece]:
        memory = self._take(sum(_room_of(same[0]) for same in group))
        start = 0
        members: list[tuple[torch.Tensor, _Place | None]] = []
        for same in group:
            values = same[0].data.as_subclass(torch.Tensor)
            place = _Place(start, start + values.nbytes, values.dtype, values.size(), values.stride())
            start += _room_of(values)
            part = place.of(memory)
            part.copy_(values)
            for tensor in same:
                tensor.data = part
            if joined:
                members += [(tensor, place) for tensor in same]
            else:
                yield Piece(part, tuple((tensor, None) for tensor in same))
        if joined:
            yield Piece(memory, tuple(members))

    def _take(self, size: int) -> torch.Tensor:
        if self._is_pinned:
            try:
                return torch.empty(size, dtype=torch.uint8, pin_memory=True)
            except RuntimeError as error:
                self._is_pinned = False
                logger.warning("Parked weights stay in memory that is not pinned, and move slower: %s", one_line(error))
        return torch.empty(size, dtype=torch.uint8)


def _memory_of(tensor: torch.Tensor) -> object:
    """Equal for tensors that are the same memory in the same form."""
    return tensor.untyped_storage().data_ptr(), tensor.storage_offset(), tensor.dtype, tensor.size(), tensor.stride()


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether it has as many values in memory as it shows, in any order."""
    sizes = [(stride, size) for stride, size in zip(tensor.stride(), tensor.size(), strict=True) if size != 1]
    expected = 1
    for stride, size in sorted(sizes):
        if stride != expected:
            return False
        expected *= size
    return tensor.numel() > 0


def _room_of(tensor: torch.Tensor) -> int:
    return -(-tensor.nbytes // _ALIGNMENT) * _ALIGNMENT


def _packed(groups: list[list[torch.Tensor]], piece_bytes: int) -> list[list[list[torch.Tensor]]]:
    """In as few pieces as is easily found: the largest first, each into the first piece that has room."""
    pieces: list[list[list[torch.Tensor]]] = []
    room: list[int] = []
    for group in sorted(groups, key=lambda same: _room_of(same[0]), reverse=True):
        needed = _room_of(group[0])
        index = next((index for index, left in enumerate(room) if left >= needed), len(pieces))
        if index == len(pieces):
            pieces.append([])
            room.append(max(piece_bytes, needed))
        pieces[index].append(group)
        room[index] -= needed
    return pieces
