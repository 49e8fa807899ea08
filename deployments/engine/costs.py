"""The seconds of forwards on a device, learned from those that run, and how many rows are worth joining."""

from __future__ import annotations

from collections import defaultdict, deque
from statistics import median_low

from deployments.engine.device_notes import DeviceNotes
from deployments.engine.grouping import Call

_WORTHWHILE = 0.9  # of the best rows per second: narrower batches let short jobs through sooner
_GAIN = 1.05  # in rows per second, for a width to be worth looking at the next
_GAINLESS_DOUBLINGS = 2  # one may be a disturbance by another process
RUNS = 3
"""Forwards of a width before it is said to gain nothing: the very first finds its kernels, one may be disturbed."""
_RECENT_RUNS = 7
_RETRY_AFTER = 256  # forwards of a name: then widths that seemed to gain nothing are tried again
_SECTION = "seconds"


def name_of(call: Call) -> str:
    """A name for all calls of the same module with rows of the same shapes; the same in every process."""
    return call.layout.name


class ForwardCosts:
    """Seconds of forwards, by the call's name and its number of rows.

    No forward runs only to be measured. The first one of a name is narrow; while more rows a second come out of it, and
    more rows wait, the next one has up to twice as many.

    Args:
        notes: Where what was learned is kept between starts; left out, nowhere.

    Attributes:
        notes: As given.
    """

    def __init__(self, notes: DeviceNotes | None = None) -> None:
        self.notes = notes or DeviceNotes()
        self._widths: defaultdict[str, _Widths] = defaultdict(_Widths)
        self._memory_caps: dict[str, int] = {}
        try:
            for name, costs in self.notes.section(_SECTION).items():
                for rows, seconds in costs.items():
                    for _ in range(RUNS):
                        self._widths[name].note(int(rows), float(seconds))
        except (ValueError, TypeError, AttributeError) as error:
            self._widths.clear()
            self.notes.drop(_SECTION, error)

    def cap(self, name: str, most_rows: int, waiting_rows: int) -> int:
        """The most rows that one forward should have.

        They are the fewest that come near the best rows per second; more where those that wait may be found to gain.

        Args:
            name: Of the call, see :func:`name_of`.
            most_rows: An upper limit.
            waiting_rows: Those of the calls that could share the forward.
        """
        return self._widths[name].cap(min(most_rows, self._memory_caps.get(name, most_rows)), waiting_rows)

    def note(self, name: str, rows: int, seconds: float) -> None:
        """Record how long a forward took."""
        widths = self._widths[name]
        widths.note(rows, seconds)
        if widths.has_just_learned(rows):
            self.notes.section(_SECTION)[name] = {str(width): widths.seen[width] for width in sorted(widths.seen)}
            self.notes.write()

    def expected(self, name: str, rows: int) -> float:
        """Seconds that a forward will take; 0 if nothing is known of it.

        For a number of rows that has not been seen they lie on the line through the nearest two that have.
        """
        return self._widths[name].expected(rows)

    def note_out_of_memory(self, name: str, rows: int) -> None:
        """Limit later forwards to half as many rows."""
        self._memory_caps[name] = max(1, rows // 2)


class _Widths:
    """What forwards of one name took.

    Attributes:
        seen: Seconds by rows.
    """

    def __init__(self) -> None:
        self.seen: dict[int, float] = {}
        self._runs: dict[int, deque[float]] = {}
        self._noted = 0
        # Both are asked for many times between two forwards.
        self._caps: dict[tuple[int, int], int] = {}
        self._expected: dict[int, float] = {}

    def note(self, rows: int, seconds: float) -> None:
        runs = self._runs.setdefault(rows, deque(maxlen=_RECENT_RUNS))
        runs.append(seconds)
        self.seen[rows] = median_low(runs)
        self._noted += 1
        self._caps.clear()
        self._expected.clear()
        if self._noted % _RETRY_AFTER == 0:
            self._forget_beyond(self.cap(max(self.seen), 0))

    def has_just_learned(self, rows: int) -> bool:
        return len(self._runs.get(rows, ())) == RUNS

    def cap(self, limit: int, waiting_rows: int) -> int:
        if (limit, waiting_rows) not in self._caps:
            self._caps[limit, waiting_rows] = self._find_cap(limit, waiting_rows)
        return self._caps[limit, waiting_rows]

    def expected(self, rows: int) -> float:
        if rows not in self._expected:
            self._expected[rows] = self.seen[rows] if rows in self.seen else self._estimate(rows)
        return self._expected[rows]

    def _find_cap(self, limit: int, waiting_rows: int) -> int:
        widest = max(self.seen, default=0)
        gainless, is_open = self._gains()
        if widest < min(limit, waiting_rows) and gainless < _GAINLESS_DOUBLINGS:
            return widest if is_open else min(limit, 2 * widest or 1)
        rates = {rows: rows / seconds for rows, seconds in self.seen.items() if rows <= limit}
        best = max(rates.values(), default=0.0)
        chosen = min((rows for rows, rate in rates.items() if rate >= _WORTHWHILE * best), default=limit)
        # Where width gains nothing, a narrow one may have been slow only the first time.
        unsure = [rows for rows in rates if rows < chosen and not self._is_sure(rows)]
        return min(unsure) if unsure and gainless == _GAINLESS_DOUBLINGS else chosen

    def _gains(self) -> tuple[int, bool]:
        """How many doublings gained nothing since the last that did, and whether that of the last is still open."""
        rates: defaultdict[int, float] = defaultdict(float)
        sure: defaultdict[int, bool] = defaultdict(bool)
        for rows, seconds in self.seen.items():
            doublings = rows.bit_length()
            rates[doublings] = max(rates[doublings], rows / seconds)
            sure[doublings] |= self._is_sure(rows)
        gainless, is_open, best = 0, False, 0.0
        for doublings in sorted(rates):
            has_gained = rates[doublings] >= _GAIN * best
            is_open = not has_gained and not sure[doublings]
            gainless = 0 if has_gained else gainless + sure[doublings]
            best = max(best, rates[doublings])
        return gainless, is_open

    def _is_sure(self, rows: int) -> bool:
        return len(self._runs[rows]) >= RUNS

    def _estimate(self, rows: int) -> float:
        one, *others = sorted(self.seen, key=lambda width: abs(width - rows)) or [0]
        if not others:
            return self.seen.get(one, 0.0)
        slope = (self.seen[others[0]] - self.seen[one]) / (others[0] - one)
        return max(0.0, self.seen[one] + slope * (rows - one))

    def _forget_beyond(self, cap: int) -> None:
        """Forget wider forwards: whatever disturbed them may be over."""
        for rows in [rows for rows in self.seen if rows > cap]:
            del self.seen[rows], self._runs[rows]
        self._caps.clear()
        self._expected.clear()
