"""Decodes and encodes pictures for clients, each within limits on time and memory, and each client within its share."""

from __future__ import annotations

import asyncio
import logging
import signal
from collections import deque
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from deployments.decoding.limits import Limits
from deployments.decoding.process import WorkerDiedError, WorkerProcess
from deployments.decoding.tasks import REFUSALS
from deployments.parameters import GenerationSettings
from deployments.storage.masks import MaskForm
from deployments.storage.picture import DamagedPictureError, PictureError, PictureTooCostlyError
from deployments.turns import TooManyWaitingError, Turns

logger = logging.getLogger(__name__)

_MOST_WAITING_EACH = 128  # a page of thumbnails, over one connection

# Those that wait for a request. They are of no one's in particular, so all owners of a process share them.
_idle: deque[WorkerProcess] = deque()


class TooManyPicturesError(PictureError):
    """Too many of your pictures are waiting to be decoded; send this one again in a moment."""

    status = 429
    code = "too_many_pictures"
    retry_after_seconds = 1


class DecodingFailedError(Exception):
    """A worker failed, and not because of the picture."""


@dataclass(frozen=True)
class PictureFile:
    """A picture that a worker has made.

    Attributes:
        content: Its file.
        width: In pixels.
        height: In pixels.
        sha256: Of the file, in hexadecimal digits.
    """

    content: bytes
    width: int
    height: int
    sha256: str


class PictureWorkers:
    """Runs tasks in worker processes. A task that takes too long is killed, and so is one that nobody waits for.

    Args:
        count: Processes. One client has at most half of them at the same time.
        limits: What each picture may cost.
    """

    def __init__(self, count: int, limits: Limits) -> None:
        self._limits = limits
        self._turns = Turns(count, max(1, count // 2), _MOST_WAITING_EACH)
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="decode")

    async def clean(self, client: str, content: bytes, mask_form: MaskForm | None = None) -> PictureFile:
        """Decode a picture that a client sent, and encode it as a PNG without metadata.

        Args:
            client: Whose turn it is.
            content: The file.
            mask_form: For a mask: which parts of it are repainted, if not the white ones.

        Raises:
            PictureError: It cannot be taken; the message says why.
        """
        return await self._carry_out(client, "clean", content, max_pixels=self._limits.max_pixels, mask_form=mask_form)

    async def thumbnail(self, client: str, content: bytes, size: int) -> bytes:
        """Make a thumbnail of an image; see :func:`deployments.storage.thumbnails.encode_thumbnail`.

        Raises:
            UnreadableImageError: It is not an image file.
            PictureError: It takes too long.
        """
        return (await self._carry_out(client, "thumbnail", content, size=size)).content

    async def enlarge(self, client: str, preview: bytes, settings: GenerationSettings, output_format: str) -> bytes:
        """Scale a preview to the size of its job's images.

        Args:
            client: Whose turn it is.
            preview: A file of an image format.
            settings: Of the job.
            output_format: A key of ``FORMATS``; the quality is the job's where the format is.
        """
        quality = settings.quality if output_format == settings.output_format else None
        made = await self._carry_out(
            client,
            "enlarge",
            preview,
            size=(settings.width, settings.height),
            output_format=output_format,
            quality=quality,
        )
        return made.content

    async def _carry_out(self, client: str, task: str, content: bytes, **arguments: Any) -> PictureFile:
        request = {"task": task, "arguments": arguments, "limits": asdict(self._limits)}
        try:
            async with self._turns.place(client):
                fields, made = await self._ask(request, content)
        except TooManyWaitingError:
            raise TooManyPicturesError from None
        if (refusal := fields.get("refusal")) is not None:
            raise REFUSALS[refusal](fields["message"])
        if (failure := fields.get("failure")) is not None:
            raise DecodingFailedError(failure)
        width, height = fields["size"]
        return PictureFile(made, width, height, fields["sha256"])

    async def _ask(self, fields: Mapping[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
        process = _idle_process()
        try:
            async with asyncio.timeout(self._limits.wait_seconds):
                loop = asyncio.get_running_loop()
                answer = await loop.run_in_executor(self._threads, process.ask, fields, content)
        except WorkerDiedError as error:
            self._replace()
            raise _reason(error.status) from None
        except BaseException as error:
            process.kill()
            self._replace()
            if isinstance(error, TimeoutError):
                raise PictureTooCostlyError from None
            raise
        _idle.append(process)
        return answer

    def _replace(self) -> None:
        """Start a process for the next one, who would have to wait for it."""
        process = WorkerProcess()
        _idle.append(process)
        self._threads.submit(process.start)


def _idle_process() -> WorkerProcess:
    while _idle:
        if not (process := _idle.pop()).has_ended:
            return process
    return WorkerProcess()


def _reason(status: int) -> Exception:
    if status == -signal.SIGPROF:
        return PictureTooCostlyError()
    logger.warning("A picture ended the process that decoded it, with status %d", status)
    return DamagedPictureError()
