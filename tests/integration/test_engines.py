"""The engine of each listener, and the errors for impossible ones."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
import yaml

import kekd
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_proto.v1.envelope_pb2_grpc import EnvelopeServiceStub
from kekd_server.listeners.engine import EngineName
from tests.fixtures.calls import BLOB
from tests.fixtures.daemon import BIN, StartDaemon, clean_environment, refusal
from tests.patience import PATIENCE

ENGINE_BY_CODE: dict[grpc.StatusCode, EngineName] = {
    grpc.StatusCode.RESOURCE_EXHAUSTED: "grpcio",
    grpc.StatusCode.UNKNOWN: "native",
}
"""The status of a call with too much metadata, which differs between the engines."""

WITHOUT_NATIVE = """
import sys
sys.modules["pygrpc_native"] = None
from kekd_server import main
main()
"""


def engine_at(address: str) -> EngineName:
    with grpc.insecure_channel(address) as channel:
        stub, too_much = EnvelopeServiceStub(channel), (("x", "a" * 2**15),)
        with pytest.raises(grpc.RpcError) as refused:
            stub.ListEnvelopes(pb.ListEnvelopesRequest(), metadata=too_much)
    return ENGINE_BY_CODE[refused.value.code()]


def refused(*arguments: str) -> str:
    """Returns the error for arguments with which the daemon doesn't start."""
    return refusal(sys.executable, *arguments)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [([], "grpcio"), *((["--engine", engine], engine) for engine in ("grpcio", "native"))],
)
def test_daemon_uses_the_configured_engine(
    start_daemon: StartDaemon, flags: list[str], expected: EngineName
) -> None:
    assert engine_at(start_daemon("--memory", *flags).address) == expected


@pytest.fixture
def two_listeners(tmp_path: Path) -> Iterator[list[str]]:
    """The addresses of a daemon that has grpcio on the first and native on the second."""
    one, other = addresses = [f"unix:{tmp_path}/one", f"unix:{tmp_path}/other"]
    listen = [one, {"address": other, "engine": "native"}]
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump({"listen": listen, "engine": "grpcio", "memory": True}))
    command = [str(BIN / "kekd"), "--config", str(config)]
    with subprocess.Popen(command, env=clean_environment()) as daemon:
        for address in addresses:
            with kekd.Client(address) as client:
                client.wait(PATIENCE)
        yield addresses
        daemon.terminate()
        assert daemon.wait(timeout=PATIENCE) == 0


def test_listeners_with_different_engines_serve_the_same_store(two_listeners: list[str]) -> None:
    assert [engine_at(address) for address in two_listeners] == ["grpcio", "native"]
    with kekd.Client(two_listeners[0]) as one, kekd.Client(two_listeners[1]) as other:
        etag = one.create_index_kms(None, "i", BLOB)
        assert other.get_index_kms(None, "i").etag == etag
        assert other.delete_index_kms(None, "i", if_etag=etag)
        assert list(one.list_index_kms()) == []


def test_missing_native_engine_is_reported_with_its_extra(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/kekd.sock"
    flags = ("--memory", "--listen", address, "--engine", "native")
    assert refused("-c", WITHOUT_NATIVE, *flags) == (
        f"kekd: {address}: engine native isn't installed; run pip install '.[native]' in a"
        " clone of kekd, or omit the engine\n"
    )


def test_unknown_engine_is_reported_with_the_known_ones() -> None:
    said = refused("-m", "kekd_server", "--memory", "--engine", "http3")
    assert said == (
        "kekd: engine (from --engine): unknown value 'http3'; use 'auto', 'grpcio' or 'native'\n"
    )
