"""Unread watches take bounded memory, and are ended.

WATCH_CHANGES=200000 pytest makes this number of changes.
"""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest

import kekd
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_proto.v1.envelope_pb2_grpc import EnvelopeServiceStub
from kekd_server.storage.watch.subscription import MAX_PENDING
from tests.fixtures.calls import BLOB
from tests.fixtures.daemon import Daemon, both_engines
from tests.fixtures.metrics import Scraped, StartScraped
from tests.integration.fixtures.watch import OpenWatch
from tests.integration.fixtures.wire import failure_of
from tests.patience import PATIENCE, eventually

pytestmark = both_engines

CHANGES = int(os.environ.get("WATCH_CHANGES", "2000"))
STUCK = 40
"""More than asyncio's default threads, as pygrpc-native needs one for each."""
MOST_GROWTH = 32
"""In megabytes."""
SMALL_WINDOW = [
    ("grpc.http2.bdp_probe", 0),
    ("grpc.enable_retries", 0),
    ("grpc.use_local_subchannel_pool", 1),
]

_log = logging.getLogger(__name__)


@pytest.fixture
def scraped(start_scraped: StartScraped) -> Scraped:
    return start_scraped("--memory", "--shutdown-grace", "3600", forked=False)


@pytest.fixture
def daemon(scraped: Scraped) -> Daemon:
    return scraped.daemon


@pytest.fixture
def stuck(daemon: Daemon) -> Iterator[list[Any]]:
    """Running watches that no client reads."""
    with ExitStack() as stack:
        calls = []
        for _ in range(STUCK):
            channel = stack.enter_context(grpc.insecure_channel(daemon.address, SMALL_WINDOW))
            calls.append(EnvelopeServiceStub(channel).WatchEnvelopes(pb.WatchEnvelopesRequest()))
            next(calls[-1])
        yield calls


def megabytes(daemon: Daemon) -> int:
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) // 1024


def name(number: int) -> str:
    """Returns a name. Names repeat only after more changes than can be pending and merged."""
    return f"{number % (MAX_PENDING + 2000):0>200}"


def write(client: kekd.Client, changes: range) -> None:
    for number in changes:
        client.push_index_kms(None, name(number), BLOB)


@pytest.mark.slow
def test_watcher_that_does_not_read_is_dropped_and_delays_no_other(
    scraped: Scraped, client: kekd.Client, stuck: list[Any], open_watch: OpenWatch
) -> None:
    daemon = scraped.daemon
    watch = open_watch(daemon, timeout=PATIENCE + CHANGES / 10)
    before = megabytes(daemon)
    with ThreadPoolExecutor(1) as writer:
        written = writer.submit(write, client, range(CHANGES))
        assert [watch.next().name for _ in range(CHANGES)] == [
            name(number) for number in range(CHANGES)
        ]
        written.result()
    _log.info("MB: %d before, %d after %d changes", before, megabytes(daemon), CHANGES)
    eventually(lambda: scraped.total("kekd_watches_dropped_total") == STUCK)
    write(client, range(CHANGES, CHANGES + 10))
    watch.until(name(CHANGES + 9))
    assert megabytes(daemon) < before + MOST_GROWTH
    for call in stuck[: STUCK // 2]:
        code, info = failure_of(list, call)
        assert (code, info.reason, info.metadata["store"]) == (
            "RESOURCE_EXHAUSTED",
            "WATCH_FELL_BEHIND",
            "memory",
        )
    # The watchers that never read are gone too.
    daemon.stop()
    assert "cancelling" not in daemon.read_log()
    assert "Traceback" not in daemon.read_log()


def test_watcher_that_never_reads_does_not_delay_the_shutdown(
    daemon: Daemon, client: kekd.Client, stuck: list[Any]
) -> None:
    write(client, range(CHANGES))
    assert daemon.stop() == 0
    assert "Traceback" not in daemon.read_log()
