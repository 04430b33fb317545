"""Who attacks a mailbox with many connections: ``python -m support.hostile_connections PORT CONNECTIONS``.

Connections come from many addresses. Each is opened again soon after it is closed. It prints a line when all have been
opened once, and ends with its parent.
"""

from __future__ import annotations

import asyncio
import random
import resource
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress

ADDRESSES = 100
PAUSE = 1.0
HOST = b"Host: x\r\n"
Attack = Callable[[asyncio.StreamReader, asyncio.StreamWriter, random.Random], Awaitable[None]]


async def half_sent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> None:
    """Send half a request and wait."""
    writer.write(b"POST /v1/rounds/1/commitments HTTP/1.1\r\n" + HOST)
    await reader.read()


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> None:
    """Send nothing."""
    await reader.read()


async def trickled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> None:
    """Send one byte of a header a second."""
    writer.write(b"GET /v1/rounds/1/proofs/0 HTTP/1.1\r\n" + HOST + b"X: ")
    while not reader.at_eof():
        writer.write(b"a")
        await writer.drain()
        with suppress(TimeoutError):
            await asyncio.wait_for(reader.read(1024), 1.0)


async def big_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> None:
    """Send more than any message has, in one or in many parts, and as much as is taken."""
    length = b"Content-Length: 999999999\r\n\r\n" if draw.random() < 0.5 else b"Transfer-Encoding: chunked\r\n\r\n"
    writer.write(b"POST /v1/rounds/1/reveals HTTP/1.1\r\n" + HOST + length)
    while not reader.at_eof():
        writer.write(b"10000\r\n" + b"a" * 65_536 + b"\r\n")
        await writer.drain()
        await asyncio.sleep(0.05)


async def slow_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> None:
    """Promise a message and send its first byte."""
    writer.write(b"POST /v1/rounds/1/commitments HTTP/1.1\r\n" + HOST + b"Content-Length: 300\r\n\r\n{")
    await reader.read()


async def invented(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> None:
    """Ask for proofs of rounds that do not exist, and send messages to them."""
    while not reader.at_eof():
        index = draw.randrange(2, 2**32)
        if draw.random() < 0.5:
            writer.write(b"GET /v1/rounds/%d/proofs/%d HTTP/1.1\r\n" % (index, draw.randrange(2**32)) + HOST + b"\r\n")
        else:
            body = b'{"participant": 0, "commitment": "%s", "signature": "%s"}' % (b"a" * 64, b"b" * 130)
            head = b"POST /v1/rounds/%d/commitments HTTP/1.1\r\n" % index + HOST
            writer.write(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        await reader.read(1024)
        await asyncio.sleep(0.5)


async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, draw: random.Random) -> None:
    """Ask many things at once and take no answer."""
    writer.write((b"GET /v1/rounds/1/proofs/0 HTTP/1.1\r\n" + HOST + b"\r\n") * 100)
    await asyncio.sleep(60.0)


ATTACKS: tuple[Attack, ...] = (half_sent, half_sent, silent, trickled, big_body, slow_body, invented, deaf)


class Attackers:
    """Many connections to a port of this machine."""

    def __init__(self, port: int, count: int) -> None:
        self.port, self.count = port, count
        self.opened = 0

    async def run(self) -> None:
        """Attack until the process ends."""
        await asyncio.gather(*(self._attack(number) for number in range(self.count)))

    async def _attack(self, number: int) -> None:
        draw = random.Random(number)
        own = (f"127.0.{1 + number % ADDRESSES}.1", 0)
        is_new = True
        await asyncio.sleep(draw.random() * 2.0)
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=own)
                if is_new:
                    is_new = False
                    self.opened += 1
                    if self.opened == self.count:
                        print(self.opened, flush=True)
                with suppress(OSError, asyncio.IncompleteReadError):
                    await draw.choice(ATTACKS)(reader, writer, draw)
                writer.transport.abort()
            await asyncio.sleep(PAUSE * (0.5 + draw.random()))


if __name__ == "__main__":
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    asyncio.run(Attackers(int(sys.argv[1]), int(sys.argv[2])).run())
