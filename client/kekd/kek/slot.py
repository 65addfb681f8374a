"""An entry of the KMS registry."""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal, TypeAlias

from kekd.kek.errors import KeyNotAllowedError, RegionMismatchError
from kekd.kek.key_pattern import is_arn, is_key_arn, may_match, partial_arn

ProviderName: TypeAlias = Literal["aws", "aws-kms"]

_FORBIDDEN_IN_SESSION_NAME: Final = re.compile(r"[^\w+=,.@-]", re.ASCII)
_MAX_SESSION_NAME: Final = 64


@dataclass(frozen=True, slots=True)
class Slot:
    """The key that wraps KEKs, and how to access it.

    Envelopes record the first four fields. The others are looked up in the registry whenever a KEK
    is unwrapped, so that they can change without a rotation.
    """

    name: str
    provider: ProviderName
    key_id: str
    """`aws-kms`: id, ARN or alias of a KMS key. `aws`: name or ARN of a secret."""
    region: str = ""
    """AWS region. Empty for boto3's default."""
    role_arn: str = ""
    """Role to assume in the account that owns the key. Empty to use the process's credentials."""
    external_id: str = ""
    """External id that the role's trust policy requires
    (https://docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html)."""
    role_session_name: str = ""
    """Session name in the CloudTrail of that account. Empty for `kekd-<slot>`."""
    endpoint_url: str = ""
    """URL of AWS, including STS. Empty for AWS's own, or boto3's AWS_ENDPOINT_URL."""
    encryption_context: bool = False
    """Whether new wraps are bound to their index and store."""
    allowed_key_arns: tuple[str, ...] = ()
    """Patterns for the ARNs of the keys that may be used, even if an envelope names another key.
    For example `arn:aws:kms:us-east-1:111122223333:key/*`. Empty for any key."""

    @property
    def session_name(self) -> str:
        name = self.role_session_name or f"kekd-{self.name}"
        return _FORBIDDEN_IN_SESSION_NAME.sub("-", name)[:_MAX_SESSION_NAME]

    @property
    def access(self) -> tuple[str, ...]:
        """How AWS is accessed. Slots with equal values can share a client."""
        role = (self.role_arn, self.external_id, self.session_name) if self.role_arn else ()
        return (self.region or region_of(self.key_id), self.endpoint_url, *role)

    def allows(self, key_arn: str) -> bool:
        patterns = self.allowed_key_arns
        return not patterns or any(fnmatchcase(key_arn, pattern) for pattern in patterns)

    def require_allowed(self, key_arn: str) -> str:
        """Returns `key_arn`. Raises `KeyNotAllowedError`."""
        if not self.allows(key_arn):
            raise self._not_allowed(key_arn)
        return key_arn

    def check_key(self) -> None:
        """Raises `KeyNotAllowedError` if no pattern can match `key_id`, without calling AWS.

        `require_allowed` decides once the ARN is known.
        """
        key, patterns = self.key_id, self.allowed_key_arns
        if is_key_arn(key):
            self.require_allowed(key)
        elif patterns:
            arn = partial_arn(self.provider, key, self.region)
            if not any(may_match(arn, pattern) for pattern in patterns):
                raise self._not_allowed(key)

    def check_region(self, key: str) -> None:
        """Raises `RegionMismatchError` if `key` is an ARN of another region than the slot's."""
        if self.region and region_of(key) not in {"", self.region}:
            raise RegionMismatchError(
                f"cannot use key: it is in {region_of(key)}, but the region is {self.region}; make"
                " them agree",
                slot=self.name,
                key_id=key,
            )

    def _not_allowed(self, key: str) -> KeyNotAllowedError:
        return KeyNotAllowedError(
            "cannot use key: it isn't in the slot's allowed_key_arns; add it if it may be used",
            slot=self.name,
            key_id=key,
        )


def region_of(key_id: str) -> str:
    """Returns the region of an ARN, or an empty string if `key_id` isn't an ARN.

    arn:partition:service:region:account:resource
    (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html)
    """
    return key_id.split(":")[3] if is_arn(key_id) else ""
