"""The differences between two envelopes of an index. Shows no wrapped KEK."""

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from kekd._models import KMSBlob

_DIGEST_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class FieldDifference:
    field: str
    is_equal: bool
    old: Any
    new: Any
    """Of a wrapped KEK, its length and the start of its SHA-256."""

    @property
    def content(self) -> dict[str, Any]:
        """The difference as JSON values."""
        return {"field": self.field, "equal": self.is_equal, "from": self.old, "to": self.new}

    @property
    def lines(self) -> Iterator[str]:
        """The lines of the field in a unified diff."""
        if self.is_equal:
            yield _line(" ", self.field, self.old)
        else:
            yield _line("-", self.field, self.old)
            yield _line("+", self.field, self.new)


def compare(old: "KMSBlob", new: "KMSBlob") -> Iterator[FieldDifference]:
    """Yields every field, in the order of the protocol."""
    # Imported here, because help doesn't need protobuf.
    from kekd._transport.convert import FIELDS  # noqa: PLC0415

    for field in FIELDS:
        values = getattr(old, field), getattr(new, field)
        shown = map(_digest, values) if field == "wrapped_kek" else values
        yield FieldDifference(field, values[0] == values[1], *shown)


def _digest(wrapped_kek: bytes) -> dict[str, Any]:
    digest = sha256(wrapped_kek).hexdigest()[:_DIGEST_DIGITS]
    return {"bytes": len(wrapped_kek), "sha256": digest}


def _line(mark: str, field: str, value: Any) -> str:
    if isinstance(value, dict):
        value = f"{value['bytes']} bytes, sha256 {value['sha256']}..."
    return f"{mark}{field}" if value == "" else f"{mark}{field:<12}{value}"
