"""Delivers each change to many watchers of one daemon.

Each connection has as many watches as the daemon allows. The program starts them in groups: gRPC
cancels some of the calls that its server hasn't accepted yet when these are more than 1,000. One
caller starts creates at a constant rate, and doesn't wait for their answers. The clients share the
machine with the daemon, and take more CPU time than it. A change may be reported twice, because the
kernel reports the daemon's own writes too; several that a watcher hasn't read yet may be one event.
"""

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2

from bench import daemon, keystore, load
from bench.process import Server
from bench.tables import Table, count, microseconds, milliseconds
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_server.listeners.engine import EngineName
from kekd_server.rpc.engines import MAX_STREAMS

_SERVICE = "/kekd.v1.EnvelopeService"
_WATCHERS = 5_000
_LOADS = ((1.0, 10), (100.0, 100))
"""Changes per second, and how many."""
_SAMPLED = 50
"""One watcher of as many parses its events, which costs more than to count them."""
_STARTED_AT_ONCE = 500
_STARTED = b"\x0a"
"""The tag of WatchStarted."""
_STATUS = "grpc-status-details-bin"
_PREFIX = "change-"
_QUIET_SECONDS = 3.0
"""How long the last events may take."""
_ENGINES: Sequence[EngineName] = ("grpcio", "native")
_FEWER_WATCHERS = 1_000
_GETS = 3_000
_RATE = 20.0
"""Changes per second during the gets: with 1,000 watchers, more events than the daemon sends."""


@dataclass
class Watchers:
    began: dict[str, float] = field(default_factory=dict)
    """When the create of each name began."""
    latencies: list[float] = field(default_factory=list)
    watching: int = 0
    delivered: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    """How many watches ended, by reason."""
    last: float = 0.0

    async def watch(self, channel: grpc.aio.Channel, *, is_sampled: bool) -> None:
        request = pb.WatchEnvelopesRequest(prefix=_PREFIX)
        call: Any = channel.unary_stream(
            f"{_SERVICE}/WatchEnvelopes",
            request_serializer=pb.WatchEnvelopesRequest.SerializeToString,
        )(request)
        try:
            async for event in call:
                if _PREFIX.encode() in event:
                    self._count(event, is_sampled=is_sampled)
                elif event.startswith(_STARTED):
                    self.watching += 1
        except grpc.aio.AioRpcError as error:
            self.lost[_reason(error)] += 1

    def _count(self, event: bytes, *, is_sampled: bool) -> None:
        self.delivered += 1
        self.last = time.perf_counter()
        if is_sampled:
            name = pb.WatchEnvelopesResponse.FromString(event).change.index_name
            self.latencies.append(self.last - self.began[name])


def _reason(error: grpc.aio.AioRpcError) -> str:
    """Returns kekd's reason, or the status code if gRPC itself ended the call."""
    for key, status in error.trailing_metadata():
        info = error_details_pb2.ErrorInfo()
        if key == _STATUS and status_pb2.Status.FromString(status).details[0].Unpack(info):
            return str(info.reason)
    return error.code().name


def _channel(address: str, number: int) -> grpc.aio.Channel:
    # Different options, so that the channels don't share a connection.
    options = (("grpc.use_local_subchannel_pool", 1), ("kekd.bench.channel", number))
    return grpc.aio.insecure_channel(address, options=options)


def tables(folder: Path) -> Iterator[Table]:
    flags = ["--max-calls", str(2 * _WATCHERS)]
    rows = []
    for rate, changes in _LOADS:
        root = keystore.fill(folder / f"keystore-{rate:g}", 1)
        with daemon.on_socket(root, flags=flags) as server:
            rows.append(asyncio.run(_run(server, changes, rate)))
    header = (
        *("changes a second", "changes", "events a change and watcher", "lost watches"),
        *("delivered a second", "server CPU an event, µs", "memory a watcher, KiB"),
        *("p50, ms", "p99, ms"),
    )
    yield Table(f"Changes to {_WATCHERS:,} watchers", header, rows)
    rows = []
    for engine in _ENGINES:
        root = keystore.fill(folder / f"keystore-{engine}", 1)
        with daemon.on_socket(root, engine, flags) as server:
            rows.append((engine, *asyncio.run(_run_gets(server))))
    title = f"Gets of another client, 64 in flight, while {_FEWER_WATCHERS:,} watchers get changes"
    yield Table(
        title,
        ("engine", "gets/s before", "gets/s during", "delivered a second", "lost watches"),
        rows,
    )


async def _start(
    watchers: Watchers, channels: Sequence[grpc.aio.Channel], total: int
) -> list["asyncio.Task[None]"]:
    """Returns when all watches have begun. Starts the next ones only after the earlier ones have
    begun, so that the server's queue of new calls is never full.
    """
    tasks: list[asyncio.Task[None]] = []
    for number in range(total):
        channel = channels[number // MAX_STREAMS]
        watch = watchers.watch(channel, is_sampled=number % _SAMPLED == 0)
        tasks.append(asyncio.create_task(watch))
        if len(tasks) % _STARTED_AT_ONCE == 0 or len(tasks) == total:
            while watchers.watching + watchers.lost.total() < len(tasks):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
    return tasks


@asynccontextmanager
async def _watched(server: Server, total: int) -> AsyncIterator[Watchers]:
    watchers = Watchers()
    channels = [_channel(server.address, number) for number in range(ceil(total / MAX_STREAMS))]
    tasks = await _start(watchers, channels, total)
    try:
        yield watchers
    finally:
        for task in tasks:
            task.cancel()
        closing = (channel.close() for channel in channels)
        await asyncio.gather(*tasks, *closing, return_exceptions=True)


async def _create(channel: grpc.aio.Channel, watchers: Watchers, changes: int, rate: float) -> None:
    """Starts the creates at the rate, and returns when all are done."""
    create: Any = channel.unary_unary(
        f"{_SERVICE}/CreateEnvelope",
        request_serializer=pb.CreateEnvelopeRequest.SerializeToString,
    )
    start = time.perf_counter()
    calls = []
    for number in range(changes):
        await asyncio.sleep(start + number / rate - time.perf_counter())
        name = f"{_PREFIX}{number:06}"
        watchers.began[name] = time.perf_counter()
        request = pb.CreateEnvelopeRequest(index_name=name, blob=pb.KMSBlob(provider="none"))
        calls.append(create(request))
    await asyncio.gather(*calls)


async def _run(server: Server, changes: int, rate: float) -> Sequence[str]:
    """Returns the row of a load."""
    empty = server.resident_bytes()
    async with _watched(server, _WATCHERS) as watchers:
        memory = (server.resident_bytes() - empty) / _WATCHERS
        before, start = server.cpu_seconds(), time.perf_counter()
        async with _channel(server.address, -1) as writer:
            await _create(writer, watchers, changes, rate)
        watchers.last = time.perf_counter()
        while time.perf_counter() < watchers.last + _QUIET_SECONDS:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        cpu, seconds = server.cpu_seconds() - before, watchers.last - start
    due = changes * _WATCHERS
    return (f"{rate:g}", count(changes), *_figures(watchers, cpu, seconds, memory, due))


def _lost(watchers: Watchers) -> str:
    return ", ".join(f"{count(times)} {why}" for why, times in watchers.lost.items()) or "0"


async def _run_gets(server: Server) -> Sequence[str]:
    before = await load.gets_per_second(server, _GETS)
    async with (
        _watched(server, _FEWER_WATCHERS) as watchers,
        _channel(server.address, -1) as writer,
    ):
        creating = asyncio.create_task(_create(writer, watchers, sys.maxsize, _RATE))
        while not (watchers.delivered or creating.done()):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
        delivered, start = watchers.delivered, time.perf_counter()
        during = await load.gets_per_second(server, _GETS)
        rate = (watchers.delivered - delivered) / (time.perf_counter() - start)
        creating.cancel()
        with suppress(asyncio.CancelledError):
            await creating  # raises the error that ended it, if any
    return count(before), count(during), count(rate), _lost(watchers)


def _figures(
    watchers: Watchers, cpu: float, seconds: float, memory: float, due: int
) -> Sequence[str]:
    return (
        f"{watchers.delivered / due:.2f}",
        _lost(watchers),
        count(watchers.delivered / seconds),
        microseconds(cpu / max(1, watchers.delivered)),
        f"{memory / 1024:.0f}",
        milliseconds(median(watchers.latencies or [0.0])),
        milliseconds(quantiles(watchers.latencies or [0.0, 0.0], n=100)[-1]),
    )
