"""The messages of kekd/v1/envelope.proto."""

from kekd_proto.descriptors import define_messages

define_messages("kekd/v1/envelope.proto", globals())
