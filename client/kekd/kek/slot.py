"""An entry of the KMS registry."""

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final, Literal, TypeAlias

from kekd.kek.errors import KeyNotAllowedError, RegionMismatchError
from kekd.kek.key_pattern import is_arn, is_key_arn, may_match, partial_arn

ProviderName: TypeAlias = Literal["aws", "aws-kms"]

_NOT_IN_A_SESSION_NAME: Final = re.compile(r"[^\w+=,.@-]", re.ASCII)
_MOST_SESSION_NAME: Final = 64


@dataclass(frozen=True, slots=True)
class Slot:
    """Which key wraps, and how to be let in to it.

    The first four say what an envelope remembers; the others are looked up in the registry whenever
    a KEK is opened, so that they can change without a rotation.
    """

    name: str
    provider: ProviderName
    key_id: str
    """`aws-kms`: id, ARN or alias of a KMS key. `aws`: name or ARN of a secret."""
    region: str = ""
    """Empty for boto3's default."""
    role_arn: str = ""
    """Role to assume, in the account that owns the key; empty to use the process's credentials."""
    external_id: str = ""
    """What that role's trust policy asks for
    (https://docs.aws.amazon.com/IAM/latest/UserGuide/confused-deputy.html)."""
    role_session_name: str = ""
    """What that account's CloudTrail shows; empty for `kekd-<slot>`."""
    endpoint_url: str = ""
    """Where to find AWS, STS included; empty for the real one, or boto3's AWS_ENDPOINT_URL."""
    bind: bool = False
    """Whether new wraps are bound to their index and store."""
    allowed_key_arns: tuple[str, ...] = ()
    """Patterns, such as `arn:aws:kms:us-east-1:111122223333:key/*`, for the keys that may be used,
    whatever an envelope says; empty for any."""

    @property
    def session_name(self) -> str:
        name = self.role_session_name or f"kekd-{self.name}"
        return _NOT_IN_A_SESSION_NAME.sub("-", name)[:_MOST_SESSION_NAME]

    @property
    def access(self) -> tuple[str, ...]:
        """How AWS is reached: slots where this is equal can share a client."""
        role = (self.role_arn, self.external_id, self.session_name) if self.role_arn else ()
        return (self.region or region_of(self.key_id), self.endpoint_url, *role)

    def allows(self, key_arn: str) -> bool:
        patterns = self.allowed_key_arns
        return not patterns or any(fnmatchcase(key_arn, pattern) for pattern in patterns)

    def allowed(self, key_arn: str) -> str:
        """Raises `KeyNotAllowedError`."""
        if not self.allows(key_arn):
            raise self._not_allowed(key_arn)
        return key_arn

    def check_key(self) -> None:
        """Raises `KeyNotAllowedError` if the text of `key_id` already says that AWS needn't be
        asked: `allowed` decides once the ARN is known.
        """
        key, patterns = self.key_id, self.allowed_key_arns
        if is_key_arn(key):
            self.allowed(key)
        elif patterns:
            arn = partial_arn(self.provider, key, self.region)
            if not any(may_match(arn, pattern) for pattern in patterns):
                raise self._not_allowed(key)

    def _not_allowed(self, key: str) -> KeyNotAllowedError:
        return KeyNotAllowedError(
            "This isn't among the slot's allowed_key_arns: add it there, if it may be used.",
            slot=self.name,
            key_id=key,
        )

    def check_region(self, key: str) -> None:
        """Raises `RegionMismatchError` if a key or secret is an ARN of another region."""
        if self.region and region_of(key) not in {"", self.region}:
            raise RegionMismatchError(
                f"The key is in {region_of(key)}, and {self.region} is asked for it: make region"
                " and key agree.",
                slot=self.name,
                key_id=key,
            )


def region_of(key_id: str) -> str:
    """The region that an ARN names; empty if `key_id` isn't an ARN.

    arn:partition:service:region:account:resource
    (https://docs.aws.amazon.com/IAM/latest/UserGuide/reference-arns.html)
    """
    return key_id.split(":")[3] if is_arn(key_id) else ""
