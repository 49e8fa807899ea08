"""Which model of a pool comes in and which leaves, by a clock that the tests move."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from deployments.pools.residency import Move, MoveKind, Place, Residency, Ticket

SIZE = 10
RESIDENCY_SECONDS = 30.0


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Desk:
    """Carries out at once what the residency decides, and checks that it may be."""

    def __init__(
        self,
        sizes: dict[str, int],
        memory: int | None = SIZE,
        parked_memory: int | None = None,
        residency_seconds: float = RESIDENCY_SECONDS,
    ) -> None:
        self.clock = Clock()
        self.sizes = sizes
        self.residency = Residency(sizes, memory, parked_memory, residency_seconds, self.clock)
        self.moves: list[tuple[str, str]] = []
        self.at_work: Counter[str] = Counter()
        self.admitted: list[Ticket] = []

    def job(self, model_id: str) -> Ticket:
        """A job arrives."""
        ticket = self.residency.wait_for(model_id)
        self.settle()
        return ticket

    def end(self, model_id: str) -> None:
        """A job at work ends."""
        self.at_work[model_id] -= 1
        self.residency.leave(model_id)
        self.settle()

    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        self.settle()

    def settle(self) -> None:
        self.admit()
        while move := self.residency.next_move():
            assert self.residency.next_move() is None  # one at a time
            self.admit()
            self.make(move)
            self.admit()

    def admit(self) -> None:
        for ticket in self.residency.admit():
            self.at_work[ticket.model_id] += 1
            self.admitted.append(ticket)

    def make(self, move: Move) -> None:
        if move.kind is MoveKind.LOAD:
            assert not self.at_work.total()
        if move.kind in (MoveKind.PARK, MoveKind.DROP):
            assert not self.at_work[move.model_id]
        self.moves.append((move.kind.value, move.model_id))
        self.residency.note_done(move, self.sizes[move.model_id] if move.kind is MoveKind.LOAD else None)
        if self.residency.memory is not None:
            assert self.residency.bytes_in(Place.RESIDENT) <= self.residency.memory

    def places(self) -> dict[str, str]:
        return {model_id: tenant.place.value for model_id, tenant in self.residency.tenants.items()}


def warm(*model_ids: str, **limits: float | None) -> Desk:
    """Every model was used once and has no work, the last one last; so that each is in main memory at least."""
    desk = Desk(dict.fromkeys(model_ids, SIZE), **limits)  # type: ignore[arg-type]
    for model_id in model_ids:
        desk.job(model_id)
        desk.end(model_id)
        desk.wait(1)
    desk.moves.clear()
    return desk


def test_first_job_of_a_model_has_it_loaded_and_brought_in():
    desk = Desk({"a": SIZE})
    ticket = desk.job("a")

    assert desk.moves == [("load", "a"), ("bring_in", "a")]
    assert desk.admitted == [ticket]


def test_an_idle_model_leaves_at_once_for_one_with_work():
    desk = warm("a", "b")
    desk.job("a")

    assert desk.moves == [("park", "b"), ("bring_in", "a")]
    assert desk.places() == {"a": "resident", "b": "parked"}


def test_models_are_on_the_device_together_where_the_memory_allows_it():
    desk = Desk({"a": SIZE, "b": SIZE, "c": SIZE}, memory=2 * SIZE)
    for model_id in ("a", "b", "a"):
        desk.job(model_id)
        desk.end(model_id)
        desk.wait(1)
    assert desk.places() == {"a": "resident", "b": "resident", "c": "unloaded"}
    desk.job("c")

    assert desk.places() == {"a": "resident", "b": "parked", "c": "resident"}  # b is the least recently used


def test_no_more_models_leave_than_must():
    desk = Desk({"small": 2, "large": 9, "new": 8}, memory=11)
    for model_id in ("small", "large"):
        desk.job(model_id)
        desk.end(model_id)
        desk.wait(1)
    desk.job("new")

    assert desk.places() == {"small": "resident", "large": "parked", "new": "resident"}


def test_a_model_with_work_keeps_its_place_for_its_residency_and_then_takes_no_new_jobs():
    desk = warm("a", "b")
    desk.job("a")
    other = desk.job("b")
    desk.wait(RESIDENCY_SECONDS - 1)
    during = desk.job("a")
    assert during in desk.admitted

    desk.wait(1)
    after = desk.job("a")
    assert not {after, other} & set(desk.admitted)
    desk.end("a")
    assert other not in desk.admitted  # one of its jobs is still at work
    desk.end("a")
    assert other in desk.admitted
    assert desk.places() == {"a": "parked", "b": "resident"}
    desk.end("b")
    assert after in desk.admitted


def test_a_model_whose_work_is_done_does_not_wait_for_the_end_of_its_residency():
    desk = warm("a", "b")
    desk.job("a")
    other = desk.job("b")
    desk.wait(1)
    desk.end("a")

    assert other in desk.admitted


def test_what_waited_for_a_model_begins_with_it_however_short_its_residency():
    desk = Desk({"a": SIZE, "b": SIZE}, residency_seconds=0.0)
    tickets = [desk.residency.wait_for(model_id) for model_id in ("a", "b", "a")]
    desk.settle()
    assert desk.admitted == [tickets[0], tickets[2]]  # no time went by between the jobs
    desk.end("a")
    desk.end("a")

    assert desk.admitted[-1] is tickets[1]


def test_a_model_takes_jobs_again_when_the_one_that_wanted_its_place_gave_up():
    desk = warm("a", "b")
    desk.job("a")
    other = desk.job("b")
    desk.wait(RESIDENCY_SECONDS)
    held_back = desk.job("a")
    assert held_back not in desk.admitted
    desk.residency.give_up(other)
    desk.settle()

    assert held_back in desk.admitted
    assert desk.places()["a"] == "resident"


def test_the_model_whose_job_waits_longest_is_next():
    desk = warm("a", "b", "c")
    desk.job("a")
    for model_id in ("c", "b", "c"):
        desk.wait(1)
        desk.job(model_id)
    desk.moves.clear()
    desk.end("a")

    assert desk.moves == [("park", "a"), ("bring_in", "c")]


def test_a_model_is_loaded_only_while_no_job_is_at_work_and_its_residency_is_kept_to():
    desk = Desk({"a": SIZE, "b": SIZE}, memory=None)
    desk.job("a")
    new = desk.job("b")
    assert desk.places()["b"] == "unloaded"
    desk.wait(RESIDENCY_SECONDS)
    held_back = desk.job("a")
    desk.end("a")

    assert {new, held_back} <= set(desk.admitted)
    assert desk.places() == {"a": "resident", "b": "resident"}


def test_no_job_starts_while_a_model_is_loaded():
    desk = Desk({"a": SIZE, "b": SIZE}, memory=None)
    desk.job("a")
    desk.end("a")
    desk.residency.wait_for("b")
    assert desk.residency.next_move() == Move(MoveKind.LOAD, "b")
    desk.residency.wait_for("a")

    assert desk.residency.admit() == []


def test_what_is_too_much_for_main_memory_is_dropped_the_longest_unused_first():
    desk = warm("a", "b", "c", parked_memory=2 * SIZE)

    assert desk.places() == {"a": "unloaded", "b": "parked", "c": "resident"}
    desk.job("a")
    assert desk.moves == [("drop", "b"), ("load", "a"), ("park", "c"), ("bring_in", "a")]


def test_with_no_room_to_park_models_are_loaded_each_time():
    desk = warm("a", "b", parked_memory=0)

    assert desk.places() == {"a": "unloaded", "b": "resident"}


def test_a_failed_model_keeps_its_jobs_waiting_no_longer_and_takes_no_room():
    desk = warm("a", "b")
    ticket = desk.residency.wait_for("a")
    park = desk.residency.next_move()
    assert park == Move(MoveKind.PARK, "b")
    desk.residency.note_done(park)
    bring_in = desk.residency.next_move()
    assert bring_in == Move(MoveKind.BRING_IN, "a")
    desk.residency.note_failed(bring_in)
    desk.settle()

    assert ticket in desk.admitted
    assert desk.job("a") in desk.admitted
    assert desk.residency.bytes_in(Place.RESIDENT) == 0
    assert desk.job("b") in desk.admitted


@given(
    st.sampled_from([0.0, RESIDENCY_SECONDS]),
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 40), st.integers(1, 60)), max_size=40),
)
def test_no_job_waits_longer_than_each_other_models_turn(
    residency_seconds: float, arrivals: list[tuple[str, int, int]]
) -> None:
    """Jobs of four models that take turns in one place: (model, seconds after the one before, seconds it takes)."""
    desk = Desk(dict.fromkeys("abcd", SIZE), residency_seconds=residency_seconds)
    ends: dict[Ticket, float] = {}
    running: list[tuple[float, str]] = []
    seconds_of: dict[Ticket, int] = {}
    waited: list[float] = []

    def run_until(moment: float) -> None:
        while True:
            for ticket in desk.admitted:
                if ticket not in ends:
                    waited.append(desk.clock.now - ticket.arrived)
                    ends[ticket] = desk.clock.now + seconds_of[ticket]
                    running.append((ends[ticket], ticket.model_id))
            if not running or min(running)[0] > moment:
                break
            desk.wait(min(running)[0] - desk.clock.now)
            for end, model_id in sorted(running):
                if end <= desk.clock.now:
                    running.remove((end, model_id))
                    desk.end(model_id)
        desk.wait(max(0.0, moment - desk.clock.now) if moment < float("inf") else 0.0)

    for model_id, pause, seconds in arrivals:
        run_until(desk.clock.now + pause)
        ticket = desk.residency.wait_for(model_id)
        seconds_of[ticket] = seconds
        desk.settle()
    run_until(float("inf"))

    assert len(desk.admitted) == len(arrivals)
    # Before a job's model comes in, each of the others has at most one turn: its residency, and a last job of 60 s.
    # The first time, each is loaded too, for which the one on the device is waited for in the same way.
    assert max(waited, default=0) <= 2 * len("abcd") * (residency_seconds + 60)
