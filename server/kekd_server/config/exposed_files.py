"""Finds the files and folders of the settings that other users can change."""

import os
from collections.abc import Iterator
from pathlib import Path

from kekd_server.config.settings import Settings
from kekd_server.listeners.tcp import TcpListener
from kekd_server.listeners.unix import UnixListener
from kekd_server.model.file_trust import Exposure, file_exposures, folder_exposures
from kekd_server.storage.location import DiskLocation, Location


def exposures(settings: Settings, config_file: Path | None) -> list[Exposure]:
    """Inspects the files and sockets that the settings name."""
    uid = os.geteuid()
    found: dict[Exposure, None] = {}  # ordered, without duplicates
    for path, is_secret in _files(settings, config_file):
        found |= dict.fromkeys(file_exposures(path, uid, is_secret=is_secret))
    for path in _folders(settings):
        found |= dict.fromkeys(folder_exposures(path, uid))
    return list(found)


def store_exposures(location: Location) -> list[Exposure]:
    """Inspects the folder of a store. Blocks on its disk."""
    if not isinstance(location, DiskLocation):
        return []
    return list(folder_exposures(Path(location.path), os.geteuid()))


def _files(settings: Settings, config_file: Path | None) -> Iterator[tuple[Path, bool]]:
    """Yields each file, and whether it is secret."""
    if config_file:
        yield config_file, False
    for listener in (*settings.listeners, settings.metrics_listener):
        if isinstance(listener, TcpListener) and (tls := listener.tls):
            yield tls.cert, False
            yield tls.key, True
            if tls.client_ca:
                yield tls.client_ca, False
    if settings.audit and settings.audit.path:
        yield settings.audit.path, False


def _folders(settings: Settings) -> Iterator[Path]:
    for listener in settings.listeners:
        if isinstance(listener, UnixListener):
            # The listener itself checks its folder.
            yield from listener.path.parent.resolve().parents
