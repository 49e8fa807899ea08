"""The ports that the service and Ray want, and who has them."""

from __future__ import annotations

import errno
import os
import re
import socket
from dataclasses import dataclass

DASHBOARD = 8265
HEAD = 6379
CLIENTS = 10001

_RAYS = re.compile(r"ray::|[/ ]ray[/ ]|gcs_server|raylet")
_NOBODY = "a process of another user"


@dataclass(frozen=True)
class Port:
    """A port of this machine.

    Attributes:
        number: Its number.
        holder: Who listens there, such as ``nginx (process 7)``; empty where it is free.
        is_rays: Whether that is a process of Ray's, as where the service runs.
        is_own: Whether the process is of the user who asks.
        failure: Why it cannot be listened on although nobody does; empty if it can.
    """

    number: int
    holder: str = ""
    is_rays: bool = False
    is_own: bool = False
    failure: str = ""


def look_at_ports(http_port: int) -> tuple[Port, ...]:
    """Look at the ports that are wanted.

    Args:
        http_port: Where the service shall listen.
    """
    return tuple(look_at_port(number) for number in (http_port, DASHBOARD, HEAD, CLIENTS))


def look_at_port(number: int) -> Port:
    """Try to bind a port of the loopback interface, and find who has it where that fails."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return _held(number)
            return Port(number, failure=os.strerror(error.errno or 0))
    return Port(number)


def _held(number: int) -> Port:
    import psutil  # noqa: PLC0415 - only the doctor needs it

    try:
        process_id = next(
            (
                each.pid
                for each in psutil.net_connections("tcp")
                if each.status == psutil.CONN_LISTEN and each.laddr.port == number and each.pid is not None
            ),
            None,
        )
        if process_id is None:
            return Port(number, _NOBODY)
        process = psutil.Process(process_id)
        name, command, user = process.name(), " ".join(process.cmdline()), process.uids().effective
    except psutil.Error:
        return Port(number, _NOBODY)
    return Port(
        number,
        f"{name} (process {process_id})",
        is_rays=_RAYS.search(f"{name} {command}") is not None,
        is_own=user == os.geteuid(),
    )
