"""Where a CPU's tensors get their memory from."""

from __future__ import annotations

import ctypes

# Numbers of mallopt's parameters, and the highest threshold that it takes for the first:
# https://man7.org/linux/man-pages/man3/mallopt.3.html
_MMAP_THRESHOLD, _TRIM_THRESHOLD, _TOP_PAD = -3, -1, -2
_MOST_MMAP_THRESHOLD_BYTES = 32 << 20
_KEPT_BYTES = 1 << 30
# A thread's memory comes in pieces of twice the threshold. An empty one is given back unless it is to be spare.
_SPARE_BYTES = 2 * _MOST_MMAP_THRESHOLD_BYTES


def keep_freed_memory() -> None:
    """Have glibc keep the memory that a forward gives back, for the next one; elsewhere this does nothing.

    On threads but the first, glibc returns it to the system each time, which has to clear it before it lends it again:
    some 5,000 page faults in a forward of the built-in model at 384x384, and 3 % of its time.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _MOST_MMAP_THRESHOLD_BYTES)
        mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_TOP_PAD, _SPARE_BYTES)
