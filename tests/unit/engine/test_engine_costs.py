"""How many rows share a forward follows from what the forwards that run cost, and that is kept between starts."""

import json

import pytest
import torch

from deployments.engine.costs import RUNS, ForwardCosts, name_of
from deployments.engine.device_notes import DeviceNotes
from deployments.engine.grouping import read_call

MOST_ROWS = 16


class Device:
    """Runs forwards as wide as the costs say, as if always enough rows waited, and keeps their widths."""

    def __init__(self, seconds_of, costs: ForwardCosts | None = None) -> None:
        self.seconds_of = seconds_of
        self.costs = costs or ForwardCosts()
        self.widths: list[int] = []

    def run(self, forwards: int = 100, waiting: int = MOST_ROWS) -> ForwardCosts:
        for _ in range(forwards):
            rows = min(self.costs.cap("unet", MOST_ROWS, waiting), waiting)
            self.widths.append(rows)
            self.costs.note("unet", rows, self.seconds_of(rows))
        return self.costs


def learned(seconds_of, notes: DeviceNotes | None = None) -> ForwardCosts:
    return Device(seconds_of, ForwardCosts(notes)).run()


@pytest.mark.parametrize(
    ("seconds_of", "cap"),
    [
        (lambda rows: 1.0, 16),  # overhead only: rows are free
        (float, 1),  # compute only: rows gain nothing
        (lambda rows: 1.0 + 0.1 * rows, 16),
        (lambda rows: max(1.0, rows / 4), 4),  # free up to four rows, then compute
    ],
)
def test_the_cap_is_the_fewest_rows_near_the_best_rate(seconds_of, cap):
    assert learned(seconds_of).cap("unet", MOST_ROWS, MOST_ROWS) == cap


def test_the_first_forwards_grow_as_long_as_they_gain():
    device = Device(lambda rows: 1.0)
    device.run(7)
    assert device.widths == [1, 2, 4, 8, 16, 16, 16]


def test_one_that_finds_its_kernels_is_given_a_second_chance():
    slow = {2, 8}
    device = Device(lambda rows: 9.0 if rows in slow and not slow.remove(rows) else 1.0)
    device.run(9)
    assert device.widths == [1, 2, 2, 4, 8, 8, 16, 16, 16]


def test_they_grow_no_further_where_more_rows_gain_nothing():
    device = Device(float)
    device.run()
    assert device.widths == [1] + [2] * RUNS + [4] * RUNS + [1] * (100 - 1 - 2 * RUNS)


def test_a_narrow_one_that_was_slow_at_first_is_looked_at_again_where_width_gains_nothing():
    device = Device(lambda rows: 2.0 if not device.widths[1:] else float(rows))
    device.run()
    assert device.costs.cap("unet", MOST_ROWS, MOST_ROWS) == 1


def test_no_forward_is_wider_than_what_waits():
    device = Device(lambda rows: 1.0)
    device.run(waiting=3)
    assert set(device.widths) == {1, 2, 3}
    device.run(waiting=16)
    assert device.widths[-1] == 16


def test_odd_numbers_of_rows_count_for_the_doubling_that_they_belong_to():
    seconds = {1: 1.0, 2: 1.0, 3: 1.5, 4: 2.0, 5: 2.5, 6: 3.0, 7: 3.5}
    device = Device(lambda rows: seconds.get(rows, 9.0))
    for waiting in (1, 2, 3, 6):
        device.run(RUNS, waiting=waiting)
    assert device.widths == [1, 1, 1, 2, 2, 2, 3, 2, 2, 6, 2, 2]
    device.widths.clear()
    device.run(6, waiting=16)
    assert device.widths == [6, 6, 12, 12, 12, 2]


def test_one_disturbed_width_does_not_end_it():
    assert learned(lambda rows: 9.0 if rows == 2 else 1.0).cap("unet", MOST_ROWS, MOST_ROWS) == 16


def test_neither_a_slow_start_nor_a_disturbance_counts():
    runs = {1: iter([5.0, 1.0, 1.0]), 2: iter([9.0, 1.5, 6.0, 1.5, 1.5])}
    costs = ForwardCosts()
    for rows, seconds in runs.items():
        for each in seconds:
            costs.note("unet", rows, each)
    assert (costs.expected("unet", 1), costs.expected("unet", 2)) == (1.0, 1.5)


def test_on_a_busy_machine_a_narrow_forward_that_slips_through_does_not_narrow_the_others():
    narrow = iter([1.0, 4.0, 4.0])
    costs = ForwardCosts()
    for _ in range(RUNS):
        costs.note("unet", 1, next(narrow))
        costs.note("unet", 2, 4.0)
    assert costs.cap("unet", 2, 2) == 2


def test_a_width_that_was_disturbed_for_long_is_tried_again():
    device = Device(float)
    device.run()
    device.seconds_of = lambda rows: 1.0
    device.run(300)
    assert device.costs.cap("unet", MOST_ROWS, MOST_ROWS) == 16


def test_what_was_not_seen_is_expected_to_lie_on_the_line_through_what_was():
    costs = ForwardCosts()
    assert costs.expected("unet", 4) == 0.0
    costs.note("unet", 2, 1.0)
    assert costs.expected("unet", 4) == 1.0
    costs.note("unet", 8, 4.0)
    assert [costs.expected("unet", rows) for rows in (2, 4, 6, 10, 1)] == [1.0, 2.0, 3.0, 5.0, 0.5]


def test_running_out_of_memory_halves_the_cap():
    costs = learned(lambda rows: 1.0)
    costs.note_out_of_memory("unet", 8)
    assert costs.cap("unet", MOST_ROWS, MOST_ROWS) == 4
    costs.note_out_of_memory("unet", 1)
    assert costs.cap("unet", MOST_ROWS, MOST_ROWS) == 1


def test_costs_are_kept_for_the_device_they_were_measured_on(tmp_path):
    file = tmp_path / "costs" / "shapes.json"
    first = learned(lambda rows: max(1.0, rows / 4), DeviceNotes(file, "cpu"))
    again = ForwardCosts(DeviceNotes(file, "cpu"))
    assert [again.expected("unet", rows) for rows in (1, 4, 16)] == [1.0, 1.0, 4.0]
    assert again.cap("unet", MOST_ROWS, MOST_ROWS) == first.cap("unet", MOST_ROWS, MOST_ROWS) == 4
    assert ForwardCosts(DeviceNotes(file, "another")).expected("unet", 4) == 0.0
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"device": "cpu", "seconds": 5}',
        '{"device": "cpu", "seconds": {"unet": {"x": 1}}}',
        '{"device": "cpu", "seconds": {"unet": [1]}}',
    ],
)
def test_a_damaged_file_is_learned_again_and_said(tmp_path, caplog, content):
    file = tmp_path / "costs.json"
    file.write_text(content)
    costs = learned(lambda rows: 1.0, DeviceNotes(file, "cpu"))
    assert "learned again" in caplog.text
    assert costs.cap("unet", MOST_ROWS, MOST_ROWS) == 16
    assert json.loads(file.read_text())["device"] == "cpu"


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert learned(lambda rows: 1.0, DeviceNotes(blocked / "costs.json")).cap("unet", MOST_ROWS, MOST_ROWS) == 16
    assert "not kept" in caplog.text


def test_calls_of_one_shape_have_one_name_whatever_their_rows():
    def forward(sample, timestep):
        return (sample,)

    def call(rows: int, size: int):
        return read_call(forward, "Unet", (torch.ones(rows, size), torch.tensor(1.0)), {})

    assert name_of(call(1, 4)) == name_of(call(2, 4))
    assert name_of(call(1, 4)) != name_of(call(1, 5))
