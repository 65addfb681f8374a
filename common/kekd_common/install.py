"""How to install kekd."""

from typing import Final

SOURCE: Final = "."
"""What pip installs: a clone of the repository. A release to a package index changes this to the
name of the package, and the commands of the documents with it."""


def install_command(extra: str) -> str:
    """Returns the command that installs kekd with an extra."""
    where = " in a clone of kekd" if SOURCE == "." else ""
    return f"pip install '{SOURCE}[{extra}]'{where}"
