"""The client where Python lacks what only Unix has, and the daemon's first error there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from kekd_common.install import SOURCE, install_command
from tests.fixtures.daemon import Daemon, StartDaemon, completed
from tests.fixtures.s3 import free_port

ROOT = Path(__file__).parents[2]
UNIX_MODULES = ("fcntl", "grp", "posix", "pwd", "resource", "termios")

LIKE_WINDOWS = f"""
import asyncio, functools, os, socket, sys, time

import grpc, grpc.aio, click, platformdirs  # what others import isn't the subject

for name in {UNIX_MODULES}:
    sys.modules[name] = None
for name in ("fork", "register_at_fork", "getuid", "geteuid", "getgid"):
    if hasattr(os, name):
        delattr(os, name)
socket.socketpair = functools.partial(socket.socketpair, socket.AF_UNIX)  # for asyncio on Unix
del socket.AF_UNIX

import kekd
"""
CALLS = """
client = kekd.Client(sys.argv[1], cache=True)
blob = kekd.KMSBlob(provider="none")
client.push_index_kms(None, "i", blob)
assert client.get_index_kms(None, "i") == blob
events = client.watch_index_kms()
assert next(events) == kekd.Resync()
end = time.monotonic() + 60
while client._caches.get(None, "i") is None:
    assert time.monotonic() < end
    client.get_index_kms(None, "i")
client.close()

async def use_async_client():
    async with kekd.AsyncClient(sys.argv[1]) as client:
        assert await client.get_index_kms(None, "i") == blob

asyncio.run(use_async_client())
try:
    kekd.Client("unix:/nowhere", timeout=0.5).get_index_kms(None, "i")
except kekd.EnvelopeError as error:
    print(error)
"""
KEKCTL = """
from kekd._cli import main
sys.argv[0] = "kekctl"
main()
"""


def run(script: str, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    return completed(sys.executable, "-c", script, *arguments, code=code)


@pytest.fixture
def tcp_daemon(start_daemon: StartDaemon) -> tuple[Daemon, str]:
    address = f"127.0.0.1:{free_port()}"
    return start_daemon("--memory", "--listen", address), address


@pytest.mark.external
def test_client_works_without_what_only_unix_has(tcp_daemon: tuple[Daemon, str]) -> None:
    said = run(LIKE_WINDOWS + CALLS, tcp_daemon[1]).stdout
    assert "unix:/nowhere" in said


@pytest.mark.external
def test_kekctl_works_without_what_only_unix_has(tcp_daemon: tuple[Daemon, str]) -> None:
    call = ("--address", tcp_daemon[1])
    run(LIKE_WINDOWS + KEKCTL, *call, "wait")
    run(LIKE_WINDOWS + KEKCTL, *call, "list")
    assert "Usage: kekctl" in run(LIKE_WINDOWS + KEKCTL, "--help").stdout


@pytest.mark.external
@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_daemon_on_another_platform_says_that_it_needs_linux(platform: str) -> None:
    script = f"import sys; sys.platform = {platform!r}; from kekd_server import main; main()"
    assert run(script, "--help", code=1).stderr == (
        f"kekd: cannot run the daemon on {platform}: it needs Linux; run it on Linux or in a"
        " container, and call it from here with kekctl or import kekd\n"
    )


def test_documents_install_from_the_same_place_as_the_errors() -> None:
    assert install_command("server").startswith(f"pip install '{SOURCE}[server]'")
    extras = re.compile(r"pip install (?:-\S+ )*'?(\S*?)\[(?:aws|server|native|otel)[,a-z]*\]")
    for page in [ROOT / "README.md", *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/*.md")]:
        sources = {name for name in extras.findall(page.read_text()) if ".whl" not in name}
        assert sources <= {SOURCE}, f"{page}: {sources}"
