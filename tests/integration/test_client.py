"""The client library, blocking and asynchronous, against a daemon and against trouble."""

import asyncio
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self, cast

import cyborgdb_core
import pytest

import kekd
from kekd import _functions
from kekd_schema import Envelope
from tests.fixtures.daemon import Daemon, StartDaemon, clean_environment
from tests.fixtures.proxy import Proxy, StartProxy, lose_answer, refuse, say_nothing
from tests.fixtures.s3 import free_port

BLOB = kekd.KMSBlob("prod", "aws-kms", "alias/prod", "us-east-1", b"\1\2\3", 7, 1_700_000_000)
OTHER = kekd.KMSBlob(provider="none")
SECRET = "do-not-print-me"


class BlockingAsyncClient:
    """An `AsyncClient` on an event loop of its own, called as if it were a `Client`."""

    def __init__(self, *args: Any, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._client = kekd.AsyncClient(*args, **options)
        self.address = self._client.address

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **options: Any) -> Any:
            return await getattr(self._client, name)(*args, **options)

        return lambda *args, **options: self._run(call(*args, **options))

    def list_index_kms(self, *args: Any, **options: Any) -> Iterator[str]:
        async def call() -> list[str]:
            return [name async for name in self._client.list_index_kms(*args, **options)]

        return iter(self._run(call()))

    def __enter__(self) -> Self:
        self._run(self._client.__aenter__())
        return self

    def __exit__(self, *error: object) -> None:
        self._run(self._client.__aexit__(None, None, None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, call: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result()


OpenClient = Callable[..., kekd.Client]


@pytest.fixture(params=[kekd.Client, BlockingAsyncClient], ids=["Client", "AsyncClient"])
def open_client(request: pytest.FixtureRequest) -> OpenClient:
    """Makes a client of either kind; what a test shows of it holds for both."""
    return cast("OpenClient", request.param)


@pytest.fixture(scope="module")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One with a memory store that all tests here share; each has an index of its own."""
    daemon = Daemon(tmp_path_factory.mktemp("daemon"), "--memory")
    daemon.wait()
    yield daemon
    daemon.kill()


@pytest.fixture(scope="module")
def shared_proxy(shared_daemon: Daemon, start_proxy: StartProxy) -> Proxy:
    return start_proxy(str(shared_daemon.socket))


@pytest.fixture
def client(open_client: OpenClient, shared_daemon: Daemon) -> Iterator[kekd.Client]:
    with open_client(shared_daemon.address) as client:
        yield client


@pytest.fixture
def proxy(shared_proxy: Proxy) -> Iterator[Proxy]:
    """It stands before the shared daemon."""
    yield shared_proxy
    shared_proxy.tell()
    shared_proxy.cut()


@pytest.fixture
def distant(open_client: OpenClient, proxy: Proxy) -> Iterator[kekd.Client]:
    """A client that reaches the shared daemon through the proxy."""
    with open_client(proxy.address) as client:
        yield client


@pytest.fixture
def index(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


CALLS: dict[str, Callable[..., Any]] = {
    "create": lambda client, index, **options: client.create_index_kms(
        None, index, BLOB, **options
    ),
    "push": lambda client, index, **options: client.push_index_kms(None, index, BLOB, **options),
    "get": lambda client, index, **options: client.get_index_kms(None, index, **options),
    "delete": lambda client, index, **options: client.delete_index_kms(None, index, **options),
    "list": lambda client, index, **options: list(client.list_index_kms(None, index, **options)),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


# What the methods mean


def test_create_stores_what_get_reads(client: kekd.Client, index: str) -> None:
    etag = client.create_index_kms(None, index, BLOB)
    stored = client.get_index_kms(None, index)
    assert (stored, stored.etag) == (BLOB, etag)


def test_create_is_strict(client: kekd.Client, index: str) -> None:
    client.create_index_kms(None, index, BLOB)
    with pytest.raises(kekd.EnvelopeExistsError) as caught:
        client.create_index_kms(None, index, BLOB)
    assert str(caught.value) == f"KMS blob already exists for index '{index}'."
    error = caught.value
    assert (error.reason, error.index_name, error.store) == ("ENVELOPE_EXISTS", index, "memory")


def test_push_replaces(client: kekd.Client, index: str) -> None:
    client.push_index_kms(None, index, OTHER)
    client.push_index_kms(None, index, BLOB)
    assert client.get_index_kms(None, index) == BLOB


def test_a_rotation_reads_back_and_changes_the_etag(client: kekd.Client, index: str) -> None:
    first = client.create_index_kms(None, index, BLOB)
    blob = client.get_index_kms(None, index)
    blob.wrapped_kek, blob.version = b"rotated", blob.version + 1
    second = client.push_index_kms(None, index, blob, if_etag=blob.etag)
    stored = client.get_index_kms(None, index)
    assert (stored, stored.etag) == (blob, second)
    assert first != second


def test_push_with_a_stale_etag_changes_nothing(client: kekd.Client, index: str) -> None:
    stale = client.create_index_kms(None, index, OTHER)
    client.push_index_kms(None, index, BLOB)
    with pytest.raises(kekd.EtagMismatchError):
        client.push_index_kms(None, index, OTHER, if_etag=stale)
    assert client.get_index_kms(None, index) == BLOB


def test_push_with_an_etag_needs_an_envelope(client: kekd.Client, index: str) -> None:
    with pytest.raises(kekd.EtagMismatchError):
        client.push_index_kms(None, index, BLOB, if_etag="any")


def test_get_of_nothing_is_an_error(client: kekd.Client, index: str) -> None:
    with pytest.raises(kekd.EnvelopeNotFoundError) as caught:
        client.get_index_kms(None, index)
    assert str(caught.value) == f"No KMS blob exists for index '{index}'."


def test_delete_tells_whether_there_was_one(client: kekd.Client, index: str) -> None:
    client.create_index_kms(None, index, BLOB)
    assert client.delete_index_kms(None, index)
    assert not client.delete_index_kms(None, index)


def test_delete_with_a_stale_etag_changes_nothing(client: kekd.Client, index: str) -> None:
    stale = client.create_index_kms(None, index, OTHER)
    etag = client.push_index_kms(None, index, BLOB)
    with pytest.raises(kekd.EtagMismatchError):
        client.delete_index_kms(None, index, if_etag=stale)
    assert client.delete_index_kms(None, index, if_etag=etag)


def test_list_has_every_name_with_the_prefix_once(client: kekd.Client, index: str) -> None:
    names = [f"{index}-{number:04}" for number in range(1100)]  # more than a page
    for name in names:
        client.push_index_kms(None, name, OTHER)
    assert list(client.list_index_kms(prefix=index)) == names


def test_config_location_selects_the_store(client: kekd.Client, index: str) -> None:
    client.create_index_kms(kekd.StorageConfig.memory(), index, BLOB)
    assert client.get_index_kms(None, index) == BLOB


def test_a_store_that_the_daemon_was_not_given_is_refused(client: kekd.Client, index: str) -> None:
    with pytest.raises(kekd.PermissionDeniedError):
        client.get_index_kms(kekd.StorageConfig.disk("/etc"), index)


# Values


def test_a_blob_takes_the_references_arguments_in_its_order() -> None:
    assert (
        kekd.KMSBlob(
            kms_name="prod",
            provider="aws-kms",
            key_id="alias/prod",
            region="us-east-1",
            wrapped_kek=b"\1\2\3",
            version=7,
            created_at=1_700_000_000,
        )
        == BLOB
    )
    assert kekd.KMSBlob() == kekd.KMSBlob("", "", "", "", b"", 1, 0)


def test_the_etag_is_no_part_of_a_blobs_value() -> None:
    blob = kekd.KMSBlob()
    blob.etag = "read"
    assert blob == kekd.KMSBlob()
    assert kekd.KMSBlob(version=2) != kekd.KMSBlob()


@pytest.mark.parametrize(
    "secretive",
    [
        kekd.KMSBlob(wrapped_kek=SECRET.encode()),
        Envelope(wrapped_kek=SECRET.encode()),
        kekd.S3Credentials("AKIA", SECRET, SECRET),
    ],
)
def test_a_repr_hides_secrets(secretive: object) -> None:
    assert SECRET not in repr(secretive)
    assert SECRET not in str(secretive)


def test_credentials_do_not_leave_the_caller() -> None:
    config = kekd.StorageConfig.s3("bucket", credentials=kekd.S3Credentials("AKIA", SECRET))
    assert SECRET.encode() not in pickle.dumps(config)


@pytest.mark.parametrize("kind", [SimpleNamespace, cyborgdb_core.KMSBlob])
def test_any_object_with_the_seven_attributes_is_an_envelope(
    client: kekd.Client, index: str, kind: Callable[..., Any]
) -> None:
    blob = kind(
        kms_name="prod",
        provider="aws-kms",
        key_id="alias/prod",
        region="us-east-1",
        wrapped_kek=b"\1\2\3",
        version=7,
        created_at=1_700_000_000,
    )
    client.create_index_kms(None, index, blob)
    assert client.get_index_kms(None, index) == BLOB


STRINGS = ("kms_name", "provider", "key_id", "region", "key_arn", "binding")


@pytest.mark.parametrize("method", ["create_index_kms", "push_index_kms"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 2**32),
        ("version", -1),
        ("version", SECRET),
        ("created_at", 2**63),
        ("wrapped_kek", SECRET),
        ("wrapped_kek", None),
        *((name, f"{SECRET}\ud800") for name in STRINGS),
        *((name, SECRET.encode() + b"\xff") for name in STRINGS),
    ],
)
def test_a_value_that_the_wire_cannot_carry_is_named_and_not_shown(
    client: kekd.Client, index: str, method: str, field: str, value: Any
) -> None:
    blob = kekd.KMSBlob(provider="aws-kms", key_id="k", wrapped_kek=b"w")
    setattr(blob, field, value)
    with pytest.raises(kekd.InvalidEnvelopeError, match=field) as caught:
        getattr(client, method)(None, index, blob)
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__} {caught.value.__context__}"
    assert list(client.list_index_kms(prefix=index)) == []


@pytest.mark.parametrize("missing", ["kms_name", "wrapped_kek", "created_at"])
def test_a_missing_attribute_is_named(client: kekd.Client, index: str, missing: str) -> None:
    fields = ("kms_name", "provider", "key_id", "region", "wrapped_kek", "version", "created_at")
    values = {name: getattr(BLOB, name) for name in fields if name != missing}
    with pytest.raises(kekd.InvalidEnvelopeError, match=missing):
        client.create_index_kms(None, index, SimpleNamespace(**values))


def test_no_envelope_at_all_is_refused(client: kekd.Client, index: str) -> None:
    with pytest.raises(kekd.InvalidEnvelopeError, match="blob is missing"):
        client.push_index_kms(None, index, cast("kekd.KMSBlob", None))


@each_call
def test_a_lone_surrogate_in_a_name_or_prefix_is_refused(
    client: kekd.Client, call: Callable[..., Any]
) -> None:
    with pytest.raises(kekd.InvalidIndexNameError, match="surrogate"):
        call(client, "a\ud800")


@pytest.mark.parametrize(
    "config",
    [
        kekd.StorageConfig.disk("/a\ud800"),
        kekd.StorageConfig.s3("a\ud800"),
        kekd.StorageConfig.s3("bucket", prefix="a\ud800"),
    ],
)
def test_a_lone_surrogate_in_a_location_is_refused(
    client: kekd.Client, index: str, config: kekd.StorageConfig
) -> None:
    with pytest.raises(kekd.InvalidArgumentError, match="surrogate"):
        client.get_index_kms(config, index)


@pytest.mark.parametrize("name", ["push", "delete"])
def test_a_lone_surrogate_in_an_etag_is_refused(client: kekd.Client, index: str, name: str) -> None:
    with pytest.raises(kekd.InvalidArgumentError, match="surrogate"):
        CALLS[name](client, index, if_etag="a\ud800")


# Where the daemon is


def test_every_spelling_of_an_address_is_understood(
    open_client: OpenClient, shared_daemon: Daemon, proxy: Proxy, index: str
) -> None:
    path = shared_daemon.socket
    relative = os.path.relpath(path)
    for address in (f"unix:{path}", f"unix://{path}", f"unix:{relative}", proxy.address):
        with open_client(address) as client:
            client.push_index_kms(None, index, BLOB)


@pytest.mark.parametrize("address", ["unix:", "localhost", "http://localhost:1", "localhost:x"])
def test_no_address_is_refused_at_once(address: str) -> None:
    for kind in (kekd.Client, kekd.AsyncClient):
        with pytest.raises(ValueError, match="write unix:PATH"):
            kind(address)


def test_the_variable_names_the_daemon(
    open_client: OpenClient, shared_daemon: Daemon, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEKD_ADDRESS", shared_daemon.address)
    with open_client() as client:
        client.create_index_kms(None, index, BLOB)


@pytest.fixture
def fresh_functions(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The module functions as in a new process."""
    monkeypatch.setattr(_functions, "_shared", None)
    yield
    _functions._client().close()


def test_the_functions_follow_the_variable(
    fresh_functions: None, shared_daemon: Daemon, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEKD_ADDRESS", shared_daemon.address)
    etag = kekd.create_index_kms(None, index, BLOB)
    assert kekd.get_index_kms(None, index).etag == etag
    etag = kekd.push_index_kms(None, index, OTHER, if_etag=etag)
    assert list(kekd.list_index_kms(prefix=index)) == [index]
    assert kekd.delete_index_kms(None, index, if_etag=etag)


def test_connect_goes_before_the_variable(
    fresh_functions: None, shared_daemon: Daemon, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEKD_ADDRESS", f"127.0.0.1:{free_port()}")
    client = kekd.connect(shared_daemon.address)
    kekd.create_index_kms(None, index, BLOB)
    assert client.get_index_kms(None, index) == BLOB


# Deadlines


@each_call
def test_a_deadline_is_kept(
    distant: kekd.Client, proxy: Proxy, index: str, call: Callable[..., Any]
) -> None:
    proxy.tell(then=say_nothing)
    start = time.monotonic()
    with pytest.raises(kekd.DeadlineExceededError, match=proxy.address):
        call(distant, index, timeout=0.3)
    assert 0.3 <= time.monotonic() - start < 2


def test_a_client_has_a_deadline_of_its_own(
    open_client: OpenClient, proxy: Proxy, index: str
) -> None:
    proxy.tell(then=say_nothing)
    with (
        open_client(proxy.address, timeout=0.3) as client,
        pytest.raises(kekd.DeadlineExceededError),
    ):
        client.get_index_kms(None, index)


def test_a_deadline_covers_the_retries(distant: kekd.Client, proxy: Proxy, index: str) -> None:
    proxy.tell(then=refuse)
    start = time.monotonic()
    with pytest.raises((kekd.DeadlineExceededError, kekd.UnavailableError)):
        distant.get_index_kms(None, index, timeout=0.5)
    assert time.monotonic() - start < 2


# Retries


@each_call
def test_a_call_outlives_a_connection_that_is_refused(
    distant: kekd.Client, proxy: Proxy, index: str, call: Callable[..., Any]
) -> None:
    distant.push_index_kms(None, index, BLOB)
    if call is CALLS["create"]:
        distant.delete_index_kms(None, index)
    proxy.tell(refuse)
    proxy.cut()
    assert call(distant, index)
    assert proxy.connections == 2


@pytest.mark.parametrize("name", ["push", "get", "list"])
def test_a_call_outlives_a_lost_answer(
    distant: kekd.Client, proxy: Proxy, index: str, name: str
) -> None:
    distant.push_index_kms(None, index, BLOB)
    proxy.tell(lose_answer)
    proxy.cut()
    assert CALLS[name](distant, index)
    assert proxy.connections == 2


def test_a_delete_whose_answer_was_lost_is_done(
    distant: kekd.Client, proxy: Proxy, index: str
) -> None:
    distant.create_index_kms(None, index, BLOB)
    proxy.tell(lose_answer)
    proxy.cut()
    distant.delete_index_kms(None, index)
    assert list(distant.list_index_kms(prefix=index)) == []


def test_a_create_whose_answer_was_lost_is_the_callers_own(
    distant: kekd.Client, proxy: Proxy, index: str
) -> None:
    proxy.tell(lose_answer)
    etag = distant.create_index_kms(None, index, BLOB)
    assert proxy.connections == 2
    assert distant.get_index_kms(None, index).etag == etag


def test_a_create_that_a_rival_won_is_refused_even_if_the_answer_was_lost(
    distant: kekd.Client, proxy: Proxy, index: str
) -> None:
    distant.create_index_kms(None, index, OTHER)
    proxy.tell(lose_answer)
    proxy.cut()
    with pytest.raises(kekd.EnvelopeExistsError):
        distant.create_index_kms(None, index, BLOB)
    assert proxy.connections == 2
    assert distant.get_index_kms(None, index) == OTHER


def test_a_conditional_push_whose_answer_was_lost_is_the_callers_own(
    distant: kekd.Client, proxy: Proxy, index: str
) -> None:
    old = distant.create_index_kms(None, index, OTHER)
    proxy.tell(lose_answer)
    proxy.cut()
    new = distant.push_index_kms(None, index, BLOB, if_etag=old)
    assert proxy.connections == 2
    stored = distant.get_index_kms(None, index)
    assert (stored, stored.etag) == (BLOB, new)


def test_a_conditional_push_that_a_rival_outran_is_refused_even_if_the_answer_was_lost(
    distant: kekd.Client, proxy: Proxy, index: str
) -> None:
    stale = distant.create_index_kms(None, index, BLOB)
    distant.push_index_kms(None, index, OTHER)
    proxy.tell(lose_answer)
    proxy.cut()
    with pytest.raises(kekd.EtagMismatchError):
        distant.push_index_kms(None, index, BLOB, if_etag=stale)
    assert distant.get_index_kms(None, index) == OTHER


def test_a_restart_of_the_daemon_goes_unnoticed(
    open_client: OpenClient, start_daemon: StartDaemon, tmp_path: Path, index: str
) -> None:
    flags = ("--disk", str(tmp_path / "keystore"))
    daemon = start_daemon(*flags)
    with open_client(daemon.address) as client:
        client.create_index_kms(None, index, BLOB)
        assert daemon.stop() == 0
        with ThreadPoolExecutor() as threads:
            answer = threads.submit(client.get_index_kms, None, index)
            start_daemon(*flags)
            assert answer.result() == BLOB


def test_an_absent_daemon_is_told_within_seconds(
    open_client: OpenClient, tmp_path: Path, index: str
) -> None:
    address = f"unix:{tmp_path}/none"
    start = time.monotonic()
    with open_client(address) as client, pytest.raises(kekd.UnavailableError) as caught:
        client.get_index_kms(None, index)
    assert time.monotonic() - start < 8
    assert f"kekd at {address} can't be reached: is it running there?" in str(caught.value)


def test_a_create_waits_for_a_daemon_until_its_deadline(
    open_client: OpenClient, tmp_path: Path, index: str
) -> None:
    address = f"unix:{tmp_path}/none"
    with open_client(address) as client, pytest.raises(kekd.DeadlineExceededError) as caught:
        client.create_index_kms(None, index, BLOB, timeout=1)
    assert f"kekd at {address} didn't answer in time: is it running there?" in str(caught.value)


# Life of a client


def test_a_closed_client_opens_another_connection(client: kekd.Client, index: str) -> None:
    client.close()
    client.create_index_kms(None, index, BLOB)
    client.close()
    client.close()
    assert client.get_index_kms(None, index) == BLOB


def test_the_end_of_a_with_closes_the_connection(
    open_client: OpenClient, proxy: Proxy, index: str
) -> None:
    ended = threading.Event()

    def wait_for_end(caller: Any, server: Any) -> None:
        lose_answer(caller, server)
        ended.set()

    proxy.tell(wait_for_end)
    with open_client(proxy.address) as client:
        client.push_index_kms(None, index, BLOB)
    assert ended.wait(5)


def test_threads_share_a_client(client: kekd.Client, index: str) -> None:
    start = threading.Barrier(32)

    def work(number: int) -> None:
        name = f"{index}-{number}"
        start.wait()
        for version in range(1, 21):
            blob = kekd.KMSBlob(name, "none", version=version)
            etag = client.push_index_kms(None, name, blob)
            stored = client.get_index_kms(None, name)
            assert (stored, stored.etag) == (blob, etag)

    with ThreadPoolExecutor(32) as threads:
        for done in [threads.submit(work, number) for number in range(32)]:
            done.result()


def test_closing_under_other_threads_ends_their_calls_by_the_book(
    shared_daemon: Daemon, index: str
) -> None:
    client = kekd.Client(shared_daemon.address)
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            try:
                client.push_index_kms(None, index, BLOB)
            except kekd.EnvelopeError:
                continue

    with ThreadPoolExecutor(8) as threads:
        working = [threads.submit(work) for _ in range(8)]
        for _ in range(200):
            client.close()
            client.push_index_kms(None, index, BLOB)
        over.set()
        for done in working:
            done.result()
    client.close()


StartScript = Callable[[str, str], subprocess.Popen[str]]


@pytest.fixture
def start_script() -> Iterator[StartScript]:
    """A caller's program; in a process of its own, as pytest's has threads that no fork likes."""
    with ExitStack() as stack:

        def start(script: str, address: str) -> subprocess.Popen[str]:
            process = subprocess.Popen(
                [sys.executable, "-c", script],
                env=clean_environment() | {"KEKD_ADDRESS": address},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start


FORK = """
import multiprocessing, os
import kekd

client = kekd.Client()

def use(name):
    for version in range(1, 51):
        blob = kekd.KMSBlob(name, "none", version=version)
        client.push_index_kms(None, name, blob)
        kekd.push_index_kms(None, name + " functions", blob)
        assert client.get_index_kms(None, name) == blob
        assert kekd.get_index_kms(None, name + " functions") == blob

def forked(name):
    if child := os.fork():
        return child
    use(name)
    client.close()
    os._exit(0)

use("parent")
children = [forked(f"child {number}") for number in range(4)]
process = multiprocessing.get_context("fork").Process(target=use, args=("process",))
process.start()
use("parent")
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
process.join()
assert process.exitcode == 0
use("parent")
client.close()
assert os.waitpid(forked("child of a client that was closed"), 0)[1] == 0
print(*client.list_index_kms(), sep=",")
"""


def test_forked_children_and_their_parent_all_use_the_client(
    start_daemon: StartDaemon, start_script: StartScript
) -> None:
    script = start_script(FORK, start_daemon("--memory").address)
    output, errors = script.communicate(timeout=60)
    assert script.returncode == 0, errors
    children = [f"child {number}" for number in range(4)]
    users = ["child of a client that was closed", *children, "parent", "process"]
    names = [name for user in users for name in (user, f"{user} functions")]
    assert sorted(output.strip().split(",")) == sorted(names)


@pytest.mark.parametrize(
    "script",
    [
        "import kekd; kekd.get_index_kms(None, 'i', timeout=60)",
        "import asyncio, kekd; asyncio.run(kekd.AsyncClient(timeout=60).get_index_kms(None, 'i'))",
    ],
    ids=["Client", "AsyncClient"],
)
def test_ctrl_c_ends_a_blocking_call(proxy: Proxy, start_script: StartScript, script: str) -> None:
    proxy.tell(then=say_nothing)
    caller = start_script(script, proxy.address)
    proxy.wait_for_connection()
    caller.send_signal(signal.SIGINT)
    _, errors = caller.communicate(timeout=5)
    assert "KeyboardInterrupt" in errors
    assert caller.returncode == -signal.SIGINT
