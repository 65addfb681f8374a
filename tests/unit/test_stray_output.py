"""Output to standard error that bypasses the log."""

import json
import logging
import os
import subprocess
import sys

import pytest

from kekd_server.observability import stray_output

SCRIPT = """
import os, subprocess, sys
from kekd_server.observability import logs
with logs.configure("json"):
    os.write(2, b"E0000 00:00:1795835900.600244 1234 chttp2.cc:99] not JSON\\n")
    os.write(2, b"E0000 00:00:1795835901.700000 1234 chttp2.cc:99] the same of another\\n")
    subprocess.run(["sh", "-c", "echo of a child \\xff >&2"])
    print("by print", file=sys.stderr)
    os.write(2, b"x" * 10_000 + b"\\nno end of line")
os.write(2, b"after the log\\n")
"""


@pytest.mark.external
def test_every_line_is_json_while_the_log_is() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], stderr=subprocess.PIPE, check=True)
    *lines, last = done.stderr.decode().splitlines()
    assert last == "after the log"
    said = [json.loads(line)["message"] for line in lines]
    assert said[:3] == ["chttp2.cc:99] not JSON", "of a child \xff", "by print"]
    assert said[-1] == "no end of line"
    assert max(map(len, said)) <= 4096


def test_stray_lines_are_logged_and_the_descriptor_is_restored(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = os.fstat(2)
    with caplog.at_level(logging.WARNING), stray_output.redirect_to_log() as destination:
        assert os.fstat(destination) == before
        assert stray_output.destination() == destination
        os.write(2, b"stray\n")
    assert [record.getMessage() for record in caplog.records] == ["stray"]
    assert os.fstat(2) == before
    assert stray_output.destination() is None
