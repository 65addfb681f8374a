import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("version", "started_at", "now", "engine", "workers", "stores", "certificates", "warnings", "policy_error", "audit_error")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    NOW_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    STORES_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    POLICY_ERROR_FIELD_NUMBER: _ClassVar[int]
    AUDIT_ERROR_FIELD_NUMBER: _ClassVar[int]
    version: str
    started_at: _timestamp_pb2.Timestamp
    now: _timestamp_pb2.Timestamp
    engine: str
    workers: int
    stores: _containers.RepeatedCompositeFieldContainer[StoreStatus]
    certificates: _containers.RepeatedCompositeFieldContainer[CertificateStatus]
    warnings: _containers.RepeatedScalarFieldContainer[str]
    policy_error: str
    audit_error: str
    def __init__(self, version: _Optional[str] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., now: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., engine: _Optional[str] = ..., workers: _Optional[int] = ..., stores: _Optional[_Iterable[_Union[StoreStatus, _Mapping]]] = ..., certificates: _Optional[_Iterable[_Union[CertificateStatus, _Mapping]]] = ..., warnings: _Optional[_Iterable[str]] = ..., policy_error: _Optional[str] = ..., audit_error: _Optional[str] = ...) -> None: ...

class StoreStatus(_message.Message):
    __slots__ = ("name", "is_default", "healthy", "error_message", "warning", "history")
    NAME_FIELD_NUMBER: _ClassVar[int]
    IS_DEFAULT_FIELD_NUMBER: _ClassVar[int]
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    WARNING_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    name: str
    is_default: bool
    healthy: bool
    error_message: str
    warning: str
    history: str
    def __init__(self, name: _Optional[str] = ..., is_default: _Optional[bool] = ..., healthy: _Optional[bool] = ..., error_message: _Optional[str] = ..., warning: _Optional[str] = ..., history: _Optional[str] = ...) -> None: ...

class CertificateStatus(_message.Message):
    __slots__ = ("file", "expires_at", "error")
    FILE_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    file: str
    expires_at: _timestamp_pb2.Timestamp
    error: str
    def __init__(self, file: _Optional[str] = ..., expires_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., error: _Optional[str] = ...) -> None: ...
