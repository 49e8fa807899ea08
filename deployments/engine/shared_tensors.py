"""Tensors that all rows of a forward share: two calls may run as one where theirs have the same content.

The content is compared by digests. That of a tensor on a device is computed there and read when it has arrived, so
that no comparison waits for the device; until then the tensor counts as different from all others.
"""

from __future__ import annotations

import hashlib
import weakref
from dataclasses import dataclass

import torch

from deployments.engine.readbacks import Readback

_LARGEST_COMPARED_BYTES = 1 << 26
_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.int64}
# Odd multipliers of SplitMix64 (Steele, Lea, Flood 2014, https://doi.org/10.1145/2714064.2660195), as signed numbers.
_MULTIPLIERS = (-0x61C8864680B583EB, -0x40A7B892E31B1A47, -0x6B2FB644ECCEEE15)


class Content:
    """What a shared tensor contains at the time of a call. Equal contents compare as equal once both are known.

    Args:
        tensor: Shared by all rows.
    """

    def __init__(self, tensor: torch.Tensor) -> None:
        self._tensor: weakref.ref[torch.Tensor] = weakref.ref(tensor)
        self._digest: bytes | Readback | None = None

    @property
    def is_asked_for(self) -> bool:
        """Whether it was compared with another one."""
        return self._digest is not None

    def known(self, *, wait: bool = False) -> bytes | None:
        """The digest; None as long as it is on its way, and for a tensor that is gone or too large to compare.

        Args:
            wait: Whether to wait for the device.
        """
        if self._digest is None:
            tensor = self._tensor()
            if tensor is None or tensor.nbytes > _LARGEST_COMPARED_BYTES:
                return None
            self._digest = _host_digest(tensor) if tensor.device.type == "cpu" else Readback(_device_digest(tensor))
        if isinstance(self._digest, Readback):
            if not wait and not self._digest.is_ready:
                return None
            self._digest = self._digest.value().numpy().tobytes()
        return self._digest

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Content):
            return NotImplemented
        mine, theirs = self.known(), other.known()  # both, so that both are on their way
        return mine is not None and mine == theirs

    def __hash__(self) -> int:
        return hash(Content)


@dataclass
class _Sighting:
    tensor: weakref.ref[torch.Tensor]
    place: tuple[int, int]
    content: Content
    before: Content | None = None
    is_constant: bool = False
    changes: bool = False


class SharedTensors:
    """Remembers the contents of tensors, as an image passes the same ones at each of its steps.

    Inference mode tracks no changes in place. So a content that was compared is read once more when the same tensor
    comes again; where it has changed by then, it is read at every call from there on.
    """

    def __init__(self) -> None:
        self._sightings: dict[int, _Sighting] = {}

    def content_of(self, tensor: torch.Tensor) -> Content:
        """The content of a tensor, as it is now.

        Args:
            tensor: An argument of a call.
        """
        known, place = self._sightings.get(id(tensor)), (tensor.data_ptr(), _version(tensor))
        if known is None or known.tensor() is not tensor or known.place != place:
            known = self._sightings[id(tensor)] = _Sighting(self._watched(tensor), place, Content(tensor))
            return known.content
        if known.is_constant or not known.content.is_asked_for:
            return known.content
        if known.before is not None and not known.changes:
            if known.content.known() is None:
                return known.content
            known.is_constant = known.before == known.content
            known.changes = not known.is_constant
        if not known.is_constant:
            known.before, known.content = known.content, Content(tensor)
        return known.content

    def _watched(self, tensor: torch.Tensor) -> weakref.ref[torch.Tensor]:
        key = id(tensor)
        return weakref.ref(tensor, lambda _: self._sightings.pop(key, None))


def _version(tensor: torch.Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version


def _host_digest(tensor: torch.Tensor) -> bytes:
    content = tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    return hashlib.blake2b(content.data, digest_size=16).digest()


def _device_digest(tensor: torch.Tensor) -> torch.Tensor:
    """128 bits of a tensor, computed where it is: two sums of its numbers, each times a random factor of its place."""
    numbers = tensor.detach().contiguous().reshape(-1).view(_INTEGERS[tensor.element_size()]).to(torch.int64)
    places = torch.arange(1, len(numbers) + 1, device=tensor.device)
    return torch.stack([(numbers * _mixed(places * _MULTIPLIERS[0] + seed)).sum() for seed in (0, 1 << 62)])


def _mixed(bits: torch.Tensor) -> torch.Tensor:
    for multiplier, shift in zip(_MULTIPLIERS[1:], (30, 27), strict=True):
        bits = (bits ^ (bits >> shift)) * multiplier
    return bits ^ (bits >> 31)
