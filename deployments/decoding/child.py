"""A worker process: ``python -m deployments.decoding.child`` reads requests from its input, one after the other."""

from __future__ import annotations

import hashlib
import os
import resource
import signal
import sys
import traceback
from contextlib import suppress
from typing import Any

from PIL import AvifImagePlugin

from deployments.decoding.frames import read_frame, write_frame
from deployments.decoding.limits import Limits
from deployments.decoding.tasks import REFUSALS, TASKS
from deployments.storage.picture import PictureTooCostlyError


def main() -> None:
    """Answer requests until the owner closes the pipe, or ends."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer
    _renounce()
    while True:
        try:
            fields, content = read_frame(requests)
        except EOFError:
            return
        write_frame(answers, *_answer(fields, content))


def _renounce() -> None:
    """Give up what decoding does not need."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1  # each one takes address space


def _answer(fields: dict[str, Any], content: bytes) -> tuple[dict[str, Any], bytes]:
    def allow(pixels: int) -> None:
        # When its CPU time is up, the kernel ends the process, whatever a decoder is in.
        signal.setitimer(signal.ITIMER_PROF, limits.seconds_for(min(pixels, limits.max_pixels)))

    limits = Limits(**fields["limits"])
    with suppress(ValueError, OSError):  # macOS knows no such limit
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, resource.RLIM_INFINITY))
    try:
        allow(0)
        size, made = TASKS[fields["task"]](content, allow, **fields["arguments"])
    except tuple(REFUSALS.values()) as error:
        return {"refusal": type(error).__name__, "message": str(error)}, b""
    except MemoryError:
        return {"refusal": PictureTooCostlyError.__name__, "message": None}, b""
    except Exception:
        return {"failure": traceback.format_exc()}, b""
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return {"size": size, "sha256": hashlib.sha256(made).hexdigest()}, made


if __name__ == "__main__":
    main()
