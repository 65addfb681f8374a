"""Rules for combinations of settings.

Each rule reads the settings that its parameters name, and yields each problem with its place.
"""

from collections.abc import Callable, Iterator, Mapping
from inspect import signature
from pathlib import Path
from typing import Any, Final, TypeAlias

from kekd_server.config.audit import AuditSettings
from kekd_server.config.listen import ListenSettings
from kekd_server.config.tls import missing_files, tls_files
from kekd_server.listeners.engine import EngineName
from kekd_server.listeners.listener import insecurity_reason

Place: TypeAlias = tuple[int | str, ...]
"""A setting, and where in it the problem is."""
Problems: TypeAlias = Iterator[tuple[Place, str]]
Rule: TypeAlias = Callable[..., Problems]


def tls_is_complete(
    tls_cert: Path | None, tls_key: Path | None, tls_client_ca: Path | None
) -> Problems:
    for setting, problem in missing_files(tls_cert, tls_key, tls_client_ca):
        yield (setting,), problem


def tls_has_an_address(tls_cert: Path | None, listen: list[ListenSettings]) -> Problems:
    if tls_cert and _are_sockets(listen):
        yield ("listen",), "a Unix socket has no TLS; listen on HOST:PORT as well"


def workers_have_an_address(workers: int, listen: list[ListenSettings]) -> Problems:
    if workers > 1 and _are_sockets(listen):
        problem = "only one process can serve a Unix socket; listen on HOST:PORT as well"
        yield ("workers",), problem


def workers_share_stores(workers: int, memory: bool) -> Problems:  # noqa: FBT001  (a setting)
    if workers > 1 and memory:
        yield ("memory",), "workers don't share memory; use workers=1 or another store"


def workers_audit_to_a_file(workers: int, audit: AuditSettings | None) -> Problems:
    if workers > 1 and audit and not audit.path:
        yield ("audit",), "workers have no standard output; write the audit log to a file"


def engine_limits_connections(
    engine: EngineName,
    listen: list[ListenSettings],
    max_connection_age: float | None,
    keepalive: float | None,
) -> Problems:
    if any((address.engine or engine) == "native" for address in listen):
        problem = "not supported by engine native; use engine auto"
        if max_connection_age:
            yield ("max_connection_age",), problem
        if keepalive:
            yield ("keepalive",), problem


def take_over_is_by_one_process(take_over: bool, workers: int) -> Problems:  # noqa: FBT001
    if take_over and workers > 1:
        yield ("take_over",), "workers start only when the addresses are free; use workers=1"


def take_over_has_a_socket(take_over: bool, listen: list[ListenSettings]) -> Problems:  # noqa: FBT001
    if take_over and not any(address.is_socket for address in listen):
        problem = "the other daemon is found by its Unix socket; listen on its unix:PATH"
        yield ("take_over",), problem


def addresses_are_protected(
    addresses: Mapping[int, ListenSettings],
    tls_cert: Path | None,
    tls_key: Path | None,
    tls_client_ca: Path | None,
) -> Problems:
    """`addresses` are the valid ones of `listen`, by their index."""
    tls = tls_files(tls_cert, tls_key, tls_client_ca)
    for index, address in addresses.items():
        if problem := insecurity_reason(address.listener("auto", tls)):
            yield ("listen", index), problem


RULES: Final[tuple[Rule, ...]] = (
    tls_is_complete,
    tls_has_an_address,
    workers_have_an_address,
    workers_share_stores,
    workers_audit_to_a_file,
    engine_limits_connections,
    take_over_is_by_one_process,
    take_over_has_a_socket,
    addresses_are_protected,
)


def check(values: Mapping[str, Any]) -> Problems:
    """Applies each rule whose settings are all among the values."""
    for rule in RULES:
        parameters = signature(rule).parameters
        if parameters.keys() <= values.keys():
            yield from rule(**{name: values[name] for name in parameters})


def _are_sockets(listen: list[ListenSettings]) -> bool:
    return all(address.is_socket for address in listen)
