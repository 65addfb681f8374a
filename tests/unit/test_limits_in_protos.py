"""The comments of the protos state limits, which `kekd_common.limits` has."""

import re
from pathlib import Path

import pytest

from kekd_common import limits

PROTO = Path(__file__).parents[2] / "protos" / "kekd" / "v1" / "envelope.proto"


@pytest.mark.parametrize(
    ("statement", "limit"),
    [
        (r"Each string may have up to (\d+) bytes", limits.MAX_TEXT_BYTES),
        (r"1 to (\d+) bytes; empty for provider", limits.MAX_WRAPPED_KEK_BYTES),
        (r"1 to (\d+), default 1", limits.MAX_VERSION),
        (r"Up to (\d+) bytes, for example", limits.MAX_IDEMPOTENCY_KEY_BYTES),
        (r"1 to (\d+) (?:names|pushes)", limits.MAX_BATCH_ENTRIES),
        (r"1 to (\d+) versions", limits.MAX_IMPORTED_VERSIONS),
        (r"names, up to (\d+); 0 means", limits.MAX_BATCH_ENTRIES),
        (r"0 means (\d+)", limits.MAX_BATCH_ENTRIES),
    ],
)
def test_proto_comments_state_the_limits(statement: str, limit: int) -> None:
    stated = re.findall(statement, PROTO.read_text())
    assert stated
    assert {int(number) for number in stated} == {limit}
