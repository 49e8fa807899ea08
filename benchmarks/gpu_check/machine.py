"""What the machine is, and what it can do at most."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable

import diffusers
import torch
import transformers

from benchmarks.gpu_check.bench import Bench
from benchmarks.gpu_check.report import Section
from deployments.pipelines.loading import device_name

_ROUNDS = 10


def check_machine(bench: Bench) -> Section:
    """Name the device and the versions; measure a matrix product and a copy."""
    section = Section("The machine", ("what", "value"))
    section.rows = [
        ["device", device_name(bench.device)],
        ["python", platform.python_version()],
        ["torch", torch.__version__],
        ["diffusers", diffusers.__version__],
        ["transformers", transformers.__version__],
    ]
    if bench.is_cuda:
        free, total = torch.cuda.mem_get_info(bench.device)
        section.rows.append(["compute capability", ".".join(map(str, torch.cuda.get_device_capability(bench.device)))])
        section.rows.append(["memory, free of all (GB)", f"{free / 1e9:.1f} of {total / 1e9:.1f}"])
    side = 8192 if bench.is_accelerator else 1024
    dtype = torch.bfloat16 if bench.is_accelerator else torch.float32
    left, right = (torch.randn(side, side, dtype=dtype, device=bench.device) for _ in range(2))
    section.rows.append(["matrix product (TFLOP/s)", 2 * side**3 / _seconds(bench, lambda: left @ right) / 1e12])
    big = torch.randn(1 << 30 if bench.is_accelerator else 1 << 24, dtype=dtype, device=bench.device)
    section.rows.append(["copy, read and written (GB/s)", 2 * big.nbytes / _seconds(bench, big.clone) / 1e9])
    return section


def _seconds(bench: Bench, work: Callable[[], object]) -> float:
    for _ in range(3):
        work()
    bench.synchronize()
    started = time.perf_counter()
    for _ in range(_ROUNDS):
        work()
    bench.synchronize()
    return (time.perf_counter() - started) / _ROUNDS
