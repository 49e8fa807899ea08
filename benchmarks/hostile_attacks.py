"""Attacks on a service by clients with raw sockets, in a process of their own.

The benchmark of hostile clients starts it with a target on the first line of its standard input. It prints ``ready``,
attacks until the input ends, and prints what it got.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import secrets
import socket
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from benchmarks.hostile_pictures import large_picture, padded_picture
from tests.support.hostile_files import repeated_scans

MiB = 1024**2
_NICENESS = 19  # below Ray's workers, which have 15: attackers would be on other machines
_PAUSE_SECONDS = 0.1  # after a connection that was refused
_SMALL_BUFFER = 4096

Act = Callable[[], Awaitable[str]]
Clients = list[Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Target:
    """Who is attacked, and with what.

    Attributes:
        port: Of the service, on the loopback interface.
        key: The attacker's API key.
        job_id: A job of the attacker's.
        image_ids: Its images.
        outcomes: What became of the attacker's requests, by status or in words.
    """

    port: int
    key: str
    job_id: str
    image_ids: list[str]
    outcomes: Counter[str] = field(default_factory=Counter)

    def head(self, method: str, path: str, *headers: str) -> bytes:
        """The first lines of a request; without the empty line that ends them."""
        lines = (f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {self.key}", *headers)
        return "".join(f"{line}\r\n" for line in lines).encode()

    def upload(self, body: bytes) -> bytes:
        """A request that sends a picture."""
        length = f"Content-Length: {len(body)}"
        return (
            self.head("POST", "/api/inputs", "Content-Type: image/jpeg", length, "Connection: close") + b"\r\n" + body
        )

    async def again(self, act: Act) -> None:
        """Do something again and again, and count its outcomes."""
        while True:
            try:
                outcome = await act()
            except (OSError, asyncio.IncompleteReadError) as error:
                outcome = "closed" if isinstance(error, asyncio.IncompleteReadError) else type(error).__name__
                await asyncio.sleep(_PAUSE_SECONDS)
            except asyncio.CancelledError:
                self.outcomes["open at the end"] += 1
                raise
            self.outcomes[outcome] += 1


class Connection:
    """A connection that is dropped in the end, whatever was sent.

    Args:
        port: Of the service.
        receive_buffer: Bytes that the kernel takes before they are read, or None for its own choice.
    """

    def __init__(self, port: int, receive_buffer: int | None = None) -> None:
        self._port = port
        self._socket = socket.socket()
        self._socket.setblocking(False)
        if receive_buffer is not None:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)

    async def __aenter__(self) -> Connection:
        try:
            await asyncio.get_running_loop().sock_connect(self._socket, ("127.0.0.1", self._port))
            self.reader, self.writer = await asyncio.open_connection(sock=self._socket, limit=_SMALL_BUFFER)
        except BaseException:
            self._socket.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()

    async def send(self, content: bytes) -> None:
        """Send bytes, as fast as they are taken."""
        self.writer.write(content)
        await self.writer.drain()

    async def status(self) -> str:
        """Read the first line of an answer, and return its status."""
        line = await self.reader.readuntil(b"\r\n")
        return line.split()[1].decode()

    async def whole_answer(self) -> str:
        """Read an answer that tells its length, and return its status."""
        status, length = await self.status(), 0
        while (line := await self.reader.readuntil(b"\r\n")) != b"\r\n":
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        await self.reader.readexactly(length)
        return status

    async def status_while(self, sending: Coroutine[Any, Any, None]) -> str:
        """Return the status of an answer, which may come before everything was sent."""
        sender = asyncio.create_task(sending)
        try:
            return await self.status()
        finally:
            sender.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await sender


def scans(target: Target) -> Clients:
    """JPEGs of 33 megapixels whose scan comes 1000 or 89 times more; half of them hang up after a second."""
    bombs = [target.upload(repeated_scans(5760, 5760, number)) for number in (1000, 89)]
    patient = [target.again(lambda bomb=bomb: _upload(target, bomb)) for bomb in bombs * 2]
    hasty = [target.again(lambda bomb=bomb: _upload(target, bomb, 1.0)) for bomb in bombs * 2]
    return patient + hasty


def large_pictures(target: Target) -> Clients:
    """Ordinary JPEGs of 33 megapixels, four at a time."""
    picture = target.upload(large_picture(5760, 5760))
    return [target.again(lambda: _upload(target, picture)) for _ in range(4)]


def slow_headers(target: Target) -> Clients:
    """300 connections that send a byte of a header each second."""
    head = b"GET /api/models HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "
    return [target.again(lambda: _trickle(target, head, b"x")) for _ in range(300)]


def slow_bodies(target: Target) -> Clients:
    """200 uploads that announce 10 MB and send four bytes each second."""
    head = target.head("POST", "/api/inputs", "Content-Type: image/png", "Content-Length: 10000000") + b"\r\n"
    return [target.again(lambda: _trickle(target, head, b"\x89PNG")) for _ in range(200)]


def wrong_keys(target: Target) -> Clients:
    """25 connections that try another wrong API key with each request."""

    async def try_keys() -> str:
        async with Connection(target.port) as connection:
            while True:
                key = f"ci_{secrets.token_hex(6)}_{secrets.token_hex(32)}"
                wrong = Target(target.port, key, "", [])
                await connection.send(wrong.head("GET", "/api/models") + b"\r\n")
                target.outcomes[await connection.whole_answer()] += 1

    return [target.again(try_keys) for _ in range(25)]


def dropped_streams(target: Target) -> Clients:
    """600 event streams that are never read, and dropped and opened again after five to fifteen seconds."""
    heads = [target.head("GET", path) + b"\r\n" for path in ("/api/events", f"/api/jobs/{target.job_id}/events")]

    async def open_and_drop(head: bytes) -> str:
        async with Connection(target.port) as connection:
            await connection.send(head)
            await asyncio.sleep(random.uniform(5, 15))
        return "dropped"

    return [target.again(lambda head=heads[number % 2]: open_and_drop(head)) for number in range(600)]


def big_bodies(target: Target) -> Clients:
    """24 uploads of 20 MiB at once, of a small picture and zeros behind it."""
    body = target.upload(padded_picture(20 * MiB))
    return [target.again(lambda: _upload(target, body)) for _ in range(24)]


def thumbnails(target: Target) -> Clients:
    """200 connections that ask for thumbnails and read an answer a byte at a time."""
    paths = [f"/api/image/{image_id}/thumbnail?size={size}" for image_id in target.image_ids for size in (256, 512)]
    heads = [target.head("GET", path, "Connection: close") + b"\r\n" for path in paths]
    return [target.again(lambda: _sip(target, random.choice(heads), 0.01, None)) for _ in range(200)]


def zip_files(target: Target) -> Clients:
    """100 connections that ask for a ZIP of all images, read ten bytes a second, and drop it after five to fifteen."""
    body = json.dumps({"ids": target.image_ids}).encode()
    headers = ("Content-Type: application/json", f"Content-Length: {len(body)}", "Connection: close")
    whole = target.head("POST", "/api/images/download", *headers) + b"\r\n" + body
    return [target.again(lambda: _sip(target, whole, 0.1, random.uniform(5, 15))) for _ in range(100)]


ATTACKS: dict[str, Callable[[Target], Clients]] = {
    "scans": scans,
    "large-pictures": large_pictures,
    "slow-headers": slow_headers,
    "slow-bodies": slow_bodies,
    "wrong-keys": wrong_keys,
    "dropped-streams": dropped_streams,
    "big-bodies": big_bodies,
    "thumbnails": thumbnails,
    "zip": zip_files,
}


async def _upload(target: Target, request: bytes, patience: float | None = None) -> str:
    """Send a request and return the answer's status; hang up after so many seconds."""
    async with Connection(target.port) as connection:
        try:
            async with asyncio.timeout(patience):
                return await connection.status_while(connection.send(request))
        except TimeoutError:
            return "hung up"


async def _trickle(target: Target, head: bytes, piece: bytes) -> str:
    """Send the beginning of a request and then a piece each second, until the service has enough of it."""

    async def send_slowly() -> None:
        await connection.send(head)
        while True:
            await asyncio.sleep(1.0)
            await connection.send(piece)

    async with Connection(target.port) as connection:
        return await connection.status_while(send_slowly())


async def _sip(target: Target, request: bytes, pause: float, patience: float | None) -> str:
    """Read an answer a byte at a time, with pauses, to its end; drop it after so many seconds."""
    async with Connection(target.port, _SMALL_BUFFER) as connection:
        await connection.send(request)
        with suppress(TimeoutError):
            async with asyncio.timeout(patience):
                target.outcomes[await connection.status()] += 1
                while await connection.reader.read(1):  # noqa: ASYNC110 - slow on purpose
                    await asyncio.sleep(pause)
                return "read to the end"
    return "dropped"


async def _attack(clients: Clients) -> None:
    """Run the clients until standard input ends."""
    tasks = [asyncio.create_task(client) for client in clients]
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        if not isinstance(result, asyncio.CancelledError):
            print(f"a client of the attack ended: {result!r}", file=sys.stderr)


def main() -> None:
    """Attack as the first argument says."""
    os.nice(_NICENESS)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    target = Target(**json.loads(sys.stdin.readline()))
    clients = ATTACKS[sys.argv[1]](target)
    began = time.process_time()
    asyncio.run(_attack(clients))
    print(json.dumps({"outcomes": target.outcomes, "cpu_seconds": time.process_time() - began}))


if __name__ == "__main__":
    main()
