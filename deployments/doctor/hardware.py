"""Checks of the machine itself: what it has, and whether the service can use it."""

from __future__ import annotations

from collections.abc import Iterator

from deployments.accelerator import runs_on
from deployments.doctor.facts.gpus import Gpu
from deployments.doctor.facts.machine import Machine, Volume, system_name
from deployments.doctor.finding import Finding, Level, gigabytes

LEAST_PYTHON = (3, 11)
LEAST_MEMORY = 4 * 10**9
"""Ray, the service's own processes and the built-in model take about half of it."""
LEAST_SHARED_MEMORY = 10**9
LEAST_OPEN_FILES = 4096
"""Below it Ray itself warns; it raises its limit to 65536 where it may."""
LEAST_FREE = 10**9
"""Free space below which a disk is as good as full."""
LITTLE_FREE = 5 * 10**9
MOST_USED_BY_OTHERS = 0.2
"""Share of a GPU's memory that a desktop may take."""


def check_python(machine: Machine) -> Iterator[Finding]:
    """Whether Python is new enough."""
    version = ".".join(map(str, machine.python))
    if machine.python < LEAST_PYTHON:
        sentence = f"{version} is too old; {'.'.join(map(str, LEAST_PYTHON))} or newer is needed."
        yield Finding("Python", Level.PROBLEM, sentence, "make clean && make run PYTHON=python3.12")
    else:
        yield Finding("Python", Level.OK, f"{version} on {system_name()}.")


def check_torch(machine: Machine) -> Iterator[Finding]:
    """Whether torch can be imported, and uses the GPU that is there."""
    torch = machine.torch
    if torch.failure:
        sentence = f"It cannot be imported: {torch.failure}"
        yield Finding("torch", Level.PROBLEM, sentence, "pip install --force-reinstall torch -c constraints.txt")
        return
    build = f"{torch.version}, built for {torch.platform},"
    if torch.why_unusable:
        yield Finding("torch", Level.PROBLEM, torch.why_unusable)
    elif torch.accelerator is not None:
        yield Finding("torch", Level.OK, f"{build} uses the {torch.accelerator.name}.")
    else:
        yield Finding("torch", Level.OK, f"{build} uses the CPU; no GPU was found.")


def check_gpus(machine: Machine) -> Iterator[Finding]:
    """Each card: whether torch has code for it, and how much of its memory is free."""
    for gpu in machine.gpus:
        yield _check_gpu(gpu, machine)


def check_memory(machine: Machine) -> Iterator[Finding]:
    """Whether there is enough main memory for the service without a model of the hub."""
    memory = machine.memory
    sentence = f"{gigabytes(memory.available)} of {gigabytes(memory.total)} are available"
    if min(memory.total, memory.available) < LEAST_MEMORY:
        yield Finding(
            "main memory",
            Level.WARNING,
            f"{sentence}; with less than {gigabytes(LEAST_MEMORY)} processes may be killed.",
            "stop other programs, or give the container more memory (docker run --memory)",
        )
    else:
        yield Finding("main memory", Level.OK, f"{sentence}.")


def check_shared_memory(machine: Machine) -> Iterator[Finding]:
    """Whether Ray's object store has room in memory; containers have 64 MB unless they are started with more."""
    volume = machine.shared_memory
    if volume is None:
        yield Finding("shared memory", Level.OK, "This system has no /dev/shm; Ray does without.")
        return
    sentence = f"{gigabytes(volume.free)} of {gigabytes(volume.total)} in {volume.folder} are free"
    if volume.free >= LEAST_SHARED_MEMORY:
        yield Finding("shared memory", Level.OK, f"{sentence}.")
    elif volume.total < LEAST_SHARED_MEMORY:
        sentence += "; Ray's object store goes to the disk, which is slow."
        remedy = f"docker run --shm-size 1g, or: mount -o remount,size=2g {volume.folder}"
        yield Finding("shared memory", Level.WARNING, sentence, remedy)
    else:
        sentence += "; Ray's object store goes to the disk, which is slow."
        yield Finding("shared memory", Level.WARNING, sentence, f"remove what others left in {volume.folder}")


def check_open_files(machine: Machine) -> Iterator[Finding]:
    """Whether Ray's processes may have enough file descriptors: each request, stream and worker takes some."""
    if machine.open_files < LEAST_OPEN_FILES:
        sentence = f"A process may open {machine.open_files}; connections fail above that, and Ray wants 65536."
        yield Finding("open files", Level.WARNING, sentence, "ulimit -n 65536")
    else:
        yield Finding("open files", Level.OK, f"A process may open {machine.open_files}.")


def check_data_disk(machine: Machine) -> Iterator[Finding]:
    """Whether the disk of the data folder has room."""
    if machine.data is not None:
        yield check_volume("disk of the data", machine.data, "CYBERIMAGE_DATA_DIR=/path/on/another/disk make run")


def check_volume(check: str, volume: Volume, elsewhere: str) -> Finding:
    """Whether a disk has room.

    Args:
        check: The check's name.
        volume: The disk.
        elsewhere: The command that takes another one.
    """
    if not volume.is_writable:
        return Finding(check, Level.PROBLEM, f"{volume.folder} cannot be written by this user.", elsewhere)
    sentence = f"{gigabytes(volume.free)} of {gigabytes(volume.total)} at {volume.folder} are free."
    if volume.free < LEAST_FREE:
        return Finding(check, Level.PROBLEM, sentence, f"free some, or: {elsewhere}")
    if volume.free < LITTLE_FREE:
        return Finding(check, Level.WARNING, sentence, f"free some, or: {elsewhere}")
    return Finding(check, Level.OK, sentence)


def _check_gpu(gpu: Gpu, machine: Machine) -> Finding:
    check = f"GPU {gpu.index}"
    words = [gpu.name]
    if gpu.capability is not None:
        words.append(f"capability {'.'.join(map(str, gpu.capability))}")
    if machine.driver is not None and machine.driver.version:
        words.append(f"driver {machine.driver.version}")
    sentence = ", ".join(words)
    torch = machine.torch
    if gpu.capability is not None and torch.architectures and not runs_on(gpu.capability, torch.architectures):
        sentence += f": torch {torch.version} has code for {', '.join(torch.architectures)} only."
        remedy = "see https://pytorch.org/get-started/locally for a build that has it, or hide it: CUDA_VISIBLE_DEVICES"
        return Finding(check, Level.PROBLEM, sentence, remedy)
    if gpu.total_bytes is None or gpu.free_bytes is None:
        return Finding(check, Level.OK, f"{sentence}; the driver does not tell its memory.")
    sentence += f": {gigabytes(gpu.free_bytes)} of {gigabytes(gpu.total_bytes)} are free"
    others = [user for user in gpu.users if not user.is_rays]
    used = gpu.total_bytes - gpu.free_bytes
    if used > MOST_USED_BY_OTHERS * gpu.total_bytes and (others or not gpu.users):
        who = ", ".join(map(str, others)) or "processes that the driver does not name"
        remedy = "stop what is not needed; nvidia-smi shows it"
        return Finding(check, Level.WARNING, f"{sentence}; in use by {who}.", remedy)
    return Finding(check, Level.OK, f"{sentence}.")
