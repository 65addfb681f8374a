"""Converts the responses of a watch to events."""

from typing import Final

from kekd._models import Change, ChangeKind, Event, Resync
from kekd_proto.v1 import envelope_pb2 as pb

_KINDS: Final[dict[int, ChangeKind]] = {
    pb.Change.KIND_CREATED: "created",
    pb.Change.KIND_RESTORED: "restored",
    pb.Change.KIND_UNDELETED: "undeleted",
    pb.Change.KIND_DELETED: "deleted",
}


def parse_event(response: pb.WatchEnvelopesResponse) -> Event | None:
    match response.WhichOneof("event"):
        case "started" | "resync":
            return Resync()
        case "change":
            change = response.change
            kind = _KINDS.get(change.kind, "pushed")
            return Change(change.index_name, kind, change.etag, change.breaches_hold)
        case _:  # a heartbeat, or an event that a newer daemon added
            return None
