"""Formats the times of log lines."""

import logging
from datetime import UTC, datetime


class UtcFormatter(logging.Formatter):
    """Formats times like the audit log, so that the lines of both can be sorted together."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="microseconds")
