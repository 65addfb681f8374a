"""Provider `aws`: AES-256-GCM under a key that AWS Secrets Manager keeps."""

import base64
import binascii
import os
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kekd.kek.aws import session
from kekd.kek.encryption_context import EncryptionContext
from kekd.kek.errors import InvalidSecretError, TamperedError
from kekd.kek.provider import KEK_BYTES, KeyDescription, Wrapped, checked
from kekd.kek.rate_limiter import RateLimiter
from kekd.kek.slot import Slot

if TYPE_CHECKING:
    from types_boto3_secretsmanager import SecretsManagerClient
    from types_boto3_secretsmanager.type_defs import GetSecretValueResponseTypeDef

SECRET_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16


class AwsSecrets:
    """Reads the secret at every call and keeps it no longer.

    A wrapped KEK is nonce (12 bytes) || ciphertext || tag (16 bytes). Its additional data are the
    binding, or none: then CyborgDB Service 0.18 writes and reads the same
    (`cyborgdb_service/kms/base.py`).
    """

    def __init__(
        self,
        slot: Slot,
        *,
        timeout: float,
        pace: RateLimiter | None = None,
        client: "SecretsManagerClient | None" = None,
    ) -> None:
        """`timeout` is the seconds in which a request may be repeated. Without a client, one is
        made for the slot.

        Raises `KeyNotAllowedError`, and `RegionMismatchError` if the secret is an ARN of
        another region than the slot's.
        """
        slot.check_key()
        slot.check_region(slot.key_id)
        self.slot = slot
        self._request = session.Requests(slot, timeout, pace or RateLimiter(None))
        self._secrets: SecretsManagerClient = client or session.connect(
            "secretsmanager", slot, timeout
        )

    def wrap(self, kek: bytes | bytearray, binding: EncryptionContext | None) -> Wrapped:
        checked(kek)
        nonce = os.urandom(_NONCE_BYTES)
        return Wrapped(nonce + self._cipher().encrypt(nonce, kek, _additional_data(binding)))

    def unwrap(self, wrapped: Wrapped, binding: EncryptionContext | None) -> bytearray:
        record = wrapped.wrapped_kek
        if len(record) != _NONCE_BYTES + KEK_BYTES + _TAG_BYTES:
            raise self._tampered()
        nonce, sealed = record[:_NONCE_BYTES], record[_NONCE_BYTES:]
        try:
            return bytearray(self._cipher().decrypt(nonce, sealed, _additional_data(binding)))
        except InvalidTag:
            raise self._tampered() from None

    def describe(self) -> KeyDescription:
        answer = self._request(self._secrets.describe_secret, "ARN", SecretId=self.slot.key_id)
        ends = answer.get("DeletedDate")
        return KeyDescription(
            self.slot.allowed(answer["ARN"]),
            ends is None,
            "PendingDeletion" if ends else "Enabled",
            int(ends.timestamp()) if ends else None,
        )

    def create(self) -> str:
        """Makes the secret, of 32 random bytes, and returns its ARN.

        Raises `SecretExistsError` if there is one, which stays as it is.
        """
        answer = self._request(
            self._secrets.create_secret,
            "ARN",
            Name=self.slot.key_id,
            Description="Wraps the key-encryption keys of CyborgDB indexes: AES-256, 32 bytes",
            SecretBinary=os.urandom(SECRET_BYTES),
        )
        return answer["ARN"]

    def _cipher(self) -> AESGCM:
        arn, cipher = self._read()
        self.slot.allowed(arn)
        if cipher is None:
            raise InvalidSecretError(
                f"The secret's value must be {SECRET_BYTES} bytes, or those in base64.",
                slot=self.slot.name,
                key_id=self.slot.key_id,
            )
        return cipher

    def _read(self) -> tuple[str, AESGCM | None]:
        """The secret's ARN and, if it can be one, its key. Checks nothing, so that no failure's
        traceback holds the answer.
        """
        answer = self._request(self._secrets.get_secret_value, "ARN", SecretId=self.slot.key_id)
        key = _key(answer)
        return answer["ARN"], AESGCM(key) if len(key) == SECRET_BYTES else None

    def _tampered(self) -> TamperedError:
        return TamperedError(
            "The wrapped KEK doesn't open: it, or what it is bound to, was changed since it was"
            " wrapped, or the secret's value was. Restore the one that changed.",
            slot=self.slot.name,
            key_id=self.slot.key_id,
        )


def _additional_data(binding: EncryptionContext | None) -> bytes | None:
    return str(binding).encode() if binding else None


def _key(answer: "GetSecretValueResponseTypeDef") -> bytes:
    """Empty if it isn't written as a key is."""
    try:
        return answer.get("SecretBinary") or base64.b64decode(answer["SecretString"], validate=True)
    except (KeyError, ValueError, binascii.Error):
        return b""
