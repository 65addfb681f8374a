"""Which arguments are understood, and how the others are refused."""

import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cyborgdb_core
import pytest

import kekd
from tests.fixtures.daemon import both_engines
from tests.integration.client.calls import BLOB, CALLS, each_call

pytestmark = both_engines

SECRET = "do-not-print-me"


@pytest.fixture
def reference(tmp_path: Path) -> cyborgdb_core.StorageConfig:
    """An empty keystore of cyborgdb_core's own."""
    return cyborgdb_core.StorageConfig.disk(str(tmp_path))


def test_a_blob_takes_the_references_arguments_in_its_order() -> None:
    assert (
        kekd.KMSBlob(
            kms_name="prod",
            provider="aws-kms",
            key_id="alias/prod",
            region="us-east-1",
            wrapped_kek=b"\1\2\3",
            version=7,
            created_at=1_700_000_000,
        )
        == BLOB
    )
    assert kekd.KMSBlob() == kekd.KMSBlob("", "", "", "", b"", 1, 0)


def test_the_etag_is_no_part_of_a_blobs_value() -> None:
    blob = kekd.KMSBlob()
    blob.etag = "read"
    assert blob == kekd.KMSBlob()
    assert kekd.KMSBlob(version=2) != kekd.KMSBlob()


def test_credentials_do_not_leave_the_caller() -> None:
    config = kekd.StorageConfig.s3("bucket", credentials=kekd.S3Credentials("AKIA", SECRET))
    assert SECRET.encode() not in pickle.dumps(config)


@pytest.mark.parametrize("kind", [SimpleNamespace, cyborgdb_core.KMSBlob])
def test_any_object_with_the_seven_attributes_is_an_envelope(
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


STRINGS = ("kms_name", "provider", "key_id", "region", "key_arn", "binding")


@pytest.mark.parametrize("method", ["create_index_kms", "push_index_kms"])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 2**32),
        ("version", -1),
        ("version", SECRET),
        ("created_at", 2**63),
        ("wrapped_kek", SECRET),
        ("wrapped_kek", None),
        *((name, f"{SECRET}\ud800") for name in STRINGS),
        *((name, SECRET.encode() + b"\xff") for name in STRINGS),
    ],
)
def test_a_value_that_the_wire_cannot_carry_is_named_and_not_shown(
    client: kekd.Client, index: str, method: str, field: str, value: Any
) -> None:
    blob = kekd.KMSBlob(provider="aws-kms", key_id="k", wrapped_kek=b"w")
    setattr(blob, field, value)
    with pytest.raises(kekd.InvalidEnvelopeError, match=field) as caught:
        getattr(client, method)(None, index, blob)
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__} {caught.value.__context__}"
    assert list(client.list_index_kms(prefix=index)) == []


FIELDS = ("kms_name", "provider", "key_id", "region", "wrapped_kek", "version", "created_at")


@pytest.mark.parametrize("method", ["create_index_kms", "push_index_kms"])
@pytest.mark.parametrize("missing", FIELDS)
def test_an_attribute_that_a_blob_lacks_is_named(
    client: kekd.Client, index: str, method: str, missing: str
) -> None:
    blob = SimpleNamespace(**{name: SECRET for name in FIELDS if name != missing})
    with pytest.raises(TypeError) as caught:
        getattr(client, method)(None, index, blob)
    assert str(caught.value) == (
        f"invalid blob: SimpleNamespace has no attribute {missing}; pass a KMSBlob or an object"
        " with its attributes"
    )


@pytest.mark.parametrize("blob", [None, 5, "blob", {"kms_name": "prod"}])
def test_what_is_no_blob_is_a_type_error_as_for_the_reference(
    client: kekd.Client, index: str, blob: Any, reference: cyborgdb_core.StorageConfig
) -> None:
    with pytest.raises(TypeError):
        cyborgdb_core.push_index_kms(reference, index, blob)
    with pytest.raises(
        TypeError, match=f"{type(blob).__name__} has no attribute {', '.join(FIELDS)}"
    ):
        client.push_index_kms(None, index, blob)


@each_call
@pytest.mark.parametrize("name", [None, 5, ["name"], bytearray(b"name"), b"\xff"])
def test_a_name_or_prefix_that_is_no_text_is_a_type_error(
    client: kekd.Client, call: Callable[..., Any], name: Any
) -> None:
    says = rf"\Ainvalid (index_name|prefix): expected str, got {type(name).__name__}\Z"
    with pytest.raises(TypeError, match=says):
        call(client, name)


@pytest.mark.parametrize("name", [None, 5, ["name"]])
def test_a_name_that_is_no_text_is_a_type_error_for_the_reference(
    name: Any, reference: cyborgdb_core.StorageConfig
) -> None:
    with pytest.raises(TypeError):
        cyborgdb_core.get_index_kms(reference, name)


def test_a_name_in_bytes_is_text_as_for_the_reference(
    client: kekd.Client, index: str, reference: cyborgdb_core.StorageConfig
) -> None:
    blob = cyborgdb_core.KMSBlob(provider="none")
    cyborgdb_core.create_index_kms(reference, b"name", blob)
    assert cyborgdb_core.get_index_kms(reference, "name").provider == "none"
    client.create_index_kms(None, cast("Any", index.encode()), BLOB)
    assert client.get_index_kms(None, index) == BLOB


@pytest.mark.parametrize("name", ["push", "delete"])
def test_an_etag_that_is_no_text_is_a_type_error(
    client: kekd.Client, index: str, name: str
) -> None:
    with pytest.raises(TypeError, match=r"\Ainvalid if_etag: expected str, got int\Z"):
        CALLS[name](client, index, if_etag=5)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("disk:/keystore", "expected kekd.StorageConfig or None, got str"),
        (
            cyborgdb_core.StorageConfig.disk("/keystore"),
            "expected kekd.StorageConfig or None, got StorageConfig",
        ),
        (
            kekd.StorageConfig.disk(cast("Any", Path("/keystore"))),
            "invalid path: expected str, got Posix",
        ),
        (kekd.StorageConfig.disk(cast("Any", None)), "invalid path: expected str, got NoneType"),
        (kekd.StorageConfig.s3("bucket", region=cast("Any", 5)), "region: expected str, got int"),
    ],
)
def test_what_is_no_location_is_a_type_error(
    client: kekd.Client, index: str, config: Any, says: str
) -> None:
    with pytest.raises(TypeError, match=says):
        client.get_index_kms(config, index)


@each_call
def test_a_lone_surrogate_in_a_name_or_prefix_is_refused(
    client: kekd.Client, call: Callable[..., Any]
) -> None:
    with pytest.raises(kekd.InvalidIndexNameError, match="surrogate"):
        call(client, "a\ud800")


@pytest.mark.parametrize(
    "config",
    [
        kekd.StorageConfig.disk("/a\ud800"),
        kekd.StorageConfig.s3("a\ud800"),
        kekd.StorageConfig.s3("bucket", prefix="a\ud800"),
    ],
)
def test_a_lone_surrogate_in_a_location_is_refused(
    client: kekd.Client, index: str, config: kekd.StorageConfig
) -> None:
    with pytest.raises(kekd.InvalidArgumentError, match="surrogate"):
        client.get_index_kms(config, index)


@pytest.mark.parametrize("name", ["push", "delete"])
def test_a_lone_surrogate_in_an_etag_is_refused(client: kekd.Client, index: str, name: str) -> None:
    with pytest.raises(kekd.InvalidArgumentError, match="surrogate"):
        CALLS[name](client, index, if_etag="a\ud800")
