"""Provider `aws-kms`: the key stays in AWS KMS, which wraps and unwraps."""

from typing import TYPE_CHECKING, Final

from kekd.kek.aws import session
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
from kekd.kek.provider import KEK_BYTES, KeyDescription, Provider, Wrapped, checked, scrub
from kekd.kek.rate_limiter import RateLimiter
from kekd.kek.slot import Slot
from kekd_common.limits import MAX_WRAPPED_KEK_BYTES

if TYPE_CHECKING:
    from types_boto3_kms import KMSClient

_ANOTHER_KEY: Final = (AccessDeniedError, KeyNotFoundError, WrongKeyError)
_ONE_OF_TWO_KEYS: Final = (
    AccessDeniedError,
    KeyDisabledError,
    KeyNotFoundError,
    KeyPendingDeletionError,
    WrongKeyError,
)


class AwsKms:
    """kms.Encrypt and kms.Decrypt, always with a KeyId: without one, KMS opens what any key of the
    account wrapped (https://docs.aws.amazon.com/kms/latest/APIReference/API_Decrypt.html).

    An alias can be pointed at another key. So the ARN that Encrypt answers with is kept, and passed
    to Decrypt.
    """

    def __init__(
        self,
        slot: Slot,
        *,
        timeout: float,
        pace: RateLimiter | None = None,
        client: "KMSClient | None" = None,
    ) -> None:
        """`timeout` is the seconds in which a request may be repeated. Without a client, one is
        made for the slot.

        Raises `KeyNotAllowedError`, and `RegionMismatchError` if the slot's key is an ARN of
        another region than the slot's.
        """
        slot.check_key()
        slot.check_region(slot.key_id)
        self.slot = slot
        self._request = session.Requests(slot, timeout, pace or RateLimiter(None))
        self._kms: KMSClient = client or session.connect("kms", slot, timeout)

    def wrap(self, kek: bytes | bytearray, binding: EncryptionContext | None) -> Wrapped:
        answer = self._request(
            self._kms.encrypt,
            "KeyId",
            "CiphertextBlob",
            KeyId=self.slot.key_id,
            Plaintext=checked(kek),
            EncryptionContext=_context(binding),
        )
        return Wrapped(answer["CiphertextBlob"], self.slot.allowed(answer["KeyId"]))

    def unwrap(self, wrapped: Wrapped, binding: EncryptionContext | None) -> bytearray:
        key = self._key_of(wrapped)
        try:
            return self._decrypted(key, wrapped, binding)
        except _ANOTHER_KEY as error:
            if key == self.slot.key_id:
                raise
            # Somebody who doesn't know of key_arn may have wrapped anew and left it as it was.
            try:
                return self._decrypted(self.slot.key_id, wrapped, binding)
            except KekError:
                raise error from None

    def _decrypted(
        self, key: str, wrapped: Wrapped, binding: EncryptionContext | None
    ) -> bytearray:
        key_arn, opened = self._decrypt(key, wrapped, binding)
        try:
            self.slot.allowed(key_arn)
            if len(opened) != KEK_BYTES:
                raise UnwrapError(
                    f"What was wrapped hasn't a KEK's {KEK_BYTES} bytes: restore the envelope.",
                    slot=self.slot.name,
                    key_id=key,
                )
        except KekError:
            scrub(opened)
            raise
        return opened

    def _decrypt(
        self, key: str, wrapped: Wrapped, binding: EncryptionContext | None
    ) -> tuple[str, bytearray]:
        """Which key opened it, and what was in it. Checks nothing, so that no failure's traceback
        holds the answer.
        """
        answer = self._request(
            self._kms.decrypt,
            "KeyId",
            "Plaintext",
            KeyId=key,
            CiphertextBlob=wrapped.wrapped_kek,
            EncryptionContext=_context(binding),
        )
        return answer["KeyId"], bytearray(answer["Plaintext"])

    def rewrap(
        self,
        wrapped: Wrapped,
        binding: EncryptionContext | None,
        target: Provider,
        bound_to: EncryptionContext | None,
    ) -> Wrapped | None:
        """By kms.ReEncrypt, where the same client reaches both keys and is allowed to
        (https://docs.aws.amazon.com/kms/latest/APIReference/API_ReEncrypt.html).
        """
        if not isinstance(target, AwsKms) or target.slot.access != self.slot.access:
            return None
        try:
            answer = self._request(
                self._kms.re_encrypt,
                "KeyId",
                "SourceKeyId",
                "CiphertextBlob",
                SourceKeyId=self._key_of(wrapped),
                CiphertextBlob=wrapped.wrapped_kek,
                SourceEncryptionContext=_context(binding),
                DestinationKeyId=target.slot.key_id,
                DestinationEncryptionContext=_context(bound_to),
            )
        except _ONE_OF_TWO_KEYS:
            return None  # and then unwrap or wrap says which key it is
        self.slot.allowed(answer["SourceKeyId"])
        return Wrapped(answer["CiphertextBlob"], target.slot.allowed(answer["KeyId"]))

    def describe(self) -> KeyDescription:
        answer = self._request(self._kms.describe_key, "KeyMetadata", KeyId=self.slot.key_id)
        key = answer["KeyMetadata"]
        ends = key.get("DeletionDate")
        return KeyDescription(
            self.slot.allowed(key["Arn"]),
            key["Enabled"],
            key.get("KeyState", ""),
            int(ends.timestamp()) if ends else None,
        )

    def last_rotation(self, key_arn: str) -> int | None:
        """By kms.ListKeyRotations, which takes no alias."""
        last: int | None = None
        marker: dict[str, str] = {}
        while True:
            try:
                answer = self._request(
                    self._kms.list_key_rotations, "Rotations", KeyId=key_arn, **marker
                )
            except KekError as error:
                if error.code == "UnsupportedOperationException":  # keys that can't be rotated
                    return None
                raise
            dates = [int(each["RotationDate"].timestamp()) for each in answer["Rotations"]]
            last = max([*dates, last or 0]) or None
            if not answer.get("Truncated"):
                return last
            marker = {"Marker": answer["NextMarker"]}

    def _key_of(self, wrapped: Wrapped) -> str:
        """The key that wrapped it; not one that the slot doesn't allow, whatever KMS would say."""
        if not 0 < len(wrapped.wrapped_kek) <= MAX_WRAPPED_KEK_BYTES:
            raise TamperedError(
                f"The wrapped KEK has {len(wrapped.wrapped_kek)} bytes, which KMS never makes:"
                " restore the envelope.",
                slot=self.slot.name,
                key_id=self.slot.key_id,
            )
        if not wrapped.key_arn:
            return self.slot.key_id
        self.slot.check_region(wrapped.key_arn)
        return self.slot.allowed(wrapped.key_arn)


def _context(binding: EncryptionContext | None) -> dict[str, str]:
    return binding.context if binding else {}
