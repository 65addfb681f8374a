"""Measures envelopes in S3: kekd, another checkout of kekd, boto3, and a poll for changes.

KEKD_BENCH_BASELINE names the folder of the other checkout, which has kekd in `.venv`.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection
from itertools import count as counter
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Final
from unittest.mock import patch

import kekd
from bench import s3_poll, s3_stub, seaweedfs
from bench.keystore import blob_of, name_of
from bench.process import Server
from bench.s3_contender import CREDENTIALS, IN_FLIGHT, Boto3, Contender, Kekd
from bench.tables import Goal, Table, count, milliseconds, paired, ratio

_ENVELOPES: Final = 10_000
_LATE_SECONDS: Final = 0.02
"""Simulates S3 in the same region."""
_ROUNDS: Final = 5
_LISTING_ROUNDS: Final = 3
_GETS: Final = 1_500
_CREATES: Final = 750
_SINGLE_GETS: Final = 100
_BATCH: Final = 1_000
_MIN_CREATED: Final = 100_000
"""The names of created envelopes have numbers from here on."""

_WITHOUT_HISTORY: Final = ("--history-versions", "0")
"""boto3 and the baseline keep none. `history` measures its cost."""

_MIN_GETS: Final = 3.5
_MAX_GET_CPU: Final = 0.9
_MIN_CREATES: Final = 3.0
_MAX_ADDED: Final = 1.8
_MIN_BATCH: Final = 6.0
_MAX_SCAN: Final = 6.0
_MAX_NAMES: Final = 0.5


@dataclass(slots=True)
class _Calls:
    """The rounds of one contender with `IN_FLIGHT` calls."""

    contender: Contender
    s3: Server
    get_rates: list[float] = field(default_factory=list)
    get_cpu: list[float] = field(default_factory=list)
    """CPU seconds a get."""
    get_s3_cpu: list[float] = field(default_factory=list)
    """CPU seconds of the S3 server a get."""
    create_rates: list[float] = field(default_factory=list)
    create_cpu: list[float] = field(default_factory=list)
    create_s3_cpu: list[float] = field(default_factory=list)

    def measure(self, gets: Sequence[int], creates: Sequence[int]) -> None:
        rate, cpu, s3_cpu = self._measure(self.contender.gets, gets)
        self.get_rates.append(rate)
        self.get_cpu.append(cpu)
        self.get_s3_cpu.append(s3_cpu)
        rate, cpu, s3_cpu = self._measure(self.contender.creates, creates)
        self.create_rates.append(rate)
        self.create_cpu.append(cpu)
        self.create_s3_cpu.append(s3_cpu)

    def row(self) -> Sequence[str]:
        times = (self.get_cpu, self.get_s3_cpu, self.create_cpu, self.create_s3_cpu)
        get, s3_get, create, s3_create = (milliseconds(median(each)) for each in times)
        return (
            self.contender.name,
            *(count(median(self.get_rates)), get, s3_get),
            *(count(median(self.create_rates)), create, s3_create),
        )

    def ratios(self, base: "_Calls") -> Sequence[str]:
        pairs = (
            (self.get_rates, base.get_rates),
            (self.get_cpu, base.get_cpu),
            (self.get_s3_cpu, base.get_s3_cpu),
            (self.create_rates, base.create_rates),
            (self.create_cpu, base.create_cpu),
            (self.create_s3_cpu, base.create_s3_cpu),
        )
        name = f"{self.contender.name} ÷ {base.contender.name}"
        return (name, *(ratio(paired(*pair)) for pair in pairs))

    def _measure(
        self, call: Callable[[Sequence[int]], None], numbers: Sequence[int]
    ) -> tuple[float, float, float]:
        """Returns the calls per second, and the CPU seconds per call: its own and S3's."""
        before, s3_before = self.contender.cpu_seconds(), self.s3.cpu_seconds()
        seconds = _seconds(lambda: call(numbers))
        cpu, s3_cpu = self.contender.cpu_seconds() - before, self.s3.cpu_seconds() - s3_before
        return len(numbers) / seconds, cpu / len(numbers), s3_cpu / len(numbers)


def tables(folder: Path) -> Iterator[Table]:
    path = os.environ.get("KEKD_BENCH_BASELINE")
    baseline = Path(path) if path else None
    with patch.dict(os.environ, CREDENTIALS):
        for delay, name in (
            (0.0, "stub"),
            (_LATE_SECONDS, f"stub, {_LATE_SECONDS * 1e3:.0f} ms late"),
        ):
            with s3_stub.on_loopback(folder, delay, _ENVELOPES) as server:
                yield from _tables(folder / f"{delay:g}", name, server, baseline, server)
        with seaweedfs.on_loopback(
            folder / "weed", s3_stub.BUCKET, *CREDENTIALS.values()
        ) as server:
            yield from _tables(folder / "seaweedfs", "SeaweedFS", server, baseline, None)
        yield s3_poll.table(folder / "poll", _ENVELOPES, baseline)


def _tables(
    folder: Path, name: str, server: Server, baseline: Path | None, stub: Server | None
) -> Iterator[Table]:
    """Only the stub has its envelopes already, and answers requests without a signature."""
    folder.mkdir()
    boto3 = Boto3(server)
    with ExitStack() as stack:
        own = Kekd("kekd", folder / "kekd", server, flags=_WITHOUT_HISTORY)
        daemons = [stack.enter_context(own)]
        if stub is None:
            _fill(daemons[0].client)
        if baseline:
            other = Kekd("baseline", folder / "baseline", server, checkout=baseline)
            daemons.append(stack.enter_context(other))
        yield _many_table(name, daemons, boto3)
        contenders: list[Contender] = [*daemons, boto3]
        if stub:
            yield _single_table(name, contenders, stub)
        calls = [_Calls(contender, server) for contender in contenders]
        yield _calls_table(name, calls, has_baseline=bool(baseline))


def _fill(client: kekd.Client) -> None:
    pushes = [(name_of(number), blob_of(number), None) for number in range(_ENVELOPES)]
    assert all(isinstance(etag, str) for _, etag in client.push_many_index_kms(None, pushes))


def _calls_table(name: str, calls: Sequence[_Calls], *, has_baseline: bool) -> Table:
    numbers = counter(_MIN_CREATED)
    for round_number in range(_ROUNDS):
        for each in calls[:: -1 if round_number % 2 else 1]:
            each.measure(range(_GETS), list(islice(numbers, _CREATES)))
    own, *others = calls
    goals = [_goal("CPU of a get, ms", name, median(own.get_cpu) * 1e3, _MAX_GET_CPU)]
    if has_baseline:
        gets = paired(own.get_rates, others[0].get_rates)
        creates = paired(own.create_rates, others[0].create_rates)
        goals += [
            Goal(f"S3 ({name}): gets/s ÷ baseline", gets, "at least", _MIN_GETS),
            Goal(f"S3 ({name}): creates/s ÷ baseline", creates, "at least", _MIN_CREATES),
        ]
    title = f"S3 ({name}): {IN_FLIGHT} calls in flight"
    header = (
        *("", "gets/s", "CPU a get, ms", "S3's CPU a get, ms"),
        *("creates/s", "CPU a create, ms", "S3's CPU a create, ms"),
    )
    rows = [*(each.row() for each in calls), *(own.ratios(each) for each in others)]
    return Table(title, header, rows, goals)


def _single_table(name: str, contenders: Sequence[Contender], stub: Server) -> Table:
    connection = HTTPConnection(stub.address)
    bare: list[float] = []
    seconds: list[list[float]] = [[] for _ in contenders]
    for _ in range(_ROUNDS):
        bare.append(_median_seconds(lambda number: _bare_get(connection, number)))
        for contender, times in zip(contenders, seconds, strict=True):
            times.append(_median_seconds(contender.get))
    connection.close()
    added = [median(own - base for own, base in zip(times, bare, strict=True)) for times in seconds]
    rows = [
        (contender.name, milliseconds(median(times)), milliseconds(more))
        for contender, times, more in zip(contenders, seconds, added, strict=True)
    ]
    rows.append(("GET over http.client, without a signature", milliseconds(median(bare)), "0"))
    goal = _goal("a get, one at a time, beyond a bare GET, ms", name, added[0] * 1e3, _MAX_ADDED)
    title = f"S3 ({name}): one get at a time, median ms"
    return Table(title, ("", "ms", "beyond the bare GET"), rows, [goal])


def _bare_get(connection: HTTPConnection, number: int) -> None:
    connection.request("GET", f"/{s3_stub.BUCKET}/{s3_stub.key_of(number)}")
    assert connection.getresponse().read()


def _median_seconds(get: Callable[[int], None]) -> float:
    return median(_seconds(lambda: get(number)) for number in range(_SINGLE_GETS))  # noqa: B023


def _many_table(name: str, daemons: Sequence[Kekd], boto3: Boto3) -> Table:
    batches: list[list[float]] = [[] for _ in daemons]
    scans: list[list[float]] = [[] for _ in daemons]
    names: list[list[float]] = [[] for _ in daemons]
    bare: list[float] = []
    for round_number in range(_LISTING_ROUNDS):
        bare.append(_listing_seconds(boto3.names))
        for place, each in enumerate(daemons):
            names[place].append(_listing_seconds(each.names))
            scans[place].append(_listing_seconds(each.scan))
            start = round_number * _BATCH
            batches[place].append(_seconds(lambda: each.batch(range(start, start + _BATCH))))  # noqa: B023
    rows = [
        (daemon.name, *(milliseconds(median(times[place])) for times in (batches, scans, names)))
        for place, daemon in enumerate(daemons)
    ]
    rows.append((f"{boto3.name}: its paginator", "", "", milliseconds(median(bare))))
    goals = [
        _goal(f"{_ENVELOPES:,} full envelopes, s", name, median(scans[0]), _MAX_SCAN),
        _goal(
            f"{_ENVELOPES:,} names ÷ boto3's paginator", name, paired(names[0], bare), _MAX_NAMES
        ),
    ]
    if len(daemons) > 1:
        gain = paired(batches[1], batches[0])
        what = f"S3 ({name}): BatchGet of {_BATCH:,}, baseline ÷ kekd"
        goals.append(Goal(what, gain, "at least", _MIN_BATCH))
        columns = (batches, scans, names)
        rows.append(("baseline ÷ kekd", *(ratio(paired(each[1], each[0])) for each in columns)))
    title = f"S3 ({name}): {_ENVELOPES:,} envelopes, ms"
    header = ("", f"BatchGet of {_BATCH:,}", "all, in full", "all names")
    return Table(title, header, rows, goals)


def _listing_seconds(list_all: Callable[[], int]) -> float:
    start = time.perf_counter()
    assert list_all() == _ENVELOPES
    return time.perf_counter() - start


def _seconds(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _goal(what: str, server: str, value: float, limit: float) -> Goal:
    return Goal(f"S3 ({server}): {what}", value, "at most", limit)
