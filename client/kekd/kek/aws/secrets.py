"""Provider `aws`: AES-256-GCM with a key from AWS Secrets Manager."""

import base64
import binascii
import os
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kekd.kek.aws.provider import AwsProvider
from kekd.kek.encryption_context import EncryptionContext
from kekd.kek.errors import InvalidSecretError, TamperedError
from kekd.kek.provider import KEK_BYTES, KeyDescription, WrappedKek, require_kek_bytes

if TYPE_CHECKING:
    from types_boto3_secretsmanager import SecretsManagerClient
    from types_boto3_secretsmanager.type_defs import GetSecretValueResponseTypeDef

SECRET_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16


class AwsSecrets(AwsProvider):
    """Reads the secret for each call, and doesn't cache it.

    A wrapped KEK is nonce (12 bytes) || ciphertext || tag (16 bytes), with the encryption context
    as additional authenticated data. Without a context, the format is that of CyborgDB Service 0.18
    (`cyborgdb_service/kms/base.py`).
    """

    SERVICE = "secretsmanager"
    _client: "SecretsManagerClient"

    def wrap(
        self, kek: bytes | bytearray, encryption_context: EncryptionContext | None
    ) -> WrappedKek:
        require_kek_bytes(kek)
        nonce, data = os.urandom(_NONCE_BYTES), _additional_data(encryption_context)
        return WrappedKek(nonce + self._cipher().encrypt(nonce, kek, data))

    def unwrap(
        self, wrapped: WrappedKek, encryption_context: EncryptionContext | None
    ) -> bytearray:
        record = wrapped.wrapped_kek
        if len(record) != _NONCE_BYTES + KEK_BYTES + _TAG_BYTES:
            raise self._tampered()
        nonce, ciphertext = record[:_NONCE_BYTES], record[_NONCE_BYTES:]
        data = _additional_data(encryption_context)
        try:
            return bytearray(self._cipher().decrypt(nonce, ciphertext, data))
        except InvalidTag:
            raise self._tampered() from None

    def describe(self) -> KeyDescription:
        response = self._request(self._client.describe_secret, "ARN", SecretId=self.slot.key_id)
        deletion_date = response.get("DeletedDate")
        return KeyDescription(
            self.slot.require_allowed(response["ARN"]),
            deletion_date is None,
            "PendingDeletion" if deletion_date else "Enabled",
            int(deletion_date.timestamp()) if deletion_date else None,
        )

    def create(self) -> str:
        """Creates the secret, 32 random bytes, and returns its ARN.

        Raises `SecretExistsError` if there is one, and leaves it unchanged.
        """
        response = self._request(
            self._client.create_secret,
            "ARN",
            Name=self.slot.key_id,
            Description="Wraps the key-encryption keys of CyborgDB indexes: AES-256, 32 bytes",
            SecretBinary=os.urandom(SECRET_BYTES),
        )
        return response["ARN"]

    def _cipher(self) -> AESGCM:
        arn, cipher = self._read()
        self.slot.require_allowed(arn)
        if cipher is None:
            raise InvalidSecretError(
                f"cannot use the secret: its value isn't {SECRET_BYTES} bytes; store"
                f" {SECRET_BYTES} bytes, or their base64",
                slot=self.slot.name,
                key_id=self.slot.key_id,
            )
        return cipher

    def _read(self) -> tuple[str, AESGCM | None]:
        """Returns the secret's ARN, and a cipher if its value has the length of a key.

        Raises nothing itself, so that no traceback refers to the response.
        """
        response = self._request(self._client.get_secret_value, "ARN", SecretId=self.slot.key_id)
        key = _key(response)
        return response["ARN"], AESGCM(key) if len(key) == SECRET_BYTES else None

    def _tampered(self) -> TamperedError:
        return TamperedError(
            "cannot unwrap KEK: the wrapped KEK, its encryption context or the secret's value was"
            " modified; restore the original",
            slot=self.slot.name,
            key_id=self.slot.key_id,
        )


def _additional_data(context: EncryptionContext | None) -> bytes | None:
    return str(context).encode() if context else None


def _key(response: "GetSecretValueResponseTypeDef") -> bytes:
    """Returns the secret's value, or empty bytes if it isn't base64."""
    try:
        return response.get("SecretBinary") or base64.b64decode(
            response["SecretString"], validate=True
        )
    except (KeyError, ValueError, binascii.Error):
        return b""
