"""A client with a cache, on a scripted daemon."""

import asyncio
import gc
import importlib
import itertools
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import grpc
import pytest

import kekd
from kekd._cache.envelope_cache import EnvelopeCache
from kekd.kek import Keyring, Registry
from kekd_proto.v1 import envelope_pb2 as pb
from tests.integration.client.blocking import OpenClient
from tests.integration.client.calls import BLOB
from tests.integration.client.scripted import Scripted, version_of
from tests.patience import PATIENCE, eventually

STALENESS = 1.0


@pytest.fixture
def cached(open_client: OpenClient, scripted: Scripted) -> Iterator[kekd.Client]:
    with open_client(scripted.address, cache=True, max_staleness=100) as client:
        yield client


@pytest.fixture
def watching(cached: kekd.Client, scripted: Scripted) -> kekd.Client:
    """A caching client. Its watch begins with the first get."""
    begin(cached, scripted)
    return cached


def begin(client: kekd.Client, scripted: Scripted, watch: int = 0, heartbeat: float = 100) -> None:
    """Begins a watch, and waits until gets of index `probe` are served from memory."""
    version_of(client, "probe")
    scripted.watch(watch).begin(heartbeat)
    eventually(lambda: is_served(client, scripted, "probe"))


def is_served(client: kekd.Client, scripted: Scripted, name: str = "i") -> bool:
    """Whether a get is served from memory."""
    before = len(scripted.gets)
    version_of(client, name)
    return len(scripted.gets) == before


def read(client: kekd.Client, scripted: Scripted, name: str = "i") -> int:
    """Reads until the envelope is served from memory, and returns its version."""
    eventually(lambda: is_served(client, scripted, name))
    return version_of(client, name)


def test_cached_get_makes_no_call(watching: kekd.Client, scripted: Scripted) -> None:
    first = watching.get_index_kms(None, "i")
    assert is_served(watching, scripted)
    second = watching.get_index_kms(None, "i")
    assert (second, second.etag, second.store) == (first, "etag 1", "memory")


def test_get_without_cache_makes_a_call(open_client: OpenClient, scripted: Scripted) -> None:
    with open_client(scripted.address) as client:
        assert not any(is_served(client, scripted) for _ in range(3))
    assert not scripted.watches


def test_get_before_the_watch_makes_a_call(cached: kekd.Client, scripted: Scripted) -> None:
    assert not any(is_served(cached, scripted) for _ in range(3))
    scripted.watch().begin()
    eventually(lambda: is_served(cached, scripted))


def test_each_location_that_is_read_has_a_watch(cached: kekd.Client, scripted: Scripted) -> None:
    cached.push_index_kms(None, "i", BLOB)
    assert not scripted.watches
    for location in (None, kekd.StorageConfig.memory(), kekd.StorageConfig.memory()):
        cached.get_index_kms(location, "i")
    scripted.watch(1)
    begun = [watch.request.config_location.WhichOneof("location") for watch in scripted.watches]
    assert sorted(begun, key=str) == [None, "memory"]


@pytest.mark.parametrize(
    "kind", [pb.Change.KIND_PUSHED, pb.Change.KIND_RESTORED, pb.Change.KIND_UNDELETED]
)
def test_get_after_a_change_returns_the_new_envelope(
    watching: kekd.Client, scripted: Scripted, kind: pb.Change.Kind
) -> None:
    read(watching, scripted)
    read(watching, scripted, "j")
    scripted.version = 2
    scripted.watch().change("i", kind)
    eventually(lambda: version_of(watching) == 2)
    assert version_of(watching, "j") == 1
    assert is_served(watching, scripted, "j")


OTHER_READS: list[Callable[[kekd.Client], Any]] = [
    lambda client: list(client.get_many_index_kms(None, ["name 1"])),
    lambda client: list(client.scan_index_kms(None)),
]


def test_get_of_a_version_bypasses_the_cache(watching: kekd.Client, scripted: Scripted) -> None:
    read(watching, scripted)
    scripted.version = 2
    assert watching.get_index_kms(None, "i", version_id="2").version == 2
    assert is_served(watching, scripted)
    assert version_of(watching) == 1


@pytest.mark.parametrize("read_otherwise", OTHER_READS, ids=["get_many", "scan"])
def test_get_after_another_call_is_at_least_as_fresh(
    watching: kekd.Client, scripted: Scripted, read_otherwise: Callable[[kekd.Client], Any]
) -> None:
    read(watching, scripted, "name 1")
    read_otherwise(watching)
    assert is_served(watching, scripted, "name 1")
    scripted.version = 2
    read_otherwise(watching)
    assert version_of(watching, "name 1") == 2


def test_get_after_an_event_of_the_callers_watch_is_at_least_as_fresh(
    watching: kekd.Client, scripted: Scripted
) -> None:
    events = watching.watch_index_kms()
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(next, events)
        scripted.watch(1).begin(100)
        first.result()
    read(watching, scripted)
    scripted.version = 2
    scripted.watch(1).change("i")
    assert next(events) == kekd.Change("i", "pushed", "new")
    assert version_of(watching) == 2


def test_modified_result_does_not_change_the_cache(
    watching: kekd.Client, scripted: Scripted
) -> None:
    watching.get_index_kms(None, "i").version = 7
    watching.get_index_kms(None, "i").version = 7
    assert is_served(watching, scripted)
    assert version_of(watching) == 1


def test_failed_get_is_not_cached(watching: kekd.Client, scripted: Scripted) -> None:
    scripted.failure = grpc.StatusCode.NOT_FOUND
    for _ in range(2):
        with pytest.raises(kekd.EnvelopeNotFoundError):
            watching.get_index_kms(None, "i")
    assert scripted.gets.count("i") == 2
    scripted.failure = None
    assert version_of(watching) == 1


WRITES: list[Callable[[kekd.Client, kekd.StorageConfig | None], Any]] = [
    lambda client, where: client.create_index_kms(where, "i", BLOB, timeout=PATIENCE),
    lambda client, where: client.push_index_kms(where, "i", BLOB, timeout=PATIENCE),
    lambda client, where: list(
        client.push_many_index_kms(where, [("j", BLOB, None), ("i", BLOB, None)], timeout=PATIENCE)
    ),
    lambda client, where: client.delete_index_kms(where, "i", timeout=PATIENCE),
    lambda client, where: client.restore_index_kms(where, "i", "1", timeout=PATIENCE),
    lambda client, where: client.undelete_index_kms(where, "i", timeout=PATIENCE),
]
each_write = pytest.mark.parametrize(
    "write", WRITES, ids=["create", "push", "push many", "delete", "restore", "undelete"]
)


@each_write
@pytest.mark.parametrize("where", [None, kekd.StorageConfig.memory()], ids=["same", "alias"])
def test_get_after_an_own_write_returns_the_new_envelope(
    watching: kekd.Client,
    scripted: Scripted,
    write: Callable[..., Any],
    where: kekd.StorageConfig | None,
) -> None:
    read(watching, scripted)
    write(watching, where)
    assert version_of(watching) == 2


@each_write
@pytest.mark.parametrize("failure", [grpc.StatusCode.INTERNAL, grpc.StatusCode.FAILED_PRECONDITION])
def test_failed_write_drops_the_cached_envelope(
    watching: kekd.Client, scripted: Scripted, write: Callable[..., Any], failure: grpc.StatusCode
) -> None:
    read(watching, scripted)
    scripted.failure = failure
    with pytest.raises(kekd.EnvelopeError):
        write(watching, None)
    scripted.failure = None
    assert version_of(watching) == 2


@pytest.mark.parametrize("cause", ["change", "own write", "resync", "loss"])
def test_get_in_flight_does_not_cache_a_dropped_envelope(
    watching: kekd.Client, scripted: Scripted, cause: str
) -> None:
    stream = scripted.watch()
    scripted.open.clear()
    with ThreadPoolExecutor(1) as threads:
        old = threads.submit(version_of, watching)
        eventually(lambda: "i" in scripted.gets)
        match cause:
            case "change":
                stream.change("i")
            case "own write":
                watching.push_index_kms(None, "i", BLOB)
            case "resync":
                stream.resync()
            case _:
                stream.end()
                scripted.watch(1).begin()
        if cause != "own write":
            scripted.version = 2
            settle(watching, scripted)
        scripted.open.set()
        assert old.result() == 1
    assert version_of(watching) == 2


def settle(client: kekd.Client, scripted: Scripted) -> None:
    """Waits until the client has processed every event."""
    caches = cast("Any", client._caches)
    ((cache, _),) = caches._opened.values()
    eventually(lambda: not cache._tokens)


def test_resync_drops_all_envelopes(watching: kekd.Client, scripted: Scripted) -> None:
    for name in "ij":
        read(watching, scripted, name)
    scripted.version = 2
    scripted.watch().resync()
    eventually(lambda: version_of(watching) == 2)
    assert version_of(watching, "j") == 2
    assert is_served(watching, scripted)


def test_lost_watch_drops_all_envelopes(watching: kekd.Client, scripted: Scripted) -> None:
    read(watching, scripted)
    scripted.version = 2
    scripted.watch().end()
    eventually(lambda: version_of(watching) == 2)
    scripted.watch(1)
    assert not any(is_served(watching, scripted) for _ in range(3))
    begin(watching, scripted, 1)
    assert read(watching, scripted) == 2


def test_watches_of_a_restarted_daemon_reconnect_with_jitter(
    watching: kekd.Client, scripted: Scripted
) -> None:
    came = []
    for number in range(5):
        stream = scripted.watch(number)
        came.append(time.monotonic())
        stream.end()
    pauses = [after - before for before, after in itertools.pairwise(came)]
    assert pauses[0] > 0.04
    assert pauses[3] > 0.35


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of the caches."""
    clock = Clock()
    monkeypatch.setitem(EnvelopeCache.__init__.__kwdefaults__, "clock", clock)  # type: ignore[arg-type]
    return clock


def test_silent_watch_serves_nothing_after_max_staleness(
    open_client: OpenClient, scripted: Scripted, clock: Clock
) -> None:
    with open_client(scripted.address, cache=True, max_staleness=STALENESS) as client:
        begin(client, scripted)
        read(client, scripted)
        scripted.version = 2  # and no change is reported
        clock.now += STALENESS
        assert version_of(client) == 2
        assert not is_served(client, scripted)
        scripted.watch().change("i")
        assert read(client, scripted) == 2


def test_heartbeats_keep_entries_fresh(
    open_client: OpenClient, scripted: Scripted, clock: Clock
) -> None:
    with open_client(scripted.address, cache=True, max_staleness=STALENESS) as client:
        begin(client, scripted)
        read(client, scripted)
        for _ in range(5):
            clock.now += STALENESS
            assert client._caches
            assert client._caches.get(None, "i") is None
            scripted.watch().heartbeat()
            eventually(lambda: client._caches and client._caches.get(None, "i"))
            assert is_served(client, scripted)


def test_silent_watch_is_restarted(cached: kekd.Client, scripted: Scripted) -> None:
    version_of(cached, "probe")
    scripted.watch().begin(heartbeat=0.1)
    assert scripted.watch().over.wait(PATIENCE)
    begin(cached, scripted, 1)


def watch_threads() -> int:
    return sum(thread.name.startswith("kekd watch") for thread in threading.enumerate())


def test_close_ends_the_watch_and_clears_the_cache(
    watching: kekd.Client, scripted: Scripted
) -> None:
    read(watching, scripted)
    watching.close()
    assert scripted.watch().over.wait(PATIENCE)
    eventually(lambda: not watch_threads())
    scripted.version = 2
    assert version_of(watching) == 2
    begin(watching, scripted, 1)
    assert is_served(watching, scripted, "probe")


def test_collected_client_ends_its_watch(scripted: Scripted) -> None:
    client = kekd.Client(scripted.address, cache=True)
    begin(client, scripted)
    del client
    gc.collect()
    assert scripted.watch().over.wait(PATIENCE)
    eventually(lambda: not watch_threads())


async def test_collected_async_client_ends_its_watch(scripted: Scripted) -> None:
    client = kekd.AsyncClient(scripted.address, cache=True)
    await client.get_index_kms(None, "i")
    await asyncio.to_thread(scripted.watch().begin, 100)
    assert client._caller._connection
    await client._caller._connection.channel.close()
    del client
    gc.collect()
    assert await asyncio.to_thread(scripted.watch().over.wait, PATIENCE)


def test_client_collected_in_its_watch_thread_ends_its_watch(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The garbage collector can run in any thread. In this one, closing must not wait for gRPC."""
    client = kekd.Client(scripted.address, cache=True)
    begin(client, scripted)
    held, forgotten = [client], threading.Event()
    grpc_common: Any = importlib.import_module("grpc._common")  # untyped
    deserialize = grpc_common.deserialize
    del client

    def forget_and_deserialize(*arguments: Any) -> Any:
        held.clear()
        gc.collect()
        forgotten.set()
        return deserialize(*arguments)

    monkeypatch.setattr(grpc_common, "deserialize", forget_and_deserialize)
    scripted.watch().change("i")
    assert forgotten.wait(PATIENCE)
    eventually(lambda: not watch_threads())


def test_listener_without_a_watch_gets_own_writes(scripted: Scripted) -> None:
    invalidated: list[str] = []

    class Listener:
        def invalidate(self, index_name: str) -> None:
            invalidated.append(index_name)

    listener = Listener()
    with kekd.Client(scripted.address, cache=True) as client:
        assert client._caches
        client._caches.add_listener(None, listener)
        client.push_index_kms(None, "i", BLOB)
    assert invalidated == ["i"]


def test_invalid_location_with_cache_raises_type_error(scripted: Scripted) -> None:
    nonsense: Any = {}
    with (
        kekd.Client(scripted.address, cache=True) as client,
        pytest.raises(TypeError, match="invalid config_location"),
    ):
        client.get_index_kms(nonsense, "i")


def test_get_without_a_free_thread_makes_a_call(
    scripted: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    with kekd.Client(scripted.address, cache=True) as client:
        version_of(kekd.Client(scripted.address))  # starts the threads of gRPC
        start = threading.Thread.start

        def refuse(thread: threading.Thread) -> None:
            if thread.name.startswith("kekd watch"):
                raise RuntimeError("can't start new thread")
            start(thread)

        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", refuse)
            assert not is_served(client, scripted)
            assert not is_served(client, scripted)
        begin(client, scripted)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), 10**10])
def test_invalid_max_staleness_raises(scripted: Scripted, seconds: float) -> None:
    with pytest.raises(ValueError, match="invalid max_staleness"):
        kekd.Client(scripted.address, cache=True, max_staleness=seconds)


def test_name_in_bytes_hits_the_same_entry(watching: kekd.Client, scripted: Scripted) -> None:
    name = cast("str", b"i")
    version_of(watching, name)
    assert read(watching, scripted) == 1
    watching.push_index_kms(None, name, BLOB)
    assert version_of(watching) == 2


class CountingRegistry(Registry):
    """A registry that counts the KEKs that it unwraps."""

    def __init__(self) -> None:
        super().__init__({})
        self.count = 0

    def unwrap(self, *_: Any, **__: Any) -> bytearray:
        self.count += 1
        return bytearray(32)


def test_keyring_drops_the_kek_of_a_changed_envelope(scripted: Scripted) -> None:
    with kekd.Client(scripted.address, cache=True) as client:
        registry = CountingRegistry()
        keyring = Keyring(registry, client)
        keyring.kek("i")
        keyring.kek("j")
        scripted.watch().begin()
        eventually(lambda: is_served(client, scripted, "probe"))
        keyring.kek("i")
        assert registry.count == 2
        scripted.watch().change("i")
        eventually(lambda: list(keyring._cache._entries) == ["j"])
        scripted.version = 2
        keyring.kek("i")
        assert registry.count == 3
        assert scripted.gets.count("i") == 2, "the cache dropped it too, and before"
        keyring.invalidate_all()


@pytest.mark.parametrize("gap", ["resync", "loss"])
def test_keyring_keeps_keks_over_a_gap(scripted: Scripted, gap: str) -> None:
    with kekd.Client(scripted.address, cache=True) as client:
        registry = CountingRegistry()
        keyring = Keyring(registry, client)
        keyring.kek("i")
        begin(client, scripted)
        if gap == "resync":
            scripted.version = 2
            scripted.watch().resync()
            eventually(lambda: version_of(client, "probe") == 2)
        else:
            scripted.watch().end()
            begin(client, scripted, 1)
        keyring.kek("i")
        assert registry.count == 1
        keyring.invalidate_all()


def test_client_does_not_keep_a_keyring_alive(scripted: Scripted) -> None:
    with kekd.Client(scripted.address, cache=True) as client:
        keyring = Keyring(Registry({}), client)
        assert client._caches
        ((_, listeners),) = client._caches._listeners.items()
        assert len(listeners) == 1
        del keyring
        gc.collect()
        assert not listeners
