"""Makes the gRPC stubs and servicers of kekd's services from their descriptors."""

from functools import partial, partialmethod
from typing import Any

import grpc
from google.protobuf.descriptor import FileDescriptor, MethodDescriptor, ServiceDescriptor
from google.protobuf.message_factory import GetMessageClass


def define_services(file: FileDescriptor, module: dict[str, Any]) -> None:
    """Defines the services of a .proto file in a module, as generated code does."""
    for name, service in file.services_by_name.items():
        members = {"__module__": module["__name__"]}
        initializer = {"__init__": partialmethod(_add_calls, service=service)}
        module[f"{name}Stub"] = type(f"{name}Stub", (), members | initializer)
        module[f"{name}Servicer"] = type(f"{name}Servicer", (), members)
        module[f"add_{name}Servicer_to_server"] = partial(_add_handlers, service)


def _add_calls(stub: object, channel: Any, *, service: ServiceDescriptor) -> None:
    for method in service.methods:
        make = channel.unary_stream if method.server_streaming else channel.unary_unary
        call = make(
            f"/{service.full_name}/{method.name}",
            request_serializer=GetMessageClass(method.input_type).SerializeToString,
            response_deserializer=GetMessageClass(method.output_type).FromString,
        )
        setattr(stub, method.name, call)


def _add_handlers(service: ServiceDescriptor, servicer: object, server: Any) -> None:
    handlers = {method.name: _handler(method, servicer) for method in service.methods}
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service.full_name, handlers),)
    )


def _handler(method: MethodDescriptor, servicer: object) -> Any:
    make = (
        grpc.unary_stream_rpc_method_handler
        if method.server_streaming
        else grpc.unary_unary_rpc_method_handler
    )
    return make(
        getattr(servicer, method.name),
        request_deserializer=GetMessageClass(method.input_type).FromString,
        response_serializer=GetMessageClass(method.output_type).SerializeToString,
    )
