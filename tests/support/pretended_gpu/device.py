"""What a pretended GPU knows of itself: its memory, its streams, and what the host has waited for."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple, NoReturn

import torch

from tests.support.pretended_gpu.places import place
from tests.support.pretended_gpu.streams import Clock, Event, Stream

_SHOWN_BYTES = 80 << 30  # of a GPU without a capacity


class Happening(NamedTuple):
    """Something that happened in a stream: ``copy H2D``, ``record``, ``wait``, ``synchronize``, ``empty_cache``...

    Attributes:
        what: One of these words.
        stream: The number of the stream; 0 is the default one.
        where: File and line of the first caller outside torch.
        live: Bytes that were in use.
    """

    what: str
    stream: int
    where: str
    live: int


class Fault(NamedTuple):
    """Something that raises on a real GPU, or reads what is not there yet; kept even if the exception is caught."""

    what: str
    where: str


class PretendedGpu:
    """A GPU as a test sees it.

    Args:
        capacity: Bytes; None for no limit.
        capability: Compute capability.
        name: Of the device.
        clock: Seconds, for the time between events.

    Attributes:
        live: Bytes in use.
        peak: The most that were.
        reserved: Bytes that the allocator keeps, which ``empty_cache`` makes as many as are in use.
        syncs: How often the host waited until a stream had nothing left to do, by kind and place. The kinds are the
            functions' names (``item``, ``nonzero``, ``synchronize``...) and, for copies that are not asynchronous,
            ``H2D`` (host to device) and ``D2H``.
        waits: How often the host waited for an event that had further work behind it, by kind and place.
        copies: Copies between host and device, by kind and place: ``H2D``, ``D2H``, ``async H2D``, ``async D2H``.
        faults: What would have gone wrong on a real GPU.
        events: What happened in the streams, in order.
        late_queries: How often an event answers that it is not reached before it is.
    """

    def __init__(
        self,
        capacity: int | None = None,
        *,
        capability: tuple[int, int] = (9, 0),
        name: str = "Pretended GPU",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.capacity = capacity
        self.capability = capability
        self.name = name
        self.clock = clock
        self.late_queries = 0
        self.live = self.peak = self.reserved = 0
        self.syncs: Counter[tuple[str, str]] = Counter()
        self.waits: Counter[tuple[str, str]] = Counter()
        self.copies: Counter[tuple[str, str]] = Counter()
        self.faults: list[Fault] = []
        self.events: list[Happening] = []
        self.host = Clock()
        self._stream_numbers = itertools.count()
        self.default_stream = Stream(self)
        self._fraction = 1.0
        self._lock = threading.RLock()
        self._threads = threading.local()

    @property
    def total(self) -> int:
        """Bytes that it says it has."""
        return self.capacity or _SHOWN_BYTES

    @property
    def free(self) -> int:
        """Bytes that neither tensors nor the allocator hold."""
        return max(0, self.total - self.reserved)

    @property
    def current_stream(self) -> Stream:
        """The stream that this thread's work goes into."""
        stream: Stream = getattr(self._threads, "stream", self.default_stream)
        return stream

    @current_stream.setter
    def current_stream(self, stream: Stream) -> None:
        self._threads.stream = stream

    def forget(self) -> None:
        """Count from here on: syncs, waits, copies, faults, events and the peak."""
        for record in (self.syncs, self.waits, self.copies, self.faults, self.events):
            record.clear()
        self.peak = self.live

    def cap(self, fraction: float) -> None:
        """Let this process have no more than a share of the memory."""
        self._fraction = fraction

    def take(self, nbytes: int) -> None:
        """Allocate.

        Raises:
            torch.OutOfMemoryError: If there is not so much left.
        """
        with self._lock:
            limit = None if self.capacity is None and self._fraction == 1 else int(self.total * self._fraction)
            if limit is not None and self.live + nbytes > limit:
                self.note("out of memory")
                raise torch.OutOfMemoryError(
                    f"CUDA out of memory. Tried to allocate {nbytes} bytes. GPU 0 has a total capacity of {self.total} "
                    f"bytes, of which this process may have {limit}; {self.live} are in use."
                )
            self.live += nbytes
            self.peak = max(self.peak, self.live)
            self.reserved = max(self.reserved, self.live)

    def give_back(self, nbytes: int) -> None:
        """Free what was allocated."""
        with self._lock:
            self.live -= nbytes

    def empty_cache(self) -> None:
        """Return what is not in use to the device."""
        self.note("empty_cache")
        self.reserved = self.live

    def note(self, what: str, stream: Stream | None = None) -> None:
        """Record what happens in a stream, the current one if none is given."""
        self.events.append(Happening(what, (stream or self.current_stream).stream_id, place(), self.live))

    def note_sync(self, kind: str) -> None:
        """Record that the host waits until the current stream has nothing left to do."""
        self.syncs[kind, place()] += 1
        self.host.learn(self.current_stream.clock)

    def note_copy(self, direction: str, *, is_async: bool = False) -> None:
        """Record a copy; one that is not asynchronous is a sync."""
        stream = self.current_stream
        stream.advance()
        self.copies[f"async {direction}" if is_async else direction, place()] += 1
        self.note(f"copy {direction}", stream)
        if not is_async:
            self.note_sync(direction)

    def fail(self, what: str, error: type[Exception] = RuntimeError) -> NoReturn:
        """Record and raise what a real GPU would raise."""
        self.faults.append(Fault(what, place()))
        raise error(what)

    def next_stream_number(self) -> int:
        """A number for a further stream."""
        return next(self._stream_numbers)

    def make_event(self, *args: object, **options: object) -> Event:
        """An event, whatever it is called with."""
        return Event(self)

    def make_stream(self, *args: object, **options: object) -> Stream:
        """A further stream, whatever it is called with."""
        return Stream(self)
