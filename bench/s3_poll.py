"""Measures what a daemon's polls of a bucket cost, and how much they slow gets of another store."""

import asyncio
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import kekd
from bench import load, s3_stub
from bench.keystore import blob_of, name_of
from bench.process import Server
from bench.s3_contender import IN_FLIGHT, Kekd
from bench.tables import Goal, Table, count, milliseconds, ratio
from kekd_proto.v1 import envelope_pb2 as pb

_FLAGS: Final = ("--memory", "--s3-poll", "1")
_POLLS: Final = 5
_POLL_TIMEOUT: Final = 60.0
_CHECK_INTERVAL: Final = 0.02
_SECONDS: Final = 15.0
"""Of gets during and between polls."""
_MAX_CPU: Final = 0.15
_MIN_RATE: Final = 0.9


class _Poll(NamedTuple):
    cpu_seconds: float
    rate_between: float
    """Gets of the memory store per second, between polls."""
    rate_during: float


def table(folder: Path, envelopes: int, baseline: Path | None) -> Table:
    folder.mkdir()
    polls = {"kekd": _measure(folder / "kekd", envelopes, None)}
    if baseline:
        polls["baseline"] = _measure(folder / "baseline", envelopes, baseline)
    rows = [
        (
            name,
            milliseconds(poll.cpu_seconds),
            *(count(poll.rate_between), count(poll.rate_during)),
            ratio(poll.rate_during / poll.rate_between),
        )
        for name, poll in polls.items()
    ]
    own = polls["kekd"]
    what = "S3 (stub): gets of a memory store, during a poll ÷ between polls"
    goals = [
        Goal(f"S3 (stub): CPU of a poll of {envelopes:,}, s", own.cpu_seconds, "at most", _MAX_CPU),
        Goal(what, own.rate_during / own.rate_between, "at least", _MIN_RATE),
    ]
    title = f"S3 (stub): a poll of {envelopes:,} envelopes, and gets/s of a memory store"
    header = ("", "CPU of a poll, ms", "gets/s between", "gets/s during", "during ÷ between")
    return Table(title, header, rows, goals)


def _measure(folder: Path, envelopes: int, checkout: Path | None) -> _Poll:
    """Uses a stub of its own, which times the listings of this daemon alone."""
    with (
        s3_stub.on_loopback(folder.parent, 0, envelopes) as stub,
        Kekd("", folder, stub, checkout=checkout, engine="grpcio", flags=_FLAGS) as daemon,
    ):
        daemon.client.create_index_kms(kekd.StorageConfig.memory(), name_of(0), blob_of(0))
        with _watching(daemon.client):
            cpu_seconds = _cpu_of_poll(daemon, stub)
            times = _times_of_gets(daemon.server)
            return _Poll(cpu_seconds, *_rates(times, s3_stub.listings(stub)))


@contextmanager
def _watching(client: kekd.Client) -> Iterator[None]:
    events = client.watch_index_kms(kekd.StorageConfig.s3(s3_stub.BUCKET))
    next(events)

    def read() -> None:
        with suppress(kekd.EnvelopeError):  # when the daemon or the client ends
            for _ in events:
                pass

    threading.Thread(target=read, daemon=True).start()
    yield


def _cpu_of_poll(daemon: Kekd, stub: Server) -> float:
    """Returns the CPU seconds of the daemon from the end of a poll to the end of the next."""
    ends = []
    for _ in range(_POLLS + 1):
        _wait_for_poll(stub)
        ends.append(daemon.cpu_seconds())
    return median(after - before for before, after in pairwise(ends))


def _wait_for_poll(stub: Server) -> None:
    known, end = len(s3_stub.listings(stub)), time.monotonic() + _POLL_TIMEOUT
    while len(s3_stub.listings(stub)) == known:
        assert time.monotonic() < end, "the daemon does not poll"
        time.sleep(_CHECK_INTERVAL)


def _times_of_gets(server: Server) -> list[float]:
    """Returns when each get was sent. The next one is sent when a response arrives."""
    location = pb.StorageConfig(memory=pb.MemoryStorage())
    request = pb.GetEnvelopeRequest(config_location=location, index_name=name_of(0))
    message, end = request.SerializeToString(), time.monotonic() + _SECONDS
    times: list[float] = []

    def messages() -> Iterator[bytes]:
        while (now := time.monotonic()) < end:
            times.append(now)
            yield message

    asyncio.run(load.send(server.address, messages(), in_flight=IN_FLIGHT))
    return times


def _rates(times: list[float], listings: list[s3_stub.Listing]) -> tuple[float, float]:
    """Returns the gets per second between the listings and during them."""
    inside = [each for each in listings if each.start > times[0] and each.end < times[-1]]
    during = sum(bisect_left(times, each.end) - bisect_left(times, each.start) for each in inside)
    seconds = sum(each.end - each.start for each in inside)
    # Before the first and after the last of them, another one may have run.
    first, last = inside[0].start, inside[-1].end
    both = bisect_left(times, last) - bisect_left(times, first)
    return (both - during) / (last - first - seconds), during / seconds
