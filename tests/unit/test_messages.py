"""kekd's messages beside code that a user has generated from the same .proto files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from kekd_proto.descriptors import POOL, _split
from kekd_proto.v1 import daemon_pb2, envelope_pb2, envelope_pb2_grpc

ROOT = Path(__file__).parents[2]

USE_BOTH = """
import sys
{imports}
ours = envelope_pb2.KMSBlob(provider="none", version=3)
theirs = generated.KMSBlob.FromString(ours.SerializeToString())
assert (theirs.provider, theirs.version) == ("none", 3)
assert envelope_pb2.KMSBlob.FromString(theirs.SerializeToString()) == ours
"""
OURS = "from kekd_proto.v1 import envelope_pb2"


def generate(proto: str, include: Path, out: Path) -> None:
    arguments = [f"-I{include}", f"--python_out={out}", proto]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *arguments], check=True)


@pytest.mark.external
@pytest.mark.parametrize("implementation", ["upb", "python"])
@pytest.mark.parametrize("is_first", [False, True], ids=["after kekd's", "before kekd's"])
@pytest.mark.parametrize(
    ("include", "proto", "change"),
    [
        ("protos", "kekd/v1/envelope.proto", ""),
        ("protos/kekd/v1", "envelope.proto", ""),
        ("protos", "kekd/v1/envelope.proto", "message OfAnotherVersion {}"),
    ],
    ids=["same", "of another path", "of another version"],
)
def test_generated_code_is_imported_beside_kekds(
    tmp_path: Path, include: str, proto: str, change: str, is_first: bool, implementation: str
) -> None:
    source = tmp_path / "protos" / proto
    source.parent.mkdir(parents=True)
    source.write_text((ROOT / include / proto).read_text() + change)
    generate(proto, tmp_path / "protos", tmp_path)
    # The folders of the generated code are namespace packages beside the package kekd.
    module = tmp_path / proto.replace(".proto", "_pb2.py")
    module.rename(tmp_path / "generated.py")
    imports = sorted([OURS, "import generated"], reverse=is_first == (OURS < "import generated"))
    environment = {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation}
    subprocess.run(
        [sys.executable, "-c", USE_BOTH.format(imports="\n".join(imports))],
        env=os.environ | environment,
        cwd=tmp_path,
        check=True,
    )


def test_files_have_their_canonical_paths() -> None:
    assert envelope_pb2.DESCRIPTOR.name == "kekd/v1/envelope.proto"
    assert daemon_pb2.DESCRIPTOR.name == "kekd/v1/daemon.proto"
    assert POOL.FindFileByName("google/protobuf/timestamp.proto")


def test_files_of_any_length_are_split() -> None:
    files = [FileDescriptorProto(name="x" * length) for length in (1, 124, 125, 126, 20_000)]
    compiled = FileDescriptorSet(file=files).SerializeToString()
    assert list(map(FileDescriptorProto.FromString, _split(compiled))) == files


def test_messages_name_their_module() -> None:
    assert envelope_pb2.KMSBlob.__module__ == "kekd_proto.v1.envelope_pb2"
    assert envelope_pb2_grpc.EnvelopeServiceStub.__module__ == "kekd_proto.v1.envelope_pb2_grpc"
