import threading

import pytest

from kekd_server.model.errors import (
    EnvelopeExistsError,
    EtagMismatchError,
    KekdError,
    StoreMisconfiguredError,
    StoreTimeoutError,
    StoreUnavailableError,
)
from kekd_server.storage.writes import monitor as write_monitor
from kekd_server.storage.writes.monitor import WriteMonitor
from tests.patience import PATIENCE


def write(monitor: WriteMonitor, error: KekdError | None, *, stores_something: bool = True) -> None:
    monitor.begin("write")
    monitor.end("write", error, stores_something=stores_something)


@pytest.mark.parametrize(
    "kind", [StoreTimeoutError, StoreUnavailableError, StoreMisconfiguredError]
)
def test_failed_write_is_suspect_until_one_succeeds(kind: type[KekdError]) -> None:
    monitor = WriteMonitor()
    assert not monitor.is_suspect()
    write(monitor, kind("full"))
    assert monitor.is_suspect()
    write(monitor, None)
    assert not monitor.is_suspect()


@pytest.mark.parametrize("error", [EnvelopeExistsError("i"), EtagMismatchError("i")])
def test_conflict_does_not_change_the_suspicion(error: KekdError) -> None:
    monitor = WriteMonitor()
    write(monitor, error)
    assert not monitor.is_suspect()
    write(monitor, StoreMisconfiguredError("full"))
    write(monitor, error)
    assert monitor.is_suspect()


def test_removal_does_not_clear_the_suspicion() -> None:
    monitor = WriteMonitor()
    write(monitor, StoreMisconfiguredError("full"))
    write(monitor, None, stores_something=False)
    assert monitor.is_suspect()


def test_write_that_hangs_is_suspect_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monitor, done = WriteMonitor(), threading.Event()
    began = threading.Event()

    def hang() -> None:
        monitor.begin("write")
        began.set()
        done.wait(PATIENCE)
        monitor.end("write", None, stores_something=True)

    thread = threading.Thread(target=hang)
    thread.start()
    began.wait(PATIENCE)
    assert not monitor.is_suspect()
    monkeypatch.setattr(write_monitor, "_MAX_WRITE_SECONDS", 0)
    assert monitor.is_suspect()
    done.set()
    thread.join()
    assert not monitor.is_suspect()
