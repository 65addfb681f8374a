"""An envelope as JSON: what `kekctl get --output json` prints and `push -f` reads.

    {"index_name": "my_index", "blob": {"kms_name": "prod", …}, "etag": "…"}

It is protobuf's own JSON: less its etag, grpcurl takes it as the data of a create or push.
"""

import base64
import json
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import json_format

from kekd._models import KMSBlob
from kekd._transport.convert import FIELDS, blob_of
from kekd_proto.v1 import envelope_pb2 as pb

_KEYS: Final = ("index_name", "blob", "etag")
_SPELLINGS: Final = {field.json_name: field.name for field in pb.KMSBlob.DESCRIPTOR.fields}
"""protobuf takes either, grpcurl prints the one, and kekctl the other."""


class DocumentError(ValueError):
    """The text isn't an envelope; the message says where, and holds none of it."""


@dataclass(frozen=True, slots=True)
class EnvelopeJSON:
    index_name: str
    blob: KMSBlob

    def __str__(self) -> str:
        return json.dumps(self.content, indent=2)

    @property
    def content(self) -> dict[str, Any]:
        """What JSON can hold."""
        message = pb.KMSBlob(**{name: getattr(self.blob, name) for name in FIELDS})
        blob = json_format.MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        return {"index_name": self.index_name, "blob": blob, "etag": self.blob.etag}

    @classmethod
    def of(cls, content: Any) -> "EnvelopeJSON":
        """From such a content. Raises `DocumentError`."""
        match content:
            case {"index_name": str(index_name), "blob": dict(blob)}:
                if not content.keys() <= set(_KEYS):
                    raise DocumentError(f"an unknown key: its keys are {', '.join(_KEYS)}")
                return cls(index_name, _blob(blob))
        raise DocumentError('not an envelope: {"index_name": "…", "blob": {…}} is expected')


def content_of(text: str) -> Any:
    """JSON, read strictly. Raises `DocumentError`."""
    try:
        return json.loads(text, object_pairs_hook=_object)
    except DocumentError:
        raise
    except json.JSONDecodeError as error:
        raise DocumentError(f"line {error.lineno}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError):
        raise DocumentError("not JSON that an envelope could be: too deep or too long") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """JSON's own reader would take the last of two that have the same key."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise DocumentError("a key is there twice")
    return content


def _blob(content: dict[str, Any]) -> KMSBlob:
    fields = {_SPELLINGS.get(key, key): value for key, value in content.items()}
    if len(fields) < len(content):
        raise DocumentError("blob: a key is there in two spellings")
    if not fields.keys() <= set(FIELDS):
        raise DocumentError(f"blob: an unknown key: its keys are {', '.join(FIELDS)}")
    message = pb.KMSBlob()
    for name, value in fields.items():
        try:
            if name == "wrapped_kek":
                # protobuf passes over characters that aren't base64, and would take a damaged key.
                base64.b64decode(value or "", validate=True)
            json_format.ParseDict({name: value}, message)
        except (json_format.ParseError, TypeError, ValueError):
            # Their own texts quote the value.
            raise DocumentError(f"blob: {name}: not a value that it can have") from None
    if not message.HasField("version"):
        message.version = 1
    return blob_of(message)
