"""Valid and invalid arguments."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cyborgdb_core
import pytest

import kekd
from tests.integration.client.calls import BLOB, each_call


@pytest.fixture
def reference(tmp_path: Path) -> cyborgdb_core.StorageConfig:
    """An empty keystore of cyborgdb_core."""
    return cyborgdb_core.StorageConfig.disk(str(tmp_path))


@pytest.mark.parametrize("kind", [SimpleNamespace, cyborgdb_core.KMSBlob])
def test_object_with_the_seven_attributes_is_accepted(
    client: kekd.Client, index: str, kind: Callable[..., Any]
) -> None:
    blob = kind(
        kms_name="prod",
        provider="aws-kms",
        key_id="alias/prod",
        region="us-east-1",
        wrapped_kek=b"\1\2\3",
        version=7,
        created_at=1_700_000_000,
    )
    client.create_index_kms(None, index, blob)
    assert client.get_index_kms(None, index) == BLOB


def test_name_in_bytes_is_accepted_as_in_cyborgdb_core(
    client: kekd.Client, index: str, reference: cyborgdb_core.StorageConfig
) -> None:
    blob = cyborgdb_core.KMSBlob(provider="none")
    cyborgdb_core.create_index_kms(reference, b"name", blob)
    assert cyborgdb_core.get_index_kms(reference, "name").provider == "none"
    client.create_index_kms(None, cast("Any", index.encode()), BLOB)
    assert client.get_index_kms(None, index) == BLOB


@each_call
def test_argument_of_the_wrong_type_is_refused(
    client: kekd.Client, call: Callable[..., Any]
) -> None:
    with pytest.raises(TypeError, match=r"expected str, got int"):
        call(client, 5)


@pytest.mark.parametrize("name", ["create", "push"])
def test_blob_that_cannot_be_sent_is_refused_and_not_stored(
    client: kekd.Client, index: str, name: str
) -> None:
    write = getattr(client, f"{name}_index_kms")
    with pytest.raises(kekd.InvalidEnvelopeError, match="version"):
        write(None, index, kekd.KMSBlob(version=2**32))
    assert list(client.list_index_kms(prefix=index)) == []
