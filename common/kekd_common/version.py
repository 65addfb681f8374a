"""The version of kekd, as installed."""

from importlib.metadata import version
from typing import Final

__version__: Final = version("kekd")
