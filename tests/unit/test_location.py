from pathlib import Path

import pytest

from kekd_server.config.loader import load
from kekd_server.model.errors import StoreNotConfiguredError
from kekd_server.storage.location import DiskLocation, Location, MemoryLocation, S3Location
from kekd_server.storage.memory.driver import MemoryDriver
from kekd_server.storage.registry import Stores
from kekd_server.storage.store import Store

S3 = S3Location("bucket", "a/b", "eu-west-1", "http://127.0.0.1:9000")


@pytest.mark.parametrize(
    ("configured", "asked", "admitted"),
    [
        (MemoryLocation(), MemoryLocation(), True),
        (MemoryLocation(), DiskLocation("/keystore"), False),
        (DiskLocation("/keystore"), DiskLocation("/keystore"), True),
        (DiskLocation("/keystore"), DiskLocation("/keystore/"), True),
        (DiskLocation("/keystore"), DiskLocation("/a/../keystore"), True),
        (DiskLocation("/keystore"), DiskLocation("/keystore/.."), False),
        (DiskLocation("/keystore"), DiskLocation("/keystore/a"), False),
        (DiskLocation("/keystore"), DiskLocation(""), False),
        (DiskLocation("/keystore"), S3Location("keystore"), False),
        (S3, S3Location("bucket", "a/b"), True),
        (S3, S3Location("bucket", "/a//b/"), True),
        (S3, S3Location("bucket", "a/b", "eu-west-1", "http://127.0.0.1:9000"), True),
        (S3, S3Location("bucket", "a/b", None, "http://127.0.0.1:9000/"), True),
        (S3, S3Location("bucket", "a/b", "us-east-1"), False),
        (S3, S3Location("bucket", "a/b", None, "http://127.0.0.1:9001"), False),
        (S3, S3Location("bucket", "a"), False),
        (S3, S3Location("bucket"), False),
        (S3, S3Location("other", "a/b"), False),
    ],
)
def test_location_matches_configurations_that_name_it(
    configured: Location, asked: Location, admitted: bool
) -> None:
    assert configured.matches(asked) is admitted


def test_store_behind_a_symlink_matches_both_paths(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    ((configured, _),) = load({"disk": [tmp_path / "link"]}, None).settings.stores
    assert configured.matches(DiskLocation(str(tmp_path / "link")))
    assert configured.matches(DiskLocation(str(tmp_path / "real")))


def stores(*locations: Location) -> Stores:
    return Stores([Store(location, MemoryDriver(), threads=1) for location in locations])


def test_request_without_a_location_selects_the_first_store() -> None:
    assert stores(MemoryLocation(), DiskLocation("/a")).select(None).location == MemoryLocation()


def test_unknown_location_is_refused() -> None:
    several = stores(S3Location("bucket", "", "a"), DiskLocation("/a"))
    for asked in (DiskLocation("/etc"), S3Location("bucket", "", "b"), MemoryLocation()):
        with pytest.raises(StoreNotConfiguredError, match="matches none of the daemon's stores"):
            several.select(asked)
