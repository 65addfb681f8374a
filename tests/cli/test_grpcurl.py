"""grpcurl over TCP and the Unix socket, with reflection."""

import json
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest as Question
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionResponse as Answer

import kekd
from kekd_proto.v1 import envelope_pb2 as pb
from kekd_server.listeners.engine import EngineName
from tests.fixtures.daemon import BIN, Daemon, both_engines
from tests.fixtures.s3 import free_port
from tests.patience import PATIENCE

pytestmark = both_engines

Grpcurl = Callable[..., subprocess.CompletedProcess[str]]

SERVICE = "kekd.v1.EnvelopeService"
SERVICES = [
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
    "kekd.v1.DaemonService",
    SERVICE,
]
BLOB = {"provider": "aws-kms", "key_id": "alias/prod", "wrapped_kek": "AAEC", "version": 7}


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def daemon(
    tmp_path_factory: pytest.TempPathFactory, port: int, engine: EngineName
) -> Iterator[Daemon]:
    folder = tmp_path_factory.mktemp("grpcurl")
    daemon = Daemon(folder, "--memory", "--listen", f"127.0.0.1:{port}", engine=engine)
    daemon.wait()
    yield daemon
    daemon.kill()


@pytest.fixture(params=["tcp", "unix"])
def grpcurl(request: pytest.FixtureRequest, daemon: Daemon, port: int) -> Grpcurl:
    """Runs grpcurl against an empty daemon."""
    with kekd.Client(daemon.address) as client:
        for name in client.list_index_kms():
            client.delete_index_kms(None, name)
    flags = ["-plaintext"] if request.param == "tcp" else ["-plaintext", "-unix"]
    target = f"127.0.0.1:{port}" if request.param == "tcp" else str(daemon.socket)
    authority = [] if request.param == "tcp" else ["-authority", "localhost"]

    def run(*words: str, data: Any = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        payload = [] if data is None else ["-d", json.dumps(data)]
        return subprocess.run(
            [BIN / "grpcurl", *flags, *authority, *payload, target, *words],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=check,
        )

    return run


def test_list_names_every_service(grpcurl: Grpcurl) -> None:
    assert grpcurl("list").stdout.split() == SERVICES


def test_reflection_has_the_canonical_path(daemon: Daemon) -> None:
    with grpc.insecure_channel(daemon.address) as channel:
        ask = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            request_serializer=Question.SerializeToString,
            response_deserializer=Answer.FromString,
        )
        (answer,) = ask(iter([Question(file_containing_symbol=SERVICE)]))
    file, *_ = answer.file_descriptor_response.file_descriptor_proto
    assert descriptor_pb2.FileDescriptorProto.FromString(file).name == "kekd/v1/envelope.proto"


def test_list_names_every_method(grpcurl: Grpcurl) -> None:
    methods = pb.DESCRIPTOR.services_by_name["EnvelopeService"].methods
    assert grpcurl("list", SERVICE).stdout.split() == sorted(method.full_name for method in methods)


@pytest.mark.parametrize(
    ("symbol", "shown"),
    [
        (SERVICE, "rpc GetEnvelope ( .kekd.v1.GetEnvelopeRequest ) returns"),
        ("kekd.v1.KMSBlob", "bytes wrapped_kek = 5;"),
        ("kekd.v1.Reason", "ENVELOPE_EXISTS = 1;"),
        ("grpc.health.v1.Health", "rpc Check ("),
        (
            "grpc.reflection.v1.ServerReflection",
            "rpc ServerReflectionInfo ( stream .grpc.reflection.v1.ServerReflectionRequest )",
        ),
        (
            "grpc.reflection.v1alpha.ServerReflection",
            "stream .grpc.reflection.v1alpha.ServerReflectionRequest",
        ),
    ],
)
def test_describe_shows_the_symbol(grpcurl: Grpcurl, symbol: str, shown: str) -> None:
    assert shown in grpcurl("describe", symbol).stdout


def test_envelope_is_created_rotated_and_deleted(grpcurl: Grpcurl) -> None:
    created = grpcurl(f"{SERVICE}/CreateEnvelope", data={"index_name": "a/é", "blob": BLOB})
    got = json.loads(grpcurl(f"{SERVICE}/GetEnvelope", data={"index_name": "a/é"}).stdout)
    etag = json.loads(created.stdout)["etag"]
    assert got == {"blob": BLOB, "etag": etag, "store": "memory"}
    rotation = {"index_name": "a/é", "blob": BLOB | {"version": 8}, "if_etag": got["etag"]}
    pushed = json.loads(grpcurl(f"{SERVICE}/PushEnvelope", data=rotation).stdout)
    assert pushed["etag"] != got["etag"]
    listed = json.loads(grpcurl(f"{SERVICE}/ListEnvelopes").stdout)
    assert listed == {"envelopes": [{"index_name": "a/é"}]}
    gone = grpcurl(f"{SERVICE}/DeleteEnvelope", data={"index_name": "a/é"})
    assert json.loads(gone.stdout) == {"existed": True}
    assert json.loads(grpcurl(f"{SERVICE}/ListEnvelopes").stdout) == {}


def test_store_can_be_named(grpcurl: Grpcurl) -> None:
    data = {"config_location": {"memory": {}}, "index_name": "x", "blob": BLOB}
    grpcurl(f"{SERVICE}/CreateEnvelope", data=data)


@pytest.mark.parametrize(
    ("method", "data", "code", "reason", "metadata"),
    [
        (
            "GetEnvelope",
            {"index_name": "nobody"},
            "NotFound",
            "ENVELOPE_NOT_FOUND",
            {"index_name": "nobody", "store": "memory"},
        ),
        (
            "CreateEnvelope",
            {"index_name": "x", "blob": {"provider": "vault"}},
            "InvalidArgument",
            "ENVELOPE_INVALID",
            {"index_name": "x", "store": ""},
        ),
        (
            "PushEnvelope",
            {"index_name": "x", "blob": BLOB, "if_etag": "stale"},
            "FailedPrecondition",
            "ETAG_MISMATCH",
            {"index_name": "x", "store": "memory"},
        ),
        (
            "ListEnvelopes",
            {"config_location": {"disk": {"path": "/elsewhere"}}},
            "PermissionDenied",
            "STORE_NOT_CONFIGURED",
            {"index_name": "", "store": ""},
        ),
    ],
)
def test_error_has_its_details(
    grpcurl: Grpcurl, method: str, data: Any, code: str, reason: str, metadata: dict[str, str]
) -> None:
    failed = grpcurl(f"{SERVICE}/{method}", data=data, check=False).stderr
    assert f"Code: {code}\n" in failed
    assert json.loads(failed.partition("1)\t")[2]) == {
        "@type": "type.googleapis.com/google.rpc.ErrorInfo",
        "domain": "kekd",
        "reason": reason,
        "metadata": metadata,
    }


@pytest.mark.parametrize("service", ["", SERVICE])
def test_health_check_reports_serving(grpcurl: Grpcurl, service: str) -> None:
    checked = grpcurl("grpc.health.v1.Health/Check", data={"service": service})
    assert json.loads(checked.stdout) == {"status": "SERVING"}


def test_health_check_of_another_service_is_not_found(grpcurl: Grpcurl) -> None:
    checked = grpcurl("grpc.health.v1.Health/Check", data={"service": "other"}, check=False)
    assert "Code: NotFound" in checked.stderr


class Reflection:
    """Calls one version of reflection. Both versions have the same messages."""

    def __init__(self, channel: grpc.Channel, version: str) -> None:
        self.package = f"grpc.reflection.{version}"
        self._call = channel.stream_stream(
            f"/{self.package}.ServerReflection/ServerReflectionInfo",
            request_serializer=Question.SerializeToString,
            response_deserializer=Answer.FromString,
        )

    def ask(self, *questions: Question) -> list[Answer]:
        return list(self._call(iter(questions), timeout=PATIENCE))

    def file_of(self, symbol: str) -> descriptor_pb2.FileDescriptorProto:
        (answer,) = self.ask(Question(file_containing_symbol=symbol))
        file, *_ = answer.file_descriptor_response.file_descriptor_proto  # then its imports
        return descriptor_pb2.FileDescriptorProto.FromString(file)


@pytest.fixture(params=["v1", "v1alpha"])
def reflection(request: pytest.FixtureRequest, daemon: Daemon) -> Iterator[Reflection]:
    with grpc.insecure_channel(daemon.address) as channel:
        yield Reflection(channel, request.param)


def test_reflection_lists_every_service(reflection: Reflection) -> None:
    (answer,) = reflection.ask(Question(list_services=""))
    assert sorted(service.name for service in answer.list_services_response.service) == SERVICES


@pytest.mark.parametrize("symbol", [SERVICE, "kekd.v1.KMSBlob"])
def test_reflection_finds_the_file_of_a_symbol(reflection: Reflection, symbol: str) -> None:
    file = reflection.file_of(symbol)
    assert (file.package, [service.name for service in file.service]) == (
        "kekd.v1",
        ["EnvelopeService"],
    )


def test_reflection_describes_itself_in_its_own_package(reflection: Reflection) -> None:
    file = reflection.file_of(f"{reflection.package}.ServerReflection")
    (method,) = file.service[0].method
    types = [field.type_name for message in file.message_type for field in message.field]
    assert file.package == reflection.package
    assert method.input_type == f".{reflection.package}.ServerReflectionRequest"
    assert {name.rpartition(".")[0] for name in types} == {"", f".{reflection.package}"}


def test_reflection_reports_unknown_names(reflection: Reflection) -> None:
    (answer,) = reflection.ask(Question(file_containing_symbol="no.such.Symbol"))
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_reflection_answers_many_questions_in_one_call(reflection: Reflection) -> None:
    first, *others = reflection.ask(*[Question(list_services="")] * 3)
    assert others == [first, first]


def test_json_of_kekctl_without_its_etag_is_accepted_by_grpcurl(
    grpcurl: Grpcurl, daemon: Daemon
) -> None:
    grpcurl(f"{SERVICE}/CreateEnvelope", data={"index_name": "i", "blob": BLOB})
    command = [str(BIN / "kekctl"), "--address", daemon.address, "get", "i", "--output", "json"]
    document = json.loads(subprocess.check_output(command))
    etag = document.pop("etag")
    pushed = json.loads(grpcurl(f"{SERVICE}/PushEnvelope", data=document).stdout)
    assert pushed["etag"] == etag
