"""kekctl reads and prints UTF-8 in any locale, and never prints control characters."""

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import grpc
import pytest

import kekd
from kekd import _cli
from kekd._cli.common import main
from kekd._cli.options.parameters import Text
from kekd_proto.v1 import daemon_pb2, envelope_pb2
from tests.fixtures.daemon import BIN, Daemon, StartDaemon, clean_environment
from tests.fixtures.kekctl import kekctl
from tests.fixtures.s3 import free_port
from tests.patience import PATIENCE

HOSTILE = "red \x1b[31m, bell \x07,\nforged line \u202ebackwards"
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
"""A locale other than UTF-8 that every machine has."""


def in_ascii(daemon: Daemon, *arguments: str | bytes) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [BIN / "kekctl", "--address", daemon.address, *arguments],
        env=clean_environment() | ASCII,
        capture_output=True,
        check=False,
        timeout=PATIENCE,
    )


def test_name_is_stored_and_shown_as_utf8_in_any_locale(
    memory_daemon: Daemon, tmp_path: Path
) -> None:
    file = tmp_path / "ä.json"
    file.write_bytes('{"index_name": "ä", "blob": {"provider": "none"}}'.encode())
    assert in_ascii(memory_daemon, "push", "-f", os.fsencode(file)).returncode == 0
    with kekd.Client(memory_daemon.address) as client:
        assert list(client.list_index_kms()) == ["ä"]
        client.push_index_kms(None, "ö€", kekd.KMSBlob(provider="none"))
    assert sorted(in_ascii(memory_daemon, "list").stdout.decode().split()) == ["ä", "ö€"]
    assert in_ascii(memory_daemon, "list", "--prefix", "ö".encode()).stdout == "ö€\n".encode()
    assert (
        in_ascii(memory_daemon, "get", "ä".encode()).stdout.decode().startswith("index       ä\n")
    )
    assert in_ascii(memory_daemon, "delete", "ä".encode()).stdout == b"deleted\n"
    missing = in_ascii(memory_daemon, "get", "ä".encode()).stderr.decode()
    assert missing == "kekctl: No KMS blob exists for index 'ä'.\n"


def test_argument_that_is_not_utf8_is_refused(memory_daemon: Daemon) -> None:
    refused = in_ascii(memory_daemon, "get", b"\xff")
    assert (refused.returncode, b"not valid Unicode" in refused.stderr) == (2, True)


def commands(command: click.Command) -> Iterator[click.Command]:
    yield command
    for each in getattr(command, "commands", {}).values():
        yield from commands(each)


def test_texts_of_every_command_are_read_as_utf8() -> None:
    main.list_commands(click.Context(main))  # imports the modules of all commands
    params = [param for command in commands(main) for param in command.params]
    assert not [param.name for param in params if param.type is click.STRING]
    assert sum(isinstance(param.type, Text) for param in params) > 40


def test_output_is_printed_only_by_say() -> None:
    sources = {file.name: file.read_text() for file in Path(_cli.__file__).parent.rglob("*.py")}
    assert [name for name, text in sources.items() if "click.echo(" in text] == ["terminal.py"]


def answer_with(method: Callable[..., Any]) -> "grpc.RpcMethodHandler[Any, Any]":
    return grpc.unary_unary_rpc_method_handler(
        method,
        request_deserializer=lambda request: request,  # the request doesn't matter
        response_serializer=lambda answer: answer.SerializeToString(),
    )


@pytest.fixture
def hostile() -> Iterator[str]:
    """The address of a daemon whose answers contain terminal control sequences."""

    def write(*_: Any) -> envelope_pb2.PushEnvelopeResponse:
        return envelope_pb2.PushEnvelopeResponse(etag=HOSTILE)

    def refuse(_: Any, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.DATA_LOSS, HOSTILE)

    def status(*_: Any) -> daemon_pb2.GetStatusResponse:
        store = daemon_pb2.StoreStatus(
            name=f"disk:/{HOSTILE}", healthy=False, error_message=HOSTILE
        )
        certificate = daemon_pb2.CertificateStatus(file=HOSTILE, error=HOSTILE)
        return daemon_pb2.GetStatusResponse(
            version=HOSTILE, engine=HOSTILE, stores=[store], certificates=[certificate]
        )

    with ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads)
        writes = {"CreateEnvelope": answer_with(write), "PushEnvelope": answer_with(write)}
        envelopes = writes | {"GetEnvelope": answer_with(refuse)}
        for service, handlers in (
            ("EnvelopeService", envelopes),
            ("DaemonService", {"GetStatus": answer_with(status)}),
        ):
            handler = grpc.method_handlers_generic_handler(f"kekd.v1.{service}", handlers)
            server.add_generic_rpc_handlers((handler,))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        yield f"127.0.0.1:{port}"
        server.stop(None).wait()


DOCUMENT = json.dumps({"index_name": "i", "blob": {"provider": "none"}})


@pytest.mark.parametrize(
    ("command", "code", "lines"),
    [
        (("create", "-f", "-"), 0, 1),
        (("push", "-f", "-"), 0, 1),
        (("get", "i"), 8, 1),
        (("status",), 0, 7),
        (("status", "-o", "json"), 0, None),
        (("doctor",), 1, None),
        (("doctor", "-o", "json"), 1, None),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_hostile_daemon_steers_no_terminal(
    hostile: str, command: tuple[str, ...], code: int, lines: int | None
) -> None:
    done = kekctl("--address", hostile, *command, stdin=DOCUMENT, code=code)
    printed = (done.stdout + done.stderr).splitlines()
    assert all(line.isprintable() for line in printed)
    assert "forged line" in done.stdout + done.stderr
    assert not any(line.startswith("forged line") for line in printed)
    assert lines in {None, len(printed)}


def test_call_beyond_loopback_without_tls_is_warned_of_in_one_line(
    start_daemon: StartDaemon,
) -> None:
    port = free_port()
    start_daemon("--memory", "--listen", f"127.0.0.1:{port}")
    # Not a loopback address, but it reaches this machine.
    done = kekctl("--address", f"0.0.0.0:{port}", "list")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"kekctl: warning: calling 0.0.0.0:{port} without TLS: anyone on")
    assert kekctl("--address", f"127.0.0.1:{port}", "list").stderr == ""
