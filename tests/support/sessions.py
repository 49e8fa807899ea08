"""Processes by the session that they belong to: Ray gives them groups of their own, and leaves them in the session."""

from __future__ import annotations

import os
from collections.abc import Collection

import psutil


def session_of(process: psutil.Process) -> int | None:
    """The session of a process that runs; None for one that has ended."""
    try:
        return None if process.status() == psutil.STATUS_ZOMBIE else os.getsid(process.pid)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return None


def processes_of(sessions: Collection[int]) -> list[psutil.Process]:
    """The processes that run in any of these sessions."""
    return [process for process in psutil.process_iter() if session_of(process) in sessions]
