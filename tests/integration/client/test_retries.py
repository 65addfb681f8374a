"""Failures that a call survives by retrying."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

import kekd
from tests.fixtures.daemon import StartDaemon
from tests.integration.client.blocking import OpenClient
from tests.integration.client.calls import BLOB, CALLS, OTHER, each_call
from tests.integration.client.scripted import Scripted
from tests.integration.fixtures.proxy import Proxy, lose_answer, refuse
from tests.patience import PATIENCE, eventually


@each_call
def test_refused_connection_is_retried(
    distant: kekd.Client, proxy: Proxy, index: str, call: Callable[..., Any]
) -> None:
    distant.push_index_kms(None, index, BLOB)
    if call is CALLS["create"]:
        distant.delete_index_kms(None, index)
    proxy.set_faults(refuse)
    proxy.cut()
    assert call(distant, index)
    assert proxy.connections == 2


@pytest.mark.parametrize("name", ["push", "get", "list"])
def test_lost_response_is_retried(
    distant: kekd.Client, proxy: Proxy, index: str, name: str
) -> None:
    distant.push_index_kms(None, index, BLOB)
    proxy.set_faults(lose_answer)
    proxy.cut()
    assert CALLS[name](distant, index)
    assert proxy.connections == 2


def test_delete_after_a_lost_response_succeeds(
    distant: kekd.Client, proxy: Proxy, index: str
) -> None:
    distant.create_index_kms(None, index, BLOB)
    proxy.set_faults(lose_answer)
    proxy.cut()
    distant.delete_index_kms(None, index)
    assert list(distant.list_index_kms(prefix=index)) == []


def test_create_after_a_lost_response_succeeds(
    distant: kekd.Client, proxy: Proxy, index: str
) -> None:
    proxy.set_faults(lose_answer)
    etag = distant.create_index_kms(None, index, BLOB)
    assert proxy.connections == 2
    assert distant.get_index_kms(None, index).etag == etag


def test_create_after_a_rival_raises_despite_a_lost_response(
    distant: kekd.Client, proxy: Proxy, index: str
) -> None:
    distant.create_index_kms(None, index, OTHER)
    proxy.set_faults(lose_answer)
    proxy.cut()
    with pytest.raises(kekd.EnvelopeExistsError):
        distant.create_index_kms(None, index, BLOB)
    assert proxy.connections == 2
    assert distant.get_index_kms(None, index) == OTHER


def test_conditional_push_after_a_lost_response_succeeds(
    distant: kekd.Client, proxy: Proxy, index: str
) -> None:
    old = distant.create_index_kms(None, index, OTHER)
    proxy.set_faults(lose_answer)
    proxy.cut()
    new = distant.push_index_kms(None, index, BLOB, if_etag=old)
    assert proxy.connections == 2
    stored = distant.get_index_kms(None, index)
    assert (stored, stored.etag) == (BLOB, new)


def test_batch_after_a_lost_response_fails_only_where_a_rival_won(
    distant: kekd.Client, proxy: Proxy, index: str
) -> None:
    mine, rivals = f"{index} mine", f"{index} rival's"
    old = {name: distant.create_index_kms(None, name, OTHER) for name in (mine, rivals)}
    distant.push_index_kms(None, rivals, kekd.KMSBlob(provider="none", version=2))
    proxy.set_faults(lose_answer)
    proxy.cut()
    items = [(name, BLOB, etag) for name, etag in old.items()]
    (_, new), (_, refused) = distant.push_many_index_kms(None, items)
    assert proxy.connections == 2
    stored = distant.get_index_kms(None, mine)
    assert (stored, stored.etag) == (BLOB, new)
    assert isinstance(refused, kekd.EtagMismatchError)


def test_conditional_push_after_a_rival_raises_despite_a_lost_response(
    distant: kekd.Client, proxy: Proxy, index: str
) -> None:
    stale = distant.create_index_kms(None, index, BLOB)
    distant.push_index_kms(None, index, OTHER)
    proxy.set_faults(lose_answer)
    proxy.cut()
    with pytest.raises(kekd.EtagMismatchError):
        distant.push_index_kms(None, index, BLOB, if_etag=stale)
    assert distant.get_index_kms(None, index) == OTHER


def test_restart_of_the_daemon_fails_no_call(
    open_client: OpenClient, start_daemon: StartDaemon, tmp_path: Path, index: str
) -> None:
    flags = ("--disk", str(tmp_path / "keystore"))
    daemon = start_daemon(*flags)
    with open_client(daemon.address, timeout=PATIENCE) as client:
        client.create_index_kms(None, index, BLOB)
        assert daemon.stop() == 0
        with ThreadPoolExecutor() as threads:
            answer = threads.submit(client.get_index_kms, None, index)
            start_daemon(*flags)
            assert answer.result() == BLOB


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Removes the delays between retries."""
    monkeypatch.setattr("kekd._transport.retries._MAX_BACKOFF", 0.001)


@pytest.mark.usefixtures("impatient")
@each_call
def test_call_without_a_daemon_raises_within_seconds(
    open_client: OpenClient, tmp_path: Path, index: str, call: Callable[..., Any]
) -> None:
    address = f"unix:{tmp_path}/none"
    with open_client(address) as client, pytest.raises(kekd.UnavailableError) as caught:
        call(client, index, timeout=PATIENCE)
    assert f"cannot reach kekd at {address}: no connection; check that it is running" in str(
        caught.value
    )
    assert "may have been applied" not in str(caught.value)


@pytest.mark.usefixtures("impatient")
def test_call_after_a_successful_one_is_retried_until_its_timeout(
    open_client: OpenClient, scripted: Scripted, index: str
) -> None:
    with open_client(scripted.address) as client, ThreadPoolExecutor() as threads:
        client.get_index_kms(None, index)
        scripted.failure = grpc.StatusCode.UNAVAILABLE
        answer = threads.submit(client.get_index_kms, None, index, timeout=PATIENCE)
        eventually(lambda: len(scripted.gets) > 10)
        scripted.failure = None
        assert answer.result()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", ["create", "push", "delete"])
def test_retried_write_has_the_same_key_and_is_marked(
    open_client: OpenClient, scripted: Scripted, index: str, name: str
) -> None:
    with open_client(scripted.address) as client, ThreadPoolExecutor() as threads:
        scripted.failure = grpc.StatusCode.UNAVAILABLE
        answer = threads.submit(CALLS[name], client, index, timeout=PATIENCE)
        eventually(lambda: len(scripted.writes) > 2)
        scripted.failure = None
        assert answer.result()
        CALLS[name](client, index)
    *retried, another = scripted.writes
    assert [write.is_retry for write in retried] == [False] + [True] * (len(retried) - 1)
    assert len({write.idempotency_key for write in retried}) == 1
    assert another.idempotency_key != retried[0].idempotency_key
    assert not another.is_retry


@pytest.mark.usefixtures("impatient")
def test_write_that_no_daemon_has_begun_is_not_marked_as_retry(
    open_client: OpenClient, scripted: Scripted, index: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kekd._transport.retries._MAX_FIRST_ATTEMPTS", 10**6)
    scripted.failure, scripted.details = grpc.StatusCode.UNAVAILABLE, "the daemon is shutting down"
    with open_client(scripted.address) as client, ThreadPoolExecutor() as threads:
        answer = threads.submit(client.create_index_kms, None, index, BLOB, timeout=PATIENCE)
        eventually(lambda: len(scripted.writes) > 2)
        scripted.failure = None
        assert answer.result()
    assert not any(write.is_retry for write in scripted.writes)


def test_unknown_outcome_is_reported_once(
    open_client: OpenClient, scripted: Scripted, index: str
) -> None:
    scripted.failure = grpc.StatusCode.ABORTED
    with open_client(scripted.address) as client, pytest.raises(kekd.OutcomeUnknownError):
        client.push_index_kms(None, index, BLOB)
    assert len(scripted.writes) == 1
