"""Index names, and their keys in a store."""

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from kekd_common.limits import MAX_INDEX_KEY_BYTES
from kekd_server.model.errors import InvalidIndexNameError

_SUFFIX: Final = ".kms.cat"
_PLAIN: Final = re.compile("[A-Za-z0-9._-]*")
"""Text that equals its percent-encoding, as nearly every name does."""


@dataclass(frozen=True, slots=True, init=False)
class IndexName:
    """The name of an index: any Unicode text that isn't empty and whose key isn't too long.

    Raises `InvalidIndexNameError` for any other text.
    """

    value: str
    key: str = field(init=False)
    """The file or object name of the envelope, as in CyborgDB 0.18: the percent-encoded name and
    `.kms.cat`. Distinct names have distinct keys. No key is `.` or `..`, or contains a `/`."""

    def __init__(self, value: str) -> None:
        # Not the dataclass's own, which takes twice as long: a page makes a thousand names.
        if not value:
            # The exact text of cyborgdb_core 0.18: existing callers match on it.
            raise InvalidIndexNameError("index_name cannot be empty.")
        key = _percent_encode(value) + _SUFFIX
        if len(key) > MAX_INDEX_KEY_BYTES:
            raise InvalidIndexNameError(
                f"index_name is too long: percent-encoded and with {_SUFFIX} it has {len(key)}"
                f" bytes, and the limit is {MAX_INDEX_KEY_BYTES}"
            )
        object.__setattr__(self, "value", value)
        object.__setattr__(self, "key", key)

    @classmethod
    def from_key(cls, key: str) -> "IndexName | None":
        """Returns the name that has this key; None if kekd would never make such a key."""
        encoded_name = key.removesuffix(_SUFFIX)
        try:
            is_plain = _PLAIN.fullmatch(encoded_name)
            name = cls(encoded_name if is_plain else unquote_to_bytes(encoded_name).decode())
        except (UnicodeError, InvalidIndexNameError):
            return None
        return name if name.key == key else None


@dataclass(frozen=True, slots=True)
class NamePrefix:
    """A prefix of index names. Raises `InvalidIndexNameError` if no name can have it."""

    value: str
    key: str = field(init=False)
    """The keys of all names with the prefix start with this. Those of other names may do so too:
    the key of `ab` is `ab.kms.cat`, which also starts with the key of the prefix `ab.`."""

    def __post_init__(self) -> None:
        key = _percent_encode(self.value)
        if len(key) > MAX_INDEX_KEY_BYTES:
            raise InvalidIndexNameError(
                f"prefix is too long: it has {len(key)} bytes, more than any index name"
            )
        object.__setattr__(self, "key", key)

    @property
    def prefixes(self) -> tuple[str, ...]:
        return (self.key,)

    @property
    def is_exact(self) -> bool:
        return False

    def name_of(self, key: str) -> IndexName | None:
        """Returns the name that has this key, if there is one and it has the prefix."""
        name = IndexName.from_key(key)
        return name if name and name.value.startswith(self.value) else None


def _percent_encode(text: str) -> str:
    """Encodes every UTF-8 byte outside `A-Za-z0-9-._` as `%XX`."""
    if _PLAIN.fullmatch(text):
        return text
    try:
        return quote(text, safe="").replace("~", "%7E")
    except UnicodeEncodeError as error:
        raise InvalidIndexNameError(
            f"index_name is not valid Unicode: a lone surrogate at character {error.start}"
        ) from None
