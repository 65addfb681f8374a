"""Where the daemon's log goes and what a line looks like."""

import logging
import sys
from typing import Literal

from pythonjsonlogger.json import JsonFormatter


def configure(form: Literal["text", "json"]) -> None:
    """Logs to standard error, a line an event; JSON lines carry the event's fields as well."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter("{asctime}{levelname}{name}{message}", style="{")
        if form == "json"
        else logging.Formatter("{asctime} {levelname} {message}", style="{")
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
