"""NVIDIA's cards as their driver lists them, and who uses them."""

from __future__ import annotations

import csv
import shutil
import subprocess  # nosec B404 - it runs the driver's own nvidia-smi
from collections.abc import Sequence
from dataclasses import dataclass

_CARD = "uuid,index,name,compute_cap,memory.total,memory.free"
_USER = "gpu_uuid,pid,process_name,used_memory"
_SECONDS = 10
_MIB = 2**20


@dataclass(frozen=True)
class GpuUser:
    """A process that computes on a card; ``used_bytes`` is None where the driver does not tell."""

    process_id: int
    name: str
    used_bytes: int | None

    @property
    def is_rays(self) -> bool:
        """Whether it is one of Ray's, such as a replica of a model."""
        return self.name.startswith("ray::")


@dataclass(frozen=True)
class Gpu:
    """A card.

    Attributes:
        index: Its number with the driver.
        name: Such as ``NVIDIA H100 80GB HBM3``.
        capability: Its compute capability.
        total_bytes: Its memory.
        free_bytes: What nobody uses of it.
        users: Who computes on it.
    """

    index: int
    name: str
    capability: tuple[int, int]
    total_bytes: int
    free_bytes: int
    users: tuple[GpuUser, ...] = ()


def find_nvidia_gpus() -> tuple[Gpu, ...]:
    """Ask nvidia-smi for the cards; none where it is not there or does not work.

    What it prints is described by ``nvidia-smi --help-query-gpu`` and ``--help-query-compute-apps``.
    """
    users: dict[str, list[GpuUser]] = {}
    for uuid, process_id, name, used in _ask("compute-apps", _USER):
        user = GpuUser(int(process_id), name.rpartition("/")[2], int(used) * _MIB if used.isdigit() else None)
        users.setdefault(uuid, []).append(user)
    return tuple(_gpu(card, users.get(card[0], ())) for card in _ask("gpu", _CARD) if card[4].isdigit())


def _gpu(card: Sequence[str], users: Sequence[GpuUser]) -> Gpu:
    _, index, name, capability, total, free = card
    major, _, minor = capability.partition(".")
    return Gpu(int(index), name, (int(major), int(minor)), int(total) * _MIB, int(free) * _MIB, tuple(users))


def _ask(subject: str, fields: str) -> list[list[str]]:
    """The rows that nvidia-smi has of a subject; those of another form, such as errors, are left out."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-{subject}={fields}", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=True)  # noqa: S603 # nosec B603
    except (OSError, subprocess.SubprocessError):
        return []
    rows = csv.reader(answer.stdout.splitlines(), skipinitialspace=True)
    return [row for row in rows if len(row) == fields.count(",") + 1]
