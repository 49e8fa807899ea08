"""Machines that the doctor looks at: a good one, and a bad one on which everything is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from deployments.accelerator import Accelerator, NvidiaDriver
from deployments.doctor.facts.gpus import Gpu, GpuUser
from deployments.doctor.facts.machine import Machine, Memory, Torch, Volume
from deployments.doctor.facts.ports import Port

CARD = Gpu(0, "NVIDIA GeForce RTX 4090", (8, 9), 24 * 10**9, 23 * 10**9)

GOOD = Machine(
    python=(3, 11, 9),
    torch=Torch(
        version="2.13.0+cu130",
        platform="CUDA 13.0",
        architectures=("sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"),
        accelerator=Accelerator("cuda", CARD.name, CARD.total_bytes, CARD.capability),
    ),
    driver=NvidiaDriver("580.95.05", (CARD.name,)),
    gpus=(CARD,),
    memory=Memory(64 * 10**9, 50 * 10**9),
    shared_memory=Volume(Path("/dev/shm"), 32 * 10**9, 32 * 10**9),
    open_files=65536,
    hub_cache=Volume(Path("/home/ann/.cache/huggingface/hub"), 10**12, 4 * 10**11),
    data=Volume(Path("/srv/cyberimage"), 10**12, 4 * 10**11),
    ports=(Port(8000), Port(8265), Port(6379), Port(10001)),
)

BAD = Machine(
    python=(3, 10, 12),
    torch=replace(
        GOOD.torch,
        accelerator=None,
        why_unusable="The NVIDIA driver 535.183.01 is too old for torch 2.13.0+cu130 (CUDA 13.0), which needs driver "
        "580 or newer; update the driver, or install a build for it: "
        "pip install torch --index-url https://download.pytorch.org/whl/cu126.",
    ),
    driver=NvidiaDriver("535.183.01", ("Tesla V100-PCIE-16GB",)),
    gpus=(
        Gpu(0, "Tesla V100-PCIE-16GB", (7, 0), 17 * 10**9, 17 * 10**9),
        replace(CARD, index=1, free_bytes=4 * 10**9, users=(GpuUser(4711, "python3", 19 * 10**9),)),
    ),
    memory=Memory(8 * 10**9, 15 * 10**8),
    shared_memory=Volume(Path("/dev/shm"), 64 * 2**20, 64 * 2**20),
    open_files=1024,
    hub_cache=Volume(Path("/home/ann/.cache/huggingface/hub"), 5 * 10**10, 12 * 10**9),
    data=Volume(Path("/srv/cyberimage"), 5 * 10**10, 3 * 10**7),
    ports=(
        Port(8000, "nginx (process 812)"),
        Port(8265, "a process of another user"),
        Port(6379, "redis-server (process 640)"),
        Port(10001),
    ),
)
