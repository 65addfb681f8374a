"""An envelope as JSON: `kekctl get --output json` prints it, `kekctl push -f` reads it.

    {"index_name": "my_index", "blob": {"kms_name": "prod", …}, "etag": "…"}

This is protobuf's JSON. Without its etag, grpcurl accepts it as the data of a create or push.
"""

import base64
import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from kekd._cli.errors import EnvelopeJSONError

# protobuf is imported where it is used, because it imports slowly, and help needs none.
if TYPE_CHECKING:
    from kekd._models import KMSBlob

_KEYS: Final = ("index_name", "blob", "etag")


class EnvelopeJSON(NamedTuple):  # a dataclass takes ten times as long to make
    index_name: str
    blob: "KMSBlob"

    def as_content(self) -> dict[str, Any]:
        """Returns the envelope as JSON values."""
        from google.protobuf import json_format  # noqa: PLC0415

        from kekd._transport.convert import FIELDS  # noqa: PLC0415
        from kekd_proto.v1 import envelope_pb2 as pb  # noqa: PLC0415

        message = pb.KMSBlob(**{name: getattr(self.blob, name) for name in FIELDS})
        blob = json_format.MessageToDict(
            message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        )
        return {"index_name": self.index_name, "blob": blob, "etag": self.blob.etag}

    def as_summary(self) -> dict[str, Any]:
        """Returns the envelope as JSON values, without its wrapped KEK."""
        content = self.as_content()
        del content["blob"]["wrapped_kek"]
        return content

    @classmethod
    def from_content(cls, content: Any) -> "EnvelopeJSON":
        """Reads JSON values. Raises `EnvelopeJSONError`."""
        match content:
            case {"index_name": str(index_name), "blob": dict(blob)}:
                if not content.keys() <= set(_KEYS):
                    raise EnvelopeJSONError(f"unknown key; use {', '.join(_KEYS)}")
                return cls(index_name, _parse_blob(blob))
        raise EnvelopeJSONError('not an envelope; write {"index_name": "…", "blob": {…}}')


def parse_json(text: str) -> Any:
    """Parses JSON and rejects duplicate keys. Raises `EnvelopeJSONError`."""
    try:
        return json.loads(text, object_pairs_hook=_require_unique_keys)
    except EnvelopeJSONError:
        raise
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":
            raise EnvelopeJSONError(
                f"line {error.lineno}: text after the first envelope; give one envelope"
            ) from None
        raise EnvelopeJSONError(f"line {error.lineno}: not JSON: {error.msg}; correct it") from None
    except (ValueError, RecursionError):
        raise EnvelopeJSONError(
            "not JSON of an envelope: too deep or too long; correct it"
        ) from None


def _require_unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Rejects duplicate keys, of which Python's parser keeps the last."""
    content = dict(pairs)
    if len(content) < len(pairs):
        raise EnvelopeJSONError("duplicate key; remove one")
    return content


def _parse_blob(content: dict[str, Any]) -> "KMSBlob":
    from google.protobuf import json_format  # noqa: PLC0415

    from kekd._transport.convert import FIELDS, parse_blob  # noqa: PLC0415
    from kekd_proto.v1 import envelope_pb2 as pb  # noqa: PLC0415

    # protobuf reads both spellings. grpcurl prints the first, and kekctl the second.
    spellings = {field.json_name: field.name for field in pb.KMSBlob.DESCRIPTOR.fields}
    fields = {spellings.get(key, key): value for key, value in content.items()}
    if len(fields) < len(content):
        raise EnvelopeJSONError("blob: duplicate key, in two spellings; remove one")
    if not fields.keys() <= set(FIELDS):
        raise EnvelopeJSONError(f"blob: unknown key; use {', '.join(FIELDS)}")
    message = pb.KMSBlob()
    for name, value in fields.items():
        try:
            if name == "wrapped_kek":
                # protobuf skips invalid base64 characters, and would accept a damaged key.
                base64.b64decode(value or "", validate=True)
            json_format.ParseDict({name: value}, message)
        except (json_format.ParseError, TypeError, ValueError):
            # The messages of these errors quote the value.
            raise EnvelopeJSONError(f"blob: {name}: invalid value; correct it") from None
    if not message.HasField("version"):
        message.version = 1
    return parse_blob(message)
