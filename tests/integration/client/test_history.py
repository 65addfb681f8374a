"""Versions, restore and undelete."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import grpc
import pytest

import kekd
from kekd_proto.v1 import envelope_pb2 as pb
from tests.fixtures.daemon import StartDaemon
from tests.integration.client.blocking import OpenClient
from tests.integration.client.calls import BLOB, OTHER
from tests.integration.client.scripted import Scripted
from tests.integration.fixtures.proxy import Proxy, lose_answer
from tests.patience import PATIENCE, eventually


@pytest.fixture
def replaced(client: kekd.Client, index: str) -> list[kekd.EnvelopeVersion]:
    """The versions of an index whose envelope `BLOB` was replaced by `OTHER`."""
    client.create_index_kms(None, index, BLOB)
    client.push_index_kms(None, index, OTHER)
    return list(client.list_versions_index_kms(None, index))


def test_versions_are_yielded_newest_first(client: kekd.Client, index: str) -> None:
    before = datetime.now(UTC)
    created = client.create_index_kms(None, index, BLOB)
    pushed = client.push_index_kms(None, index, OTHER)
    client.delete_index_kms(None, index)
    versions = list(client.list_versions_index_kms(None, index))
    assert [(version.event, version.etag) for version in versions] == [
        (kekd.VersionEvent.DELETED, ""),
        (kekd.VersionEvent.PUSHED, pushed),
        (kekd.VersionEvent.CREATED, created),
    ]
    times = [version.time for version in versions]
    assert times == sorted(times, reverse=True)
    assert before <= times[-1] <= datetime.now(UTC)
    assert [bool(version.size) for version in versions] == [False, True, True]
    assert {(version.blob, version.error) for version in versions} == {(None, None)}
    assert versions[1].caller == versions[2].caller != ""


def test_full_versions_have_their_envelopes(client: kekd.Client, index: str) -> None:
    etag = client.create_index_kms(None, index, BLOB)
    client.delete_index_kms(None, index)
    deleted, created = client.list_versions_index_kms(None, index, full=True)
    assert (deleted.blob, created.blob) == (None, BLOB)
    assert created.blob
    assert (created.blob.etag, created.blob.store) == (etag, "memory")


def test_index_without_versions_yields_none(client: kekd.Client, index: str) -> None:
    assert list(client.list_versions_index_kms(None, index)) == []


def test_all_pages_of_versions_are_yielded(
    open_client: OpenClient, start_daemon: StartDaemon, index: str
) -> None:
    """An answer has at most 1 MiB of envelopes."""
    daemon = start_daemon("--memory", "--history-versions", "400")
    with open_client(daemon.address) as client:
        for number in range(400):
            blob = kekd.KMSBlob(provider="aws-kms", key_id="k", wrapped_kek=b"w" * 6144)
            blob.version = number + 1
            client.push_index_kms(None, index, blob)
        versions = client.list_versions_index_kms(None, index, full=True)
        assert [version.blob and version.blob.version for version in versions] == [
            *range(400, 0, -1)
        ]


def test_pages_of_a_chosen_size_have_all_versions(
    client: kekd.Client, index: str, replaced: list[kekd.EnvelopeVersion]
) -> None:
    assert list(client.list_versions_index_kms(None, index, page_size=1)) == replaced


def test_get_of_a_version_returns_its_envelope(
    client: kekd.Client, index: str, replaced: list[kekd.EnvelopeVersion]
) -> None:
    old = client.get_index_kms(None, index, version_id=replaced[1].version_id)
    assert (old, old.etag) == (BLOB, replaced[1].etag)
    assert client.get_index_kms(None, index) == OTHER


def test_restore_stores_the_envelope_of_a_version_again(
    client: kekd.Client, index: str, replaced: list[kekd.EnvelopeVersion]
) -> None:
    etag = client.restore_index_kms(None, index, replaced[1].version_id)
    stored = client.get_index_kms(None, index)
    assert (stored, stored.etag) == (BLOB, etag)
    newest = next(iter(client.list_versions_index_kms(None, index)))
    assert newest.event is kekd.VersionEvent.RESTORED


def test_restore_with_a_stale_etag_changes_nothing(
    client: kekd.Client, index: str, replaced: list[kekd.EnvelopeVersion]
) -> None:
    pushed, created = replaced
    with pytest.raises(kekd.EtagMismatchError):
        client.restore_index_kms(None, index, created.version_id, if_etag=created.etag)
    assert client.get_index_kms(None, index) == OTHER
    client.restore_index_kms(None, index, created.version_id, if_etag=pushed.etag)
    assert client.get_index_kms(None, index) == BLOB


def test_undelete_stores_the_last_envelope_again(client: kekd.Client, index: str) -> None:
    etag = client.create_index_kms(None, index, BLOB)
    with pytest.raises(kekd.EnvelopeExistsError):
        client.undelete_index_kms(None, index)
    client.delete_index_kms(None, index)
    assert client.undelete_index_kms(None, index) == etag
    assert client.get_index_kms(None, index) == BLOB


MISSING: list[Callable[[kekd.Client, str], Any]] = [
    lambda client, index: client.get_index_kms(None, index, version_id="none"),
    lambda client, index: client.restore_index_kms(None, index, "none"),
    lambda client, index: client.undelete_index_kms(None, index),
]


@pytest.mark.parametrize("call", MISSING, ids=["get", "restore", "undelete"])
def test_missing_version_raises(
    client: kekd.Client, index: str, call: Callable[[kekd.Client, str], Any]
) -> None:
    with pytest.raises(kekd.VersionNotFoundError) as caught:
        call(client, index)
    assert (caught.value.reason, caught.value.index_name) == ("VERSION_NOT_FOUND", index)


def test_listing_shows_deleted_indexes_on_request(client: kekd.Client, index: str) -> None:
    for name in (f"{index}-deleted", f"{index}-kept"):
        client.create_index_kms(None, name, BLOB)
    client.delete_index_kms(None, f"{index}-deleted")
    assert list(client.list_index_kms(prefix=index)) == [f"{index}-kept"]
    shown = client.list_index_kms(prefix=index, show_deleted=True)
    assert list(shown) == [f"{index}-deleted", f"{index}-kept"]


@pytest.mark.parametrize("name", ["restore", "undelete"])
def test_write_after_a_lost_response_is_applied_once(
    distant: kekd.Client, proxy: Proxy, index: str, name: str
) -> None:
    distant.create_index_kms(None, index, BLOB)
    (created,) = distant.list_versions_index_kms(None, index)
    distant.delete_index_kms(None, index)
    proxy.set_faults(lose_answer)
    proxy.cut()
    if name == "restore":
        distant.restore_index_kms(None, index, created.version_id)
    else:
        distant.undelete_index_kms(None, index)
    events = [version.event for version in distant.list_versions_index_kms(None, index)]
    assert events == [f"{name}d", "deleted", "created"]


@pytest.fixture
def caller(open_client: OpenClient, scripted: Scripted) -> Iterator[kekd.Client]:
    with open_client(scripted.address, timeout=PATIENCE) as client:
        yield client


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda client: client.restore_index_kms(None, "i", "1"), pb.RestoreEnvelopeRequest),
        (lambda client: client.undelete_index_kms(None, "i"), pb.UndeleteEnvelopeRequest),
    ],
    ids=["restore", "undelete"],
)
def test_retry_has_the_key_of_the_first_attempt(
    caller: kekd.Client, scripted: Scripted, call: Callable[[kekd.Client], Any], kind: type[Any]
) -> None:
    scripted.failure = grpc.StatusCode.UNAVAILABLE
    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(call, caller)
        eventually(lambda: len(scripted.writes) > 1)
        scripted.failure = grpc.StatusCode.DEADLINE_EXCEEDED  # isn't retried
        with pytest.raises(kekd.UnavailableError, match="the write may have been applied"):
            writing.result()
    first, *retries = scripted.writes
    assert isinstance(first, kind)
    assert len(retries) > 0
    assert {write.idempotency_key for write in retries} == {first.idempotency_key} != {""}
    assert [write.is_retry for write in scripted.writes] == [False, *(True for _ in retries)]


def test_version_of_a_newer_daemon_is_read(open_client: OpenClient, scripted: Scripted) -> None:
    scripted.versions = [
        pb.EnvelopeVersion(version_id="2", event=77),  # type: ignore[arg-type]
        pb.EnvelopeVersion(
            version_id="1", failure=pb.Failure(reason="ENVELOPE_CORRUPT", message="damaged")
        ),
    ]
    with open_client(scripted.address) as client:
        newer, damaged = client.list_versions_index_kms(None, "i", full=True)
    assert newer.event is kekd.VersionEvent.PUSHED
    assert isinstance(damaged.error, kekd.CorruptEnvelopeError)
    assert (str(damaged.error), damaged.error.index_name) == ("damaged", "i")


def test_imported_versions_are_below_the_envelope(
    client: kekd.Client, index: str, replaced: list[kekd.EnvelopeVersion]
) -> None:
    old = replace(replaced[1], time=replaced[1].time - timedelta(days=1), caller="dns:a", blob=BLOB)
    older = replace(
        old, event=kekd.VersionEvent.DELETED, time=old.time - timedelta(days=1), etag="", blob=None
    )
    assert client.import_versions_index_kms(None, index, [old, older]) == 2
    assert client.import_versions_index_kms(None, index, [old, older]) == 0
    *present, first, second = client.list_versions_index_kms(None, index, full=True)
    assert [version.version_id for version in present] == [one.version_id for one in replaced]
    assert replace(first, version_id="", size=0) == replace(old, version_id="", size=0)
    assert replace(second, version_id="") == replace(older, version_id="", size=0)
    assert client.get_index_kms(None, index) == OTHER


def test_import_of_newer_versions_is_refused(
    client: kekd.Client, index: str, replaced: list[kekd.EnvelopeVersion]
) -> None:
    newer = replace(replaced[0], time=replaced[0].time + timedelta(microseconds=1), blob=BLOB)
    with pytest.raises(kekd.HistoryConflictError) as refused:
        client.import_versions_index_kms(None, index, [newer])
    assert refused.value.reason == "HISTORY_CONFLICT"
    assert list(client.list_versions_index_kms(None, index)) == replaced


def test_import_is_not_reported_to_watchers(
    client: kekd.Client, index: str, replaced: list[kekd.EnvelopeVersion]
) -> None:
    events = client.watch_index_kms(None, index)
    next(events)
    old = replace(replaced[1], time=replaced[1].time - timedelta(days=1), blob=BLOB)
    client.import_versions_index_kms(None, index, [old])
    client.delete_index_kms(None, index)
    event = next(events)
    assert isinstance(event, kekd.Change)
    assert event.kind == "deleted"
