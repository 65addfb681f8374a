"""What making, opening or rotating a KEK can end with.

    KekError
    ├── RegistryError               the registry file has problems; lists all of them
    ├── SlotNotFoundError           the registry has no such slot
    ├── InvalidKekError             a KEK isn't 32 bytes
    ├── KekRequiredError            provider `none`, and the caller brought no KEK
    ├── KekNotAcceptedError         the caller brought a KEK where a provider has it
    ├── AccessDeniedError           this caller may not use the key, the secret or the role
    ├── CredentialsError            there are no AWS credentials, or AWS doesn't know them
    │   ├── CredentialsUnavailableError  their source has none, or can't be asked; try again
    │   └── ExpiredCredentialsError
    ├── KeyNotFoundError            there is no such KMS key or alias
    ├── KeyNotAllowedError          the key isn't among the slot's allowed_key_arns
    ├── KeyDisabledError
    ├── KeyPendingDeletionError     it can still be saved; then it is gone for ever
    ├── SecretExistsError           a secret was to be made, and there is one
    ├── SecretNotFoundError         there is no such secret
    ├── InvalidSecretError          the secret's value isn't 32 bytes
    ├── RegionMismatchError         the key is in another region than the slot or envelope says
    ├── UnwrapError                 the wrapped KEK doesn't open
    │   ├── WrongKeyError           another key wrapped it
    │   ├── WrongContextError       it was wrapped for another index or store
    │   └── TamperedError           it was changed, or isn't whole
    ├── ProviderUnavailableError    AWS can't be reached, or fails; try again
    │   └── ThrottledError          AWS asks for fewer requests
    └── MissingDependencyError      the extra `kekd[aws]` isn't installed

No message holds key bytes, wrapped or not. What a daemon answers is under `kekd.EnvelopeError`.
"""


class KekError(Exception):
    """Any failure to do with a KEK. The message says what to do."""

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
        """Name of the registry's entry, as `KMSBlob.kms_name` has it."""
        self.key_id = key_id
        self.code = code
        """AWS's own, such as `AccessDeniedException`; empty where AWS wasn't asked."""
        self.endpoint = endpoint
        """The URL that was asked, if any was."""

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
