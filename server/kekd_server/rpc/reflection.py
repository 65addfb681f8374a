"""Server reflection in both versions that tools speak.

grpcio-reflection has only v1alpha. v1 is the same messages under another package name
(https://github.com/grpc/grpc/blob/master/doc/server-reflection.md), so its descriptor is made from
the v1alpha one and the same servicer answers both.
"""

from typing import Final

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection, reflection_pb2

_V1ALPHA: Final = "grpc.reflection.v1alpha"
_V1: Final = "grpc.reflection.v1"
_SERVICE_V1: Final = f"{_V1}.ServerReflection"


def add_reflection(server: grpc.aio.Server, *services: str) -> None:
    """Lets tools ask the server for `services` and their messages."""
    _add_v1_descriptor(descriptor_pool.Default())
    names = (*services, reflection.SERVICE_NAME, _SERVICE_V1)
    reflection.enable_server_reflection(names, server)
    handler = grpc.stream_stream_rpc_method_handler(
        reflection.aio.ReflectionServicer(names).ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    methods = {"ServerReflectionInfo": handler}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(_SERVICE_V1, methods),))
    server.add_registered_method_handlers(_SERVICE_V1, methods)


def _add_v1_descriptor(pool: descriptor_pool.DescriptorPool) -> None:
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
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
