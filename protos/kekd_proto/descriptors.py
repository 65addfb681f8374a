"""Loads kekd's protobuf messages from their compiled descriptors.

The code that protoc generates has two limits that this loader doesn't have. It needs a protobuf and
a grpcio that are at least as new as the protoc. And it adds its messages to protobuf's default
pool, where they conflict with code that you generate from another version or path of the same
.proto file.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from google.protobuf.message_factory import GetMessageClass

_COMPILED: Final = Path(__file__).with_name("v1") / "descriptors.binpb"


def _load() -> DescriptorPool:
    pool = DescriptorPool()
    for file in _split(_COMPILED.read_bytes()):
        pool.AddSerializedFile(file)
    return pool


def _split(compiled: bytes) -> Iterator[bytes]:
    """Yields the files of a FileDescriptorSet: each is a tag of one byte, a varint with the length,
    and the file. Without `descriptor_pb2`, which takes longer to import than the rest of this.
    """
    position = 0
    while position < len(compiled):
        length = shift = 0
        is_continued = True
        while is_continued:
            position += 1
            length |= (compiled[position] & 0x7F) << shift
            shift += 7
            is_continued = bool(compiled[position] & 0x80)
        start = position + 1
        position = start + length
        yield compiled[start:position]


POOL: Final = _load()
"""kekd's .proto files and those that they import. Its `Timestamp` is another class than
`timestamp_pb2.Timestamp`, with the same methods."""


def define_messages(path: str, module: dict[str, Any]) -> None:
    """Defines the messages and enums of a .proto file in a module, as generated code does."""
    file = module["DESCRIPTOR"] = POOL.FindFileByName(path)
    for name, message in file.message_types_by_name.items():
        module[name] = GetMessageClass(message)
        module[name].__module__ = module["__name__"]
    for name, enum in file.enum_types_by_name.items():
        module[name] = EnumTypeWrapper(enum)
        module.update({value.name: value.number for value in enum.values})
