"""Finds the slot through which to access the key of an envelope."""

from collections.abc import Mapping
from dataclasses import replace
from typing import cast, get_args

from kekd._models import EnvelopeLike
from kekd.kek.errors import KekError, KeyNotAllowedError, SlotNotFoundError
from kekd.kek.slot import ProviderName, Slot, region_of


def find_slot(slots: Mapping[str, Slot], name: str) -> Slot:
    """Raises `SlotNotFoundError`."""
    try:
        return slots[name]
    except KeyError:
        raise SlotNotFoundError(
            f"slot not found: restore it, or use one of {', '.join(sorted(slots))}"
            if slots
            else "slot not found: the registry has no slots; use another registry",
            slot=name,
        ) from None


def slot_for_envelope(slots: Mapping[str, Slot], envelope: EnvelopeLike) -> Slot:
    """Returns the envelope's slot with the key that the envelope names.

    Raises `SlotNotFoundError` if the slot has left the registry, and `KeyNotAllowedError` if the
    envelope names another provider without the slot allowing its key.
    """
    if envelope.provider not in get_args(ProviderName):
        raise KekError(
            f"cannot unwrap KEK: unknown provider '{envelope.provider}' in the envelope; use one of"
            f" {', '.join(get_args(ProviderName))}"
        )
    slot = slots.get(envelope.kms_name)
    if slot is None:
        raise SlotNotFoundError(
            "cannot unwrap KEK: the envelope's slot isn't in the registry; restore the slot, which"
            f" says how to access provider '{envelope.provider}' in region '{envelope.region}'",
            slot=envelope.kms_name,
            key_id=envelope.key_id,
        )
    if envelope.provider != slot.provider and not slot.allowed_key_arns:
        raise KeyNotAllowedError(
            f"cannot use key: the envelope's provider is '{envelope.provider}', but its slot's is"
            f" '{slot.provider}'; if the slot was changed, list the keys of both in its"
            " allowed_key_arns",
            slot=slot.name,
            key_id=envelope.key_id,
        )
    key_arn = getattr(envelope, "key_arn", "")
    return replace(
        slot,
        provider=cast("ProviderName", envelope.provider),
        key_id=envelope.key_id,
        region=envelope.region or region_of(envelope.key_id) or region_of(key_arn),
    )


def slot_for_wrapping_key(slots: Mapping[str, Slot], envelope: EnvelopeLike) -> Slot:
    """Returns the slot with the ARN of the key that wrapped the KEK, if the envelope records it."""
    slot = slot_for_envelope(slots, envelope)
    return replace(slot, key_id=getattr(envelope, "key_arn", "") or slot.key_id)
