"""On the engine's thread, too, a forward's memory is kept for the next one, and not given back to the system."""

import resource
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from deployments.engine.memory import keep_freed_memory

TENSOR_BYTES, TENSORS = 2 << 20, 40
ROUNDS = 10


def faults() -> int:
    """Page faults of this thread while it makes the tensors and gives them back, the newest first, again and again."""
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range(ROUNDS):
        held = [torch.ones(TENSOR_BYTES // 4) for _ in range(TENSORS)]
        while held:
            held.pop()
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the page faults of a thread")
def test_freed_memory_stays_with_the_process():
    keep_freed_memory()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(faults).result()
        assert thread.submit(faults).result() < TENSOR_BYTES // resource.getpagesize()
