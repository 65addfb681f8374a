"""What a wrapped KEK is bound to."""

import json
from collections.abc import Collection
from dataclasses import dataclass

from kekd.kek.errors import WrongContextError


@dataclass(frozen=True, slots=True)
class EncryptionContext:
    """An index, and the store that has its envelope, by the daemon's name for it.

    An envelope remembers it as JSON. That text is the additional data of AES-GCM as it is; KMS gets
    the two values as its encryption context
    (https://docs.aws.amazon.com/kms/latest/developerguide/encrypt_context.html), which it writes to
    CloudTrail.
    """

    index_name: str
    store: str

    def __str__(self) -> str:
        return json.dumps(self.context, separators=(",", ":"))

    @property
    def context(self) -> dict[str, str]:
        return {"index_name": self.index_name, "store": self.store}

    @classmethod
    def parse(cls, recorded: str) -> "EncryptionContext":
        """Raises `WrongContextError` unless it is the text of a binding."""
        try:
            match json.loads(recorded):
                case {"index_name": str(index_name), "store": str(store), **others} if not others:
                    return cls(index_name, store)
        except (ValueError, RecursionError):
            pass
        raise WrongContextError("The envelope's binding isn't one that kekd makes.")

    @classmethod
    def expected(
        cls, index_name: str, stores: Collection[str], recorded: str
    ) -> "EncryptionContext | None":
        """What a KEK of this index must be bound to, if its envelope recorded a binding.

        The recorded store must be one of `stores`; if those are empty, as it isn't known where the
        envelope is from, it is believed. Raises `WrongContextError`.
        """
        if not recorded:
            return None
        bound = cls.parse(recorded)
        if bound.index_name != index_name:
            raise WrongContextError(
                "The KEK was wrapped for another index, and the envelope copied here: restore this"
                f" index's own envelope. It is bound to index {bound.index_name!r}."
            )
        if stores and bound.store not in stores:
            raise WrongContextError(
                f"The KEK was wrapped for store '{bound.store}', and the envelope is in"
                f" {' or '.join(map(repr, stores))}: if the keystore was moved, rotate with"
                f" from_store '{bound.store}'."
            )
        return bound
