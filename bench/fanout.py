"""Delivers each change to many watchers of one daemon.

python -m bench.fanout [--watchers 5000] [--rate 1] [--changes 20] [--engine grpcio]

Each connection has as many watches as the daemon allows. The program starts them in groups: gRPC
cancels some of the calls that its server hasn't accepted yet when these are more than 1,000. One
caller creates envelopes at a constant rate. The program prints the server's CPU time per delivered
event, the memory per watcher, and how long after the beginning of a create a sample of the watchers
gets its event. The clients share the machine with the daemon, and take more CPU time than it. A
change may be reported twice, because the kernel reports the daemon's own writes too; several that a
watcher hasn't read yet may be one event.
"""

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import grpc
import grpc.aio
from google.rpc import error_details_pb2, status_pb2

from bench import daemon, keystore
from bench.process import Server
from bench.tables import Table, count, microseconds, milliseconds
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_server.rpc.engines import MAX_STREAMS

_SERVICE = "/kekd.v1.EnvelopeService"
_SAMPLED = 50
"""One watcher of as many parses its events, which costs more than to count them."""
_STARTED_AT_ONCE = 500
_STARTED = b"\x0a"
"""The tag of WatchStarted."""
_STATUS = "grpc-status-details-bin"
_PREFIX = "change-"
_QUIET_SECONDS = 3.0
"""How long the last events may take."""


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


async def _create(channel: grpc.aio.Channel, watchers: Watchers, changes: int, rate: float) -> None:
    create: Any = channel.unary_unary(
        f"{_SERVICE}/CreateEnvelope",
        request_serializer=pb.CreateEnvelopeRequest.SerializeToString,
    )
    start = time.perf_counter()
    for number in range(changes):
        await asyncio.sleep(start + number / rate - time.perf_counter())
        name = f"{_PREFIX}{number:06}"
        watchers.began[name] = time.perf_counter()
        await create(pb.CreateEnvelopeRequest(index_name=name, blob=pb.KMSBlob(provider="none")))


async def _run(server: Server, count_of_watchers: int, changes: int, rate: float) -> Table:
    watchers = Watchers()
    empty = server.resident_bytes()
    channels = [
        _channel(server.address, number) for number in range(-(-count_of_watchers // MAX_STREAMS))
    ]
    tasks = await _start(watchers, channels, count_of_watchers)
    memory = (server.resident_bytes() - empty) / count_of_watchers
    before, start = server.cpu_seconds(), time.perf_counter()
    async with _channel(server.address, -1) as writer:
        await _create(writer, watchers, changes, rate)
    watchers.last = time.perf_counter()
    while time.perf_counter() < watchers.last + _QUIET_SECONDS:  # noqa: ASYNC110
        await asyncio.sleep(0.1)
    cpu, seconds = server.cpu_seconds() - before, watchers.last - start
    row = _row(watchers, cpu, seconds, memory, changes * count_of_watchers)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, *(channel.close() for channel in channels), return_exceptions=True)
    title = f"{changes:,} changes at {rate:g} a second to {count_of_watchers:,} watchers"
    header = (
        *(
            "events a change and watcher",
            "lost watches",
            "delivered a second",
            "server CPU an event, µs",
        ),
        *("memory a watcher, KiB", "p50, ms", "p99, ms"),
    )
    return Table(title, header, [row])


def _row(watchers: Watchers, cpu: float, seconds: float, memory: float, due: int) -> Sequence[str]:
    return (
        f"{watchers.delivered / due:.2f}",
        ", ".join(f"{count(times)} {why}" for why, times in watchers.lost.items()) or "0",
        count(watchers.delivered / seconds),
        microseconds(cpu / max(1, watchers.delivered)),
        f"{memory / 1024:.0f}",
        milliseconds(median(watchers.latencies or [0.0])),
        milliseconds(quantiles(watchers.latencies or [0.0, 0.0], n=100)[-1]),
    )


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.fanout")
    parser.add_argument("--watchers", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=1.0, help="changes per second")
    parser.add_argument("--changes", type=int, default=20)
    parser.add_argument("--engine", choices=("grpcio", "native"), default="grpcio")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kekd-bench.") as folder, suppress(KeyboardInterrupt):
        root = keystore.fill(Path(folder) / "keystore", 1)
        flags = ["--max-calls", str(2 * options.watchers)]
        with daemon.on_socket(root, options.engine, flags) as server:
            print(asyncio.run(_run(server, options.watchers, options.changes, options.rate)))


if __name__ == "__main__":
    _main()
