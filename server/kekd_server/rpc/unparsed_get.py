"""A GetEnvelope request that may be answered without being parsed."""

from google.protobuf.message import DecodeError

from kekd_proto.v1 import envelope_pb2 as pb
from kekd_server.model.errors import InvalidRequestError
from kekd_server.rpc.errors import INVALID_MESSAGE


class UnparsedGet:
    __slots__ = ("sent",)

    def __init__(self, sent: bytes) -> None:
        self.sent = sent

    def parse(self) -> pb.GetEnvelopeRequest:
        """Raises `InvalidRequestError`."""
        try:
            return pb.GetEnvelopeRequest.FromString(self.sent)
        except DecodeError:
            raise InvalidRequestError(INVALID_MESSAGE) from None

    @property
    def index_name(self) -> str:
        """For an error; empty if the request is invalid."""
        try:
            return self.parse().index_name
        except InvalidRequestError:
            return ""
