"""The client of a dry run."""

from contextlib import suppress
from hashlib import sha256

import kekd
from kekd._cli.endpoint_client import EndpointClient
from kekd._models import EnvelopeLike

_NOT_STORED = ""
"""The etag of an envelope that wasn't stored."""


class DryRunClient(EndpointClient):
    """Writes nothing. Raises the error that the daemon would, if reading can find it out.

    It checks neither the policy's rules for the write nor the content of an envelope: only the
    daemon does, when it writes.
    """

    def create_index_kms(
        self,
        config_location: kekd.StorageConfig | None,
        index_name: str,
        blob: EnvelopeLike,  # noqa: ARG002
        *,
        timeout: float | None = None,
    ) -> str:
        if self._find(config_location, index_name, timeout):
            raise kekd.EnvelopeExistsError(f"KMS blob already exists for index '{index_name}'.")
        self._require_not_held(config_location, index_name, timeout)
        return _NOT_STORED

    def push_index_kms(
        self,
        config_location: kekd.StorageConfig | None,
        index_name: str,
        blob: EnvelopeLike,  # noqa: ARG002
        *,
        if_etag: str | None = None,
        timeout: float | None = None,
    ) -> str:
        self._require_writable(config_location, index_name, if_etag, timeout)
        return _NOT_STORED

    def delete_index_kms(
        self,
        config_location: kekd.StorageConfig | None,
        index_name: str,
        *,
        if_etag: str | None = None,
        timeout: float | None = None,
    ) -> bool:
        etag = self._require_writable(config_location, index_name, if_etag, timeout)
        return etag is not None

    def restore_index_kms(
        self,
        config_location: kekd.StorageConfig | None,
        index_name: str,
        version_id: str,
        *,
        if_etag: str | None = None,
        timeout: float | None = None,
    ) -> str:
        self.get_index_kms(config_location, index_name, version_id=version_id, timeout=timeout)
        self._require_writable(config_location, index_name, if_etag, timeout)
        return _NOT_STORED

    def undelete_index_kms(
        self,
        config_location: kekd.StorageConfig | None,
        index_name: str,
        *,
        timeout: float | None = None,
    ) -> str:
        self.create_index_kms(config_location, index_name, kekd.KMSBlob(), timeout=timeout)
        versions = self.list_versions_index_kms(config_location, index_name, timeout=timeout)
        if all(version.event is kekd.VersionEvent.DELETED for version in versions):
            raise kekd.VersionNotFoundError(
                f"index '{index_name}' not undeleted: the store keeps no version of it; import a"
                " backup (kekctl import)"
            )
        return _NOT_STORED

    def hold_index_kms(
        self,
        config_location: kekd.StorageConfig | None,
        index_name: str,
        reason: str,  # noqa: ARG002
        *,
        timeout: float | None = None,
    ) -> None:
        self.find_hold_index_kms(config_location, index_name, timeout=timeout)

    def release_index_kms(
        self,
        config_location: kekd.StorageConfig | None,
        index_name: str,
        *,
        timeout: float | None = None,
    ) -> bool:
        return self.find_hold_index_kms(config_location, index_name, timeout=timeout) is not None

    def destroy_index_kms(
        self,
        config_location: kekd.StorageConfig | None,
        index_name: str,
        reason: str,  # noqa: ARG002
        *,
        if_etag: str | None = None,
        timeout: float | None = None,
    ) -> kekd.DestructionReceipt:
        """Returns the receipt of what would be removed. It has no places that the daemon checks."""
        current = self._require_writable(config_location, index_name, if_etag, timeout)
        versions = self.list_versions_index_kms(
            config_location, index_name, full=True, timeout=timeout
        )
        destroyed = [
            kekd.DestroyedVersion(version.version_id, version.etag, _digest(version.blob))
            for version in versions
        ]
        if current is not None and not destroyed:  # a store without a history
            destroyed = [kekd.DestroyedVersion("", current, "")]
        store = str(config_location or self._default_store())
        return kekd.DestructionReceipt(index_name, store, tuple(destroyed), (), ())

    def _require_writable(
        self,
        location: kekd.StorageConfig | None,
        index_name: str,
        if_etag: str | None,
        timeout: float | None,
    ) -> str | None:
        """Returns the etag of the envelope, or None if there is none."""
        self._require_not_held(location, index_name, timeout)
        etag = self._find(location, index_name, timeout)
        if if_etag is not None and if_etag != etag:
            raise kekd.EtagMismatchError(
                f"etag mismatch for index '{index_name}': the stored envelope is not the one that"
                " if_etag names; get it again and decide again"
            )
        return etag

    def _default_store(self) -> str:
        """Returns an empty name if the daemon hides its default store from the caller."""
        return next((store.name for store in self.status().stores if store.is_default), "")

    def _find(
        self, location: kekd.StorageConfig | None, index_name: str, timeout: float | None
    ) -> str | None:
        with suppress(kekd.EnvelopeNotFoundError):
            try:
                return self.get_index_kms(location, index_name, timeout=timeout).etag
            except kekd.CorruptEnvelopeError:
                return "corrupt"
        return None

    def _require_not_held(
        self, location: kekd.StorageConfig | None, index_name: str, timeout: float | None
    ) -> None:
        if hold := self.find_hold_index_kms(location, index_name, timeout=timeout):
            raise kekd.EnvelopeHeldError(
                f"index '{index_name}' is held: {hold.reason}; release it before you change it"
                " (kekctl release)"
            )


def _digest(blob: kekd.KMSBlob | None) -> str:
    return sha256(blob.wrapped_kek).hexdigest() if blob and blob.wrapped_kek else ""
