"""Netty's native library, which Debian's package doesn't have."""

import re
import subprocess
from pathlib import Path

from tests.fixtures.debian import install, source

_README = Path(__file__).parents[2] / "examples" / "java" / "README.md"


def build_native_netty(folder: Path) -> None:
    """Builds the library in a folder, by the commands of the README."""
    install("default-jdk-headless", "gcc", "libc6-dev")
    source("netty", folder)
    (commands,) = re.findall(r"```console\n(.+?)```", _README.read_text(), re.DOTALL)
    # Not its download, for which apt needs another list of sources.
    download, build = commands.split("\n", 1)
    assert download == "apt-get source netty"
    subprocess.run(["bash", "-ec", build], cwd=folder, check=True)
