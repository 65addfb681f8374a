"""The KMS registry: slots by name, and what can be done with a KEK."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self, TypeAlias, cast, get_args

import tenacity

from kekd._models import EnvelopeLike, KMSBlob, StorageConfig
from kekd._transport.fork import reset_after_fork
from kekd.errors import EnvelopeNotFoundError, EtagMismatchError
from kekd.kek import errors
from kekd.kek.blocking import require_blocking
from kekd.kek.encryption_context import EncryptionContext
from kekd.kek.errors import KekError
from kekd.kek.provider import KEK_BYTES, Provider, Rewrapper, SecretCreator, checked, scrub
from kekd.kek.providers import Providers, require_extra
from kekd.kek.slot import ProviderName, Slot, region_of
from kekd.kek.wrapping import is_older, new_envelope, wrap_and_verify, wrapped_of

if TYPE_CHECKING:
    from kekd._client import Client

DEFAULT_TIMEOUT: Final = 10.0
_MAX: Final = 10**9

Outcome: TypeAlias = Literal["rotated", "unchanged", "would rotate"]

_CONFLICTS: Final = tenacity.Retrying(
    retry=tenacity.retry_if_exception_type(EtagMismatchError),
    # The rivals go on meanwhile: who waits long doesn't get a turn.
    wait=tenacity.wait_random_exponential(multiplier=0.02, max=0.2),
    stop=tenacity.stop_after_delay(30),
    reraise=True,
)


@dataclass(frozen=True, slots=True)
class Rotation:
    index_name: str
    outcome: Outcome
    envelope: KMSBlob
    """The new one; with `dry_run`, the one that would be stored."""


class Registry:
    """Makes, opens and rotates the KEKs of indexes, in this process.

    Plaintext KEKs are answered with as bytearrays, so that the caller can overwrite them; none goes
    to a daemon. Threads may share a registry, and so may forked children.

    Every method raises `KekError`, by the classes that `kekd.kek.errors` draws; those that take a
    client, `kekd.EnvelopeError` as well.
    """

    def __init__(
        self,
        slots: Mapping[str, Slot],
        *,
        timeout: float = DEFAULT_TIMEOUT,
        max_rate: float | None = None,
        provider: Callable[[Slot], Provider] | None = None,
    ) -> None:
        """`timeout` is the seconds in which a request to AWS may be repeated; `max_rate` how many a
        second there may be, over all slots.

        `provider` makes the provider of a slot, in the place of those for AWS.
        """
        if not (0 < timeout <= _MAX and (max_rate is None or 0 < max_rate <= _MAX)):
            raise ValueError(
                f"timeout={timeout} and max_rate={max_rate} can't be: each is more than 0 and at"
                f" most {_MAX}."
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
        """The slots under `kms.registry` of a file that CyborgDB Service reads too.

        Raises `RegistryError`, naming every problem of the file.
        """
        with require_extra():
            from kekd.kek import registry_file  # noqa: PLC0415
        return cls(registry_file.read(Path(path)), timeout=timeout, max_rate=max_rate)

    def provision(
        self,
        index_name: str,
        slot: str | None = None,
        *,
        client: "Client",
        config_location: StorageConfig | None = None,
        kek: bytes | bytearray | None = None,
    ) -> tuple[bytearray, KMSBlob]:
        """A new KEK, wrapped under the slot and stored by a strict create; and its envelope.

        Without a slot, for provider `none`: `kek` is the caller's own, and nothing of it is stored.
        Raises `EnvelopeExistsError` if the index has an envelope.
        """
        require_blocking(client)
        if slot is None:
            new = bytearray(checked(_brought(kek, index_name)))
        else:
            _refuse(kek, index_name)
            new = bytearray(os.urandom(KEK_BYTES))
        try:
            if slot is None:
                envelope = KMSBlob(provider="none", created_at=int(time.time()))
            else:
                envelope = self._first(index_name, new, slot, client, config_location)
            envelope.etag = client.create_index_kms(config_location, index_name, envelope)
        except BaseException:
            scrub(new)
            raise
        return new, envelope

    def unwrap(
        self, index_name: str, envelope: "EnvelopeLike", *, kek: bytes | bytearray | None = None
    ) -> bytearray:
        """The KEK of an index, by the key that its envelope names and as its slot lets us in.

        The envelope may be one of cyborgdb_core's.

        For provider `none` that is `kek`, which the caller must give, and for no other may.
        Raises `SlotNotFoundError` if the slot has left the registry.
        """
        if envelope.provider == "none":
            return bytearray(checked(_brought(kek, index_name)))
        _refuse(kek, index_name)
        with _telling(index_name, envelope):
            store = getattr(envelope, "store", "")
            recorded = getattr(envelope, "binding", "")
            binding = EncryptionContext.expected(index_name, [store] if store else [], recorded)
            return self._providers.of(self._snapshot(envelope)).unwrap(
                wrapped_of(envelope), binding
            )

    def rotate(  # noqa: PLR0913
        self,
        index_name: str,
        slot: str | None = None,
        *,
        client: "Client",
        config_location: StorageConfig | None = None,
        dry_run: bool = False,
        keep_version: bool = False,
        from_store: str = "",
        from_slot: str | None = None,
        only_drifted: bool = False,
        older_than: float | None = None,
        envelope: KMSBlob | None = None,
    ) -> Rotation:
        """Wraps the KEK of an index anew, under the slot as it stands now.

        The KEK itself stays the same. Without `slot` it is the envelope's own. What somebody else
        stores meanwhile is never overwritten: then the rotation begins again from that. A new wrap
        is opened and compared before it is stored, unless KMS made it from the old one
        (kms.ReEncrypt, between two KMS keys that the same credentials reach).

        `from_slot` leaves an envelope of any other slot, and `only_drifted` one that is as its slot
        would make it now, unless it was wrapped more than `older_than` seconds ago or doesn't say
        when (created_at 0). `dry_run` does everything but store. `keep_version` leaves the version
        as it is, for a keystore that CyborgDB 0.18 itself reads: it only reads version 1.
        `from_store` accepts an envelope that was bound to that store before its keystore was moved,
        and binds it to the one it is in now. `envelope` is the one that was read of the index just
        before, and spares a get. Indexes of provider `none` are unchanged.
        """
        require_blocking(client)
        known = envelope

        def attempt() -> Rotation:
            nonlocal known
            old, known = known or client.get_index_kms(config_location, index_name), None
            if old.provider == "none" or from_slot not in {None, old.kms_name}:
                return Rotation(index_name, "unchanged", old)
            with _telling(index_name, old):
                into = self.slot(slot or old.kms_name)
                is_due = not only_drifted or is_older(old, older_than)
                if not is_due and not self.drift(index_name, old, into.name):
                    return Rotation(index_name, "unchanged", old)
                new = self._rewrapped(index_name, old, into, from_store)
            new.version = old.version if keep_version else old.version + 1
            new.store = old.store
            if dry_run:
                return Rotation(index_name, "would rotate", new)
            new.etag = client.push_index_kms(config_location, index_name, new, if_etag=old.etag)
            return Rotation(index_name, "rotated", new)

        return attempt() if dry_run else _CONFLICTS(attempt)

    def drift(
        self, index_name: str, envelope: "EnvelopeLike", slot: str | None = None
    ) -> list[str]:
        """In what the envelope isn't as its slot, or the one named, would make it now.

        Each as a line to read; none for provider `none`. Where the slot has an alias, KMS is asked
        for the key that it stands for now, at most once in a few seconds. An envelope that wasn't
        read from a daemon may be bound to any store.
        """
        if envelope.provider == "none":
            return []
        into = self.slot(slot or envelope.kms_name)
        recorded, key_arn = getattr(envelope, "binding", ""), getattr(envelope, "key_arn", "")
        bound_to = ""
        if into.bind:
            store = getattr(envelope, "store", "") or (
                recorded and EncryptionContext.parse(recorded).store
            )
            bound_to = str(EncryptionContext(index_name, store))
        found = {
            "kms_name": (envelope.kms_name, into.name),
            "provider": (envelope.provider, into.provider),
            "key_id": (envelope.key_id, into.key_id),
            "region": (envelope.region, into.region),
            "binding": (recorded, bound_to),
        }
        if into.provider == "aws-kms" and "alias/" in into.key_id:
            found["key_arn"] = (key_arn, self._providers.key_arn(into))
        return [
            f"{name} is '{was}', the slot has '{now}'"
            for name, (was, now) in found.items()
            if was != now
        ]

    def key_slot(self, envelope: "EnvelopeLike") -> Slot:
        """The key that wrapped an envelope's KEK, and its slot's way to it."""
        key = self._snapshot(envelope)
        return replace(key, key_id=getattr(envelope, "key_arn", "") or key.key_id)

    def provider(self, slot: Slot) -> Provider:
        """Of a slot of the registry, or of what `key_slot` returned."""
        return self._providers.of(slot)

    def create_secret(self, slot: str) -> str:
        """Makes the secret that a slot of provider `aws` wraps with, of 32 random bytes; its ARN.

        Raises `SecretExistsError` if there is one, which stays as it is.
        """
        provider = self.provider(self.slot(slot))
        if not isinstance(provider, SecretCreator):
            raise KekError("Only a slot of provider 'aws' has a secret.", slot=slot)
        return provider.create()

    def try_slot(self, name: str, index_name: str, store: str) -> None:
        """Wraps a KEK under a slot as for that index and store, opens it, and throws it away.

        Raises what wrapping or opening fails with.
        """
        into = self.slot(name)
        binding = EncryptionContext(index_name, store) if into.bind else None
        wrap_and_verify(bytearray(os.urandom(KEK_BYTES)), self._providers.of(into), binding)

    def slot(self, name: str) -> Slot:
        """Raises `SlotNotFoundError`."""
        try:
            return self.slots[name]
        except KeyError:
            raise errors.SlotNotFoundError(
                "The registry has no such slot: restore it, or name one of"
                f" {', '.join(sorted(self.slots)) or 'them: it has none'}.",
                slot=name,
            ) from None

    def _first(
        self,
        index_name: str,
        kek: bytearray,
        slot: str,
        client: "Client",
        config_location: StorageConfig | None,
    ) -> KMSBlob:
        with _telling(index_name):
            into = self.slot(slot)
            store = _store(client, config_location, index_name) if into.bind else ""
            binding = EncryptionContext(index_name, store) if into.bind else None
            envelope = new_envelope(into, self._providers.of(into).wrap(kek, binding), binding)
        envelope.store = store
        return envelope

    def _rewrapped(self, index_name: str, old: KMSBlob, into: Slot, from_store: str) -> KMSBlob:
        stores = [store for store in (old.store, from_store) if store]
        binding = EncryptionContext.expected(index_name, stores, old.binding)
        bound_to = EncryptionContext(index_name, old.store) if into.bind else None
        source, target = self._providers.of(self._snapshot(old)), self._providers.of(into)
        wrapped = None
        if isinstance(source, Rewrapper):
            wrapped = source.rewrap(wrapped_of(old), binding, target, bound_to)
        if wrapped is None:
            wrapped = wrap_and_verify(source.unwrap(wrapped_of(old), binding), target, bound_to)
        return new_envelope(into, wrapped, bound_to)

    def _snapshot(self, envelope: "EnvelopeLike") -> Slot:
        """The key that the envelope names, and its slot's way to it."""
        if envelope.provider not in get_args(ProviderName):
            raise KekError(f"The envelope's provider '{envelope.provider}' isn't known to kekd.")
        access = self.slots.get(envelope.kms_name)
        if access is None:
            raise errors.SlotNotFoundError(
                "The envelope's slot isn't in the registry: restore it, as it says how to reach"
                f" provider '{envelope.provider}' in region '{envelope.region}'.",
                slot=envelope.kms_name,
                key_id=envelope.key_id,
            )
        key_arn = getattr(envelope, "key_arn", "")
        snapshot = replace(
            access,
            provider=cast("ProviderName", envelope.provider),
            key_id=envelope.key_id,
            region=envelope.region or region_of(envelope.key_id) or region_of(key_arn),
        )
        if snapshot.provider != access.provider and not access.allowed_key_arns:
            raise errors.KeyNotAllowedError(
                f"The envelope's provider is '{snapshot.provider}', its slot's is"
                f" '{access.provider}': if the slot was changed, name the keys of both in its"
                " allowed_key_arns.",
                slot=access.name,
                key_id=envelope.key_id,
            )
        return snapshot


def _store(client: "Client", config_location: StorageConfig | None, index_name: str) -> str:
    """The daemon's name for the store. It says so in either answer."""
    try:
        return client.get_index_kms(config_location, index_name).store
    except EnvelopeNotFoundError as error:
        return error.store


def _brought(kek: bytes | bytearray | None, index_name: str) -> bytes | bytearray:
    if kek is None:
        raise errors.KekRequiredError(
            "Nobody keeps the index's KEK: its callers bring it with each request.",
            index_name=index_name,
        )
    return kek


def _refuse(kek: bytes | bytearray | None, index_name: str) -> None:
    if kek is not None:
        raise errors.KekNotAcceptedError(
            "A provider has the index's KEK, so bring none: whose it would be isn't clear.",
            index_name=index_name,
        )


@contextmanager
def _telling(index_name: str, envelope: "EnvelopeLike | None" = None) -> Iterator[None]:
    """Puts the index on a failure, and the envelope's slot and key where none is named yet."""
    try:
        yield
    except KekError as error:
        error.index_name = index_name
        if envelope is not None and not error.slot:
            error.slot, error.key_id = envelope.kms_name, envelope.key_id
        raise
