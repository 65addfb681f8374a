"""An envelope as JSON: what `kekctl get --output json` prints and `push -f` reads.

    {"index_name": "my_index", "blob": {"kms_name": "prod", …}, "etag": "…"}

It is protobuf's own JSON, so grpcurl takes the same text as the data of a push.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import json_format

from kekd._types import KMSBlob
from kekd_proto.v1 import envelope_pb2 as pb

_KEYS: Final = {"index_name", "blob", "etag"}
_FIELDS: Final = tuple(field.name for field in pb.KMSBlob.DESCRIPTOR.fields)


class DocumentError(ValueError):
    """The text isn't an envelope; the message says where, and holds none of it."""


@dataclass(frozen=True, slots=True)
class Document:
    index_name: str
    blob: KMSBlob

    def __str__(self) -> str:
        message = pb.KMSBlob(**{name: getattr(self.blob, name) for name in _FIELDS})
        blob = json_format.MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        return json.dumps(
            {"index_name": self.index_name, "blob": blob, "etag": self.blob.etag},
            indent=2,
            ensure_ascii=False,
        )

    @classmethod
    def parse(cls, text: str) -> "Document":
        """Raises `DocumentError`."""
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            raise DocumentError(f"line {error.lineno}: not JSON: {error.msg}") from None
        if not isinstance(content, dict) or not isinstance(content.get("index_name"), str):
            raise DocumentError('not an envelope: {"index_name": "…", "blob": {…}} is expected')
        if unknown := content.keys() - _KEYS:
            raise DocumentError(f"unknown keys: {', '.join(sorted(unknown))}")
        return cls(content["index_name"], _blob(content.get("blob")))


def _blob(content: Any) -> KMSBlob:
    message = pb.KMSBlob(version=1)
    try:
        json_format.ParseDict({} if content is None else content, message)
    except json_format.ParseError:
        # Its own text quotes the value.
        raise DocumentError("blob: an unknown key, or a value of the wrong type") from None
    return KMSBlob(**{name: getattr(message, name) for name in _FIELDS})
