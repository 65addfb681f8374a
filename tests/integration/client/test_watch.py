"""Events and ends of watches."""

import asyncio
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import kekd
from kekd_proto.v1 import envelope_pb2 as pb
from tests.fixtures.daemon import Daemon, both_engines
from tests.integration.client.blocking import OpenClient
from tests.integration.client.calls import BLOB, OTHER
from tests.integration.client.scripted import HEARTBEAT, Scripted
from tests.patience import PATIENCE


@pytest.fixture
def watcher(open_client: OpenClient, scripted: Scripted) -> Iterator[kekd.Client]:
    with open_client(scripted.address) as client:
        yield client


def begun(
    client: kekd.Client, scripted: Scripted, heartbeat: float = HEARTBEAT
) -> Generator[kekd.Change | kekd.Resync, None, None]:
    """A watch whose first event was read."""
    events = client.watch_index_kms()
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(next, events)
        scripted.watch().begin(heartbeat)
        assert first.result() == kekd.Resync()
    return events


def test_events_are_yielded_in_order(watcher: kekd.Client, scripted: Scripted) -> None:
    events = begun(watcher, scripted)
    stream = scripted.watch()
    stream.change("i", pb.Change.KIND_CREATED)
    stream.heartbeat()
    stream.change("i", pb.Change.KIND_PUSHED)
    stream.resync()
    stream.change("j", pb.Change.KIND_DELETED)
    stream.change("j", pb.Change.KIND_UNDELETED)
    stream.change("j", pb.Change.KIND_RESTORED)
    assert [next(events) for _ in range(6)] == [
        kekd.Change("i", "created", "new"),
        kekd.Change("i", "pushed", "new"),
        kekd.Resync(),
        kekd.Change("j", "deleted", "new"),
        kekd.Change("j", "undeleted", "new"),
        kekd.Change("j", "restored", "new"),
    ]


def test_unknown_event_is_skipped(watcher: kekd.Client, scripted: Scripted) -> None:
    events = begun(watcher, scripted)
    scripted.watch().send_unknown_event()
    scripted.watch().change("i", 77)  # type: ignore[arg-type]
    assert next(events) == kekd.Change("i", "pushed", "new")


def test_location_and_prefix_are_sent(watcher: kekd.Client, scripted: Scripted) -> None:
    events = watcher.watch_index_kms(kekd.StorageConfig.disk("/keystore"), "tenant-")
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(next, events)
        scripted.watch().begin()
        first.result()
    request = scripted.watch().request
    assert (request.config_location.disk.path, request.prefix) == ("/keystore", "tenant-")


def test_silence_of_several_heartbeats_raises(watcher: kekd.Client, scripted: Scripted) -> None:
    events = begun(watcher, scripted, heartbeat=0.2)
    start = time.monotonic()
    with pytest.raises(kekd.UnavailableError, match="silent"):
        next(events)
    assert 0.9 < time.monotonic() - start < PATIENCE


def test_heartbeats_keep_the_watch(watcher: kekd.Client, scripted: Scripted) -> None:
    events = begun(watcher, scripted, heartbeat=1)
    with ThreadPoolExecutor(1) as threads:
        event = threads.submit(next, events)
        for _ in range(40):  # for longer than the three seconds of an idle timeout
            time.sleep(0.1)
            scripted.watch().heartbeat()
        assert not event.done()
        scripted.watch().change("i")
        assert event.result() == kekd.Change("i", "pushed", "new")


def test_slow_caller_does_not_count_as_silence(watcher: kekd.Client, scripted: Scripted) -> None:
    events = begun(watcher, scripted, heartbeat=0.2)
    scripted.watch().change("i")
    time.sleep(2)  # the silence of several heartbeats, but the caller's own
    assert next(events) == kekd.Change("i", "pushed", "new")


def test_watch_that_never_starts_raises_at_its_timeout(
    watcher: kekd.Client, scripted: Scripted
) -> None:
    start = time.monotonic()
    with pytest.raises(kekd.UnavailableError, match="silent"):
        next(watcher.watch_index_kms(timeout=0.3))
    assert 0.3 < time.monotonic() - start < PATIENCE


def test_watch_ended_by_the_daemon_raises(watcher: kekd.Client, scripted: Scripted) -> None:
    events = begun(watcher, scripted)
    scripted.watch().end()
    with pytest.raises(kekd.UnavailableError, match="ended it"):
        next(events)


def test_close_ends_the_watches(watcher: kekd.Client, scripted: Scripted) -> None:
    events = begun(watcher, scripted)
    with ThreadPoolExecutor(1) as threads:
        event = threads.submit(next, events)
        watcher.close()
        with pytest.raises(kekd.UnavailableError):
            event.result(PATIENCE)


def test_abandoned_watch_ends_at_the_daemon(watcher: kekd.Client, scripted: Scripted) -> None:
    events = begun(watcher, scripted)
    assert not scripted.watch().over.is_set()
    events.close()
    assert scripted.watch().over.wait(PATIENCE)


@pytest.mark.parametrize("timeout", [0, -1, float("nan")])
def test_invalid_timeout_of_a_watch_raises(watcher: kekd.Client, timeout: float) -> None:
    with pytest.raises(ValueError, match="invalid timeout"):
        next(watcher.watch_index_kms(timeout=timeout))


def test_wrong_argument_types_raise(watcher: kekd.Client) -> None:
    with pytest.raises(TypeError, match="invalid config_location"):
        next(watcher.watch_index_kms("disk:/x"))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="invalid prefix: expected str"):
        next(watcher.watch_index_kms(None, 7))  # type: ignore[arg-type]


async def test_cancelled_task_ends_its_watch(scripted: Scripted) -> None:
    async with kekd.AsyncClient(scripted.address) as client:

        async def watch() -> None:
            async for _ in client.watch_index_kms():
                pass

        task = asyncio.create_task(watch())
        await asyncio.to_thread(scripted.watch)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(scripted.watch().over.wait, PATIENCE)


@both_engines
def test_watch_yields_each_change(client: kekd.Client, index: str) -> None:
    events = client.watch_index_kms(prefix=index)
    assert next(events) == kekd.Resync()
    created = client.create_index_kms(None, index, BLOB)
    assert next(events) == kekd.Change(index, "created", created)
    pushed = client.push_index_kms(None, index, OTHER)
    assert next(events) == kekd.Change(index, "pushed", pushed)
    client.push_index_kms(None, f"not {index}", BLOB)
    client.delete_index_kms(None, index)
    assert next(events) == kekd.Change(index, "deleted", "")


@both_engines
def test_watch_of_an_unknown_store_raises(client: kekd.Client) -> None:
    with pytest.raises(kekd.PermissionDeniedError):
        next(client.watch_index_kms(kekd.StorageConfig.disk("/etc")))


@both_engines
def test_watch_of_a_stopped_daemon_raises(open_client: OpenClient, daemon: Daemon) -> None:
    with open_client(daemon.address) as client:
        events = client.watch_index_kms()
        next(events)
        daemon.kill()
        with pytest.raises(kekd.UnavailableError):
            next(events)
