"""The state of a keystore after its daemon is killed, or its machine loses power."""

import fcntl
import os
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import kekd
from kekd_schema import decode
from kekd_server.model.index_name import IndexName
from kekd_server.storage.disk import durable
from kekd_server.storage.disk.driver import DiskDriver
from tests.fixtures.daemon import StartDaemon
from tests.fixtures.disk import opened
from tests.fixtures.writes import create, delete, put
from tests.patience import PATIENCE

KILLS = 20
WRITERS = 8
NAME = IndexName("i")


class Writer:
    """Pushes one index repeatedly, and creates a new one with each push."""

    def __init__(self, name: str, client: kekd.Client) -> None:
        self.name = name
        self.created: list[int] = []
        """The versions with an acknowledged create."""
        self._client = client
        self._attempted = self._pushed = 0
        """The last version that was sent, and the last with an acknowledged push."""

    def write(self, over: threading.Event) -> None:
        try:
            while not over.is_set():
                with suppress(kekd.UnavailableError):  # the daemon was down for long
                    self._write_once()
        finally:
            over.set()

    def _write_once(self) -> None:
        version = self._attempted = self._attempted + 1
        blob = kekd.KMSBlob("", "aws-kms", "k", "", b"\1" * 2000, version)
        self._client.push_index_kms(None, self.name, blob)
        self._pushed = version
        self._client.create_index_kms(None, f"{self.name}-{version}", blob)
        self.created.append(version)

    def check(self, stored: dict[str, int]) -> None:
        """Whether everything acknowledged is there, and nothing that was never sent.

        For when the daemon isn't running, so that nothing more is acknowledged.
        """
        assert self._pushed <= stored.get(self.name, 0) <= self._attempted
        for version in self.created:
            assert stored[f"{self.name}-{version}"] == version


def read_all(keystore: Path) -> dict[str, int]:
    """Reads the version in every record from disk. Fails for a stray or torn file."""
    return {
        path.name.removesuffix(".kms.cat"): decode(path.read_bytes()).version
        for path in (keystore / "_catalog" / "config").iterdir()
    }


@pytest.mark.faults
def test_sigkill_loses_no_acknowledged_write(start_daemon: StartDaemon, tmp_path: Path) -> None:
    keystore = tmp_path / "keystore"
    flags = ("--disk", str(keystore))
    chance = random.Random(0)
    daemon = start_daemon(*flags)
    over = threading.Event()
    with (
        kekd.Client(daemon.address, timeout=PATIENCE) as client,
        ThreadPoolExecutor(WRITERS) as threads,
    ):
        writers = [Writer(f"writer{number}", client) for number in range(WRITERS)]
        writing = [threads.submit(writer.write, over) for writer in writers]
        try:
            for _ in range(KILLS):
                wait_for_writes(writers, chance.randint(1, 100), over)
                daemon.kill()
                stored = read_all(keystore)
                for writer in writers:
                    writer.check(stored)
                daemon = start_daemon(*flags)
        finally:
            over.set()
        for done in writing:
            done.result()
        served = {name: client.get_index_kms(None, name) for name in client.list_index_kms()}
    stored = read_all(keystore)
    assert {name: blob.version for name, blob in served.items()} == stored
    for writer in writers:
        writer.check(stored)


def wait_for_writes(writers: list[Writer], count: int, over: threading.Event) -> None:
    """Waits until that many more writes were acknowledged, or a writer failed."""
    enough = sum(len(writer.created) for writer in writers) + count
    while sum(len(writer.created) for writer in writers) < enough and not over.wait(0.001):
        pass


def test_start_removes_only_abandoned_temporary_files(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    temporary = tmp_path / "keystore" / "_kekd" / "tmp" / "0"
    temporary.mkdir(parents=True)
    for name in ("abandoned", "written"):
        (temporary / name).touch()
    with (temporary / "written").open() as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        start_daemon("--disk", str(tmp_path / "keystore"))
    assert [path.name for path in temporary.iterdir()] == ["written"]


# The order of system calls


class Trace:
    """Records the system calls that change the disk, with short names of the files."""

    def __init__(self, root: Path) -> None:
        self._names = {
            str(root / "_catalog" / "config"): "records",
            str(root / "_catalog" / "config" / NAME.key): "record",
        }
        self._folders = {
            str(root / "_kekd" / "tmp"): "temporary",
            str(root / "_kekd" / "history" / NAME.key): "version",
        }
        self._open: dict[int, str] = {}
        self.calls: list[str] = []

    def wrap(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def traced(*arguments: Any, **keywords: Any) -> Any:
            result = call(*arguments, **keywords)
            words = [word for argument in arguments[:2] if (word := self._word(argument))]
            if name == "open" and words:
                self._open[result] = words[0]
            if words:
                self.calls.append(" ".join([name, *words]))
            if name == "close":
                self._open.pop(arguments[0], None)
            return result

        return traced

    def _word(self, argument: object) -> str | None:
        if isinstance(argument, int):
            return self._open.get(argument)
        path = str(argument)
        if path.startswith("/proc/self/fd/"):
            return self._open.get(int(path.rpartition("/")[2]))
        for folder, name in self._folders.items():
            if path.startswith(folder):
                return name
        return self._names.get(path)


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[DiskDriver]:
    driver = opened(tmp_path)
    create(driver, IndexName("other"), b"record")
    yield driver
    driver.close()


@pytest.fixture
def trace(driver: DiskDriver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trace:
    trace = Trace(tmp_path)
    for name in ("open", "write", "fsync", "close", "link", "rename", "unlink"):
        monkeypatch.setattr(os, name, trace.wrap(name, getattr(os, name)))
    return trace


WRITTEN = ["open temporary", "write temporary", "fsync temporary"]
KEPT = "link temporary version"
CLOSED = "close temporary"
SYNCED = ["open records", "fsync records", "close records"]


def test_create_is_on_disk_before_it_is_acknowledged(driver: DiskDriver, trace: Trace) -> None:
    create(driver, NAME, b"record")
    assert trace.calls == [*WRITTEN, KEPT, "link temporary record", CLOSED, *SYNCED]


def test_put_is_on_disk_before_it_is_acknowledged(driver: DiskDriver, trace: Trace) -> None:
    put(driver, NAME, b"record", if_etag=None)
    named, renamed = "link temporary temporary", "rename temporary record"
    assert trace.calls == [*WRITTEN, named, KEPT, renamed, CLOSED, *SYNCED]


def test_delete_is_on_disk_before_it_is_acknowledged(driver: DiskDriver, trace: Trace) -> None:
    put(driver, NAME, b"record", if_etag=None)
    trace.calls.clear()
    delete(driver, NAME, if_etag=None)
    assert trace.calls[-4:] == ["unlink record", *SYNCED]


def test_refused_create_leaves_no_version_and_no_temporary_file(
    driver: DiskDriver, trace: Trace
) -> None:
    put(driver, NAME, b"record", if_etag=None)
    trace.calls.clear()
    with pytest.raises(Exception, match="already exists"):
        create(driver, NAME, b"rival")
    assert trace.calls == [*WRITTEN, KEPT, "unlink version", CLOSED]


# Where a filesystem has no files without a name


@pytest.fixture
def no_unnamed_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable, "_can_link_descriptors", lambda: False)


LOCKED, UNLOCKED = "open temporary", "close temporary"


@pytest.mark.usefixtures("no_unnamed_files")
def test_create_with_a_named_file_is_on_disk_before_it_is_acknowledged(
    driver: DiskDriver, trace: Trace
) -> None:
    create(driver, NAME, b"record")
    linked = [KEPT, "link temporary record", "unlink temporary", UNLOCKED]
    assert trace.calls == [LOCKED, *WRITTEN, CLOSED, *linked, *SYNCED]


@pytest.mark.usefixtures("no_unnamed_files")
def test_put_with_a_named_file_is_on_disk_before_it_is_acknowledged(
    driver: DiskDriver, trace: Trace
) -> None:
    put(driver, NAME, b"record", if_etag=None)
    renamed = [KEPT, "rename temporary record", UNLOCKED]
    assert trace.calls == [LOCKED, *WRITTEN, CLOSED, *renamed, *SYNCED]
