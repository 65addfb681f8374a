"""Compares an envelope with the one that its slot would make now."""

from collections.abc import Callable

from kekd._models import EnvelopeLike
from kekd.kek.encryption_context import EncryptionContext
from kekd.kek.slot import Slot


def find_drift(
    index_name: str, envelope: EnvelopeLike, slot: Slot, key_arn_of: Callable[[Slot], str]
) -> list[str]:
    """Returns the differences, each as a line for a human.

    `key_arn_of` returns the ARN of the key that the slot's alias points to. It is called only if
    the slot names its key by an alias.
    """
    values = {
        "kms_name": (envelope.kms_name, slot.name),
        "provider": (envelope.provider, slot.provider),
        "key_id": (envelope.key_id, slot.key_id),
        "region": (envelope.region, slot.region),
        "binding": (getattr(envelope, "binding", ""), _new_context(index_name, envelope, slot)),
    }
    if slot.provider == "aws-kms" and "alias/" in slot.key_id:
        values["key_arn"] = (getattr(envelope, "key_arn", ""), key_arn_of(slot))
    return [
        f"{name} is '{current}', the slot has '{new}'"
        for name, (current, new) in values.items()
        if current != new
    ]


def _new_context(index_name: str, envelope: EnvelopeLike, slot: Slot) -> str:
    if not slot.encryption_context:
        return ""
    recorded = getattr(envelope, "binding", "")
    # An envelope that wasn't read from a daemon may be bound to any store.
    store = getattr(envelope, "store", "") or (recorded and EncryptionContext.parse(recorded).store)
    return str(EncryptionContext(index_name, store))
