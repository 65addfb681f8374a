"""The services of kekd/v1/envelope.proto."""

from kekd_proto.services import define_services
from kekd_proto.v1.envelope_pb2 import DESCRIPTOR

define_services(DESCRIPTOR, globals())
