"""How an honest client fares beside hostile ones: its latencies alone, and under each attack.

    python -m benchmarks.hostile_clients
    python -m benchmarks.hostile_clients --attack scans --attack wrong-keys --seconds 10
    git worktree add /tmp/before COMMIT && python -m benchmarks.hostile_clients --tree /tmp/before

Starts the whole service, which asks for API keys, on this machine. The honest client sends small requests on a fixed
schedule, so that a slow answer delays none of the next requests, and a request's time counts from when it was due. The
attackers are another process with a low priority, and begin some seconds before their phase. After each attack the
service gets time to become as quiet as it was; if it does not, it is started again.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.honest_client import Answer, HonestClient, percentile
from benchmarks.hostile_attacks import ATTACKS
from benchmarks.hostile_service import AttackedService

MiB = 1024**2
PROJECT = Path(__file__).parents[1]
PREPARE_SECONDS = 120
STOP_SECONDS = 30
QUIET_SECONDS = 120
QUIET_ROUNDS = 3
BUILD_UP_SECONDS = 5.0  # 600 connections are not open at once
SAMPLE_SECONDS = 0.5
IMAGES = 4
IMAGE_BYTES = 4 * MiB
WATCHED = ("proxy", "ingress")


@dataclass
class Phase:
    """What was measured in one phase.

    Attributes:
        name: Of the attack; ``quiet`` where there is none.
        answers: The honest client's.
        seconds: How long the phase took, with the answers that came late.
        cpu: Cores that the service used, by role of the process.
        memory: Resident bytes before, at most and after, by role.
        attackers_cpu: Cores that the attackers used.
        outcomes: What the attackers got, by status or in words.
        quiet_after: Seconds until the service was quiet again; None where it had to be started again.
        died: Roles of the processes that ended.
    """

    name: str
    answers: list[Answer]
    seconds: float
    cpu: dict[str, float]
    memory: dict[str, tuple[int, int, int]]
    attackers_cpu: float = 0.0
    outcomes: dict[str, int] = field(default_factory=dict)
    quiet_after: float | None = 0.0
    died: list[str] = field(default_factory=list)

    @property
    def failures(self) -> int:
        """How many of the honest client's requests failed."""
        return sum(answer.failure is not None for answer in self.answers)

    def times(self, kind: str | None = None) -> list[float]:
        """Seconds of the answers, of one kind or all."""
        return [answer.seconds for answer in self.answers if kind in (None, answer.kind)]


class Soak:
    """The service, the honest client, and the key and images of the attackers.

    Args:
        service: Not started yet.
        seconds: Length of a phase.
        interval: Seconds between two requests of the honest client.
    """

    def __init__(self, service: AttackedService, seconds: float, interval: float) -> None:
        self.service = service
        self.seconds = seconds
        self.interval = interval
        self.honest = HonestClient(service.url, service.make_key("honest"))
        self.attackers_key = service.make_key("attacker")
        self._target: dict[str, Any] = {}

    async def prepare(self) -> None:
        """Start the service, and have jobs and images there."""
        await asyncio.to_thread(self.service.start)
        await self.honest.prepare()
        async with HonestClient(self.service.url, self.attackers_key) as attacker:
            job_id, image_ids = await attacker.draw(IMAGES)
        self.service.swell_images(image_ids, IMAGE_BYTES)
        self._target = {
            "port": self.service.port,
            "key": self.attackers_key,
            "job_id": job_id,
            "image_ids": image_ids,
        }

    async def alone(self) -> Phase:
        """Measure the honest client alone."""
        for _ in range(QUIET_ROUNDS):  # the first requests of each kind open connections and fill caches
            await self.honest.ask_each()
        return await self._measure("quiet")

    async def under(self, attack: str, quiet: Phase) -> Phase:
        """Measure the honest client beside an attack, and wait until the service is quiet again."""
        before = self.service.pids()
        async with self._attackers(attack) as attackers:
            phase = await self._measure(attack)
            got = await _results(attackers)
        phase.outcomes = got.get("outcomes", {"the attackers did not stop": 1})
        phase.attackers_cpu = got.get("cpu_seconds", 0.0) / phase.seconds
        after = self.service.pids()
        phase.died = sorted(role for pid, role in before.items() if pid not in after)
        phase.quiet_after = await self._wait_until_quiet(quiet)
        if phase.quiet_after is None:
            print(f"{attack}: the service is not quiet after {QUIET_SECONDS} s; it is started again", flush=True)
            await asyncio.to_thread(self.service.stop)
            await asyncio.to_thread(self.service.start)
            await self._wait_until_quiet(quiet)
        return phase

    async def _measure(self, name: str) -> Phase:
        cpu, memory = self.service.cpu_seconds(), self.service.memory()
        peak = Counter(memory)
        began = time.perf_counter()
        sampling = asyncio.create_task(self._note_memory(peak))
        try:
            answers = await self.honest.keep_asking(self.seconds, self.interval)
        finally:
            sampling.cancel()
        seconds = time.perf_counter() - began
        used, after = self.service.cpu_seconds(), self.service.memory()
        return Phase(
            name,
            answers,
            seconds,
            cpu={role: max(0.0, used[role] - cpu[role]) / seconds for role in used},
            memory={role: (memory[role], peak[role], after[role]) for role in WATCHED},
        )

    async def _note_memory(self, peak: Counter[str]) -> None:
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            peak |= self.service.memory()

    async def _wait_until_quiet(self, quiet: Phase) -> float | None:
        """Return the seconds until requests are as fast, and the service as idle, as they were; None at the limit."""
        patience = 2 * percentile(quiet.times(), 0.95)
        began, calm = time.perf_counter(), 0
        while calm < QUIET_ROUNDS:
            if time.perf_counter() - began > QUIET_SECONDS:
                return None
            used = self.service.cpu_seconds().total()
            answers = await self.honest.ask_each()
            await asyncio.sleep(1.0)
            is_idle = self.service.cpu_seconds().total() - used < 1.0
            is_fast = all(answer.failure is None and answer.seconds < patience for answer in answers)
            calm = calm + 1 if is_idle and is_fast else 0
        return time.perf_counter() - began

    @asynccontextmanager
    async def _attackers(self, attack: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Attackers that have begun; they are killed in the end."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "benchmarks.hostile_attacks", attack),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=PROJECT,
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(json.dumps(self._target).encode() + b"\n")
            async with asyncio.timeout(PREPARE_SECONDS):
                if await process.stdout.readline() != b"ready\n":
                    raise RuntimeError(f"the attackers of {attack} did not begin")
            await asyncio.sleep(BUILD_UP_SECONDS)
            yield process
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _results(attackers: asyncio.subprocess.Process) -> dict[str, Any]:
    """Stop attackers; return what they say of themselves, or nothing where they do not stop."""
    try:
        async with asyncio.timeout(STOP_SECONDS):
            printed, _ = await attackers.communicate(b"")
    except TimeoutError:
        return {}
    result: dict[str, Any] = json.loads(printed or b"{}")
    return result


def table(rows: Sequence[Sequence[str]]) -> str:
    """Align the columns of rows of cells, of which the first row is the heading."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def attack_rows(quiet: Phase, phases: Iterable[Phase]) -> list[list[str]]:
    """The honest client's p95 alone and under each attack, and what the attackers got."""
    heading = (
        "attack", "honest p95 quiet", "under attack", "ratio", "worst", "honest failures", "quiet again after",
        "cores: service", "attackers", "the attackers got",
    )  # fmt: skip
    rows = [list(heading)]
    alone = percentile(quiet.times(), 0.95)
    for phase in phases:
        p95 = percentile(phase.times(), 0.95)
        got = ", ".join(f"{outcome}: {number}" for outcome, number in sorted(phase.outcomes.items()))
        rows.append(
            [
                phase.name, _ms(alone), _ms(p95), f"{p95 / alone:.1f}", _ms(max(phase.times(), default=math.nan)),
                f"{phase.failures} of {len(phase.answers)}",
                "never" if phase.quiet_after is None else f"{phase.quiet_after:.0f} s",
                f"{sum(phase.cpu.values()):.2f}", f"{phase.attackers_cpu:.2f}",
                got + (f"; DIED: {', '.join(phase.died)}" if phase.died else ""),
            ]
        )  # fmt: skip
    return rows


def kind_rows(phases: Iterable[Phase]) -> list[list[str]]:
    """The latencies of each kind of the honest client's requests, in each phase."""
    rows = [["phase", "request", "number", "median", "p95", "p99", "worst", "failures"]]
    for phase in phases:
        for kind in sorted({answer.kind for answer in phase.answers}):
            times = phase.times(kind)
            failed = Counter(answer.failure for answer in phase.answers if answer.kind == kind and answer.failure)
            shown = [statistics.median(times), percentile(times, 0.95), percentile(times, 0.99), max(times)]
            failures = ", ".join(f"{failure}: {number}" for failure, number in sorted(failed.items()))
            rows.append([phase.name, kind, str(len(times)), *map(_ms, shown), failures or "0"])
    return rows


def process_rows(phases: Iterable[Phase]) -> list[list[str]]:
    """The cores that each part of the service used, and its memory before, at most and after, in MiB."""
    roles = ("proxy", "ingress", "tracker", "model", "rest")
    rows = [["phase", *(f"cores: {role}" for role in roles), *(f"MiB: {role}" for role in WATCHED)]]
    for phase in phases:
        held = [" / ".join(f"{number // MiB}" for number in phase.memory[role]) for role in WATCHED]
        rows.append([phase.name, *(f"{phase.cpu.get(role, 0.0):.2f}" for role in roles), *held])
    return rows


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"


async def soak(arguments: argparse.Namespace, folder: Path) -> list[Phase]:
    """Measure quiet, and then beside each attack; print each phase when it is over."""
    service = AttackedService(arguments.tree.resolve(), folder)
    phases: list[Phase] = []
    try:
        run = Soak(service, arguments.seconds, arguments.interval)
        async with run.honest:
            await run.prepare()
            quiet = await run.alone()
            phases.append(quiet)
            for attack in arguments.attack or ATTACKS:
                phases.append(await run.under(attack, quiet))
                print(table(attack_rows(quiet, phases[-1:])), flush=True)
    finally:
        service.remove()
    return phases


def main() -> None:
    """Measure, and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--attack", action="append", choices=list(ATTACKS), help="only this one; may be repeated")
    parser.add_argument("--seconds", type=float, default=20.0, help="length of each phase")
    parser.add_argument(
        "--interval", type=float, default=0.125, help="seconds between two requests of the honest client"
    )
    parser.add_argument("--tree", type=Path, default=PROJECT, help="folder of the checkout whose service is attacked")
    parser.add_argument("--json", type=Path, help="file for all that was measured")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    with tempfile.TemporaryDirectory() as folder:
        phases = asyncio.run(soak(arguments, Path(folder)))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(phase) for phase in phases], indent=1))
    quiet, *attacked = phases
    for rows in (attack_rows(quiet, attacked), kind_rows(phases), process_rows(phases)):
        print(f"\n{table(rows)}")


if __name__ == "__main__":
    main()
