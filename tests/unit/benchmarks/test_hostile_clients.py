"""What the benchmark of hostile clients sends, and what it makes of what it measured."""

from __future__ import annotations

import asyncio
import io
import math

import numpy as np
import PIL.Image
import pytest

from benchmarks.honest_client import Answer, HonestClient, percentile
from benchmarks.hostile_clients import Phase, attack_rows, kind_rows, process_rows, table
from benchmarks.hostile_pictures import large_picture, padded_picture, small_picture


def phase(name: str, *answers: Answer, **more) -> Phase:
    memory = {"proxy": (2**20, 3 * 2**20, 2**20), "ingress": (0, 0, 0)}
    return Phase(name, list(answers), seconds=1.0, cpu={"proxy": 0.5, "rest": 0.25}, memory=memory, **more)


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(PIL.Image.open(io.BytesIO(content)))


def test_ordinary_pictures_are_what_they_say():
    assert PIL.Image.open(io.BytesIO(large_picture(160, 80))).size == (160, 80)
    assert len(padded_picture(5000)) == 5000
    assert pixels(padded_picture(5000)).shape == (64, 64, 3)
    assert len({small_picture(number) for number in (0, 1, 256, 65536)}) == 4


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 10.0), (0.95, 19.0), (0.99, 20.0), (1.0, 20.0)])
def test_a_percentile_is_one_of_the_values(share, expected):
    assert percentile([float(value) for value in range(20, 0, -1)], share) == expected


def test_of_no_values_there_is_no_percentile():
    assert math.isnan(percentile([], 0.95))


async def test_a_slow_answer_delays_no_later_request():
    class Client(HonestClient):
        def __init__(self) -> None:
            super().__init__("http://127.0.0.1:1", "")
            self.asked: list[str] = []
            self.all_asked = asyncio.Event()

        async def ask(self, kind: str, due: float) -> Answer:
            self.asked.append(kind)
            if len(self.asked) == 5:
                self.all_asked.set()
            await self.all_asked.wait()
            return Answer(kind, 0.0)

    client = Client()

    answers = await client.keep_asking(seconds=5 / 1024, interval=1 / 1024)

    assert [answer.kind for answer in answers] == client.asked == ["models", "thumbnail", "input", "generate", "models"]


def test_the_table_compares_each_attack_with_quiet():
    quiet = phase("quiet", *(Answer("models", 0.01) for _ in range(20)))
    hostile = phase(
        "scans",
        Answer("models", 0.02),
        Answer("input", 30.0, "TimeoutError"),
        attackers_cpu=0.1,
        outcomes={"hung up": 2, "200": 1},
        quiet_after=None,
        died=["ingress"],
    )

    heading, row = attack_rows(quiet, [hostile])

    assert dict(zip(heading, row, strict=True)) == {
        "attack": "scans",
        "honest p95 quiet": "10 ms",
        "under attack": "30000 ms",
        "ratio": "3000.0",
        "worst": "30000 ms",
        "honest failures": "1 of 2",
        "quiet again after": "never",
        "cores: service": "0.75",
        "attackers": "0.10",
        "the attackers got": "200: 1, hung up: 2; DIED: ingress",
    }
    assert kind_rows([hostile])[1:] == [
        ["scans", "input", "1", "30000 ms", "30000 ms", "30000 ms", "30000 ms", "TimeoutError: 1"],
        ["scans", "models", "1", "20 ms", "20 ms", "20 ms", "20 ms", "0"],
    ]
    assert process_rows([hostile])[1] == ["scans", "0.50", "0.00", "0.00", "0.00", "0.25", "1 / 3 / 1", "0 / 0 / 0"]


def test_columns_are_aligned():
    assert table([["a", "long"], ["wide", "b"]]) == "a     long\n----  ----\nwide  b"
