"""Who else can reach the daemon at the address that is called."""

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
        yield ok("address", f"{address} is called over TLS")
    elif is_loopback(host_of(address)):
        yield warning(
            "address",
            f"{address} has no TLS: any user of this machine can call it",
            "use a Unix socket alone, or TLS with a client CA",
        )
    else:
        yield failure(
            "address",
            f"{address} is called without TLS: whoever is on the way can read and change all",
            "give --ca, --cert and --key",
        )


def _folder(path: Path) -> Finding:
    """The daemon refuses such folders when it starts; a mode can be changed later."""
    check = "socket's folder"
    try:
        folder, owner = path.parent.stat(), path.lstat().st_uid
    except OSError as error:
        return failure(
            check,
            f"{path} can't be looked at: {error.strerror}",
            "start the daemon, or give --address; if it runs, join the group of its socket",
        )
    if folder.st_uid not in {0, owner}:
        return failure(
            check,
            f"{path.parent} belongs to another user than the socket, who could replace it",
            "listen in a folder of the daemon's own",
        )
    if folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return failure(
            check,
            f"{path.parent} may be written by others, who could replace the socket",
            f"chmod go-w {path.parent}",
        )
    return ok(check, f"only its owner may write {path.parent}")


def _socket(path: Path) -> Finding:
    check = "socket"
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return failure(check, f"{path}: {error.strerror}", "is the daemon running?")
    if not stat.S_ISSOCK(mode):
        return failure(check, f"{path} is no socket", "give the daemon's own as --address")
    if not os.access(path, os.W_OK):
        return failure(check, f"you may not call {path}", f"join the group {_group(path)}")
    shown = f"{path} has mode {stat.S_IMODE(mode):04o}"
    if mode & stat.S_IWOTH:
        return warning(
            check, f"{shown}: whoever reaches its folder can call the daemon", f"chmod o-w {path}"
        )
    return ok(check, shown)


def _group(path: Path) -> str:
    try:
        return path.group()
    except KeyError:  # it has no name here
        return str(path.stat().st_gid)
