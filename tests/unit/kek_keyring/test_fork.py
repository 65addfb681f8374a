"""Keyrings in forked children."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.fixtures.daemon import clean_environment
from tests.patience import PATIENCE

pytestmark = pytest.mark.external

ROOT = Path(__file__).parents[3]

PROLOGUE = """
import asyncio, os, signal, sys, threading
from kekd.errors import UnavailableError
from kekd.kek import AsyncKeyring, Keyring
from kekd.kek import key_cache
from kekd.kek import keyring as module
from tests.patience import eventually
from tests.unit.kek_keyring.fakes import Backend, Clock, is_idle, is_scrubbed, kek_of

backend = Backend()

def forked(use):
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        return
    signal.alarm(120)
    try:
        use()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)
"""

WARM = """
keyring = Keyring(backend.registry, backend.client, ttl=0.5)
keyring.kek("i")

def use():
    assert keyring.kek("i") == kek_of("i")
    assert keyring.kek("j") == kek_of("j")
    eventually(lambda: all(map(is_scrubbed, backend.keks)))
    assert keyring.kek("i") == kek_of("i")

forked(use)
assert keyring.kek("i") == kek_of("i")
"""

WARM_ASYNC = """
keyring = AsyncKeyring(backend.registry, backend.client)
asyncio.run(keyring.kek("i"))

def use():
    assert asyncio.run(keyring.kek("i")) == kek_of("i")
    assert asyncio.run(keyring.kek("j")) == kek_of("j")

forked(use)
assert asyncio.run(keyring.kek("j")) == kek_of("j")
"""

NOBODY_ASKS = """
keyring = Keyring(backend.registry, backend.client, ttl=0.5)
keyring.kek("i")

def use():
    eventually(lambda: is_scrubbed(backend.keks[0]))

forked(use)
"""

RENEWING = """
clock = key_cache.time = module.time = Clock()
keyring = Keyring(backend.registry, backend.client, ttl=100)
keyring.kek("i")
backend.hold()
clock.now += 96
keyring.kek("i")
eventually(lambda: len(backend.loads) == 2)

def use():
    backend.hold()
    backend.release()
    clock.now += 10
    assert keyring.kek("i") == kek_of("i")

forked(use)
backend.release()
"""

EVICTING = """
keyring = Keyring(backend.registry, backend.client)
keyring.kek("i")

def use():
    assert keyring.kek("i") == kek_of("i")
    assert keyring.kek("j") == kek_of("j")

with keyring._cache.lock:
    forked(use)
"""

DOWN = """
clock = key_cache.time = module.time = Clock()
keyring = Keyring(backend.registry, backend.client, ttl=100)
keyring.kek("i")

def use():
    backend.failure = UnavailableError("down")
    for _ in range(3):
        clock.now += 100
        try:
            keyring.kek("i")
        except UnavailableError:
            continue
        raise AssertionError("served beyond its TTL")

forked(use)
"""


def run(script: str) -> None:
    """Runs in another process, because pytest's has threads, which a fork doesn't copy."""
    process = subprocess.run(
        [sys.executable, "-c", PROLOGUE + script],
        cwd=ROOT,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert process.returncode == 0, process.stderr


@pytest.mark.parametrize("script", [WARM, WARM_ASYNC], ids=["Keyring", "AsyncKeyring"])
def test_child_of_a_warm_parent_gets_its_keks(script: str) -> None:
    run(script)


def test_unused_keks_of_the_parent_are_overwritten_in_the_child() -> None:
    run(NOBODY_ASKS)


@pytest.mark.parametrize("script", [RENEWING, EVICTING], ids=["renewing", "evicting"])
def test_child_does_not_wait_for_loads_of_its_parent(script: str) -> None:
    run(script)


def test_child_gets_no_expired_kek_during_an_outage() -> None:
    run(DOWN)
