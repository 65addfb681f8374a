"""The services of kekd/v1/daemon.proto."""

from kekd_proto.services import define_services
from kekd_proto.v1.daemon_pb2 import DESCRIPTOR

define_services(DESCRIPTOR, globals())
