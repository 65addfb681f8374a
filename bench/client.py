"""Measures the client's own CPU time of a get, beside that of a bare gRPC stub."""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any, Final

import grpc
import grpc.aio

import kekd
from bench import daemon, keystore, load
from bench.keystore import name_of
from bench.tables import Table, microseconds, paired, ratio
from kekd_server.listeners.engine import EngineName

_ROUNDS: Final = 9
_CALLS: Final = 1_000
"""Calls in a round, one after the other."""
_TIMEOUT: Final = 10.0
"""As kekd's default. Each call of a stub has a deadline, too."""
_ENGINES: Final[tuple[EngineName, ...]] = ("grpcio", "native")
_KEKD, _STUB = "kekd", "bare stub"

Seconds = dict[str, list[float]]
"""The CPU seconds of a call in each round, of kekd's client and of the stub."""


def tables(folder: Path) -> Iterator[Table]:
    rows: list[tuple[str, ...]] = []
    for engine in _ENGINES:
        root = keystore.fill(folder / engine, 1)
        with daemon.on_socket(root, engine) as server:
            clients = {"Client": _blocking(server.address), "AsyncClient": _async(server.address)}
        for client, seconds in clients.items():
            own, bare = seconds[_KEKD], seconds[_STUB]
            times = (microseconds(median(own)), microseconds(median(bare)))
            rows.append((client, engine, *times, ratio(paired(own, bare))))
    header = ("", "engine", f"{_KEKD}, µs", f"{_STUB}, µs", f"{_KEKD} ÷ {_STUB}")
    yield Table("CPU time of a get in the client's process", header, rows)


def _blocking(address: str) -> Seconds:
    request = load.request_of(0).SerializeToString()
    with kekd.Client(address) as client, grpc.insecure_channel(address) as channel:
        stub: Any = channel.unary_unary(load.METHOD)  # bytes to bytes

        def get() -> None:
            for _ in range(_CALLS):
                client.get_index_kms(None, name_of(0))

        def call() -> None:
            for _ in range(_CALLS):
                stub(request, timeout=_TIMEOUT)

        return _measure({_KEKD: get, _STUB: call})


def _async(address: str) -> Seconds:
    request = load.request_of(0).SerializeToString()
    with asyncio.Runner() as runner:
        client = kekd.AsyncClient(address)
        channel = runner.run(_channel(address))
        stub: Any = channel.unary_unary(load.METHOD)

        async def get() -> None:
            for _ in range(_CALLS):
                await client.get_index_kms(None, name_of(0))

        async def call() -> None:
            for _ in range(_CALLS):
                await stub(request, timeout=_TIMEOUT)

        try:
            return _measure({_KEKD: lambda: runner.run(get()), _STUB: lambda: runner.run(call())})
        finally:
            runner.run(client.close())
            runner.run(channel.close())


async def _channel(address: str) -> grpc.aio.Channel:
    """Makes the channel in the event loop that it belongs to."""
    return grpc.aio.insecure_channel(address)


def _measure(runs: Mapping[str, Callable[[], None]]) -> Seconds:
    for run in runs.values():  # connects
        run()
    seconds: Seconds = {name: [] for name in runs}
    for number in range(_ROUNDS):
        for name in sorted(runs, reverse=bool(number % 2)):
            seconds[name].append(_cpu_seconds(runs[name]))
    return seconds


def _cpu_seconds(run: Callable[[], None]) -> float:
    start = time.process_time()
    run()
    return (time.process_time() - start) / _CALLS
