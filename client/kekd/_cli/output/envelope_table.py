"""The output of many envelopes: one row, or one JSON or YAML value, for each index."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import kekd
from kekd._cli.output.ages import format_age
from kekd._cli.output.json_format import EnvelopeJSON
from kekd._cli.output.output import Output, Row
from kekd._cli.output.terminal import say
from kekd._models import GetResult

_COLUMNS: Final = ("index", "slot", "provider", "key", "region", "version", "age")


def show_envelopes(results: Iterable[GetResult], output: Output) -> list[kekd.EnvelopeError]:
    """Shows envelopes without wrapped KEKs. Returns the errors of those that can't be read."""
    failures: list[kekd.EnvelopeError] = []
    output.show_table(_COLUMNS, _rows(results, failures))
    return failures


def _rows(results: Iterable[GetResult], failures: list[kekd.EnvelopeError]) -> Iterator[Row]:
    for name, found in results:
        if isinstance(found, kekd.EnvelopeError):
            failures.append(found)
            say(f"kekctl: {found}", error=True)
        else:
            yield name, EnvelopeJSON(name, found).as_summary, _cells(name, found)


def _cells(name: str, blob: kekd.KMSBlob) -> list[str]:
    values = (blob.kms_name, blob.provider, blob.key_id, blob.region)
    return [
        name,
        *(value or "-" for value in values),
        str(blob.version),
        format_age(blob.created_at),
    ]
