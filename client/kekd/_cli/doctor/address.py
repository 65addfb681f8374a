"""Checks who else can reach the daemon at its address."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from kekd._cli.doctor.finding import Finding, failure, ok, warning
from kekd_common.address import host_of, is_loopback


def check(address: str, *, tls: bool) -> Iterator[Finding]:
    if address.startswith("unix:"):
        yield _folder(Path(address.removeprefix("unix:")))
        yield _socket(Path(address.removeprefix("unix:")))
    elif tls:
        yield ok("address", f"{address} uses TLS")
    elif is_loopback(host_of(address)):
        yield warning(
            "address",
            f"{address} doesn't use TLS: every user of this machine can call it",
            "listen on a Unix socket only, or set up TLS with a client CA",
        )
    else:
        yield failure(
            "address",
            f"{address} doesn't use TLS: anyone on the network path can read and change the calls",
            "give --ca, --cert and --key",
        )


def _folder(path: Path) -> Finding:
    """Repeats a check that the daemon makes at its start, because modes can change later."""
    check = "socket's folder"
    try:
        folder, owner = path.parent.stat(), path.lstat().st_uid
    except OSError as error:
        return failure(
            check,
            f"cannot read {path}: {error.strerror}",
            "start the daemon, give --address, or join the socket's group",
        )
    if folder.st_uid not in {0, owner}:
        return failure(
            check,
            f"another user owns {path.parent} and can replace the socket",
            "listen in a folder that the daemon's user owns",
        )
    if folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return failure(
            check,
            f"other users can write to {path.parent} and replace the socket",
            f"chmod go-w {path.parent}",
        )
    return ok(check, f"only its owner can write to {path.parent}")


def _socket(path: Path) -> Finding:
    check = "socket"
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return failure(check, f"{path}: {error.strerror}", "check that the daemon is running")
    if not stat.S_ISSOCK(mode):
        return failure(check, f"{path} is not a socket", "give the daemon's socket as --address")
    if not os.access(path, os.W_OK):
        return failure(
            check, f"no permission to connect to {path}", f"join the group {_group(path)}"
        )
    shown = f"{path} has mode {stat.S_IMODE(mode):04o}"
    if mode & stat.S_IWOTH:
        return warning(check, f"{shown}: every user can connect to it", f"chmod o-w {path}")
    return ok(check, shown)


def _group(path: Path) -> str:
    try:
        return path.group()
    except KeyError:  # the group has no name on this machine
        return str(path.stat().st_gid)
