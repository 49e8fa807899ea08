"""NVIDIA's cards as their driver lists them, and who uses them."""

from __future__ import annotations

import csv
import shutil
import subprocess  # nosec B404 - it runs the driver's own nvidia-smi
from dataclasses import dataclass

from deployments.doctor.finding import gigabytes

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

    def __str__(self) -> str:
        used = f", {gigabytes(self.used_bytes)}" if self.used_bytes is not None else ""
        return f"{self.name} (process {self.process_id}{used})"

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
        capability: Its compute capability; None where the driver does not tell, as for the next two.
        total_bytes: Its memory.
        free_bytes: What nobody uses of it.
        users: Who computes on it.
    """

    index: int
    name: str
    capability: tuple[int, int] | None
    total_bytes: int | None
    free_bytes: int | None
    users: tuple[GpuUser, ...] = ()


def find_nvidia_gpus() -> tuple[Gpu, ...]:
    """Ask nvidia-smi for the cards; none where it is not there or does not work.

    What it prints is described by ``nvidia-smi --help-query-gpu`` and ``--help-query-compute-apps``.
    """
    users: dict[str, list[GpuUser]] = {}
    for uuid, process_id, name, used in _ask("compute-apps", _USER):
        if process_id.isdigit():
            users.setdefault(uuid, []).append(GpuUser(int(process_id), name.rpartition("/")[2], _bytes(used)))
    return tuple(
        Gpu(int(index), name, _capability(capability), _bytes(total), _bytes(free), tuple(users.get(uuid, ())))
        for uuid, index, name, capability, total, free in _ask("gpu", _CARD)
        if index.isdigit()
    )


def _capability(text: str) -> tuple[int, int] | None:
    major, _, minor = text.partition(".")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None


def _bytes(mebibytes: str) -> int | None:
    return int(mebibytes) * _MIB if mebibytes.isdigit() else None  # "[N/A]" on cards that share main memory


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
