"""Retried writes on the wire are applied once, or refused if the outcome is unknown."""

from pathlib import Path
from typing import Any

import grpc

from kekd_proto.v1 import envelope_pb2 as pb
from kekd_proto.v1.envelope_pb2_grpc import EnvelopeServiceStub
from kekd_server.access.request_context import RequestContext
from kekd_server.rpc import convert
from tests.fixtures.access import request_of
from tests.fixtures.daemon import StartDaemon, both_engines
from tests.integration.fixtures.wire import failure_of

MINE = pb.KMSBlob(provider="none", version=1)
OTHER = pb.KMSBlob(provider="none", version=2)
RETRIED_BY_GRPC = (("grpc-previous-rpc-attempts", "1"),)


def push(key: str, blob: pb.KMSBlob = MINE, *, is_retry: bool = False) -> pb.PushEnvelopeRequest:
    return pb.PushEnvelopeRequest(index_name="i", blob=blob, idempotency_key=key, is_retry=is_retry)


def attempt(message: convert.Write, request: RequestContext) -> str:
    found = convert.parse_attempt(message, request, is_retry=False)
    assert found
    return found.id


def test_attempts_of_one_write_share_an_id_that_other_writes_lack() -> None:
    one = attempt(push("key"), request_of())
    assert attempt(push("key", is_retry=True), request_of()) == one
    others = {
        attempt(push("another"), request_of()),
        attempt(push("key"), request_of("somebody else")),
        attempt(push("key", OTHER), request_of()),
        attempt(pb.DeleteEnvelopeRequest(index_name="i", idempotency_key="key"), request_of()),
    }
    assert len(others | {one}) == 5


def test_write_without_an_idempotency_key_has_no_attempt() -> None:
    assert convert.parse_attempt(push(""), request_of(), is_retry=False) is None


@both_engines
def test_retry_without_a_key_is_refused_and_writes_nothing(stub: Any) -> None:
    code, info = failure_of(stub.PushEnvelope, push("", is_retry=True))
    assert (code, info.reason) == ("INVALID_ARGUMENT", "REQUEST_INVALID")
    code, info = failure_of(stub.GetEnvelope, pb.GetEnvelopeRequest(index_name="i"))
    assert code == "NOT_FOUND"


@both_engines
def test_idempotency_key_that_is_too_long_is_refused(stub: Any) -> None:
    _, info = failure_of(stub.PushEnvelope, push("k" * 129))
    assert info.reason == "REQUEST_INVALID"


@both_engines
def test_repeated_push_does_not_undo_a_later_one(stub: Any) -> None:
    first = stub.PushEnvelope(push("key"))
    stub.PushEnvelope(push("", OTHER))
    assert stub.PushEnvelope(push("key", is_retry=True)) == first
    assert stub.GetEnvelope(pb.GetEnvelopeRequest(index_name="i")).blob == OTHER


def test_daemons_that_share_a_folder_apply_a_write_once(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    daemons = [
        start_daemon("--disk", str(tmp_path / "keystore"), name=name) for name in ("one", "other")
    ]
    channels = [grpc.insecure_channel(daemon.address) for daemon in daemons]
    one, other = map(EnvelopeServiceStub, channels)
    first = one.PushEnvelope(push("key"))
    one.PushEnvelope(push("", OTHER))
    assert other.PushEnvelope(push("key", is_retry=True)) == first
    assert other.GetEnvelope(pb.GetEnvelopeRequest(index_name="i")).blob == OTHER
    for channel in channels:
        channel.close()


def test_restarted_daemon_applies_a_write_once(start_daemon: StartDaemon, tmp_path: Path) -> None:
    daemon = start_daemon("--disk", str(tmp_path / "keystore"))
    with grpc.insecure_channel(daemon.address) as channel:
        stub = EnvelopeServiceStub(channel)
        first = stub.PushEnvelope(push("key"))
        stub.PushEnvelope(push("", OTHER))
    daemon.kill()
    restarted = start_daemon("--disk", str(tmp_path / "keystore"))
    with grpc.insecure_channel(restarted.address) as channel:
        stub = EnvelopeServiceStub(channel)
        assert stub.PushEnvelope(push("key", is_retry=True)) == first
        assert stub.GetEnvelope(pb.GetEnvelopeRequest(index_name="i")).blob == OTHER
