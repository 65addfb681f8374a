"""Wraps KEKs and makes envelopes of them."""

import hmac
import time

from kekd._models import EnvelopeLike, KMSBlob
from kekd.kek import errors
from kekd.kek.encryption_context import EncryptionContext
from kekd.kek.provider import Provider, Rewrapper, WrappedKek, scrub
from kekd.kek.slot import Slot


def make_envelope(
    slot: Slot, wrapped: WrappedKek, encryption_context: EncryptionContext | None
) -> KMSBlob:
    return KMSBlob(
        kms_name=slot.name,
        provider=slot.provider,
        key_id=slot.key_id,
        region=slot.region,
        wrapped_kek=wrapped.wrapped_kek,
        created_at=int(time.time()),
        key_arn=wrapped.key_arn,
        binding=str(encryption_context) if encryption_context else "",
    )


def wrapped_of(envelope: EnvelopeLike) -> WrappedKek:
    return WrappedKek(envelope.wrapped_kek, getattr(envelope, "key_arn", ""))


def is_older(envelope: KMSBlob, seconds: float | None) -> bool:
    """Whether the envelope is older than that, or of unknown age. False without a limit."""
    if seconds is None:
        return False
    return not envelope.created_at or envelope.created_at < time.time() - seconds


def wrap_and_verify(
    kek: bytearray, target: Provider, encryption_context: EncryptionContext | None
) -> WrappedKek:
    """Wraps a KEK and checks that it unwraps to the same bytes. Overwrites `kek`."""
    try:
        wrapped = target.wrap(kek, encryption_context)
        unwrapped = target.unwrap(wrapped, encryption_context)
        is_same = hmac.compare_digest(kek, unwrapped)
        scrub(unwrapped)
    finally:
        scrub(kek)
    if not is_same:
        raise errors.UnwrapError(
            "cannot use the new wrap: it unwraps to another KEK; nothing was stored, check the"
            " provider"
        )
    return wrapped


def rewrap(
    wrapped: WrappedKek,
    context: EncryptionContext | None,
    source: Provider,
    target: Provider,
    new_context: EncryptionContext | None,
) -> WrappedKek:
    """Wraps a wrapped KEK under another key, inside the provider if it can."""
    if isinstance(source, Rewrapper):
        rewrapped = source.rewrap(wrapped, context, target, new_context)
        if rewrapped is not None:
            return rewrapped
    return wrap_and_verify(source.unwrap(wrapped, context), target, new_context)
