"""Netty's native library, which Debian's package doesn't have."""

import subprocess
from pathlib import Path

from tests.fixtures.debian import install, source

_PARTS = ("transport-native-unix-common", "transport-native-epoll")


def build_native_netty(folder: Path) -> Path:
    """Builds the library from the source of Debian's package."""
    install("default-jdk-headless", "gcc", "libc6-dev")
    source("netty", folder)
    (netty,) = folder.glob("netty-*/")
    parts = [netty / part / "src" / "main" / "c" for part in _PARTS]
    jdk = Path("/usr/lib/jvm/default-java/include")
    includes = [f"-I{path}" for path in (jdk, jdk / "linux", *parts)]
    files = [file for part in parts for file in part.glob("*.c")]
    library = folder / "libnetty_transport_native_epoll_x86_64.so"
    command: list[str | Path] = ["gcc", "-shared", "-fPIC", "-w", *includes, *files, "-o", library]
    subprocess.run(command, check=True)
    return library
