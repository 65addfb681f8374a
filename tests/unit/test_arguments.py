"""Valid arguments make a request, and invalid ones raise an error."""

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import cyborgdb_core
import pytest

import kekd
from kekd import _operations as operations
from kekd._transport import timeouts

BLOB = kekd.KMSBlob("prod", "aws-kms", "alias/prod", "us-east-1", b"\1\2\3", 7, 1_700_000_000)
SECRET = "do-not-print-me"

Build = Callable[..., Any]


def create(index: Any = "i", blob: Any = BLOB) -> Any:
    return operations.create(None, index, blob)


def push(index: Any = "i", blob: Any = BLOB, if_etag: Any = None) -> Any:
    return operations.push(None, index, blob, if_etag)


def get(index: Any = "i", config: Any = None) -> Any:
    return operations.get(config, index)


def delete(index: Any = "i", if_etag: Any = None) -> Any:
    return operations.delete(None, index, if_etag)


def page(index: Any = "i") -> Any:
    return operations.page(None, index, "", show_deleted=False)


def version_page(index: Any = "i") -> Any:
    return operations.version_page(None, index, "", full=False)


def restore(index: Any = "i", if_etag: Any = None) -> Any:
    return operations.restore(None, index, "version", if_etag)


def undelete(index: Any = "i") -> Any:
    return operations.undelete(None, index)


def watch(index: Any = "i") -> Any:
    return operations.watch(None, index)


each_build = pytest.mark.parametrize(
    "build", [create, push, get, delete, page, version_page, restore, undelete, watch]
)
each_write = pytest.mark.parametrize("build", [create, push])
each_conditional_write = pytest.mark.parametrize("build", [push, delete, restore])


@pytest.fixture
def reference(tmp_path: Path) -> cyborgdb_core.StorageConfig:
    """An empty keystore of cyborgdb_core."""
    return cyborgdb_core.StorageConfig.disk(str(tmp_path))


def test_blob_takes_the_arguments_of_cyborgdb_core() -> None:
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


def test_blobs_with_different_etags_are_equal() -> None:
    blob = kekd.KMSBlob()
    blob.etag = "read"
    assert blob == kekd.KMSBlob()
    assert kekd.KMSBlob(version=2) != kekd.KMSBlob()


def test_credentials_are_not_in_the_location() -> None:
    config = kekd.StorageConfig.s3("bucket", credentials=kekd.S3Credentials("AKIA", SECRET))
    assert SECRET.encode() not in pickle.dumps(config)


STRINGS = ("kms_name", "provider", "key_id", "region", "key_arn", "binding")


@each_write
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
def test_invalid_attribute_is_named_without_its_value(build: Build, field: str, value: Any) -> None:
    blob = kekd.KMSBlob(provider="aws-kms", key_id="k", wrapped_kek=b"w")
    setattr(blob, field, value)
    with pytest.raises(kekd.InvalidEnvelopeError, match=field) as caught:
        build(blob=blob)
    assert SECRET not in f"{caught.value!r} {caught.value.__cause__} {caught.value.__context__}"


FIELDS = ("kms_name", "provider", "key_id", "region", "wrapped_kek", "version", "created_at")


@each_write
@pytest.mark.parametrize("missing", FIELDS)
def test_missing_attribute_is_named(build: Build, missing: str) -> None:
    blob = SimpleNamespace(**{name: SECRET for name in FIELDS if name != missing})
    with pytest.raises(TypeError) as caught:
        build(blob=blob)
    assert str(caught.value) == (
        f"invalid blob: SimpleNamespace has no attribute {missing}; pass a KMSBlob or an object"
        " with its attributes"
    )


@pytest.mark.parametrize("blob", [None, 5, "blob", {"kms_name": "prod"}])
def test_other_object_as_blob_raises_type_error(
    blob: Any, reference: cyborgdb_core.StorageConfig
) -> None:
    with pytest.raises(TypeError):
        cyborgdb_core.push_index_kms(reference, "i", blob)
    with pytest.raises(
        TypeError, match=f"{type(blob).__name__} has no attribute {', '.join(FIELDS)}"
    ):
        push(blob=blob)


@each_build
@pytest.mark.parametrize("name", [None, 5, ["name"], bytearray(b"name"), b"\xff"])
def test_name_or_prefix_of_another_type_raises_type_error(build: Build, name: Any) -> None:
    says = rf"\Ainvalid (index_name|prefix): expected str, got {type(name).__name__}\Z"
    with pytest.raises(TypeError, match=says):
        build(index=name)


@pytest.mark.parametrize("name", [None, 5, ["name"]])
def test_name_of_another_type_raises_type_error_in_cyborgdb_core(
    name: Any, reference: cyborgdb_core.StorageConfig
) -> None:
    with pytest.raises(TypeError):
        cyborgdb_core.get_index_kms(reference, name)


@each_conditional_write
def test_etag_of_another_type_raises_type_error(build: Build) -> None:
    with pytest.raises(TypeError, match=r"\Ainvalid if_etag: expected str, got int\Z"):
        build(if_etag=5)


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
def test_invalid_location_raises_type_error(config: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        get(config=config)


@each_build
def test_lone_surrogate_in_a_name_or_prefix_raises(build: Build) -> None:
    with pytest.raises(kekd.InvalidIndexNameError, match="surrogate"):
        build(index="a\ud800")


@pytest.mark.parametrize(
    "config",
    [
        kekd.StorageConfig.disk("/a\ud800"),
        kekd.StorageConfig.s3("a\ud800"),
        kekd.StorageConfig.s3("bucket", prefix="a\ud800"),
    ],
)
def test_lone_surrogate_in_a_location_raises(config: kekd.StorageConfig) -> None:
    with pytest.raises(kekd.InvalidArgumentError, match="surrogate"):
        get(config=config)


@each_conditional_write
def test_lone_surrogate_in_an_etag_raises(build: Build) -> None:
    with pytest.raises(kekd.InvalidArgumentError, match="surrogate"):
        build(if_etag="a\ud800")


@pytest.mark.parametrize("timeout", [0, math.nan, math.inf, -math.inf, -1, -0.001, 1e10, 1e300])
def test_timeout_out_of_range_is_refused(timeout: float) -> None:
    with pytest.raises(ValueError, match=r"invalid timeout") as caught:
        timeouts.require_timeout(timeout)
    assert str(caught.value) == (
        f"invalid timeout {timeout}; use a number of seconds, more than 0 and at most 1000000000"
    )
    assert not isinstance(caught.value, kekd.EnvelopeError)
