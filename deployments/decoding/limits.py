"""How much one picture may cost."""

from __future__ import annotations

from dataclasses import dataclass

# Where others keep the processors busy, a picture takes longer than its own time on them.
_WAITING_FACTOR, _LEAST_WAIT_SECONDS = 10, 30.0


@dataclass(frozen=True)
class Limits:
    """What a worker process may use for one picture.

    Attributes:
        max_pixels: Width times height of the largest picture.
        seconds: CPU time, for a picture of few pixels.
        seconds_per_pixel: CPU time in addition.
        bytes_of_process: Address space, for a picture of few pixels.
        bytes_per_pixel: Address space in addition, for the decoded picture in RGBA and its copies on the way to a file.
    """

    max_pixels: int
    seconds: float = 2.0
    seconds_per_pixel: float = 0.2e-6
    bytes_of_process: int = 2**29
    bytes_per_pixel: int = 4 * 8

    @property
    def memory_bytes(self) -> int:
        """Of address space."""
        return self.bytes_of_process + self.max_pixels * self.bytes_per_pixel

    @property
    def wait_seconds(self) -> float:
        """Until an answer is given up, whatever the worker does."""
        return max(_LEAST_WAIT_SECONDS, _WAITING_FACTOR * self.seconds_for(self.max_pixels))

    def seconds_for(self, pixels: int) -> float:
        """CPU time for a picture of width times height."""
        return self.seconds + pixels * self.seconds_per_pixel
