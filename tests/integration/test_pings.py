"""Clients can detect dead connections by pings."""

import asyncio

import pytest

from tests.fixtures.daemon import Daemon, both_engines
from tests.integration.fixtures.wire import GOAWAY, OPENING, PING, frame, read_frame

ACK = 1
PERMITTED_STRIKES = 2
"""The number of early pings that gRPC permits."""


async def answer(reader: asyncio.StreamReader) -> int:
    """Reads up to the answer of a ping or GOAWAY, and returns the frame's type."""
    while (got := await read_frame(reader)).kind != GOAWAY:
        if got.kind == PING and got.flags == ACK:
            break
    return got.kind


@both_engines
async def test_client_can_ping_without_calls(memory_daemon: Daemon) -> None:
    reader, writer = await asyncio.open_unix_connection(memory_daemon.socket)
    writer.write(OPENING)
    # The first ping is no strike, and gRPC answers the last before it ends the connection.
    for number in range(PERMITTED_STRIKES + 3):
        await asyncio.sleep(1.1 if number else 0)
        writer.write(frame(PING, 0, bytes(8)))
        assert await answer(reader) == PING
    writer.close()


@pytest.mark.engines("grpcio")  # native answers any number of pings
async def test_flood_of_pings_ends_the_connection(daemon: Daemon) -> None:
    reader, writer = await asyncio.open_unix_connection(daemon.socket)
    writer.write(OPENING + frame(PING, 0, bytes(8)) * 100)
    while await answer(reader) != GOAWAY:
        pass
    writer.close()
