"""Provider `aws-kms`: AWS KMS wraps and unwraps with a key that never leaves it."""

from typing import TYPE_CHECKING, Final

from kekd.kek.aws.provider import AwsProvider
from kekd.kek.encryption_context import EncryptionContext
from kekd.kek.errors import (
    AccessDeniedError,
    KekError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyPendingDeletionError,
    TamperedError,
    UnwrapError,
    WrongKeyError,
)
from kekd.kek.provider import (
    KEK_BYTES,
    KeyDescription,
    Provider,
    WrappedKek,
    require_kek_bytes,
    scrub,
)
from kekd_common.limits import MAX_WRAPPED_KEK_BYTES

if TYPE_CHECKING:
    from types_boto3_kms import KMSClient

_OTHER_KEY_ERRORS: Final = (AccessDeniedError, KeyNotFoundError, WrongKeyError)
_SOURCE_OR_TARGET_ERRORS: Final = (
    AccessDeniedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyPendingDeletionError,
    WrongKeyError,
)


class AwsKms(AwsProvider):
    """Calls kms.Encrypt and kms.Decrypt.

    Always passes a KeyId to Decrypt: without one, KMS uses any key of the account
    (https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html). Because an alias can
    later point to another key, envelopes record the ARN that Encrypt returns, and Decrypt gets it.
    """

    SERVICE = "kms"
    _client: "KMSClient"

    def wrap(
        self, kek: bytes | bytearray, encryption_context: EncryptionContext | None
    ) -> WrappedKek:
        response = self._request(
            self._client.encrypt,
            "KeyId",
            "CiphertextBlob",
            KeyId=self.slot.key_id,
            Plaintext=require_kek_bytes(kek),
            EncryptionContext=_pairs(encryption_context),
        )
        return WrappedKek(response["CiphertextBlob"], self.slot.require_allowed(response["KeyId"]))

    def unwrap(
        self, wrapped: WrappedKek, encryption_context: EncryptionContext | None
    ) -> bytearray:
        key = self._key_of(wrapped)
        try:
            return self._unwrap_with(key, wrapped, encryption_context)
        except _OTHER_KEY_ERRORS as error:
            if key == self.slot.key_id:
                raise
            # A writer that doesn't know key_arn may have rewrapped the KEK and kept the old one.
            try:
                return self._unwrap_with(self.slot.key_id, wrapped, encryption_context)
            except KekError:
                raise error from None

    def _unwrap_with(
        self, key: str, wrapped: WrappedKek, encryption_context: EncryptionContext | None
    ) -> bytearray:
        key_arn, kek = self._decrypt(key, wrapped, encryption_context)
        try:
            self.slot.require_allowed(key_arn)
            if len(kek) != KEK_BYTES:
                raise UnwrapError(
                    f"cannot unwrap KEK: plaintext isn't {KEK_BYTES} bytes; restore the envelope",
                    slot=self.slot.name,
                    key_id=key,
                )
        except KekError:
            scrub(kek)
            raise
        return kek

    def _decrypt(
        self, key: str, wrapped: WrappedKek, encryption_context: EncryptionContext | None
    ) -> tuple[str, bytearray]:
        """Returns the ARN of the key and the plaintext.

        Raises nothing itself, so that no traceback refers to the response.
        """
        response = self._request(
            self._client.decrypt,
            "KeyId",
            "Plaintext",
            KeyId=key,
            CiphertextBlob=wrapped.wrapped_kek,
            EncryptionContext=_pairs(encryption_context),
        )
        return response["KeyId"], bytearray(response["Plaintext"])

    def rewrap(
        self,
        wrapped: WrappedKek,
        encryption_context: EncryptionContext | None,
        target: Provider,
        new_context: EncryptionContext | None,
    ) -> WrappedKek | None:
        """Calls kms.ReEncrypt if the same client can access both keys
        (https://docs.aws.amazon.com/kms/latest/APIReference/API_ReEncrypt.html).
        """
        if not isinstance(target, AwsKms) or target.slot.access != self.slot.access:
            return None
        try:
            response = self._request(
                self._client.re_encrypt,
                "KeyId",
                "SourceKeyId",
                "CiphertextBlob",
                SourceKeyId=self._key_of(wrapped),
                CiphertextBlob=wrapped.wrapped_kek,
                SourceEncryptionContext=_pairs(encryption_context),
                DestinationKeyId=target.slot.key_id,
                DestinationEncryptionContext=_pairs(new_context),
            )
        except _SOURCE_OR_TARGET_ERRORS:
            return None  # the following unwrap or wrap reports which key failed
        self.slot.require_allowed(response["SourceKeyId"])
        return WrappedKek(
            response["CiphertextBlob"], target.slot.require_allowed(response["KeyId"])
        )

    def describe(self) -> KeyDescription:
        response = self._request(self._client.describe_key, "KeyMetadata", KeyId=self.slot.key_id)
        key = response["KeyMetadata"]
        deletion_date = key.get("DeletionDate")
        return KeyDescription(
            self.slot.require_allowed(key["Arn"]),
            key["Enabled"],
            key.get("KeyState", ""),
            int(deletion_date.timestamp()) if deletion_date else None,
        )

    def last_rotation(self, key_arn: str) -> int | None:
        """Calls kms.ListKeyRotations, which accepts no alias."""
        last: int | None = None
        marker: dict[str, str] = {}
        while True:
            try:
                response = self._request(
                    self._client.list_key_rotations, "Rotations", KeyId=key_arn, **marker
                )
            except KekError as error:
                if error.code == "UnsupportedOperationException":  # the key can't be rotated
                    return None
                raise
            rotations = response["Rotations"]
            dates = [int(rotation["RotationDate"].timestamp()) for rotation in rotations]
            last = max([*dates, last or 0]) or None
            if not response.get("Truncated"):
                return last
            marker = {"Marker": response["NextMarker"]}

    def _key_of(self, wrapped: WrappedKek) -> str:
        """Returns the key that wrapped a KEK. Raises `KeyNotAllowedError` before KMS is called."""
        if not 0 < len(wrapped.wrapped_kek) <= MAX_WRAPPED_KEK_BYTES:
            raise TamperedError(
                f"cannot unwrap KEK: {len(wrapped.wrapped_kek)} bytes isn't the length of a KMS"
                " ciphertext; restore the envelope",
                slot=self.slot.name,
                key_id=self.slot.key_id,
            )
        if not wrapped.key_arn:
            return self.slot.key_id
        self.slot.check_region(wrapped.key_arn)
        return self.slot.require_allowed(wrapped.key_arn)


def _pairs(context: EncryptionContext | None) -> dict[str, str]:
    return context.pairs if context else {}
