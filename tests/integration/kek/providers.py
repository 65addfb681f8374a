"""Providers that record requests or return wrong results."""

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import boto3
import pytest

from kekd.kek import Provider, Registry, Slot
from kekd.kek.aws.kms import AwsKms
from kekd.kek.aws.secrets import AwsSecrets

each_provider = pytest.mark.parametrize("slot", ["aws", "aws-kms"])
each_bound_slot = pytest.mark.parametrize("slot", ["bound-aws", "bound-aws-kms"])


def observed(
    slots: Mapping[str, Slot], observe: Callable[[str], Any], *, only: str = ""
) -> Registry:
    """Returns a registry that passes the name of each operation to `observe` before calling AWS.

    `only` restricts this to one operation. A result other than None replaces the answer of AWS.
    """

    def intercept(model: Any, **_: Any) -> Any:
        return observe(model.name) if only in {"", model.name} else None

    def provider(slot: Slot) -> Provider:
        where: dict[str, Any] = {"region_name": slot.region, "endpoint_url": slot.endpoint_url}
        if slot.provider == "aws-kms":
            kms = boto3.client("kms", **where)
            kms.meta.events.register("before-call", intercept)
            return AwsKms(slot, timeout=5, client=kms)
        secrets = boto3.client("secretsmanager", **where)
        secrets.meta.events.register("before-call", intercept)
        return AwsSecrets(slot, timeout=5, client=secrets)

    return Registry(slots, provider=provider)


def refusal(code: str) -> Any:
    """An error response of AWS."""
    return SimpleNamespace(status_code=400), {"Error": {"Code": code}, "ResponseMetadata": {}}
