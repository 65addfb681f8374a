"""A client with a cache, on a real daemon."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import kekd
from tests.fixtures.daemon import Daemon, StartDaemon, clean_environment
from tests.integration.client.blocking import OpenClient
from tests.integration.client.scripted import version_of
from tests.patience import PATIENCE, eventually

STALENESS = 1.5


def is_served(client: kekd.Client) -> bool:
    assert client._caches
    return client._caches.get(None, "i") is not None


def warm(client: kekd.Client) -> None:
    def is_warm() -> bool:
        client.get_index_kms(None, "i")
        return is_served(client)

    eventually(is_warm)


def push(client: kekd.Client, version: int) -> None:
    client.push_index_kms(None, "i", kekd.KMSBlob(provider="none", version=version))


def test_write_of_another_client_is_visible_within_the_latency(
    open_client: OpenClient, memory_daemon: Daemon
) -> None:
    with (
        open_client(memory_daemon.address, cache=True) as reader,
        kekd.Client(memory_daemon.address) as writer,
    ):
        push(writer, 1)
        warm(reader)
        hits = 0
        for version in range(2, 100):
            push(writer, version)
            acknowledged = time.monotonic()
            while (seen := version_of(reader)) != version:
                assert seen == version - 1
                assert time.monotonic() < acknowledged + PATIENCE
            hits += is_served(reader)
            assert version_of(reader) == version
        assert hits > 10


def test_own_write_is_visible_at_once(open_client: OpenClient, memory_daemon: Daemon) -> None:
    with open_client(memory_daemon.address, cache=True) as client:
        push(client, 1)
        warm(client)
        for version in range(2, 300):
            push(client, version)
            assert version_of(client) == version


def test_stopped_daemon_ends_cache_hits_after_max_staleness(
    open_client: OpenClient, daemon: Daemon
) -> None:
    with open_client(daemon.address, cache=True, max_staleness=STALENESS) as client:
        push(client, 1)
        warm(client)
        daemon.process.send_signal(signal.SIGSTOP)
        try:
            eventually(lambda: not is_served(client))
        finally:
            daemon.process.send_signal(signal.SIGCONT)
        warm(client)


def test_write_during_a_restart_of_the_daemon_is_visible(
    open_client: OpenClient, start_daemon: StartDaemon, tmp_path: Path
) -> None:
    flags = ("--disk", str(tmp_path / "keystore"))
    daemon = start_daemon(*flags)
    with open_client(daemon.address, cache=True) as client:
        push(client, 1)
        warm(client)
        daemon.kill()
        other = start_daemon(*flags, name="other")
        with kekd.Client(other.address) as foreigner:
            push(foreigner, 2)
        other.kill()
        eventually(lambda: not is_served(client))
        start_daemon(*flags)
        assert version_of(client) == 2
        warm(client)
        assert version_of(client) == 2


FORK = """
import os, signal, sys, time
import kekd

def push(client, name, version):
    client.push_index_kms(None, name, kekd.KMSBlob(provider="none", version=version))

def warm():
    end = time.monotonic() + 120
    while client._caches.get(None, "i") is None:
        assert time.monotonic() < end, "never served from memory"
        client.get_index_kms(None, "i")
        time.sleep(0.01)

def use(number):
    assert client._caches.get(None, "i") is None, "what its parent read"
    assert client.get_index_kms(None, "i").version == 1
    warm()
    push(client, f"child {number}", number)
    assert client.get_index_kms(None, f"child {number}").version == number
    client.close()

client = kekd.Client(cache=True)
push(client, "i", 1)
warm()
children = []
for number in range(1, 17):  # gRPC trips over a fork in the midst of a call now and then only
    child = os.fork()
    if not child:
        signal.alarm(120)
        try:
            use(number)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    children.append(child)
    time.sleep(0.02)  # so that the forks meet different moments of a call
assert [os.waitpid(child, 0)[1] for child in children] == [0] * 16
foreigner = kekd.Client()
for version in range(2, 30):
    warm()
    push(foreigner, "i", version)
    end = time.monotonic() + 120
    while client.get_index_kms(None, "i").version != version:
        assert time.monotonic() < end, "a change was missed"
"""


def run(script: str, daemon: Daemon) -> None:
    """Runs in another process, because pytest's has threads, which a fork doesn't copy."""
    process = subprocess.run(
        # Python 3.12 warns of each fork of a process with threads, also if fork handlers end them.
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", script],
        env=clean_environment() | {"KEKD_ADDRESS": daemon.address},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (process.returncode, process.stderr) == (0, "")


def test_forked_child_starts_with_an_empty_cache(memory_daemon: Daemon) -> None:
    run(FORK, memory_daemon)


FORGOTTEN = """
import kekd

client = kekd.Client(cache=True)
client.push_index_kms(None, "i", kekd.KMSBlob(provider="none"))
while client._caches.get(None, "i") is None:
    client.get_index_kms(None, "i")
"""


def test_watch_does_not_keep_the_process_alive(memory_daemon: Daemon) -> None:
    run(FORGOTTEN, memory_daemon)
