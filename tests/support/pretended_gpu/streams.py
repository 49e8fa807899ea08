"""Streams and events that know what is done before what.

Nothing runs beside anything else here. Order is kept by vector clocks: a stream's clock says how far the other streams
were when it last waited for them, so that work that relies on a wait that nobody made is found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.pretended_gpu.places import GPU, place

if TYPE_CHECKING:
    from tests.support.pretended_gpu.device import PretendedGpu


class Clock:
    """How far streams have come, by their numbers."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}

    def __getitem__(self, stream: int) -> int:
        return self._seen.get(stream, 0)

    def learn(self, other: Clock) -> None:
        """Whatever the other one knows, this one knows too."""
        for stream, position in list(other._seen.items()):
            self._seen[stream] = max(self[stream], position)

    def tick(self, stream: int) -> None:
        """One more piece of work in a stream."""
        self._seen[stream] = self[stream] + 1

    def copy(self) -> Clock:
        """As it is now."""
        copy = Clock()
        copy.learn(self)
        return copy


class Stream:
    """Stands in for ``torch.cuda.Stream`` and ``torch.Stream``."""

    def __init__(self, gpu: PretendedGpu) -> None:
        self.device = GPU
        self.device_index = 0
        self.clock = Clock()
        self.stream_id = self.cuda_stream = gpu.next_stream_number()
        self._gpu = gpu
        self._before: list[Stream] = []

    def __enter__(self) -> Stream:
        self._before.append(self._gpu.current_stream)
        self._gpu.current_stream = self
        return self

    def __exit__(self, *exception: object) -> None:
        self._gpu.current_stream = self._before.pop()

    @property
    def position(self) -> int:
        """How much work was put into it."""
        return self.clock[self.stream_id]

    def advance(self) -> int:
        """Put a piece of work into it; return its position."""
        self.clock.tick(self.stream_id)
        return self.position

    def has_seen(self, stream: int, position: int) -> bool:
        """Whether work of another stream is done before what is put into this one now."""
        return max(self.clock[stream], self._gpu.host[stream]) >= position

    def synchronize(self) -> None:
        """Let the host wait for all of it."""
        self._gpu.note("synchronize", self)
        with self:
            self._gpu.note_sync("stream.synchronize")

    def query(self) -> bool:
        """All of it is done."""
        self._gpu.host.learn(self.clock)
        return True

    def wait_stream(self, other: Stream) -> None:
        """Begin what comes next after all that is in the other one."""
        self._gpu.note("wait", self)
        self.clock.learn(other.clock)

    def wait_event(self, event: Event) -> None:
        """Begin what comes next after the event."""
        event.wait(self)

    def record_event(self, event: Event | None = None) -> Event:
        """Put an event into it."""
        event = event or Event(self._gpu)
        event.record(self)
        return event


class Event:
    """Stands in for ``torch.cuda.Event`` and ``torch.Event``."""

    def __init__(self, gpu: PretendedGpu) -> None:
        self._gpu = gpu
        self._stream: Stream | None = None
        self._clock = Clock()
        self._seconds = 0.0
        self._queries_left = 0

    def record(self, stream: Stream | None = None) -> None:
        """Put it into a stream, the current one if none is given."""
        self._stream = stream or self._gpu.current_stream
        self._stream.advance()
        self._clock = self._stream.clock.copy()
        self._seconds = self._gpu.clock()
        self._queries_left = self._gpu.late_queries
        self._gpu.note("record", self._stream)

    def wait(self, stream: Stream | None = None) -> None:
        """Let a stream begin what comes next after it."""
        stream = stream or self._gpu.current_stream
        stream.clock.learn(self._clock)
        self._gpu.note("wait", stream)

    def query(self) -> bool:
        """Whether it is reached."""
        if self._queries_left > 0 and not self._is_known():
            self._queries_left -= 1
            return False
        self._gpu.host.learn(self._clock)
        return True

    def synchronize(self) -> None:
        """Let the host wait for it; a sync if nothing was put into its stream since."""
        if self._stream is None or self._is_known():
            return
        is_last = self._stream.position == self._clock[self._stream.stream_id]
        kept = self._gpu.syncs if is_last else self._gpu.waits
        kept["event.synchronize", place()] += 1
        self._gpu.note("synchronize", self._stream)
        self._gpu.host.learn(self._clock)

    def elapsed_time(self, end: Event) -> float:
        """Milliseconds from this event to another one.

        Raises:
            RuntimeError: If one of them was not recorded, or is not known to be reached.
        """
        if self._stream is None or end._stream is None:
            self._gpu.fail("Both events must be recorded before calculating elapsed time.")
        if not (self._is_known() and end._is_known()):
            self._gpu.fail("Both events must be completed before calculating elapsed time.")
        return (end._seconds - self._seconds) * 1e3

    def _is_known(self) -> bool:
        """Whether the host knows that it is reached."""
        stream: Any = self._stream
        return stream is not None and self._gpu.host[stream.stream_id] >= self._clock[stream.stream_id]
