"""The files and folders that the settings name, and who else could change them."""

import os
from collections.abc import Iterator
from pathlib import Path

from kekd_server.config.settings import Settings
from kekd_server.listeners.tcp import TcpListener
from kekd_server.listeners.unix import UnixListener
from kekd_server.model.file_trust import Exposure, file_exposures, folder_exposures
from kekd_server.storage.location import DiskLocation, Location


def exposures(settings: Settings, policy_file: Path | None) -> list[Exposure]:
    """Those of the files and sockets that the settings name, as they are now."""
    uid = os.geteuid()
    found: dict[Exposure, None] = {}  # in their order, each once
    for path, is_secret in _files(settings, policy_file):
        found |= dict.fromkeys(file_exposures(path, uid, is_secret=is_secret))
    for path in _folders(settings):
        found |= dict.fromkeys(folder_exposures(path, uid))
    return list(found)


def _files(settings: Settings, policy_file: Path | None) -> Iterator[tuple[Path, bool]]:
    """Each with whether it is a secret."""
    if policy_file:
        yield policy_file, False
    for listener in settings.listeners:
        if isinstance(listener, TcpListener) and (tls := listener.tls):
            yield tls.cert, False
            yield tls.key, True
            if tls.client_ca:
                yield tls.client_ca, False
    if settings.audit and settings.audit.path:
        yield settings.audit.path, False


def store_exposures(location: Location) -> list[Exposure]:
    """Those of a store's folder. Waits for its disk."""
    if not isinstance(location, DiskLocation):
        return []
    return list(folder_exposures(Path(location.path), os.geteuid()))


def _folders(settings: Settings) -> Iterator[Path]:
    for listener in settings.listeners:
        if isinstance(listener, UnixListener):
            # The folder itself is checked as it is listened in.
            yield from listener.path.parent.resolve().parents
