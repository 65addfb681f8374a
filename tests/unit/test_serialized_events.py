"""An event is serialized once, not for each watcher."""

from dataclasses import replace

import pytest

from kekd_proto.v1 import envelope_pb2 as pb
from kekd_server.model.index_name import IndexName
from kekd_server.rpc import convert
from kekd_server.storage.watch.event import Change, ChangeKind, WatchEvent


@pytest.mark.parametrize("event", [Change(ChangeKind.PUSHED, IndexName("é"), "1"), *WatchEvent])
def test_event_is_serialized_once(event: Change | WatchEvent) -> None:
    assert convert.serialize_event(event) is convert.serialize_event(event)


def test_events_that_differ_have_bytes_of_their_own() -> None:
    change = Change(ChangeKind.PUSHED, IndexName("i"), "1")
    others = [
        change,
        change._replace(kind=ChangeKind.DELETED),
        change._replace(name=replace(change.name, value="j")),
        change._replace(etag="2"),
        change._replace(breaches_hold=True),
    ]
    assert len({convert.serialize_event(other) for other in others}) == len(others)
    for other in others:
        sent = pb.WatchEnvelopesResponse.FromString(convert.serialize_event(other)).change
        expected = (other.name.value, other.etag, other.breaches_hold)
        assert (sent.index_name, sent.etag, sent.breaches_hold) == expected
