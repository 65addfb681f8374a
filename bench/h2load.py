"""Runs nghttp2's h2load, a load generator in C, so that the server limits the rate."""

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median, quantiles

_FINISHED = re.compile(r"finished in .*, ([\d.]+) req/s")
_SUCCEEDED = re.compile(r"status codes: (\d+) 2xx")
_DATA = re.compile(r"\((\d+)\) data")
_PREFIX_BYTES = 5
"""gRPC's message prefix: a flag, and the length in four bytes."""


@dataclass(frozen=True, slots=True)
class Load:
    """A number of identical requests."""

    method: str
    request: bytes
    """The message, without gRPC's prefix."""
    answer: bytes
    """The expected response, without gRPC's prefix."""
    connections: int
    streams: int
    """Concurrent requests on each connection."""
    requests: int


@dataclass(frozen=True, slots=True)
class Result:
    rate: float
    """Requests per second."""
    mean: float
    """Seconds per request, as are p50 and p99."""
    p50: float
    p99: float


def check_installed() -> None:
    if not shutil.which("h2load"):
        raise SystemExit(
            "h2load is not installed: apt install nghttp2-client, or your system's equivalent"
        )


def run(address: str, load: Load, folder: Path) -> Result:
    """Sends the load to `HOST:PORT`. Raises RuntimeError unless every response is as expected."""
    body, log = folder / "request.bin", folder / "h2load.log"
    body.write_bytes(b"\0" + len(load.request).to_bytes(4) + load.request)
    log.unlink(missing_ok=True)
    options = [
        *("-n", str(load.requests), "-c", str(load.connections), "-m", str(load.streams)),
        *("-d", str(body), f"--log-file={log}"),
        *("-H", "content-type: application/grpc", "-H", "te: trailers"),
    ]
    command = ["h2load", *options, f"http://{address}{load.method}"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    _check(output, load)
    # Columns: start, HTTP status, microseconds taken.
    seconds = [int(line.split()[2]) / 1e6 for line in log.read_text().splitlines()]
    rate, p99 = float(_search(_FINISHED, output)), quantiles(seconds, n=100)[-1]
    return Result(rate, fmean(seconds), median(seconds), p99)


def _check(output: str, load: Load) -> None:
    """Checks the number of bytes received.

    h2load counts any HTTP 200 as a success, and so gRPC errors too; but these have no message.
    """
    expected = load.requests * (_PREFIX_BYTES + len(load.answer))
    if int(_search(_SUCCEEDED, output)) != load.requests or int(_search(_DATA, output)) != expected:
        raise RuntimeError(f"unexpected responses:\n{output}")


def _search(pattern: re.Pattern[str], output: str) -> str:
    match = pattern.search(output)
    if match is None:
        raise RuntimeError(f"can't parse the output of h2load:\n{output}")
    return match[1]
