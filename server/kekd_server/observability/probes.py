"""The state of the daemon, as Kubernetes and load balancers ask for it at /livez and /readyz.

The answers have the form of those of Kubernetes and etcd: `ok`, or one line for each check.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote

from prometheus_client import CollectorRegistry

EVENT_LOOP_TIMEOUT: Final = 10.0
"""Seconds without a beat after which the event loop hangs."""
_READABLE: Final = "kekd_store_readable"
_LIVEZ: Final = "/livez"
_READYZ: Final = "/readyz"


@dataclass(frozen=True, slots=True)
class Check:
    name: str
    error: str
    """Empty if the check succeeds."""
    note: str = ""

    def __str__(self) -> str:
        if self.error:
            return f"[-]{self.name} failed: {self.error}"
        return f"[+]{self.name} ok" + (f": {self.note}" if self.note else "")


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    status: int
    text: str


class Probes:
    """Answers from a thread of its own, so it notices when the event loop hangs."""

    def __init__(self) -> None:
        self._phase: Literal["starting", "serving", "draining"] = "starting"
        self._last_beat = time.monotonic()

    def beat(self) -> None:
        """Reports that the event loop runs."""
        self._last_beat = time.monotonic()

    def report_serving(self) -> None:
        self._phase = "serving"

    def report_draining(self) -> None:
        self._phase = "draining"

    def answer(
        self, path: str, registry: CollectorRegistry, *, is_verbose: bool
    ) -> ProbeAnswer | None:
        """Returns None for a path that no probe has."""
        if path == _LIVEZ:
            return _answer("livez", [self._started(), self._event_loop()], is_verbose=is_verbose)
        stores = _readable_stores(registry) if path.startswith(_READYZ) else {}
        if path == _READYZ:
            checks = [self._serving(), self._event_loop(), _any_store(stores)]
        elif path.startswith(f"{_READYZ}/"):
            name = unquote(path.removeprefix(f"{_READYZ}/"))
            if name not in stores:
                return None
            checks = [self._serving(), self._event_loop(), _store(name, is_readable=stores[name])]
        else:
            return None
        return _answer("readyz", checks, is_verbose=is_verbose)

    def _started(self) -> Check:
        return Check("started", "kekd is starting" if self._phase == "starting" else "")

    def _serving(self) -> Check:
        return Check("serving", "" if self._phase == "serving" else f"kekd is {self._phase}")

    def _event_loop(self) -> Check:
        silence = time.monotonic() - self._last_beat
        hangs = silence > EVENT_LOOP_TIMEOUT
        return Check("event-loop", f"it has not run for {silence:.0f} s" if hangs else "")


def _any_store(stores: dict[str, bool]) -> Check:
    readable = sum(stores.values())
    note = f"{readable} of {len(stores)} can be read"
    return Check("stores", "" if readable else note, note)


def _store(name: str, *, is_readable: bool) -> Check:
    return Check(name, "" if is_readable else "it cannot be read")


def _answer(probe: str, checks: list[Check], *, is_verbose: bool) -> ProbeAnswer:
    has_failed = any(check.error for check in checks)
    if not (has_failed or is_verbose):
        return ProbeAnswer(200, "ok\n")
    outcome = "failed" if has_failed else "passed"
    lines = [*map(str, checks), f"{probe} check {outcome}"]
    return ProbeAnswer(503 if has_failed else 200, "".join(f"{line}\n" for line in lines))


def _readable_stores(registry: CollectorRegistry) -> dict[str, bool]:
    """Returns which stores answer. With workers, a store must answer to all of them."""
    return dict(_samples(registry))


def _samples(registry: CollectorRegistry) -> Iterator[tuple[str, bool]]:
    for family in registry.collect():
        if family.name == _READABLE:
            for sample in family.samples:
                yield sample.labels["store"], sample.value == 1
