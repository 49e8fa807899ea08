"""On the engine's thread, too, a forward's memory is kept for the next one, and not given back to the system."""

import json
import subprocess
import sys

import pytest

ROUNDS = 10

# In a process of its own, since what other tests hold decides what an allocator can give back.
COUNT_FAULTS = f"""
import json, resource
from concurrent.futures import ThreadPoolExecutor
import torch
from deployments.engine.memory import keep_freed_memory

def faults(tensor_bytes):
    before = resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
    for _ in range({ROUNDS}):
        held = [torch.ones(tensor_bytes // 4) for _ in range((100 << 20) // tensor_bytes)]
        while held:
            held.pop()
    return resource.getrusage(resource.RUSAGE_THREAD).ru_minflt - before

torch.set_num_threads(1)
keep_freed_memory()
counted = {{}}
with ThreadPoolExecutor(1) as thread:
    for mebibytes in (1, 3, 11, 23):
        thread.submit(faults, mebibytes << 20).result()
        counted[mebibytes] = thread.submit(faults, mebibytes << 20).result()
print(json.dumps(counted))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the page faults of a thread")
def test_freed_memory_stays_with_the_process():
    printed = subprocess.run([sys.executable, "-c", COUNT_FAULTS], capture_output=True, text=True, check=True).stdout
    faults = json.loads(printed)
    assert all(count < ROUNDS for count in faults.values()), f"page faults by MiB of a tensor: {faults}"
