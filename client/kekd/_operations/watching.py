"""The operation that watches a store."""

from kekd._models import Event, StorageConfig
from kekd._operations.envelopes import reject_surrogates
from kekd._transport import convert, convert_event
from kekd._transport.operation import SERVICE, Operation
from kekd_proto.v1 import envelope_pb2 as pb


@reject_surrogates
def watch(config_location: StorageConfig | None, prefix: str = "") -> Operation[Event | None]:
    """Its results are events, and None for a heartbeat."""
    request = pb.WatchEnvelopesRequest(config_location=convert.make_location(config_location))
    convert.set_name(request, prefix=prefix)
    return Operation(
        f"/{SERVICE}/WatchEnvelopes", request, pb.WatchEnvelopesResponse, convert_event.parse_event
    )
