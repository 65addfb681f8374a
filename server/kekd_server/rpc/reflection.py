"""Server reflection, in both versions that tools use.

grpcio-reflection has only v1alpha. v1 has the same messages in another package
(https://github.com/grpc/grpc/blob/master/doc/server-reflection.md). So its descriptor is derived
from v1alpha, and one servicer answers both.
"""

from collections.abc import AsyncIterator
from functools import cache
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_health.v1 import health_pb2

from kekd_proto.descriptors import POOL
from kekd_proto.v1 import daemon_pb2, envelope_pb2

_V1ALPHA: Final = "grpc.reflection.v1alpha"
_V1: Final = "grpc.reflection.v1"
_SERVICES: Final = (f"{_V1ALPHA}.ServerReflection", f"{_V1}.ServerReflection")


def add_reflection(server: grpc.aio.Server, *services: str) -> None:
    """Adds reflection of `services` and their messages to the server."""
    names = (*services, *_SERVICES)

    async def info(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for answer in _servicer(names).ServerReflectionInfo(requests, context):
            yield answer

    handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(
        info,
        request_deserializer=_request,
        response_serializer=lambda answer: answer.SerializeToString(),
    )
    methods = {"ServerReflectionInfo": handler}
    for service in _SERVICES:
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, methods),))
        server.add_registered_method_handlers(service, methods)


# Imported at the first call, because calls are rare and the import would slow down the start.


@cache
def _servicer(names: tuple[str, ...]) -> Any:
    from grpc_reflection.v1alpha import reflection  # noqa: PLC0415

    return reflection.aio.ReflectionServicer(names, pool=_pool())


def _pool() -> DescriptorPool:
    """Collects what clients can ask for, including the details of errors."""
    from google.rpc import error_details_pb2  # noqa: PLC0415
    from grpc_reflection.v1alpha import reflection_pb2  # noqa: PLC0415

    pool = DescriptorPool()
    files = (envelope_pb2, daemon_pb2, health_pb2, error_details_pb2, reflection_pb2)
    for module in files:
        _add_file(pool, module.DESCRIPTOR)
    _add_file(pool, POOL.FindFileByName("kekd/v1/reason.proto"))
    _add_v1_descriptor(pool, reflection_pb2.DESCRIPTOR)
    return pool


def _add_file(pool: DescriptorPool, file: FileDescriptor) -> None:
    for dependency in file.dependencies:
        _add_file(pool, dependency)
    proto = descriptor_pb2.FileDescriptorProto.FromString(file.serialized_pb)
    for message in proto.message_type:
        for field in message.field:
            field.ClearField("json_name")  # makes grpcurl print the names of the .proto files
    pool.AddSerializedFile(proto.SerializeToString())


def _request(message: bytes) -> Any:
    from grpc_reflection.v1alpha import reflection_pb2  # noqa: PLC0415

    return reflection_pb2.ServerReflectionRequest.FromString(message)


def _add_v1_descriptor(pool: DescriptorPool, v1alpha: Any) -> None:
    file = descriptor_pb2.FileDescriptorProto()
    v1alpha.CopyToProto(file)
    file.name = file.name.replace("v1alpha", "v1")
    file.package = _V1
    methods = [method for service in file.service for method in service.method]
    for method in methods:
        method.input_type = method.input_type.replace(_V1ALPHA, _V1)
        method.output_type = method.output_type.replace(_V1ALPHA, _V1)
    for message in file.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(_V1ALPHA, _V1)
    pool.AddSerializedFile(file.SerializeToString())
