"""The history of a daemon with a disk store, beside CyborgDB and a damaged setup."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import cyborgdb_core
import pytest

import kekd
from tests.fixtures.calls import BLOB
from tests.fixtures.daemon import BIN, StartDaemon, refusal
from tests.fixtures.metrics import StartScraped
from tests.patience import eventually

NAME = "my_index"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "keystore"


@pytest.fixture
def client(start_daemon: StartDaemon, root: Path) -> Iterator[kekd.Client]:
    with kekd.Client(start_daemon("--disk", str(root)).address) as client:
        yield client


def foreign_push(root: Path, kek: bytes) -> None:
    blob = cyborgdb_core.KMSBlob(provider="aws-kms", key_id="k", wrapped_kek=kek)
    cyborgdb_core.push_index_kms(cyborgdb_core.StorageConfig.disk(str(root)), NAME, blob)


def files_of(root: Path) -> list[str]:
    """Returns the events of the versions, the oldest first, without a look by kekd."""
    folder = root / f"_kekd/history/{NAME}.kms.cat"
    return [path.name.split("-")[1] for path in sorted(folder.glob("*"))]


def test_each_record_of_cyborgdb_is_kept_as_soon_as_it_is_noticed(
    client: kekd.Client, root: Path
) -> None:
    client.create_index_kms(None, NAME, BLOB)
    expected = ["created"]
    for number in range(3):
        foreign_push(root, b"kek %d" % number)
        expected.append("found")
        eventually(lambda: files_of(root) == expected)
    cyborgdb_core.delete_index_kms(cyborgdb_core.StorageConfig.disk(str(root)), NAME)
    eventually(lambda: files_of(root) == [*expected, "deleted"])
    client.undelete_index_kms(None, NAME)
    assert client.get_index_kms(None, NAME).wrapped_kek == b"kek 2"


def test_concurrent_restores_with_the_same_etag_are_applied_once(client: kekd.Client) -> None:
    client.create_index_kms(None, NAME, BLOB)
    etag = client.push_index_kms(None, NAME, BLOB.__class__(provider="none"))
    version_id = list(client.list_versions_index_kms(None, NAME))[1].version_id

    def restore(_: int) -> bool:
        try:
            client.restore_index_kms(None, NAME, version_id, if_etag=etag)
        except kekd.EtagMismatchError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(restore, range(8))) == 1
    events = [version.event for version in client.list_versions_index_kms(None, NAME)]
    assert events == ["restored", "pushed", "created"]


def test_daemon_refuses_to_start_if_its_history_is_on_another_filesystem(
    root: Path, tmp_path: Path
) -> None:
    if Path("/dev/shm").stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs a second filesystem")
    (root / "_catalog/config").mkdir(parents=True)
    with TemporaryDirectory(dir="/dev/shm") as other:
        (root / "_kekd").symlink_to(other)
        said = refusal(BIN / "kekd", "--listen", f"unix:{tmp_path}/s", "--disk", str(root))
    assert f"no history can be kept in {root}/_kekd/history: Invalid cross-device link" in said
    assert "set history_versions to 0" in said


def test_metrics_show_the_size_of_the_history(start_scraped: StartScraped, root: Path) -> None:
    (root / "_catalog/config").mkdir(parents=True)
    foreign_push(root, b"kek")
    scraped = start_scraped("--disk", str(root))
    eventually(lambda: scraped.total("kekd_history_versions") == 1)
    size = (root / f"_catalog/config/{NAME}.kms.cat").stat().st_size
    assert scraped.total("kekd_history_bytes") == size
    assert scraped.total("kekd_history_oldest_timestamp_seconds") > 0
    assert scraped.total("kekd_history_failures_total") == 0
