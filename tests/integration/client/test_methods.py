"""The methods of the client."""

import pytest

import kekd
from tests.fixtures.daemon import both_engines
from tests.integration.client.calls import BLOB, OTHER

pytestmark = both_engines


def test_get_after_create_returns_the_envelope(client: kekd.Client, index: str) -> None:
    etag = client.create_index_kms(None, index, BLOB)
    stored = client.get_index_kms(None, index)
    assert (stored, stored.etag) == (BLOB, etag)


def test_create_of_an_existing_envelope_raises(client: kekd.Client, index: str) -> None:
    client.create_index_kms(None, index, BLOB)
    with pytest.raises(kekd.EnvelopeExistsError) as caught:
        client.create_index_kms(None, index, BLOB)
    assert str(caught.value) == f"KMS blob already exists for index '{index}'."
    error = caught.value
    assert (error.reason, error.index_name, error.store) == ("ENVELOPE_EXISTS", index, "memory")


def test_push_replaces_the_envelope(client: kekd.Client, index: str) -> None:
    client.push_index_kms(None, index, OTHER)
    client.push_index_kms(None, index, BLOB)
    assert client.get_index_kms(None, index) == BLOB


def test_pushed_rotation_reads_back_with_a_new_etag(client: kekd.Client, index: str) -> None:
    first = client.create_index_kms(None, index, BLOB)
    blob = client.get_index_kms(None, index)
    blob.wrapped_kek, blob.version = b"rotated", blob.version + 1
    second = client.push_index_kms(None, index, blob, if_etag=blob.etag)
    stored = client.get_index_kms(None, index)
    assert (stored, stored.etag) == (blob, second)
    assert first != second


def test_push_with_a_stale_etag_changes_nothing(client: kekd.Client, index: str) -> None:
    stale = client.create_index_kms(None, index, OTHER)
    client.push_index_kms(None, index, BLOB)
    with pytest.raises(kekd.EtagMismatchError):
        client.push_index_kms(None, index, OTHER, if_etag=stale)
    assert client.get_index_kms(None, index) == BLOB


def test_push_with_an_etag_without_an_envelope_raises(client: kekd.Client, index: str) -> None:
    with pytest.raises(kekd.EtagMismatchError):
        client.push_index_kms(None, index, BLOB, if_etag="any")


def test_get_without_an_envelope_raises(client: kekd.Client, index: str) -> None:
    with pytest.raises(kekd.EnvelopeNotFoundError) as caught:
        client.get_index_kms(None, index)
    assert str(caught.value) == f"No KMS blob exists for index '{index}'."


def test_delete_returns_whether_an_envelope_existed(client: kekd.Client, index: str) -> None:
    client.create_index_kms(None, index, BLOB)
    assert client.delete_index_kms(None, index)
    assert not client.delete_index_kms(None, index)


def test_delete_with_a_stale_etag_changes_nothing(client: kekd.Client, index: str) -> None:
    stale = client.create_index_kms(None, index, OTHER)
    etag = client.push_index_kms(None, index, BLOB)
    with pytest.raises(kekd.EtagMismatchError):
        client.delete_index_kms(None, index, if_etag=stale)
    assert client.delete_index_kms(None, index, if_etag=etag)


def test_list_yields_each_name_with_the_prefix_once(client: kekd.Client, index: str) -> None:
    names = [f"{index}-{number:04}" for number in range(1100)]  # more than a page
    for name in names:
        client.push_index_kms(None, name, OTHER)
    assert list(client.list_index_kms(prefix=index)) == names


def test_config_location_selects_the_store(client: kekd.Client, index: str) -> None:
    client.create_index_kms(kekd.StorageConfig.memory(), index, BLOB)
    assert client.get_index_kms(None, index) == BLOB


def test_unknown_store_raises(client: kekd.Client, index: str) -> None:
    with pytest.raises(kekd.PermissionDeniedError):
        client.get_index_kms(kekd.StorageConfig.disk("/etc"), index)
