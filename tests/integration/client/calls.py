"""The calls that tests make."""

from collections.abc import Callable
from typing import Any

import pytest

import kekd

BLOB = kekd.KMSBlob("prod", "aws-kms", "alias/prod", "us-east-1", b"\1\2\3", 7, 1_700_000_000)
OTHER = kekd.KMSBlob(provider="none")

CALLS: dict[str, Callable[..., Any]] = {
    "create": lambda client, index, **options: client.create_index_kms(
        None, index, BLOB, **options
    ),
    "push": lambda client, index, **options: client.push_index_kms(None, index, BLOB, **options),
    "get": lambda client, index, **options: client.get_index_kms(None, index, **options),
    "delete": lambda client, index, **options: client.delete_index_kms(None, index, **options),
    "list": lambda client, index, **options: list(client.list_index_kms(None, index, **options)),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
