"""Index names, and the key that each has in a store."""

import re
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from kekd_common.limits import MAX_INDEX_KEY_BYTES
from kekd_server.model.errors import InvalidIndexNameError

_SUFFIX: Final = ".kms.cat"
_PLAIN: Final = re.compile("[A-Za-z0-9._-]*")
"""Text that is its own encoding, as that of nearly every name is."""


@dataclass(frozen=True, slots=True)
class IndexName:
    """The name of an index; any Unicode text that isn't empty and whose key isn't too long.

    Raises `InvalidIndexNameError` when made from anything else.
    """

    value: str
    key: str = field(init=False)
    """File or object name of the envelope: the name percent-encoded, then `.kms.cat`, as CyborgDB
    0.18 has it. Distinct names have distinct keys, and no key is `.`, `..` or holds a `/`."""

    def __post_init__(self) -> None:
        if not self.value:
            # To the letter what cyborgdb_core 0.18 says: existing callers match on it.
            raise InvalidIndexNameError("index_name cannot be empty.")
        key = _encoded(self.value) + _SUFFIX
        if len(key) > MAX_INDEX_KEY_BYTES:
            raise InvalidIndexNameError(
                f"index_name is too long: percent-encoded and with {_SUFFIX} it takes {len(key)}"
                f" bytes, and {MAX_INDEX_KEY_BYTES} is the limit on every store."
            )
        object.__setattr__(self, "key", key)

    @classmethod
    def from_key(cls, key: str) -> "IndexName | None":
        """The name whose key this is; None where kekd would never have made such a key."""
        encoded_name = key.removesuffix(_SUFFIX)
        try:
            name = cls(unquote_to_bytes(encoded_name).decode())
        except (UnicodeError, InvalidIndexNameError):
            return None
        return name if name.key == key else None


@dataclass(frozen=True, slots=True)
class NamePrefix:
    """What index names may start with. Raises `InvalidIndexNameError` if no name can."""

    value: str
    key: str = field(init=False)
    """What the keys of all names with the prefix start with. Others' may too: of `ab`, the key is
    `ab.kms.cat`, which also starts with that of the prefix `ab.`."""

    def __post_init__(self) -> None:
        key = _encoded(self.value)
        if len(key) > MAX_INDEX_KEY_BYTES:
            raise InvalidIndexNameError(f"prefix is longer than any index name: {len(key)} bytes.")
        object.__setattr__(self, "key", key)

    @property
    def keys(self) -> tuple[str, ...]:
        return (self.key,)

    @property
    def is_exact(self) -> bool:
        return False

    def name_of(self, key: str) -> IndexName | None:
        """The name whose key this is, if it is one and has the prefix."""
        name = IndexName.from_key(key)
        return name if name and name.value.startswith(self.value) else None


def _encoded(text: str) -> str:
    """`text` with every UTF-8 byte outside `A-Za-z0-9-._` as `%XX`."""
    if _PLAIN.fullmatch(text):
        return text
    try:
        return quote(text, safe="").replace("~", "%7E")
    except UnicodeEncodeError as error:
        raise InvalidIndexNameError(
            f"index_name is not valid Unicode: a lone surrogate at character {error.start}."
        ) from None
