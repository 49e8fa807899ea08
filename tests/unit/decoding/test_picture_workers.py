"""A picture costs no more than it may, and whatever it does, it does to the process that decodes it."""

from __future__ import annotations

import asyncio
import hashlib
import io
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable

import PIL.Image
import pytest

from deployments.decoding import workers as module
from deployments.decoding.limits import Limits
from deployments.decoding.process import WorkerProcess
from deployments.decoding.workers import DecodingFailedError, PictureWorkers
from deployments.storage.metadata.image_file import UnreadableImageError
from deployments.storage.picture import DamagedPictureError, PictureTooCostlyError, WrongFormatError
from tests.support.hostile_files import JPEG, PNG, file_of, repeated_scans
from tests.support.image_requests import image_request

PIXELS = 2**22
# As many scans as may be; decoding takes some tenths of a second at least.
SLOW = repeated_scans(2048, 2048, 85)


class Watched(WorkerProcess):
    """A worker process that says when it runs."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = threading.Event()

    def _running(self) -> subprocess.Popen[bytes]:
        self.child = super()._running()
        self.runs.set()
        return self.child


@pytest.fixture
def processes(monkeypatch):
    """The worker processes of this test alone, in the order of their beginning."""

    def start() -> Watched:
        found.append(Watched())
        return found[-1]

    found: list[Watched] = []
    monkeypatch.setattr(module, "WorkerProcess", start)
    monkeypatch.setattr(module, "_idle", type(module._idle)())
    yield found
    for process in found:
        process.kill()


@pytest.fixture
def workers(processes):
    return PictureWorkers(2, Limits(PIXELS))


async def settled(condition: Callable[[], object]) -> None:
    for _ in range(100):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError


async def test_a_picture_comes_back_clean(workers):
    made = await workers.clean("ann", JPEG)

    assert made.sha256 == hashlib.sha256(made.content).hexdigest()
    with PIL.Image.open(io.BytesIO(made.content)) as picture:
        assert (picture.format, picture.size) == ("PNG", (made.width, made.height))


async def test_what_is_wrong_is_said_as_without_a_process(workers):
    with pytest.raises(WrongFormatError, match="PNG, JPEG or WebP"):
        await workers.clean("ann", b"hello")
    with pytest.raises(UnreadableImageError):
        await workers.thumbnail("ann", b"hello", 256)


async def test_a_slow_picture_is_cut_off_and_the_next_one_is_decoded(processes):
    strict = PictureWorkers(1, Limits(PIXELS, seconds=0.05, seconds_per_pixel=0))

    with pytest.raises(PictureTooCostlyError):
        await strict.clean("ann", SLOW)
    assert processes[0].child.returncode == -signal.SIGPROF
    assert len(processes) == 2  # the next one need not wait for its start
    assert (await strict.clean("ann", PNG)).width == 64
    assert len(processes) == 2


async def test_the_limit_grows_with_the_pixels(workers):
    assert (await workers.clean("ann", SLOW)).width == 2048


async def test_a_picture_that_takes_too_much_memory_is_refused(processes):
    black = file_of(PIL.Image.new("1", (13_000, 13_000)), "PNG")  # 169 million bytes, once it is decoded
    narrow = PictureWorkers(1, Limits(2**30, bytes_of_process=2**28, bytes_per_pixel=0))
    assert len(black) < 2**16
    with pytest.raises(PictureTooCostlyError):
        await narrow.clean("ann", black)
    assert (await narrow.clean("ann", PNG)).width == 64


async def test_who_hangs_up_ends_the_work(processes):
    workers = PictureWorkers(1, Limits(PIXELS, seconds=600))
    task = asyncio.create_task(workers.clean("ann", SLOW))
    await settled(lambda: processes)
    await asyncio.to_thread(processes[0].runs.wait)

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert await asyncio.to_thread(processes[0].child.wait) == -signal.SIGKILL
    assert (await workers.clean("ann", PNG)).width == 64


async def test_a_picture_that_ends_late_is_given_up(monkeypatch, processes):
    monkeypatch.setattr(Limits, "wait_seconds", 0.05)
    with pytest.raises(PictureTooCostlyError):
        await PictureWorkers(1, Limits(PIXELS, seconds=600)).clean("ann", SLOW)
    assert await asyncio.to_thread(processes[0].child.wait) == -signal.SIGKILL


async def test_a_crash_is_a_damaged_picture_and_no_more(workers, processes, caplog):
    task = asyncio.create_task(workers.clean("ann", SLOW))
    await settled(lambda: processes)
    await asyncio.to_thread(processes[0].runs.wait)
    processes[0].child.send_signal(signal.SIGSEGV)

    with pytest.raises(DamagedPictureError):
        await task
    assert f"status {-signal.SIGSEGV}" in caplog.text
    assert (await workers.clean("ann", PNG)).width == 64


async def test_a_bug_of_ours_is_no_fault_of_the_picture(workers):
    with pytest.raises(DecodingFailedError, match="KeyError"):
        await workers._carry_out("ann", "no such task", PNG)
    assert (await workers.clean("ann", PNG)).width == 64


async def test_a_process_is_used_again(workers, processes):
    await workers.clean("ann", PNG)
    await workers.clean("bob", JPEG)

    assert len(processes) == 1


async def test_a_process_that_has_ended_since_is_replaced(workers, processes):
    await workers.clean("ann", PNG)
    processes[0].child.kill()
    processes[0].child.wait()

    assert (await workers.clean("ann", PNG)).width == 64


async def test_a_process_knows_no_password(monkeypatch, workers, processes):
    monkeypatch.setenv("CYBERIMAGE_STORAGE__SECRET", "hunter2")
    await workers.clean("ann", PNG)

    with open(f"/proc/{processes[0].child.pid}/environ", "rb") as file:  # noqa: ASYNC230, PTH123 - it is no disk
        environment = file.read()
    assert b"PATH=" in environment
    assert b"hunter2" not in environment


async def test_previews_and_thumbnails_are_made(workers):
    preview = await workers.enlarge(
        "ann", PNG, image_request(width=128, height=96, output_format="webp").settings, "webp"
    )
    thumbnail = await workers.thumbnail("ann", preview, 64)

    for content, size in ((preview, (128, 96)), (thumbnail, (64, 48))):
        with PIL.Image.open(io.BytesIO(content)) as picture:
            assert (picture.format, picture.size) == ("WEBP", size)


_OWNER = """
import sys
from deployments.decoding.process import WorkerProcess
process = WorkerProcess()
print(process._running().pid, flush=True)
sys.stdin.read()
"""


def test_a_process_ends_with_its_owner():
    owner = subprocess.Popen([sys.executable, "-c", _OWNER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    worker = os.pidfd_open(int(owner.stdout.readline()))
    owner.kill()
    owner.wait()

    assert select.select([worker], [], [], 60)[0]  # readable once the process has ended
    os.close(worker)
