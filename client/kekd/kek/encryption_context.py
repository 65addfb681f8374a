"""The context that a wrapped KEK is bound to."""

import json
from collections.abc import Collection
from dataclasses import dataclass

from kekd.kek.errors import WrongContextError


@dataclass(frozen=True, slots=True)
class EncryptionContext:
    """The index and store of an envelope. The store has the daemon's name for it.

    Envelopes record it as JSON (`KMSBlob.binding`). That text is the additional authenticated data
    of AES-GCM. KMS gets the two values as its encryption context, and writes them to CloudTrail
    (https://docs.aws.amazon.com/kms/latest/developerguide/encrypt_context.html).
    """

    index_name: str
    store: str

    def __str__(self) -> str:
        return json.dumps(self.pairs, separators=(",", ":"))

    @property
    def pairs(self) -> dict[str, str]:
        return {"index_name": self.index_name, "store": self.store}

    @classmethod
    def parse(cls, recorded: str) -> "EncryptionContext":
        """Raises `WrongContextError` if the text isn't a recorded context."""
        try:
            match json.loads(recorded):
                case {"index_name": str(index_name), "store": str(store), **others} if not others:
                    return cls(index_name, store)
        except (ValueError, RecursionError):
            pass
        raise WrongContextError(
            "invalid encryption context in the envelope: kekd didn't write it; restore the envelope"
        )

    @classmethod
    def expected(
        cls, index_name: str, stores: Collection[str], recorded: str
    ) -> "EncryptionContext | None":
        """Returns the context for unwrapping the KEK of an index, or None if none was recorded.

        The recorded store must be one of `stores`. If those are empty, because the origin of the
        envelope is unknown, any store is accepted. Raises `WrongContextError`.
        """
        if not recorded:
            return None
        context = cls.parse(recorded)
        if context.index_name != index_name:
            raise WrongContextError(
                f"cannot unwrap KEK: it was wrapped for index {context.index_name!r}, from which"
                " the envelope was copied; restore this index's own envelope"
            )
        if stores and context.store not in stores:
            raise WrongContextError(
                f"cannot unwrap KEK: it was wrapped for store '{context.store}', but the envelope"
                f" is in {' or '.join(map(repr, stores))}; if the keystore was moved, rotate with"
                f" from_store '{context.store}'"
            )
        return context
