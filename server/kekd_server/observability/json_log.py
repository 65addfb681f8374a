"""Writes the log as JSON lines. Imported for this format only, because the formatter is slow to
import.
"""

import logging
from contextlib import ExitStack

from pythonjsonlogger.json import JsonFormatter

from kekd_server.observability import stray_output
from kekd_server.observability.utc_formatter import UtcFormatter


class JsonLineFormatter(UtcFormatter, JsonFormatter):
    pass


def make_handler(stray: ExitStack, worker: int | None) -> logging.Handler:
    """Opens standard error for JSON lines only. All other output to it becomes log lines until
    `stray` is closed.
    """
    handler = logging.StreamHandler(
        open(stray.enter_context(stray_output.redirect_to_log()), "w", encoding="utf-8")  # noqa: PTH123, SIM115
    )
    fields = {"worker": worker} if worker else {}
    handler.setFormatter(
        JsonLineFormatter("{asctime}{levelname}{name}{message}", style="{", static_fields=fields)
    )
    return handler
