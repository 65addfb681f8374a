"""Access control on the wire: what callers can see and do under a policy."""

import contextlib
import itertools
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

import kekd
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_proto.v1.envelope_pb2_grpc import EnvelopeServiceStub
from kekd_server.listeners.engine import EngineName
from tests.fixtures.calls import BLOB
from tests.fixtures.daemon import Daemon, StartDaemon, both_engines, daemons_in
from tests.fixtures.s3 import free_port
from tests.integration.fixtures.audit import recorded
from tests.patience import eventually

Rule = dict[str, Any]

numbers = itertools.count()

EVERYTHING: Rule = {"name": "all", "identities": "listener:unix", "methods": "*"}
READER: Rule = {
    "name": "reader",
    "identities": "listener:unix",
    "methods": ["read", "list", "watch"],
    "indexes": "mine-*",
}

CALLS: dict[str, Callable[[kekd.Client], Any]] = {
    "read": lambda client: client.get_index_kms(None, "i"),
    "create": lambda client: client.create_index_kms(None, "i", BLOB),
    "push": lambda client: client.push_index_kms(None, "i", BLOB),
    "delete": lambda client: client.delete_index_kms(None, "i"),
    "delete-if-match": lambda client: client.delete_index_kms(None, "i", if_etag="stale"),
    "list": lambda client: list(client.list_index_kms()),
    "watch": lambda client: next(client.watch_index_kms()),
}


def reload(daemon: Daemon, *rules: Rule) -> None:
    """Waits until the daemon decides by these rules."""
    before = daemon.read_log().count("now in use: a policy")
    daemon.configure({"policy": list(rules)})
    eventually(lambda: daemon.read_log().count("now in use: a policy") > before)


@pytest.fixture(scope="module")
def shared_daemon(tmp_path_factory: pytest.TempPathFactory, engine: EngineName) -> Iterator[Daemon]:
    with daemons_in(tmp_path_factory.mktemp("policy"), engine) as start_daemon:
        yield start_daemon("--memory", config={"policy": []})


@pytest.fixture
def daemon(shared_daemon: Daemon) -> Daemon:
    """A shared daemon with "mine-1", "mine-2" and "other" that allows everything."""
    # With another name for each test, because an unchanged policy isn't reloaded.
    reload(shared_daemon, EVERYTHING | {"name": f"all-{next(numbers)}"})
    with kekd.Client(shared_daemon.address) as client:
        for name in list(client.list_index_kms()):
            client.delete_index_kms(None, name)
        create_many(client, ["mine-1", "mine-2", "other"])
    return shared_daemon


@pytest.fixture
def own_daemon(start_daemon: StartDaemon) -> Daemon:
    """A daemon with an empty store that allows everything."""
    return start_daemon("--memory", config={"policy": [EVERYTHING]})


def create_many(client: kekd.Client, names: Iterable[str]) -> None:
    pushed = client.push_many_index_kms(None, ((name, BLOB, None) for name in names))
    assert all(isinstance(etag, str) for _, etag in pushed)


@pytest.fixture
def client(daemon: Daemon) -> Iterator[kekd.Client]:
    with kekd.Client(daemon.address, timeout=10) as client:
        yield client


@contextlib.contextmanager
def denied() -> Iterator[None]:
    with pytest.raises(kekd.PermissionDeniedError) as caught:
        yield
    assert caught.value.reason == "ACCESS_DENIED"


@pytest.mark.parametrize("method", CALLS)
def test_method_is_allowed_only_by_a_rule_that_has_it(
    daemon: Daemon, client: kekd.Client, method: str
) -> None:
    others = [
        other
        for other in CALLS
        if other != method and {other, method} != {"delete", "delete-if-match"}
    ]
    reload(daemon, EVERYTHING | {"methods": others})
    with denied():
        CALLS[method](client)
    reload(daemon, EVERYTHING | {"methods": [method]})
    with contextlib.suppress(kekd.EnvelopeNotFoundError):
        CALLS[method](client)


def test_denied_call_changes_nothing(daemon: Daemon, client: kekd.Client) -> None:
    reload(daemon, READER)
    other = kekd.KMSBlob(provider="none")
    with denied():
        client.push_index_kms(None, "mine-1", other)
    with denied():
        client.create_index_kms(None, "mine-3", other)
    with denied():
        client.delete_index_kms(None, "mine-1")
    reload(daemon, EVERYTHING)
    assert client.get_index_kms(None, "mine-1") == BLOB
    assert list(client.list_index_kms()) == ["mine-1", "mine-2", "other"]


@both_engines
def test_denied_get_does_not_reveal_existence(daemon: Daemon, client: kekd.Client) -> None:
    reload(daemon, READER)
    messages = []
    for name in ("other", "never"):
        with pytest.raises(kekd.PermissionDeniedError) as error:
            client.get_index_kms(None, name)
        messages.append(str(error.value).replace(name, "NAME"))
    assert messages[0] == messages[1]
    with pytest.raises(kekd.EnvelopeNotFoundError):
        client.get_index_kms(None, "mine-9")


def test_listing_shows_only_readable_indexes(daemon: Daemon, client: kekd.Client) -> None:
    reload(daemon, READER)
    assert list(client.list_index_kms()) == ["mine-1", "mine-2"]
    assert [name for name, _ in client.scan_index_kms()] == ["mine-1", "mine-2"]
    assert list(client.list_index_kms(None, "other")) == []
    reload(daemon, READER | {"methods": ["list"]})
    assert list(client.list_index_kms()) == []


def test_pages_of_a_listing_are_full_of_readable_indexes(own_daemon: Daemon) -> None:
    names = [f"{'mine' if number % 10 == 0 else 'x'}-{number:04}" for number in range(2500)]
    with kekd.Client(own_daemon.address) as client:
        create_many(client, names)
        reload(own_daemon, READER)
        assert list(client.list_index_kms()) == [name for name in names if "mine" in name]


def test_batch_reads_and_pushes_only_allowed_indexes(daemon: Daemon, client: kekd.Client) -> None:
    reload(daemon, READER, EVERYTHING | {"methods": "push", "indexes": "mine-2"})
    found = dict(client.get_many_index_kms(None, ["other", "mine-1", "never"]))
    assert found["mine-1"] == BLOB
    assert isinstance(found["other"], kekd.PermissionDeniedError)
    assert isinstance(found["never"], kekd.PermissionDeniedError)
    other = kekd.KMSBlob(provider="none")
    pushes = [("mine-1", other, None), ("mine-2", other, None), ("other", other, None)]
    results = dict(client.push_many_index_kms(None, pushes))
    assert [isinstance(result, kekd.PermissionDeniedError) for result in results.values()] == [
        *(True, False, True)
    ]
    reload(daemon, EVERYTHING)
    assert client.get_index_kms(None, "mine-2") == other
    assert client.get_index_kms(None, "mine-1") == client.get_index_kms(None, "other") == BLOB


@both_engines
def test_watch_reports_only_readable_indexes(daemon: Daemon, client: kekd.Client) -> None:
    reload(daemon, READER, EVERYTHING | {"methods": "push"})
    events = client.watch_index_kms()
    assert isinstance(next(events), kekd.Resync)
    for name in ("other", "hidden", "mine-1"):
        client.push_index_kms(None, name, BLOB)
    event = next(events)
    assert isinstance(event, kekd.Change)
    assert event.index_name == "mine-1"


def test_page_does_not_reveal_hidden_names(own_daemon: Daemon) -> None:
    def page() -> pb.ListEnvelopesResponse:
        with grpc.insecure_channel(own_daemon.address) as channel:
            stub: Any = EnvelopeServiceStub(channel)
            answer: pb.ListEnvelopesResponse = stub.ListEnvelopes(
                pb.ListEnvelopesRequest(prefix="mine-2", page_size=1)
            )
            return answer

    with kekd.Client(own_daemon.address) as client:
        create_many(client, ["mine-1", "mine-2", "other"])
        reload(own_daemon, READER)
        before = page()
        reload(own_daemon, EVERYTHING)
        create_many(client, (f"mine-2 and hidden {number}" for number in range(2000)))
    reload(own_daemon, READER | {"indexes": ["mine-1", "mine-2"]})
    assert page() == before


def test_unknown_store_is_denied_like_a_forbidden_one(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    rule = EVERYTHING | {"stores": "memory"}
    real, audit = tmp_path / "keystore", tmp_path / "audit"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    daemon = start_daemon(
        *("--memory", "--disk", str(tmp_path / "link"), "--audit", str(audit)),
        config={"policy": [rule]},
    )
    spelt = [
        f"{tmp_path}/{path}" for path in ("link", ".//link", "keystore", "nowhere", ".//nowhere")
    ]
    asked = [None, *map(kekd.StorageConfig.disk, spelt)]
    calls: list[Callable[[kekd.Client, Any], Any]] = [
        lambda client, store: client.get_index_kms(store, "i"),
        lambda client, store: list(client.get_many_index_kms(store, ["i"])),
        lambda client, store: list(client.list_index_kms(store)),
        lambda client, store: client.push_index_kms(store, "i", BLOB),
    ]
    with kekd.Client(daemon.address) as client:
        for call in calls:
            errors = set()
            for store in asked:
                with pytest.raises(kekd.PermissionDeniedError) as error:
                    call(client, store)
                assert error.value.store == (str(store) if store else "")
                errors.add((error.value.reason, str(error.value)))
            assert len(errors) == 1
    eventually(lambda: len(recorded(audit)) == len(asked) * len(calls))
    assert {entry["decision"] for entry in recorded(audit)} == {"denied"}
    assert {entry["store"] for entry in recorded(audit)} == {
        f"disk:{path}" for path in (tmp_path / "link", tmp_path / "nowhere", spelt[-1])
    }


@pytest.mark.engines("grpcio")
def test_restarted_worker_decides_like_the_others(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    address = f"127.0.0.1:{free_port()}"
    tcp = {"identities": ["listener:tcp", "listener:unix"]}
    config = {"policy": [EVERYTHING | tcp]}
    flags = ("--listen", address, "--disk", str(tmp_path / "keystore"), "--workers", "2")
    daemon = start_daemon(*flags, config=config)
    eventually(lambda: "serving with 2 workers" in daemon.read_log())
    daemon.configure({"policy": [EVERYTHING | tcp | {"methods": "list"}]})
    eventually(lambda: daemon.read_log().count("now in use: a policy") == 2)
    for pid in children(daemon.process.pid):
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: daemon.read_log().count("serves again") == 2)
    for _ in range(10):
        with kekd.Client(address, timeout=10) as client, denied():
            client.get_index_kms(None, "i")


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for file in tasks for child in file.read_text().split()]


def test_policy_change_ends_a_forbidden_watch(daemon: Daemon, client: kekd.Client) -> None:
    events = client.watch_index_kms()
    next(events)
    reload(daemon, EVERYTHING | {"methods": "read"})
    with denied():
        next(events)


def test_each_listener_can_have_a_role(start_daemon: StartDaemon, tmp_path: Path) -> None:
    socket = f"unix:{tmp_path / 'operators' / 'kekd.sock'}"
    operators = {"name": "operators", "identities": "listener:operator", "methods": "*"}
    config = {
        "listen": [{"address": socket, "role": "operator"}],
        "policy": [operators, READER],
    }
    daemon = start_daemon("--memory", config=config)
    with kekd.Client(socket) as operator, kekd.Client(daemon.address) as reader:
        operator.create_index_kms(None, "mine-1", BLOB)
        assert reader.get_index_kms(None, "mine-1") == BLOB
        with denied():
            reader.delete_index_kms(None, "mine-1")


def test_policy_of_one_store_does_not_apply_to_another(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    folder = tmp_path / "keystore"
    rule = EVERYTHING | {"stores": f"disk:{folder}"}
    daemon = start_daemon("--memory", "--disk", str(folder), config={"policy": [rule]})
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "i", BLOB)
        with denied():
            client.create_index_kms(kekd.StorageConfig.memory(), "i", BLOB)


def test_status_lists_only_accessible_stores(start_daemon: StartDaemon, tmp_path: Path) -> None:
    rule = EVERYTHING | {"stores": "memory", "methods": "push", "indexes": "x"}
    flags = ("--memory", "--disk", str(tmp_path / "keystore"))
    daemon = start_daemon(*flags, config={"policy": [rule]})
    with kekd.Client(daemon.address) as client:
        assert [store.name for store in client.status().stores] == ["memory"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("policy: [", "cannot be read as YAML"),
        ("policy: [{name: x, identities: y, methods: raed}]", "policy.0.methods.0"),
        ("polcy: []", "the policy is missing"),
        ("policy: [{name: 2026-02-30, identities: x, methods: read}]", "cannot be read as YAML"),
        ("policy:", "no rules"),
        ("", "the policy is missing"),
    ],
)
def test_invalid_policy_is_reported_and_previous_one_stays(
    daemon: Daemon, client: kekd.Client, text: str, problem: str
) -> None:
    before = len(daemon.read_log())
    daemon.replace_config(text)
    eventually(lambda: "still in use: a policy" in daemon.read_log()[before:])
    assert problem in daemon.read_log()[before:]
    assert client.get_index_kms(None, "other") == BLOB
    reload(daemon, READER)
    with denied():
        client.get_index_kms(None, "other")


def test_hangup_logs_the_result_for_the_policy(own_daemon: Daemon) -> None:
    own_daemon.process.send_signal(signal.SIGHUP)
    eventually(lambda: "unchanged: a policy" in own_daemon.read_log())
    own_daemon.config.unlink()
    eventually(lambda: "No such file" in own_daemon.read_log())
    with kekd.Client(own_daemon.address) as client:
        client.create_index_kms(None, "i", BLOB)


def test_many_hangups_change_nothing(daemon: Daemon, client: kekd.Client) -> None:
    for _ in range(300):
        os.kill(daemon.process.pid, signal.SIGHUP)
        assert client.get_index_kms(None, "other") == BLOB
    reload(daemon, READER)
    with denied():
        client.get_index_kms(None, "other")
