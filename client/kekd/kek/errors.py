"""The exceptions of creating, unwrapping and rotating KEKs.

    KekError
    ├── RegistryError               the registry file is invalid; lists all problems
    ├── SlotNotFoundError           the registry has no such slot
    ├── InvalidKekError             the KEK isn't 32 bytes
    ├── KekRequiredError            provider `none`, but the caller passed no KEK
    ├── KekNotAcceptedError         the caller passed a KEK that the provider already holds
    ├── AccessDeniedError           AWS denied access to the key, secret or role
    ├── CredentialsError            AWS rejected the credentials
    │   ├── CredentialsUnavailableError  no source has credentials now; retry
    │   └── ExpiredCredentialsError  the credentials have expired
    ├── KeyNotFoundError            the KMS key or alias doesn't exist
    ├── KeyNotAllowedError          the key isn't in the slot's allowed_key_arns
    ├── KeyDisabledError            the KMS key is disabled or not ready
    ├── KeyPendingDeletionError     the key will be deleted; cancel the deletion
    ├── SecretExistsError           the secret to create already exists
    ├── SecretNotFoundError         the secret doesn't exist
    ├── InvalidSecretError          the secret's value isn't 32 bytes
    ├── RegionMismatchError         slot or envelope name another region than the key's
    ├── UnwrapError                 the wrapped KEK can't be unwrapped
    │   ├── WrongKeyError           another key wrapped it
    │   ├── WrongContextError       it was wrapped for another index or store
    │   └── TamperedError           it was modified or truncated
    ├── ProviderUnavailableError    AWS is unreachable or failing; retry
    │   └── ThrottledError          AWS limits the request rate
    └── MissingDependencyError      the extra `kekd[aws]` isn't installed

No message contains key bytes, wrapped or not. The errors of a daemon are under
`kekd.EnvelopeError`.
"""


class KekError(Exception):
    """Base class of all errors about KEKs."""

    def __init__(  # noqa: PLR0913
        self,
        message: str,
        *,
        index_name: str = "",
        slot: str = "",
        key_id: str = "",
        code: str = "",
        endpoint: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.index_name = index_name
        self.slot = slot
        """Name of the slot, as in `KMSBlob.kms_name`."""
        self.key_id = key_id
        self.code = code
        """Error code of AWS, such as `AccessDeniedException`. Empty if AWS wasn't called."""
        self.endpoint = endpoint
        """URL that was called. Empty if none was."""

    def __str__(self) -> str:
        where = {
            "index": self.index_name,
            "slot": self.slot,
            "key": self.key_id,
            "AWS": self.code,
            "endpoint": self.endpoint,
        }
        known = ", ".join(f"{name} {value!r}" for name, value in where.items() if value)
        return f"{self.message} ({known})" if known else self.message


class RegistryError(KekError):
    @property
    def problems(self) -> list[str]:
        return self.message.splitlines()


class SlotNotFoundError(KekError):
    pass


class InvalidKekError(KekError):
    pass


class KekRequiredError(KekError):
    pass


class KekNotAcceptedError(KekError):
    pass


class AccessDeniedError(KekError):
    pass


class CredentialsError(KekError):
    pass


class CredentialsUnavailableError(CredentialsError):
    pass


class ExpiredCredentialsError(CredentialsError):
    pass


class KeyNotFoundError(KekError):
    pass


class KeyNotAllowedError(KekError):
    pass


class KeyDisabledError(KekError):
    pass


class KeyPendingDeletionError(KekError):
    pass


class SecretExistsError(KekError):
    pass


class SecretNotFoundError(KekError):
    pass


class InvalidSecretError(KekError):
    pass


class RegionMismatchError(KekError):
    pass


class UnwrapError(KekError):
    pass


class WrongKeyError(UnwrapError):
    pass


class WrongContextError(UnwrapError):
    pass


class TamperedError(UnwrapError):
    pass


class ProviderUnavailableError(KekError):
    pass


class ThrottledError(ProviderUnavailableError):
    pass


class MissingDependencyError(KekError):
    pass
