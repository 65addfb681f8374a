"""Envelopes and what they hold, and new wraps that are opened before they are believed."""

import hmac
import time
from typing import TYPE_CHECKING

from kekd._models import KMSBlob
from kekd.kek import errors
from kekd.kek.encryption_context import EncryptionContext
from kekd.kek.provider import Provider, Wrapped, scrub
from kekd.kek.slot import Slot

if TYPE_CHECKING:
    from kekd._models import EnvelopeLike


def new_envelope(slot: Slot, wrapped: Wrapped, binding: EncryptionContext | None) -> KMSBlob:
    return KMSBlob(
        kms_name=slot.name,
        provider=slot.provider,
        key_id=slot.key_id,
        region=slot.region,
        wrapped_kek=wrapped.wrapped_kek,
        created_at=int(time.time()),
        key_arn=wrapped.key_arn,
        binding=str(binding) if binding else "",
    )


def wrapped_of(envelope: "EnvelopeLike") -> Wrapped:
    return Wrapped(envelope.wrapped_kek, getattr(envelope, "key_arn", ""))


def is_older(envelope: KMSBlob, seconds: float | None) -> bool:
    """Whether it was made more seconds ago, or doesn't say when; never without a number."""
    if seconds is None:
        return False
    return not envelope.created_at or envelope.created_at < time.time() - seconds


def wrap_and_verify(kek: bytearray, target: Provider, binding: EncryptionContext | None) -> Wrapped:
    try:
        wrapped = target.wrap(kek, binding)
        again = target.unwrap(wrapped, binding)
        same = hmac.compare_digest(kek, again)
        scrub(again)
    finally:
        scrub(kek)
    if not same:
        raise errors.UnwrapError("The new wrap opens to another KEK, so nothing was stored.")
    return wrapped
