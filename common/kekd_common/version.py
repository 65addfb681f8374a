"""The version of kekd. The package's metadata has it from here."""

from typing import Final

__version__: Final = "0.1.0"
