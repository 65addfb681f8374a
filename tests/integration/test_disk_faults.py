"""Disks that are full, read-only or missing.

Errors name the store, no envelope is lost or torn, and the daemon keeps serving. That includes the
disk of the temporary files.
"""

import ctypes
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass

import kekd
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_proto.v1.envelope_pb2_grpc import EnvelopeServiceStub
from tests.fixtures.calls import BLOB, CALLS
from tests.fixtures.daemon import Daemon, StartDaemon
from tests.fixtures.metrics import Scraped
from tests.fixtures.s3 import free_port
from tests.fixtures.workers import StartWorkers, Workers
from tests.integration.fixtures.wire import failure_of
from tests.patience import PATIENCE, eventually

pytestmark = pytest.mark.faults

MEMORY = kekd.StorageConfig.memory()
PAGE = 4096
LARGE = kekd.KMSBlob("prod", "aws-kms", "alias/prod", "us-east-1", b"\1" * 6000, 7)
"""Larger than a page, so that a disk with one free page stores only a part."""
ROTATED = kekd.KMSBlob("prod", "aws-kms", "alias/prod", "us-east-1", b"\2" * 6000, 8)

PR_SET_SECUREBITS, SECBIT_NOROOT = 28, 1


class Disk:
    """A disk for a daemon's store.

    If the tests can't mount one, the daemon's process is prevented from writing instead. Its
    system calls fail in the same way.
    """

    def __init__(self, path: Path, size: str = "256k") -> None:
        path.mkdir()
        self.path = path
        self.mounted = self._mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")

    def fill(self, daemon: Daemon) -> None:
        """Fills the disk except for a page."""
        if self.mounted:
            self.fill_with_ballast(keep=PAGE)
        else:
            limit_files(daemon, PAGE)

    def fill_with_ballast(self, *, keep: int) -> None:
        room = os.statvfs(self.path).f_bavail * PAGE
        with (self.path / "ballast").open("wb") as ballast:
            os.posix_fallocate(ballast.fileno(), 0, room - keep)

    def has_room(self, daemon: Daemon) -> None:
        """Call it after something large was deleted."""
        if not self.mounted:
            limit_files(daemon, resource.RLIM_INFINITY)

    def set_writable(self, writable: bool) -> None:
        if self.mounted:
            assert self._mount("-o", f"remount,{'rw' if writable else 'ro'}")
        else:
            for folder in (self.path, *filter(Path.is_dir, self.path.rglob("*"))):
                folder.chmod(0o700 if writable else 0o500)

    def close(self) -> None:
        if self.mounted:
            # Lazily, because the workers of a killed daemon may still be ending.
            subprocess.run(["umount", "--lazy", self.path], check=True)

    def files(self) -> dict[Path, bytes]:
        """All files except locks."""
        paths = filter(Path.is_file, self.path.rglob("*"))
        return {path: path.read_bytes() for path in paths if path.parent.name != "locks"}

    def _mount(self, *options: str) -> bool:
        command = ["mount", *options, str(self.path)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0


def limit_files(daemon: Daemon, size: int) -> None:
    resource.prlimit(daemon.process.pid, resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


@contextmanager
def no_powers_of_root() -> Iterator[None]:
    """Processes that start now may write only what file modes allow, even as root."""
    set_process: Callable[[int, int], int] = ctypes.CDLL(None).prctl
    set_process(PR_SET_SECUREBITS, SECBIT_NOROOT)  # fails for other users, which don't need it
    try:
        yield
    finally:
        set_process(PR_SET_SECUREBITS, 0)


class DiskDaemon(NamedTuple):
    daemon: Daemon
    client: kekd.Client
    disk: Disk
    store: str

    def refuses(self, call: Callable[..., Any]) -> str:
        """Returns the error of a call that the store can't execute."""
        with pytest.raises(kekd.StoreMisconfiguredError) as caught:
            call(self.client, None)
        assert caught.value.store == self.store
        return str(caught.value)


@pytest.fixture
def on_disk(start_daemon: StartDaemon, tmp_path: Path) -> Iterator[DiskDaemon]:
    """A daemon with the index "kept" on a disk with free room, and a memory store."""
    disk = Disk(tmp_path / "disk")
    flags = ("--disk", str(disk.path), "--memory")
    with nullcontext() if disk.mounted else no_powers_of_root():
        daemon = start_daemon(*flags)
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "kept", LARGE)
        yield DiskDaemon(daemon, client, disk, f"disk:{disk.path}")
    daemon.kill()
    disk.close()


def push_in_a_batch(client: kekd.Client, store: kekd.StorageConfig | None) -> None:
    ((_, result),) = client.push_many_index_kms(store, [("new", LARGE, None)])
    if isinstance(result, kekd.EnvelopeError):
        raise result


WRITES: dict[str, Callable[[kekd.Client, kekd.StorageConfig | None], Any]] = {
    "create": lambda client, store: client.create_index_kms(store, "new", LARGE),
    "push": lambda client, store: client.push_index_kms(store, "new", LARGE),
    "push in a batch": push_in_a_batch,
    "replace": lambda client, store: client.push_index_kms(
        store, "kept", ROTATED, if_etag=client.get_index_kms(store, "kept").etag
    ),
}
each_write = pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)


@each_write
def test_full_disk_loses_and_tears_no_record(
    on_disk: DiskDaemon, write: Callable[..., Any]
) -> None:
    daemon, client, disk, _ = on_disk
    disk.fill(daemon)
    before = disk.files()
    said = on_disk.refuses(write)
    assert "No space left on device" in said or "File too large" in said
    assert disk.files() == before
    assert client.get_index_kms(None, "kept") == LARGE
    assert list(client.list_index_kms()) == ["kept"]


def test_full_disk_does_not_affect_other_stores(on_disk: DiskDaemon) -> None:
    on_disk.disk.fill(on_disk.daemon)
    on_disk.refuses(WRITES["create"])
    on_disk.client.create_index_kms(MEMORY, "new", LARGE)
    assert on_disk.client.get_index_kms(MEMORY, "new") == LARGE


def test_full_disk_is_writable_again_after_a_destroy(on_disk: DiskDaemon) -> None:
    """A delete frees nothing, because the history keeps the record."""
    daemon, client, disk, _ = on_disk
    disk.fill(daemon)
    on_disk.refuses(WRITES["create"])
    assert client.destroy_index_kms(None, "kept", "the disk is full").destroyed
    disk.has_room(daemon)
    client.create_index_kms(None, "new", LARGE)
    assert client.get_index_kms(None, "new") == LARGE


def test_full_disk_is_a_failed_precondition_on_the_wire(on_disk: DiskDaemon) -> None:
    on_disk.disk.fill(on_disk.daemon)
    blob = pb.KMSBlob(provider="aws-kms", key_id="k", wrapped_kek=b"\1" * 6000, version=1)
    with grpc.insecure_channel(on_disk.daemon.address) as channel:
        create: Any = EnvelopeServiceStub(channel).CreateEnvelope
        code, info = failure_of(create, pb.CreateEnvelopeRequest(index_name="new", blob=blob))
    assert (code, info.reason) == ("FAILED_PRECONDITION", "STORE_MISCONFIGURED")
    assert info.metadata["store"] == on_disk.store


@pytest.fixture
def read_only(on_disk: DiskDaemon) -> Iterator[DiskDaemon]:
    on_disk.disk.set_writable(False)
    yield on_disk
    on_disk.disk.set_writable(True)


WRITES_AND_DELETE = WRITES | {
    "delete": lambda client, store: client.delete_index_kms(store, "kept")
}


@pytest.mark.parametrize("write", WRITES_AND_DELETE.values(), ids=WRITES_AND_DELETE)
def test_read_only_disk_serves_reads_and_refuses_writes(
    read_only: DiskDaemon, write: Callable[..., Any]
) -> None:
    _, client, disk, _ = read_only
    before = disk.files()
    said = read_only.refuses(write)
    assert "Read-only file system" in said or "Permission denied" in said
    assert disk.files() == before
    assert client.get_index_kms(None, "kept") == LARGE
    assert list(client.list_index_kms()) == ["kept"]


def test_read_only_disk_does_not_affect_other_stores(read_only: DiskDaemon) -> None:
    read_only.refuses(WRITES["create"])
    read_only.client.create_index_kms(MEMORY, "new", LARGE)
    assert read_only.client.get_index_kms(MEMORY, "new") == LARGE


def test_disk_that_becomes_writable_again_accepts_writes(read_only: DiskDaemon) -> None:
    read_only.refuses(WRITES["create"])
    read_only.disk.set_writable(True)
    read_only.client.create_index_kms(None, "new", LARGE)
    assert read_only.client.get_index_kms(None, "new") == LARGE


def test_folder_that_cannot_be_created_fails_the_start(
    tmp_path: Path, read_only: DiskDaemon
) -> None:
    folder = read_only.disk.path / "new"
    with nullcontext() if read_only.disk.mounted else no_powers_of_root():
        daemon = Daemon(tmp_path / "second", "--disk", str(folder))
    assert daemon.process.wait(timeout=PATIENCE) == 2
    assert f"the store at {folder} failed: " in daemon.read_log()


class VanishingFolder(NamedTuple):
    client: kekd.Client
    folder: Path
    hidden: Path


@pytest.fixture
def vanishing(start_daemon: StartDaemon, tmp_path: Path) -> Iterator[VanishingFolder]:
    folder = tmp_path / "keystore"
    daemon = start_daemon("--disk", str(folder), "--memory")
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "kept", BLOB)
        yield VanishingFolder(client, folder, tmp_path / "hidden")


@pytest.mark.parametrize("mount_point", [False, True], ids=["nothing left", "empty mount point"])
def test_missing_folder_is_an_error_and_not_an_empty_keystore(
    vanishing: VanishingFolder, mount_point: bool
) -> None:
    client, folder, hidden = vanishing
    folder.rename(hidden)
    if mount_point:
        folder.mkdir()
    for call in CALLS.values():
        with pytest.raises(
            kekd.StoreMisconfiguredError, match="its volume may not be mounted"
        ) as caught:
            call(client, None)
        assert caught.value.store == f"disk:{folder}"
    assert list(folder.rglob("*")) == []
    client.push_index_kms(MEMORY, "i", BLOB)


def test_folder_that_comes_back_is_served_again(vanishing: VanishingFolder) -> None:
    client, folder, hidden = vanishing
    folder.rename(hidden)
    with pytest.raises(kekd.StoreMisconfiguredError):
        client.get_index_kms(None, "kept")
    hidden.rename(folder)
    assert client.get_index_kms(None, "kept") == BLOB
    client.create_index_kms(None, "i", BLOB)


@pytest.fixture
def mount_temporary_folder(tmp_path: Path) -> Iterator[Callable[[str], Disk]]:
    """Mounts a filesystem of the given size. Prevented writes, as `Disk` has them, would not affect
    mapped files.
    """
    with ExitStack() as stack:

        def mount(size: str) -> Disk:
            disk = Disk(tmp_path / "temporary", size)
            stack.callback(disk.close)
            if not disk.mounted:
                pytest.skip("mounting a filesystem takes root")
            return disk

        yield mount


def test_full_temporary_folder_stops_no_worker_and_no_restart(
    mount_temporary_folder: Callable[[str], Disk], start_workers: StartWorkers
) -> None:
    temporary, port = mount_temporary_folder("8m"), free_port()
    metrics = ("--metrics", f"127.0.0.1:{port}")
    workers = start_workers(*metrics, env={"TMPDIR": str(temporary.path)})
    scraped = Scraped(workers.daemon, port)
    with kekd.Client(workers.address) as client:
        client.create_index_kms(None, "kept", BLOB)
    pids = workers.pids
    temporary.fill_with_ballast(keep=0)

    calls = 1 + call_all_methods(workers)
    eventually(lambda: counted(scraped) == calls or workers.logged("restarting it"))
    assert workers.pids == pids

    workers.kill(1)
    workers.wait_for_restarts(1)
    calls += call_all_methods(workers)
    eventually(lambda: counted(scraped) == calls)
    eventually(lambda: scraped.total("kekd_store_up") == 1)
    assert workers.logged("restarting it") == 1
    with kekd.Client(workers.daemon.address) as client:  # the socket, which worker 1 serves
        assert client.get_index_kms(None, "kept") == BLOB


def counted(scraped: Scraped) -> float:
    return scraped.total("kekd_calls_total")


def call_all_methods(workers: Workers) -> int:
    """Makes calls over several connections, some of them to each worker. Returns their number."""
    service = pb.DESCRIPTOR.services_by_name["EnvelopeService"]
    methods = [method for method in service.methods if not method.server_streaming]
    with workers.channels(8) as channels:
        for channel in channels:
            stub = EnvelopeServiceStub(channel)
            for method in methods:
                with suppress(grpc.RpcError):  # most requests need an index
                    getattr(stub, method.name)(GetMessageClass(method.input_type)())
    return 8 * len(methods)


def test_temporary_folder_without_room_for_the_metrics_of_workers_fails_the_start(
    mount_temporary_folder: Callable[[str], Disk], tmp_path: Path
) -> None:
    temporary = mount_temporary_folder("256k")
    listen, metrics = (f"127.0.0.1:{free_port()}" for _ in range(2))
    flags = ("--workers", "2", "--listen", listen, "--metrics", metrics)
    store = ("--disk", str(tmp_path / "keystore"))
    daemon = Daemon(tmp_path / "daemon", *flags, *store, env={"TMPDIR": str(temporary.path)})
    assert daemon.process.wait(timeout=PATIENCE) == 2
    assert "metrics of workers: No space left on device; set TMPDIR to" in daemon.read_log()
    assert list(temporary.path.iterdir()) == []
