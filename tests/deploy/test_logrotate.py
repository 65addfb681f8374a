"""logrotate rotates the audit file of a daemon, without losing a line."""

import json
import os
import pwd
import subprocess
from pathlib import Path

import kekd
from tests.fixtures.calls import BLOB
from tests.fixtures.daemon import Daemon, StartDaemon
from tests.fixtures.debian import install, unpacked
from tests.patience import eventually

CONFIGURATION = Path(__file__).parents[2] / "deploy" / "logrotate" / "kekd"


def rotate(folder: Path, audit: Path, daemon: Daemon) -> None:
    """Runs logrotate with the file of deploy/, for this audit file, user and daemon."""
    user = pwd.getpwuid(os.geteuid()).pw_name
    text = CONFIGURATION.read_text()
    for old, new in (
        ("/var/log/kekd/audit.jsonl", str(audit)),
        ("su kekd kekd", f"su {user} {user}"),
        ("systemctl reload kekd", f"kill -HUP {daemon.process.pid}"),
    ):
        assert old in text
        text = text.replace(old, new)
    configuration = folder / "logrotate.conf"
    configuration.write_text(text)
    configuration.chmod(0o644)
    install("libpopt0")  # its shared library, which a minimal Debian lacks
    logrotate = unpacked("logrotate", "usr/sbin/logrotate")
    command: list[str | Path] = [logrotate, "--force", "--state", folder / "state", configuration]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_rotation_moves_the_file_and_loses_no_line(
    start_daemon: StartDaemon, tmp_path: Path
) -> None:
    folder = tmp_path / "logs"
    folder.mkdir(mode=0o750)
    audit = folder / "audit.jsonl"
    daemon = start_daemon("--memory", "--audit", str(audit))
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "before", BLOB)
        eventually(lambda: len(audit.read_text().splitlines()) == 2)  # its begin and its end
        rotate(tmp_path, audit, daemon)
        eventually(audit.exists)
        client.create_index_kms(None, "after", BLOB)
    (rotated,) = folder.glob("audit.jsonl-*")
    assert audit.stat().st_mode & 0o777 == 0o600
    assert [indexes(rotated), indexes(audit)] == [{"before"}, {"after"}]
    assert daemon.process.poll() is None


def indexes(file: Path) -> set[str]:
    lines = map(json.loads, file.read_text().splitlines())
    return {line["index"] for line in lines if line.get("index")}
