"""A clock that is set forwards or backwards while the daemon runs."""

import platform
from pathlib import Path

import pytest

import kekd
from tests.fixtures.calls import BLOB
from tests.fixtures.debian import unpacked
from tests.fixtures.tls import StartTlsDaemon, TlsDaemon
from tests.integration.fixtures.audit import recorded
from tests.patience import PATIENCE, eventually

# From Debian's package faketime. The daemon's clock comes from it.
LIBRARY = f"usr/lib/{platform.machine()}-linux-gnu/faketime/libfaketime.so.1"


@pytest.fixture
def clock(tmp_path: Path) -> Path:
    file = tmp_path / "clock"
    file.write_text("+0d")
    return file


@pytest.fixture
def audit(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


@pytest.fixture
def daemon(start_tls_daemon: StartTlsDaemon, clock: Path, audit: Path) -> TlsDaemon:
    """A daemon whose clock differs from the machine's as the file specifies."""
    environment = {
        "LD_PRELOAD": str(unpacked("libfaketime", LIBRARY)),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # like a clock that is set
    }
    flags = ("--memory", "--audit", str(audit), "--max-rate", "1000", "--max-burst", "1000")
    return start_tls_daemon(*flags, env=environment)


def test_daemon_keeps_serving_and_its_audit_follows_the_clock(
    daemon: TlsDaemon, clock: Path, audit: Path
) -> None:
    with kekd.Client(daemon.daemon.address, timeout=PATIENCE) as client:
        for steps, step in enumerate(("+3d", "-3d", "+3650d"), start=1):
            client.push_index_kms(None, "i", BLOB)
            clock.write_text(step)
            for _ in range(20):
                assert client.get_index_kms(None, "i") == BLOB
            client.wait(PATIENCE)
            eventually(lambda lines=22 * steps: len(recorded(audit)) == lines)  # type: ignore[misc]
            before, after = recorded(audit)[-22]["time"], recorded(audit)[-1]["time"]
            assert (before < after) == step.startswith("+")
    assert all(0 <= (entry["duration_ms"] or 0) < 10_000 for entry in recorded(audit))


def test_certificate_is_valid_by_the_current_clock(daemon: TlsDaemon, clock: Path) -> None:
    with kekd.Client(daemon.address, tls=daemon.tls, timeout=5) as client:
        client.push_index_kms(None, "i", BLOB)
        clock.write_text("+40d")
        with pytest.raises(kekd.UnauthenticatedError, match="expired"):
            client.get_index_kms(None, "i")
        clock.write_text("+0d")
        assert client.get_index_kms(None, "i") == BLOB
