"""`kekd.testing`: the daemon, the fake KMS and the fixtures for users' own tests."""

import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import kekd
from kekd.kek import Keyring, Registry, Slot
from kekd.kek.errors import KeyDisabledError, ProviderUnavailableError, UnwrapError
from kekd.testing import DaemonStartError, FakeKms, RunningDaemon, run_daemon
from tests.patience import PATIENCE, eventually

SLOTS = {
    "prod": Slot("prod", "aws-kms", "alias/prod", encryption_context=True),
    "next": Slot("next", "aws-kms", "alias/next"),
}


def test_daemon_serves_a_memory_store_until_its_context_ends() -> None:
    with run_daemon() as daemon, kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "i", kekd.KMSBlob(provider="none"))
        assert client.get_index_kms(None, "i").store == "memory"
        folder = daemon.log_file.parent
        eventually(lambda: "serving memory" in daemon.log)
    assert not folder.exists()


def test_daemons_are_separate_and_take_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEKD_WORKERS", "0")  # of the user, and ignored
    with run_daemon() as one, run_daemon("--history-versions=0") as other:
        for daemon in (one, other):
            with kekd.Client(daemon.address) as client:
                client.create_index_kms(None, "i", kekd.KMSBlob(provider="none"))
                versions = len(list(client.list_versions_index_kms(None, "i")))
                assert versions == (1 if daemon is one else 0)


def test_daemon_that_cannot_start_raises_its_log() -> None:
    start = run_daemon("--workers=0")
    with pytest.raises(DaemonStartError, match=r"workers .*: out of range"), start:
        pass


def test_environment_without_the_daemon_is_refused_with_the_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # The wheel has the daemon's own modules also without the extra.
    module = "raise ModuleNotFoundError(\"No module named 'pydantic'\", name='pydantic')"
    (tmp_path / "pydantic.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    start = run_daemon()
    advice = r"^kekd doesn't serve: .+: the daemon isn't installed; run pip install '.+\[server\]'"
    with pytest.raises(DaemonStartError, match=advice), start:
        pass


def test_daemon_that_hangs_is_killed_when_its_context_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(kekd.testing.daemon, "STOP_TIMEOUT", 0.1)
    with run_daemon() as daemon:
        process = _process_of(daemon)
        os.kill(process, signal.SIGSTOP)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def _process_of(daemon: RunningDaemon) -> int:
    """Returns the id of the process that serves the socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(daemon.address.removeprefix("unix:"))
        size = struct.calcsize("3i")
        credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    process, *_ = struct.unpack("3i", credentials)
    return int(process)


def test_temporary_folder_with_a_long_path_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder = tmp_path / ("x" * 100)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    start = run_daemon()
    with (
        pytest.raises(DaemonStartError, match="more than 107 bytes; set TMPDIR to a shorter"),
        start,
    ):
        pass


KILLED = """
import os, signal
from kekd.testing import run_daemon
with run_daemon() as daemon:
    print(daemon.address, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_daemon_does_not_outlive_a_killed_test_process() -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True, check=False
    )
    assert done.returncode == -signal.SIGKILL
    address = done.stdout.strip()

    def is_gone() -> bool:
        with kekd.Client(address) as client:
            try:
                client.wait(0)
            except kekd.UnavailableError:
                return True
        return False

    eventually(is_gone)


@pytest.fixture
def kms() -> FakeKms:
    return FakeKms()


@pytest.fixture
def registry(kms: FakeKms) -> Registry:
    return Registry(SLOTS, provider=kms)


def test_fake_kms_provisions_rotates_and_unwraps(
    kms: FakeKms, registry: Registry, client: kekd.Client
) -> None:
    kek, envelope = registry.provision("i", "prod", client=client)
    assert bytes(kek) not in envelope.wrapped_kek
    assert registry.unwrap("i", client.get_index_kms(None, "i")) == kek
    registry.rotate("i", "next", client=client)
    rotated = client.get_index_kms(None, "i")
    assert rotated.kms_name == "next"
    assert registry.unwrap("i", rotated) == kek
    assert registry.drift("i", rotated) == []
    assert kms.requests["wrap"] >= 2


def test_fake_kms_refuses_another_key_context_or_content(
    registry: Registry, client: kekd.Client
) -> None:
    _, envelope = registry.provision("i", "prod", client=client)
    with pytest.raises(UnwrapError):
        registry.unwrap("other", envelope)
    envelope.wrapped_kek = envelope.wrapped_kek[:-1] + bytes([envelope.wrapped_kek[-1] ^ 1])
    with pytest.raises(UnwrapError):
        registry.unwrap("i", envelope)
    _, moved = registry.provision("j", "next", client=client)
    moved.key_id = "alias/prod"
    moved.key_arn = ""
    with pytest.raises(UnwrapError):
        Registry({"next": SLOTS["prod"]}, provider=FakeKms()).unwrap("j", moved)


def test_fake_kms_fails_as_a_test_sets_it(
    kms: FakeKms, registry: Registry, client: kekd.Client
) -> None:
    kek, envelope = registry.provision("i", "next", client=client)
    kms.disable("alias/next")
    with pytest.raises(KeyDisabledError):
        registry.unwrap("i", envelope)
    kms.enable("alias/next")
    kms.failure = ProviderUnavailableError("KMS is down; retry later")
    keyring = Keyring(registry, client)
    with pytest.raises(ProviderUnavailableError):
        keyring.kek("i")
    kms.failure = None
    assert keyring.kek("i") == kek


USERS_TESTS = """
import kekd
import pytest

pytest_plugins = ["kekd.testing.plugin"]

@pytest.mark.parametrize("number", [1, 2])
def test_store_is_empty(kekd_client, kekd_kms, number):
    assert list(kekd_client.list_index_kms(show_deleted=True)) == []
    assert kekd_client.find_hold_index_kms(None, "without an envelope") is None
    kekd_client.create_index_kms(None, "i", kekd.KMSBlob(provider="none"))
    kekd_client.create_index_kms(None, "gone", kekd.KMSBlob(provider="none"))
    kekd_client.delete_index_kms(None, "gone")
    kekd_client.hold_index_kms(None, "i", "held")
    kekd_client.hold_index_kms(None, "without an envelope", "held")
    assert not kekd_kms.requests
"""


def test_fixtures_give_each_test_an_empty_store(tmp_path: Path) -> None:
    (tmp_path / "test_users.py").write_text(USERS_TESTS)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        cwd=tmp_path,
        env=os.environ | {"PYTEST_ADDOPTS": ""},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert "2 passed" in done.stdout, done.stdout
