"""Puts broken and hostile picture files through every decoder that a client reaches: ``make fuzz``.

    python -m benchmarks.fuzz_pictures [--cases 10000] [--seed 0] [--case N] [--api]

The files come from ``tests/support/picture_corpus``. They are decoded in a child process, so that one that crashes or
hangs a decoder is a line of the report and no more. Findings are an exception that the decoder does not promise, more
than 2 seconds of CPU, more than a gigabyte above what the process held before, a crash, and no answer in 20 seconds;
the exit status is 1 then. With ``--api`` each file is sent to the routes that take pictures, of the application in this
process; a finding is what is answered neither 2xx nor 4xx.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import resource
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.cost import measured
from deployments.settings.service import Settings
from tests.support.api_service import ApiService, api_service
from tests.support.picture_corpus import Case, case
from tests.support.picture_corpus.decoders import PROMISED, decoders
from tests.support.picture_ways import CATALOG, PICTURES, drawing

CPU_SECONDS, MEGABYTES, PATIENCE = 2.0, 1024, 20.0
MAX_PIXELS = int(Settings.model_fields["max_upload_pixels"].default)


@dataclass(frozen=True)
class Outcome:
    """What came of a case in one decoder.

    Attributes:
        number: Of the case.
        name: Of the case.
        decoder: Which.
        result: What it gave: the exception's name, the answer's status, or that it is decoded.
        fault: What is wrong with that; empty where it is as promised.
        seconds: Of CPU; through the API, until the answer.
        megabytes: The peak, above what the process held before.
    """

    number: int
    name: str
    decoder: str
    result: str
    fault: str
    seconds: float = 0.0
    megabytes: float = 0.0


def main() -> int:
    """Fuzz, report, and return 1 where something was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of chance")
    parser.add_argument("--case", type=int, help="only that one")
    parser.add_argument("--api", action="store_true", help="through the routes that take pictures")
    known = parser.parse_args()
    numbers = range(known.cases) if known.case is None else range(known.case, known.case + 1)
    started, outcomes = time.monotonic(), []
    for outcome in outcomes_of(numbers, known.seed, known.api):
        outcomes.append(outcome)
        if outcome.fault:
            print(_line(outcome), flush=True)
    return report(outcomes, len(numbers), known.seed, time.monotonic() - started)


def report(outcomes: Sequence[Outcome], cases: int, seed: int, seconds: float) -> int:
    """Print what came out; gives the exit status."""
    print("\n| decoder | result | cases |\n| --- | --- | --- |")
    for (decoder, result), count in sorted(Counter((each.decoder, each.result) for each in outcomes).items()):
        print(f"| {decoder} | {result} | {count} |")
    for title, key in (("slowest", "seconds"), ("biggest", "megabytes")):
        print(f"\nThe {title}:")
        for outcome in sorted(outcomes, key=lambda each: getattr(each, key), reverse=True)[:10]:
            print(_line(outcome))
    faults = sum(bool(outcome.fault) for outcome in outcomes)
    print(f"\n{cases} files, {len(outcomes)} outcomes, {faults} findings, seed {seed}, {seconds:.0f} s")
    return 1 if faults else 0


def outcomes_of(numbers: range, seed: int, through_api: bool) -> Iterator[Outcome]:
    """Run the cases in a child process, and in a new one after each that did not survive its case."""
    context = multiprocessing.get_context("fork")
    while numbers:
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_run, args=(theirs, numbers, seed, through_api), daemon=True)
        child.start()
        theirs.close()
        try:
            while numbers and ours.poll(PATIENCE):
                found: list[Outcome] = ours.recv()
                yield from found
                numbers = numbers[1:]
            fault = f"no answer in {PATIENCE:.0f} s"
        except EOFError:
            child.join()
            fault = f"crash, exit status {child.exitcode}"
        child.kill()
        child.join()
        if numbers:
            number = numbers[0]
            yield Outcome(number, case(number, seed).name, "process", fault.partition(",")[0], fault)
            numbers = numbers[1:]


def _run(connection: Connection, numbers: range, seed: int, through_api: bool) -> None:
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if through_api:
        asyncio.run(_send(connection, numbers, seed))
        return
    for number in numbers:
        made = case(number, seed)
        connection.send([_decoded(number, made, decoder, work) for decoder, work in decoders(MAX_PIXELS).items()])


def _decoded(number: int, made: Case, decoder: str, work: Callable[[bytes], object]) -> Outcome:
    fault = ""
    with measured() as cost:
        try:
            work(made.content)
            result = "decoded"
        except PROMISED as error:
            result = type(error).__name__
        except Exception as error:
            result, fault = type(error).__name__, f"not a promised exception: {error!r}"
    if cost.seconds > CPU_SECONDS or cost.megabytes > MEGABYTES:
        fault = fault or "too much"
    return Outcome(number, made.name, decoder, result, fault, cost.seconds, cost.megabytes)


async def _send(connection: Connection, numbers: range, seed: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with api_service(Path(folder), CATALOG, queue_limit=10_000_000) as service, drawing(service):
            for number in numbers:
                made = case(number, seed)
                connection.send([await _sent(service, number, made, way) for way in PICTURES])


async def _sent(
    service: ApiService, number: int, made: Case, way: Callable[[ApiService, bytes], Awaitable[object]]
) -> Outcome:
    began, fault = time.monotonic(), ""
    try:
        response = await way(service, made.content)
        status = int(getattr(response, "status_code", 0))
        result = str(status)
        if not (200 <= status < 300 or 400 <= status < 500):
            fault = f"status {status}: {getattr(response, 'text', '')[:200]}"
    except Exception as error:  # the application let it escape
        result, fault = type(error).__name__, f"not answered: {error!r}"
    return Outcome(number, made.name, way.__name__, result, fault, time.monotonic() - began)


def _line(outcome: Outcome) -> str:
    return (
        f"- case {outcome.number} ({outcome.name}), {outcome.decoder}: {outcome.result}, {outcome.seconds:.2f} s, "
        f"{outcome.megabytes:.0f} MB {outcome.fault}"
    )


if __name__ == "__main__":
    raise SystemExit(main())
