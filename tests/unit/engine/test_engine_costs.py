"""How many rows share a forward follows from what forwards cost, and that is kept between starts."""

import json

import pytest
import torch

from deployments.engine.costs import ForwardCosts, name_of
from deployments.engine.grouping import read_call

MOST_ROWS = 16


def measured(seconds_of, **changes) -> ForwardCosts:
    costs = ForwardCosts(**changes)
    costs.measure("unet", MOST_ROWS, seconds_of)
    return costs


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
    assert measured(seconds_of).cap("unet", MOST_ROWS) == cap


def test_measuring_stops_where_more_rows_gain_nothing():
    tried: list[int] = []

    def seconds_of(rows: int) -> float:
        tried.append(rows)
        return float(rows)

    measured(seconds_of)
    assert max(tried) == 4


def test_one_disturbed_measurement_does_not_end_it():
    costs = measured(lambda rows: 9.0 if rows == 2 else 1.0)
    assert costs.cap("unet", MOST_ROWS) == 16


def test_neither_a_slow_start_nor_a_disturbance_counts():
    runs = {1: iter([5.0, 1.0, 1.0, 7.0]), 2: iter([9.0, 1.5, 6.0, 1.5])}
    costs = ForwardCosts()
    costs.measure("unet", 2, lambda rows: next(runs[rows]))
    assert (costs.expected("unet", 1), costs.expected("unet", 2)) == (1.0, 1.5)


def test_on_a_busy_machine_a_narrow_forward_that_slips_through_does_not_narrow_the_others():
    narrow = iter([1.0, 4.0, 4.0, 4.0])
    costs = ForwardCosts()
    costs.measure("unet", 2, lambda rows: next(narrow) if rows == 1 else 4.0)
    assert costs.cap("unet", 2) == 2


def test_running_out_of_memory_halves_the_cap():
    costs = measured(lambda rows: 1.0)
    costs.note_out_of_memory("unet", 12)
    assert costs.cap("unet", MOST_ROWS) == 4
    costs.note_out_of_memory("unet", 1)
    assert costs.cap("unet", MOST_ROWS) == 1


def test_measuring_ends_where_the_memory_does():
    def seconds_of(rows: int) -> float:
        if rows > 4:
            raise torch.OutOfMemoryError("too many rows")
        return 1.0

    assert measured(seconds_of).cap("unet", MOST_ROWS) == 4


def test_costs_are_kept_for_the_device_they_were_measured_on(tmp_path):
    file = tmp_path / "costs" / "shapes.json"
    measured(float, file=file, device="cpu")
    again = ForwardCosts(file=file, device="cpu")
    assert again.is_measured("unet")
    assert again.cap("unet", MOST_ROWS) == 1
    assert not ForwardCosts(file=file, device="another").is_measured("unet")
    assert [path.name for path in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize(
    "content", ["", "[]", "{", '{"device": "cpu"}', '{"device": "cpu", "seconds": {"unet": {"x": 1}}}']
)
def test_a_damaged_file_is_measured_anew_and_said(tmp_path, caplog, content):
    file = tmp_path / "costs.json"
    file.write_text(content)
    costs = measured(lambda rows: 1.0, file=file, device="cpu")
    assert "measured anew" in caplog.text
    assert costs.cap("unet", MOST_ROWS) == 16
    assert json.loads(file.read_text())["device"] == "cpu"


def test_a_folder_that_cannot_be_written_is_no_failure(tmp_path, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert measured(lambda rows: 1.0, file=blocked / "costs.json").cap("unet", MOST_ROWS) == 16
    assert "not kept" in caplog.text


def test_calls_of_one_shape_have_one_name_whatever_their_rows():
    def forward(sample, timestep):
        return (sample,)

    def call(rows: int, size: int):
        return read_call(forward, "Unet", (torch.ones(rows, size), torch.tensor(1.0)), {})

    assert name_of(call(1, 4)) == name_of(call(2, 4))
    assert name_of(call(1, 4)) != name_of(call(1, 5))
