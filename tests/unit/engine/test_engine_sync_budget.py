"""The engine waits for the GPU, and copies to and from it, no more often than is written down; that may only fall."""

from pathlib import Path

import pytest
import yaml

from tests.support.sync_counts import count_syncs
from tests.support.tiny_pipelines.families import FAMILIES

BUDGET = Path(__file__).with_name("sync_budget.yaml")


@pytest.mark.parametrize("name", FAMILIES)
def test_counts_are_those_written_down(name):
    budget = yaml.safe_load(BUDGET.read_text(encoding="utf-8"))[name]
    counts = count_syncs(name)
    counted = {mode: each.beyond(counts["stock"])._asdict() for mode, each in counts.items() if mode != "stock"}
    more, fewer = [], []
    for mode, numbers in counted.items():
        for what, number in numbers.items():
            written = budget[mode][what]
            if number != written:
                (more if number > written else fewer).append(f"{mode} {what}: {number:g}, written {written:g}")
    assert not more, f"{name} syncs or copies more: {more}; see where with python -m benchmarks.syncs --places {name}"
    assert not fewer, f"{name} is better than written: {fewer}; run python -m benchmarks.syncs --write {BUDGET.name}"
