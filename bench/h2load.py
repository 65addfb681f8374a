"""The load generator: nghttp2's h2load, in C, so that the server is what limits the rate."""

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
"""What gRPC writes before a message: a flag, and its length in four bytes."""


@dataclass(frozen=True, slots=True)
class Load:
    """Requests that are all the same."""

    method: str
    request: bytes
    """The message, without gRPC's prefix; so is the answer to expect."""
    answer: bytes
    connections: int
    streams: int
    """In flight on each connection."""
    requests: int


@dataclass(frozen=True, slots=True)
class Result:
    rate: float
    """Requests per second."""
    mean: float
    """Seconds that a request took, as are p50 and p99."""
    p50: float
    p99: float


def check_installed() -> None:
    if not shutil.which("h2load"):
        raise SystemExit("h2load is missing: apt install nghttp2-client, or your system's like.")


def run(address: str, load: Load, folder: Path) -> Result:
    """Sends the load to `HOST:PORT`. Raises RuntimeError unless every answer was the right one."""
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
    # Columns: start, HTTP status, microseconds that it took.
    seconds = [int(line.split()[2]) / 1e6 for line in log.read_text().splitlines()]
    rate, p99 = float(_found(_FINISHED, output)), quantiles(seconds, n=100)[-1]
    return Result(rate, fmean(seconds), median(seconds), p99)


def _check(output: str, load: Load) -> None:
    """h2load takes any HTTP 200 for a success, and gRPC's errors are such: but they carry no
    message, so the sum of the bytes tells.
    """
    expected = load.requests * (_PREFIX_BYTES + len(load.answer))
    if int(_found(_SUCCEEDED, output)) != load.requests or int(_found(_DATA, output)) != expected:
        raise RuntimeError(f"not every request was answered as expected:\n{output}")


def _found(pattern: re.Pattern[str], output: str) -> str:
    match = pattern.search(output)
    if match is None:
        raise RuntimeError(f"h2load's output isn't understood:\n{output}")
    return match[1]
