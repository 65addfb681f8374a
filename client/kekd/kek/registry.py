"""The KMS registry: slots by name, and the operations on KEKs."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

import kekd
from kekd._models import EnvelopeLike, KMSBlob, StorageConfig
from kekd._transport.fork import reset_after_fork
from kekd._transport.timeouts import require_timeout
from kekd.errors import EnvelopeNotFoundError
from kekd.kek import errors
from kekd.kek.blocking import require_blocking
from kekd.kek.conflicts import retry_conflicts
from kekd.kek.drift import find_drift
from kekd.kek.encryption_context import EncryptionContext
from kekd.kek.errors import KekError
from kekd.kek.provider import KEK_BYTES, Provider, SecretCreator, require_kek_bytes, scrub
from kekd.kek.providers import Providers, require_extra
from kekd.kek.rotation import Rotation
from kekd.kek.slot import Slot
from kekd.kek.slot_lookup import find_slot, slot_for_envelope
from kekd.kek.wrapping import is_older, make_envelope, rewrap, wrap_and_verify, wrapped_of

DEFAULT_TIMEOUT: Final = 10.0


class Registry:
    """Creates, unwraps and rotates the KEKs of indexes, in this process.

    Returns plaintext KEKs as bytearrays, so that you can overwrite them. Never sends them to a
    daemon. Thread-safe, and usable in forked children.

    Methods raise `KekError`; `kekd.kek.errors` describes its subclasses. Methods that take a client
    also raise `kekd.EnvelopeError`.
    """

    def __init__(
        self,
        slots: Mapping[str, Slot],
        *,
        timeout: float = DEFAULT_TIMEOUT,
        max_rate: float | None = None,
        provider: Callable[[Slot], Provider] | None = None,
    ) -> None:
        """`timeout` is the number of seconds in which a request to AWS may be retried.

        `max_rate` is the maximum number of requests per second, over all slots. `provider` creates
        the provider of a slot; the default creates those for AWS.
        """
        require_timeout(timeout)
        if max_rate is not None and not max_rate > 0:  # in this form, because NaN compares false
            raise ValueError(
                f"invalid max_rate {max_rate}; use a number of requests per second, more than 0"
            )
        self.slots = dict(slots)
        self._providers = Providers(provider, timeout, max_rate, self.slots)
        reset_after_fork(self._providers.reset)

    @classmethod
    def from_yaml(
        cls,
        path: str | Path,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        max_rate: float | None = None,
    ) -> Self:
        """Reads the slots under `kms.registry` in a file, in the format of CyborgDB Service.

        Raises `RegistryError`, which lists every problem of the file.
        """
        with require_extra():
            from kekd.kek import registry_file  # noqa: PLC0415
        return cls(registry_file.read(Path(path)), timeout=timeout, max_rate=max_rate)

    def slot(self, name: str) -> Slot:
        """Raises `SlotNotFoundError`."""
        return find_slot(self.slots, name)

    def provider(self, slot: Slot) -> Provider:
        """Returns the provider of a slot, also with another key than the registry's."""
        return self._providers.for_slot(slot)

    def provision(
        self,
        index_name: str,
        slot: str | None = None,
        *,
        client: "kekd.Client",
        config_location: StorageConfig | None = None,
        kek: bytes | bytearray | None = None,
    ) -> tuple[bytearray, KMSBlob]:
        """Creates a KEK, wraps it under the slot, and stores the envelope by a strict create.

        Returns the KEK and the envelope. Without a slot, uses provider `none`: `kek` is the
        caller's KEK, which isn't stored. Raises `EnvelopeExistsError` if the index has an envelope.
        """
        require_blocking(client)
        if slot is None:
            new = bytearray(require_kek_bytes(_require_kek(kek, index_name)))
        else:
            _reject_kek(kek, index_name)
            new = bytearray(os.urandom(KEK_BYTES))
        try:
            if slot is None:
                envelope = KMSBlob(provider="none", created_at=int(time.time()))
            else:
                envelope = self._new_envelope(index_name, new, slot, client, config_location)
            envelope.etag = client.create_index_kms(config_location, index_name, envelope)
        except BaseException:
            scrub(new)
            raise
        return new, envelope

    def unwrap(
        self, index_name: str, envelope: EnvelopeLike, *, kek: bytes | bytearray | None = None
    ) -> bytearray:
        """Returns the KEK of an index, unwrapped with the key that its envelope names.

        The envelope can be one of cyborgdb_core. For provider `none`, pass the caller's `kek`,
        which is returned; for other providers, pass none. Raises `SlotNotFoundError` if the
        envelope's slot has left the registry.
        """
        if envelope.provider == "none":
            return bytearray(require_kek_bytes(_require_kek(kek, index_name)))
        _reject_kek(kek, index_name)
        with _annotate_errors(index_name, envelope):
            store = getattr(envelope, "store", "")
            recorded = getattr(envelope, "binding", "")
            context = EncryptionContext.expected(index_name, [store] if store else [], recorded)
            provider = self._providers.for_slot(slot_for_envelope(self.slots, envelope))
            return provider.unwrap(wrapped_of(envelope), context)

    def rewrap(
        self,
        index_name: str,
        envelope: KMSBlob,
        slot: str | None = None,
        *,
        keep_version: bool = False,
        from_store: str = "",
    ) -> KMSBlob:
        """Returns a new envelope for the same KEK, wrapped under the slot. Stores nothing.

        Without `slot`, uses the envelope's own. Unwraps and compares a new wrap, unless KMS made it
        from the old one (kms.ReEncrypt, between two KMS keys that the same credentials can access).
        See `rotate` for the options.
        """
        with _annotate_errors(index_name, envelope):
            target = self.slot(slot or envelope.kms_name)
            stores = [store for store in (envelope.store, from_store) if store]
            context = EncryptionContext.expected(index_name, stores, envelope.binding)
            new_context = _context_for(target, index_name, envelope.store)
            wrapped = rewrap(
                wrapped_of(envelope),
                context,
                self._providers.for_slot(slot_for_envelope(self.slots, envelope)),
                self._providers.for_slot(target),
                new_context,
            )
        new = make_envelope(target, wrapped, new_context)
        new.version = envelope.version if keep_version else envelope.version + 1
        new.store = envelope.store
        return new

    def is_due(  # noqa: PLR0913
        self,
        index_name: str,
        envelope: KMSBlob,
        slot: str | None = None,
        *,
        from_slot: str | None = None,
        only_drifted: bool = False,
        older_than: float | None = None,
    ) -> bool:
        """Whether `rotate` with these arguments would replace the envelope."""
        if envelope.provider == "none" or from_slot not in {None, envelope.kms_name}:
            return False
        with _annotate_errors(index_name, envelope):
            target = self.slot(slot or envelope.kms_name)
            if not only_drifted or is_older(envelope, older_than):
                return True
            return bool(self.drift(index_name, envelope, target.name))

    def rotate(  # noqa: PLR0913
        self,
        index_name: str,
        slot: str | None = None,
        *,
        client: "kekd.Client",
        config_location: StorageConfig | None = None,
        dry_run: bool = False,
        keep_version: bool = False,
        from_store: str = "",
        from_slot: str | None = None,
        only_drifted: bool = False,
        older_than: float | None = None,
    ) -> Rotation:
        """Replaces the envelope of an index by a new wrap of the same KEK. See `rewrap`.

        Never overwrites an envelope that another caller stores in the meantime: it starts again
        with that one. Indexes of provider `none` are unchanged.

        - `dry_run`: do everything except storing.
        - `keep_version`: keep the version number, for a keystore that CyborgDB 0.18 itself reads,
          because that reads only version 1.
        - `from_store`: also accept a KEK that was bound to this store before the keystore was
          moved. The new wrap is bound to the current store.
        - `from_slot`: only rotate envelopes of this slot.
        - `only_drifted`: only rotate if the envelope differs from what the slot would make now, or
          is more than `older_than` seconds old or of unknown age.
        """
        require_blocking(client)

        def attempt() -> Rotation:
            old = client.get_index_kms(config_location, index_name)
            if not self.is_due(
                index_name,
                old,
                slot,
                from_slot=from_slot,
                only_drifted=only_drifted,
                older_than=older_than,
            ):
                return Rotation(index_name, "unchanged", old)
            new = self.rewrap(
                index_name, old, slot, keep_version=keep_version, from_store=from_store
            )
            if dry_run:
                return Rotation(index_name, "would rotate", new)
            new.etag = client.push_index_kms(config_location, index_name, new, if_etag=old.etag)
            return Rotation(index_name, "rotated", new)

        return attempt() if dry_run else retry_conflicts(attempt)

    def drift(self, index_name: str, envelope: EnvelopeLike, slot: str | None = None) -> list[str]:
        """Returns how the envelope differs from what its slot, or the one named, would make now.

        Each difference is a line for a human. There are none for provider `none`. If the slot names
        its key by an alias, asks KMS for the current key at most once in a few seconds.
        """
        if envelope.provider == "none":
            return []
        target = self.slot(slot or envelope.kms_name)
        return find_drift(index_name, envelope, target, self._providers.key_arn)

    def create_secret(self, slot: str, *, dry_run: bool = False) -> str:
        """Creates the secret of a slot of provider `aws`, 32 random bytes. Returns its ARN.

        Raises `SecretExistsError` if there is one, and leaves it unchanged. With `dry_run`, does
        everything except creating it, and returns no ARN.
        """
        provider = self.provider(self.slot(slot))
        if not isinstance(provider, SecretCreator):
            raise KekError(
                "cannot create a secret: the slot has none; use a slot of provider 'aws'", slot=slot
            )
        if dry_run:
            _require_missing(provider, self.slot(slot))
            return ""
        return provider.create()

    def try_slot(self, name: str, index_name: str, store: str) -> None:
        """Wraps and unwraps a random KEK under a slot, as for this index and store.

        Raises the exception of wrapping or unwrapping.
        """
        slot = self.slot(name)
        context = _context_for(slot, index_name, store)
        wrap_and_verify(bytearray(os.urandom(KEK_BYTES)), self._providers.for_slot(slot), context)

    def _new_envelope(
        self,
        index_name: str,
        kek: bytearray,
        slot_name: str,
        client: "kekd.Client",
        config_location: StorageConfig | None,
    ) -> KMSBlob:
        with _annotate_errors(index_name):
            slot = self.slot(slot_name)
            store = (
                _find_store(client, config_location, index_name) if slot.encryption_context else ""
            )
            context = _context_for(slot, index_name, store)
            wrapped = self._providers.for_slot(slot).wrap(kek, context)
        envelope = make_envelope(slot, wrapped, context)
        envelope.store = store
        return envelope


def _context_for(slot: Slot, index_name: str, store: str) -> EncryptionContext | None:
    return EncryptionContext(index_name, store) if slot.encryption_context else None


def _require_missing(provider: Provider, slot: Slot) -> None:
    try:
        provider.describe()
    except errors.SecretNotFoundError:
        return
    raise errors.SecretExistsError(
        "cannot create secret: it already exists, and is unchanged; use it, or give the slot"
        " another key_id",
        slot=slot.name,
        key_id=slot.key_id,
    )


def _find_store(
    client: "kekd.Client", config_location: StorageConfig | None, index_name: str
) -> str:
    """Returns the daemon's name for the store, which both results of a get contain."""
    try:
        return client.get_index_kms(config_location, index_name).store
    except EnvelopeNotFoundError as error:
        return error.store


def _require_kek(kek: bytes | bytearray | None, index_name: str) -> bytes | bytearray:
    if kek is None:
        raise errors.KekRequiredError(
            "missing KEK: the index has provider 'none', whose KEK only its callers have; pass kek",
            index_name=index_name,
        )
    return kek


def _reject_kek(kek: bytes | bytearray | None, index_name: str) -> None:
    if kek is not None:
        raise errors.KekNotAcceptedError(
            "unexpected KEK: the provider holds the KEK of this index; omit kek",
            index_name=index_name,
        )


@contextmanager
def _annotate_errors(index_name: str, envelope: EnvelopeLike | None = None) -> Iterator[None]:
    """Adds the index to errors, and the envelope's slot and key to those that name none."""
    try:
        yield
    except KekError as error:
        error.index_name = index_name
        if envelope is not None and not error.slot:
            error.slot, error.key_id = envelope.kms_name, envelope.key_id
        raise
