"""The facts of a machine."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants as hub_constants

from deployments.accelerator import Accelerator, NvidiaDriver, find_accelerator, find_nvidia_driver, why_unusable
from deployments.doctor.facts.gpus import Gpu, find_nvidia_gpus
from deployments.doctor.facts.ports import Port, look_at_ports

_MOST_OPEN_FILES_OF_RAY = 65536
_CGROUP_LIMITS = ("sys/fs/cgroup/memory.max", "sys/fs/cgroup/memory/memory.limit_in_bytes")
_CGROUP_USES = ("sys/fs/cgroup/memory.current", "sys/fs/cgroup/memory/memory.usage_in_bytes")


@dataclass(frozen=True)
class Torch:
    """The installed torch.

    Attributes:
        version: Such as ``2.13.0+cu130``.
        platform: What it is built for: ``CUDA 13.0``, ``ROCm 7.1``, ``XPU 20250301``, or ``the CPU``.
        architectures: Of the cards that it has code for, such as ``sm_90``; empty where it names none.
        accelerator: The GPU that it can use; None for none.
        why_unusable: Why it cannot use a GPU that is there, with the way out; empty where none is, or it can.
        failure: Why it cannot be imported; empty if it can.
    """

    version: str = ""
    platform: str = "the CPU"
    architectures: tuple[str, ...] = ()
    accelerator: Accelerator | None = None
    why_unusable: str = ""
    failure: str = ""


@dataclass(frozen=True)
class Memory:
    """Main memory in bytes, or what a container may have of it."""

    total: int
    available: int


@dataclass(frozen=True)
class Volume:
    """A file system, by a folder in it.

    Attributes:
        folder: It may not be there yet.
        total: Its size, in bytes.
        free: What this user may still write, in bytes.
        is_writable: Whether this user may write to the folder, or make it.
    """

    folder: Path
    total: int
    free: int
    is_writable: bool = True


@dataclass(frozen=True)
class Machine:
    """The facts of a machine.

    Attributes:
        python: The version of Python, such as ``(3, 11, 2)``.
        torch: The installed torch.
        driver: NVIDIA's; None where there is none.
        gpus: NVIDIA's cards, as the driver lists them.
        memory: Main memory.
        shared_memory: What Ray's object store is in; None where the system has no such folder.
        open_files: File descriptors that a process of Ray may have: Ray raises the soft limit as far as it may.
        hub_cache: Where models of the hub are kept.
        data: The data folder; None where the settings are not valid.
        ports: Those that the service or Ray wants.
    """

    python: tuple[int, int, int]
    torch: Torch
    driver: NvidiaDriver | None
    gpus: tuple[Gpu, ...]
    memory: Memory
    shared_memory: Volume | None
    open_files: int
    hub_cache: Volume
    data: Volume | None
    ports: tuple[Port, ...]


def look_at_machine(data_dir: Path | None, http_port: int) -> Machine:
    """Read the facts of this machine.

    Args:
        data_dir: The data folder; None where it is not known.
        http_port: Where the service shall listen.
    """
    driver = find_nvidia_driver()
    return Machine(
        python=sys.version_info[:3],
        torch=look_at_torch(),
        driver=driver,
        gpus=() if driver is None else find_nvidia_gpus(),
        memory=look_at_memory(),
        shared_memory=look_at_volume(Path("/dev/shm")) if Path("/dev/shm").is_dir() else None,  # noqa: S108 # nosec B108
        open_files=look_at_open_files(),
        hub_cache=look_at_volume(Path(hub_constants.HF_HUB_CACHE)),
        data=None if data_dir is None else look_at_volume(data_dir),
        ports=look_at_ports(http_port),
    )


def look_at_torch() -> Torch:
    """Import torch, and see what it can use; that takes some seconds."""
    try:
        import torch  # noqa: PLC0415 - it takes seconds
    except Exception as error:
        return Torch(failure=f"{type(error).__name__}: {error}")
    versions = {
        "CUDA": torch.version.cuda,
        "ROCm": torch.version.hip,
        "XPU": getattr(torch.version, "xpu", None),
    }
    built_for = next((f"{name} {version}" for name, version in versions.items() if version), "the CPU")
    return Torch(
        version=torch.__version__,
        platform=built_for,
        architectures=tuple(torch.cuda.get_arch_list()),
        accelerator=find_accelerator(),
        why_unusable=why_unusable() or "",
    )


def look_at_memory(root: Path = Path("/")) -> Memory:
    """Read how much main memory there is; in a container, what its control group allows.

    Args:
        root: Of the file system, for the control group's files.
    """
    import psutil  # noqa: PLC0415 - only the doctor needs it

    whole = psutil.virtual_memory()
    limit = _first_number(root, _CGROUP_LIMITS)
    if limit is None or limit >= whole.total:
        return Memory(whole.total, whole.available)
    return Memory(limit, min(whole.available, max(0, limit - (_first_number(root, _CGROUP_USES) or 0))))


def look_at_volume(folder: Path) -> Volume:
    """See how much room is where a folder is or will be."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    usage = shutil.disk_usage(there)
    return Volume(folder, usage.total, usage.free, os.access(there, os.W_OK))


def look_at_open_files() -> int:
    """The limit of file descriptors to which Ray raises its own processes' one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY in (soft, hard):
        return _MOST_OPEN_FILES_OF_RAY
    return max(soft, min(hard, _MOST_OPEN_FILES_OF_RAY))


def system_name() -> str:
    """The system in words, such as ``Linux x86_64``."""
    return f"{platform.system()} {platform.machine()}"


def _first_number(root: Path, files: tuple[str, ...]) -> int | None:
    for name in files:
        try:
            return int((root / name).read_text())
        except (OSError, ValueError):  # not there, or "max"
            continue
    return None
