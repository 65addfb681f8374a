import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EnvelopeView(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENVELOPE_VIEW_UNSPECIFIED: _ClassVar[EnvelopeView]
    ENVELOPE_VIEW_BASIC: _ClassVar[EnvelopeView]
    ENVELOPE_VIEW_FULL: _ClassVar[EnvelopeView]
ENVELOPE_VIEW_UNSPECIFIED: EnvelopeView
ENVELOPE_VIEW_BASIC: EnvelopeView
ENVELOPE_VIEW_FULL: EnvelopeView

class StorageConfig(_message.Message):
    __slots__ = ("memory", "disk", "s3")
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    DISK_FIELD_NUMBER: _ClassVar[int]
    S3_FIELD_NUMBER: _ClassVar[int]
    memory: MemoryStorage
    disk: DiskStorage
    s3: S3Storage
    def __init__(self, memory: _Optional[_Union[MemoryStorage, _Mapping]] = ..., disk: _Optional[_Union[DiskStorage, _Mapping]] = ..., s3: _Optional[_Union[S3Storage, _Mapping]] = ...) -> None: ...

class MemoryStorage(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DiskStorage(_message.Message):
    __slots__ = ("path",)
    PATH_FIELD_NUMBER: _ClassVar[int]
    path: str
    def __init__(self, path: _Optional[str] = ...) -> None: ...

class S3Storage(_message.Message):
    __slots__ = ("bucket", "region", "endpoint", "prefix")
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    bucket: str
    region: str
    endpoint: str
    prefix: str
    def __init__(self, bucket: _Optional[str] = ..., region: _Optional[str] = ..., endpoint: _Optional[str] = ..., prefix: _Optional[str] = ...) -> None: ...

class KMSBlob(_message.Message):
    __slots__ = ("kms_name", "provider", "key_id", "region", "wrapped_kek", "version", "created_at", "key_arn", "binding")
    KMS_NAME_FIELD_NUMBER: _ClassVar[int]
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    WRAPPED_KEK_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    KEY_ARN_FIELD_NUMBER: _ClassVar[int]
    BINDING_FIELD_NUMBER: _ClassVar[int]
    kms_name: str
    provider: str
    key_id: str
    region: str
    wrapped_kek: bytes
    version: int
    created_at: int
    key_arn: str
    binding: str
    def __init__(self, kms_name: _Optional[str] = ..., provider: _Optional[str] = ..., key_id: _Optional[str] = ..., region: _Optional[str] = ..., wrapped_kek: _Optional[bytes] = ..., version: _Optional[int] = ..., created_at: _Optional[int] = ..., key_arn: _Optional[str] = ..., binding: _Optional[str] = ...) -> None: ...

class CreateEnvelopeRequest(_message.Message):
    __slots__ = ("config_location", "index_name", "blob", "idempotency_key", "is_retry")
    CONFIG_LOCATION_FIELD_NUMBER: _ClassVar[int]
    INDEX_NAME_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    IS_RETRY_FIELD_NUMBER: _ClassVar[int]
    config_location: StorageConfig
    index_name: str
    blob: KMSBlob
    idempotency_key: str
    is_retry: bool
    def __init__(self, config_location: _Optional[_Union[StorageConfig, _Mapping]] = ..., index_name: _Optional[str] = ..., blob: _Optional[_Union[KMSBlob, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., is_retry: _Optional[bool] = ...) -> None: ...

class CreateEnvelopeResponse(_message.Message):
    __slots__ = ("etag",)
    ETAG_FIELD_NUMBER: _ClassVar[int]
    etag: str
    def __init__(self, etag: _Optional[str] = ...) -> None: ...

class PushEnvelopeRequest(_message.Message):
    __slots__ = ("config_location", "index_name", "blob", "if_etag", "idempotency_key", "is_retry")
    CONFIG_LOCATION_FIELD_NUMBER: _ClassVar[int]
    INDEX_NAME_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    IF_ETAG_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    IS_RETRY_FIELD_NUMBER: _ClassVar[int]
    config_location: StorageConfig
    index_name: str
    blob: KMSBlob
    if_etag: str
    idempotency_key: str
    is_retry: bool
    def __init__(self, config_location: _Optional[_Union[StorageConfig, _Mapping]] = ..., index_name: _Optional[str] = ..., blob: _Optional[_Union[KMSBlob, _Mapping]] = ..., if_etag: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., is_retry: _Optional[bool] = ...) -> None: ...

class PushEnvelopeResponse(_message.Message):
    __slots__ = ("etag",)
    ETAG_FIELD_NUMBER: _ClassVar[int]
    etag: str
    def __init__(self, etag: _Optional[str] = ...) -> None: ...

class GetEnvelopeRequest(_message.Message):
    __slots__ = ("config_location", "index_name", "version_id")
    CONFIG_LOCATION_FIELD_NUMBER: _ClassVar[int]
    INDEX_NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    config_location: StorageConfig
    index_name: str
    version_id: str
    def __init__(self, config_location: _Optional[_Union[StorageConfig, _Mapping]] = ..., index_name: _Optional[str] = ..., version_id: _Optional[str] = ...) -> None: ...

class GetEnvelopeResponse(_message.Message):
    __slots__ = ("blob", "etag", "store")
    BLOB_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    blob: KMSBlob
    etag: str
    store: str
    def __init__(self, blob: _Optional[_Union[KMSBlob, _Mapping]] = ..., etag: _Optional[str] = ..., store: _Optional[str] = ...) -> None: ...

class BatchGetEnvelopesRequest(_message.Message):
    __slots__ = ("config_location", "index_names")
    CONFIG_LOCATION_FIELD_NUMBER: _ClassVar[int]
    INDEX_NAMES_FIELD_NUMBER: _ClassVar[int]
    config_location: StorageConfig
    index_names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, config_location: _Optional[_Union[StorageConfig, _Mapping]] = ..., index_names: _Optional[_Iterable[str]] = ...) -> None: ...

class BatchGetEnvelopesResponse(_message.Message):
    __slots__ = ("envelopes", "store")
    ENVELOPES_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    envelopes: _containers.RepeatedCompositeFieldContainer[ListedEnvelope]
    store: str
    def __init__(self, envelopes: _Optional[_Iterable[_Union[ListedEnvelope, _Mapping]]] = ..., store: _Optional[str] = ...) -> None: ...

class BatchPushEnvelopesRequest(_message.Message):
    __slots__ = ("config_location", "pushes", "idempotency_key", "is_retry")
    CONFIG_LOCATION_FIELD_NUMBER: _ClassVar[int]
    PUSHES_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    IS_RETRY_FIELD_NUMBER: _ClassVar[int]
    config_location: StorageConfig
    pushes: _containers.RepeatedCompositeFieldContainer[EnvelopePush]
    idempotency_key: str
    is_retry: bool
    def __init__(self, config_location: _Optional[_Union[StorageConfig, _Mapping]] = ..., pushes: _Optional[_Iterable[_Union[EnvelopePush, _Mapping]]] = ..., idempotency_key: _Optional[str] = ..., is_retry: _Optional[bool] = ...) -> None: ...

class EnvelopePush(_message.Message):
    __slots__ = ("index_name", "blob", "if_etag")
    INDEX_NAME_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    IF_ETAG_FIELD_NUMBER: _ClassVar[int]
    index_name: str
    blob: KMSBlob
    if_etag: str
    def __init__(self, index_name: _Optional[str] = ..., blob: _Optional[_Union[KMSBlob, _Mapping]] = ..., if_etag: _Optional[str] = ...) -> None: ...

class BatchPushEnvelopesResponse(_message.Message):
    __slots__ = ("envelopes", "store")
    ENVELOPES_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    envelopes: _containers.RepeatedCompositeFieldContainer[PushedEnvelope]
    store: str
    def __init__(self, envelopes: _Optional[_Iterable[_Union[PushedEnvelope, _Mapping]]] = ..., store: _Optional[str] = ...) -> None: ...

class PushedEnvelope(_message.Message):
    __slots__ = ("index_name", "etag", "failure")
    INDEX_NAME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    index_name: str
    etag: str
    failure: Failure
    def __init__(self, index_name: _Optional[str] = ..., etag: _Optional[str] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class DeleteEnvelopeRequest(_message.Message):
    __slots__ = ("config_location", "index_name", "if_etag", "idempotency_key", "is_retry")
    CONFIG_LOCATION_FIELD_NUMBER: _ClassVar[int]
    INDEX_NAME_FIELD_NUMBER: _ClassVar[int]
    IF_ETAG_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    IS_RETRY_FIELD_NUMBER: _ClassVar[int]
    config_location: StorageConfig
    index_name: str
    if_etag: str
    idempotency_key: str
    is_retry: bool
    def __init__(self, config_location: _Optional[_Union[StorageConfig, _Mapping]] = ..., index_name: _Optional[str] = ..., if_etag: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., is_retry: _Optional[bool] = ...) -> None: ...

class DeleteEnvelopeResponse(_message.Message):
    __slots__ = ("existed",)
    EXISTED_FIELD_NUMBER: _ClassVar[int]
    existed: bool
    def __init__(self, existed: _Optional[bool] = ...) -> None: ...

class ListEnvelopeVersionsRequest(_message.Message):
    __slots__ = ("config_location", "index_name", "page_size", "page_token", "view")
    CONFIG_LOCATION_FIELD_NUMBER: _ClassVar[int]
    INDEX_NAME_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    config_location: StorageConfig
    index_name: str
    page_size: int
    page_token: str
    view: EnvelopeView
    def __init__(self, config_location: _Optional[_Union[StorageConfig, _Mapping]] = ..., index_name: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., view: _Optional[_Union[EnvelopeView, str]] = ...) -> None: ...

class ListEnvelopeVersionsResponse(_message.Message):
    __slots__ = ("versions", "next_page_token", "store", "hold")
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    HOLD_FIELD_NUMBER: _ClassVar[int]
    versions: _containers.RepeatedCompositeFieldContainer[EnvelopeVersion]
    next_page_token: str
    store: str
    hold: Hold
    def __init__(self, versions: _Optional[_Iterable[_Union[EnvelopeVersion, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., store: _Optional[str] = ..., hold: _Optional[_Union[Hold, _Mapping]] = ...) -> None: ...

class Hold(_message.Message):
    __slots__ = ("reason", "caller", "time")
    REASON_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    reason: str
    caller: str
    time: _timestamp_pb2.Timestamp
    def __init__(self, reason: _Optional[str] = ..., caller: _Optional[str] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class EnvelopeVersion(_message.Message):
    __slots__ = ("version_id", "event", "time", "caller", "etag", "size", "blob", "failure")
    class Event(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        EVENT_UNSPECIFIED: _ClassVar[EnvelopeVersion.Event]
        EVENT_CREATED: _ClassVar[EnvelopeVersion.Event]
        EVENT_PUSHED: _ClassVar[EnvelopeVersion.Event]
        EVENT_RESTORED: _ClassVar[EnvelopeVersion.Event]
        EVENT_UNDELETED: _ClassVar[EnvelopeVersion.Event]
        EVENT_DELETED: _ClassVar[EnvelopeVersion.Event]
        EVENT_FOUND: _ClassVar[EnvelopeVersion.Event]
    EVENT_UNSPECIFIED: EnvelopeVersion.Event
    EVENT_CREATED: EnvelopeVersion.Event
    EVENT_PUSHED: EnvelopeVersion.Event
    EVENT_RESTORED: EnvelopeVersion.Event
    EVENT_UNDELETED: EnvelopeVersion.Event
    EVENT_DELETED: EnvelopeVersion.Event
    EVENT_FOUND: EnvelopeVersion.Event
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    version_id: str
    event: EnvelopeVersion.Event
    time: _timestamp_pb2.Timestamp
    caller: str
    etag: str
    size: int
    blob: KMSBlob
    failure: Failure
    def __init__(self, version_id: _Optional[str] = ..., event: _Optional[_Union[EnvelopeVersion.Event, str]] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., caller: _Optional[str] = ..., etag: _Optional[str] = ..., size: _Optional[int] = ..., blob: _Optional[_Union[KMSBlob, _Mapping]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class RestoreEnvelopeRequest(_message.Message):
    __slots__ = ("config_location", "index_name", "version_id", "if_etag", "idempotency_key", "is_retry")
    CONFIG_LOCATION_FIELD_NUMBER: _ClassVar[int]
    INDEX_NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    IF_ETAG_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    IS_RETRY_FIELD_NUMBER: _ClassVar[int]
    config_location: StorageConfig
    index_name: str
    version_id: str
    if_etag: str
    idempotency_key: str
    is_retry: bool
    def __init__(self, config_location: _Optional[_Union[StorageConfig, _Mapping]] = ..., index_name: _Optional[str] = ..., version_id: _Optional[str] = ..., if_etag: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., is_retry: _Optional[bool] = ...) -> None: ...

class RestoreEnvelopeResponse(_message.Message):
    __slots__ = ("etag",)
    ETAG_FIELD_NUMBER: _ClassVar[int]
    etag: str
    def __init__(self, etag: _Optional[str] = ...) -> None: ...

class UndeleteEnvelopeRequest(_message.Message):
    __slots__ = ("config_location", "index_name", "idempotency_key", "is_retry")
    CONFIG_LOCATION_FIELD_NUMBER: _ClassVar[int]
    INDEX_NAME_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    IS_RETRY_FIELD_NUMBER: _ClassVar[int]
    config_location: StorageConfig
    index_name: str
    idempotency_key: str
    is_retry: bool
    def __init__(self, config_location: _Optional[_Union[StorageConfig, _Mapping]] = ..., index_name: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., is_retry: _Optional[bool] = ...) -> None: ...

class UndeleteEnvelopeResponse(_message.Message):
    __slots__ = ("etag",)
    ETAG_FIELD_NUMBER: _ClassVar[int]
    etag: str
    def __init__(self, etag: _Optional[str] = ...) -> None: ...

class HoldEnvelopeRequest(_message.Message):
    __slots__ = ("config_location", "index_name", "reason")
    CONFIG_LOCATION_FIELD_NUMBER: _ClassVar[int]
    INDEX_NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    config_location: StorageConfig
    index_name: str
    reason: str
    def __init__(self, config_location: _Optional[_Union[StorageConfig, _Mapping]] = ..., index_name: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class HoldEnvelopeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ReleaseEnvelopeRequest(_message.Message):
    __slots__ = ("config_location", "index_name")
    CONFIG_LOCATION_FIELD_NUMBER: _ClassVar[int]
    INDEX_NAME_FIELD_NUMBER: _ClassVar[int]
    config_location: StorageConfig
    index_name: str
    def __init__(self, config_location: _Optional[_Union[StorageConfig, _Mapping]] = ..., index_name: _Optional[str] = ...) -> None: ...

class ReleaseEnvelopeResponse(_message.Message):
    __slots__ = ("existed",)
    EXISTED_FIELD_NUMBER: _ClassVar[int]
    existed: bool
    def __init__(self, existed: _Optional[bool] = ...) -> None: ...

class DestroyEnvelopeRequest(_message.Message):
    __slots__ = ("config_location", "index_name", "reason", "if_etag", "idempotency_key", "is_retry")
    CONFIG_LOCATION_FIELD_NUMBER: _ClassVar[int]
    INDEX_NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    IF_ETAG_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    IS_RETRY_FIELD_NUMBER: _ClassVar[int]
    config_location: StorageConfig
    index_name: str
    reason: str
    if_etag: str
    idempotency_key: str
    is_retry: bool
    def __init__(self, config_location: _Optional[_Union[StorageConfig, _Mapping]] = ..., index_name: _Optional[str] = ..., reason: _Optional[str] = ..., if_etag: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., is_retry: _Optional[bool] = ...) -> None: ...

class DestroyEnvelopeResponse(_message.Message):
    __slots__ = ("store", "destroyed", "remaining", "unchecked")
    STORE_FIELD_NUMBER: _ClassVar[int]
    DESTROYED_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    UNCHECKED_FIELD_NUMBER: _ClassVar[int]
    store: str
    destroyed: _containers.RepeatedCompositeFieldContainer[DestroyedVersion]
    remaining: _containers.RepeatedCompositeFieldContainer[RemainingVersion]
    unchecked: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, store: _Optional[str] = ..., destroyed: _Optional[_Iterable[_Union[DestroyedVersion, _Mapping]]] = ..., remaining: _Optional[_Iterable[_Union[RemainingVersion, _Mapping]]] = ..., unchecked: _Optional[_Iterable[str]] = ...) -> None: ...

class DestroyedVersion(_message.Message):
    __slots__ = ("version_id", "etag", "wrapped_kek_sha256")
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    WRAPPED_KEK_SHA256_FIELD_NUMBER: _ClassVar[int]
    version_id: str
    etag: str
    wrapped_kek_sha256: str
    def __init__(self, version_id: _Optional[str] = ..., etag: _Optional[str] = ..., wrapped_kek_sha256: _Optional[str] = ...) -> None: ...

class RemainingVersion(_message.Message):
    __slots__ = ("version_id", "reason")
    VERSION_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    version_id: str
    reason: str
    def __init__(self, version_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ImportEnvelopeVersionsRequest(_message.Message):
    __slots__ = ("config_location", "index_name", "versions")
    CONFIG_LOCATION_FIELD_NUMBER: _ClassVar[int]
    INDEX_NAME_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    config_location: StorageConfig
    index_name: str
    versions: _containers.RepeatedCompositeFieldContainer[ImportedVersion]
    def __init__(self, config_location: _Optional[_Union[StorageConfig, _Mapping]] = ..., index_name: _Optional[str] = ..., versions: _Optional[_Iterable[_Union[ImportedVersion, _Mapping]]] = ...) -> None: ...

class ImportedVersion(_message.Message):
    __slots__ = ("event", "time", "caller", "blob", "etag")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    event: EnvelopeVersion.Event
    time: _timestamp_pb2.Timestamp
    caller: str
    blob: KMSBlob
    etag: str
    def __init__(self, event: _Optional[_Union[EnvelopeVersion.Event, str]] = ..., time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., caller: _Optional[str] = ..., blob: _Optional[_Union[KMSBlob, _Mapping]] = ..., etag: _Optional[str] = ...) -> None: ...

class ImportEnvelopeVersionsResponse(_message.Message):
    __slots__ = ("added",)
    ADDED_FIELD_NUMBER: _ClassVar[int]
    added: int
    def __init__(self, added: _Optional[int] = ...) -> None: ...

class ListEnvelopesRequest(_message.Message):
    __slots__ = ("config_location", "prefix", "page_size", "page_token", "view", "show_deleted")
    CONFIG_LOCATION_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    VIEW_FIELD_NUMBER: _ClassVar[int]
    SHOW_DELETED_FIELD_NUMBER: _ClassVar[int]
    config_location: StorageConfig
    prefix: str
    page_size: int
    page_token: str
    view: EnvelopeView
    show_deleted: bool
    def __init__(self, config_location: _Optional[_Union[StorageConfig, _Mapping]] = ..., prefix: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., view: _Optional[_Union[EnvelopeView, str]] = ..., show_deleted: _Optional[bool] = ...) -> None: ...

class ListEnvelopesResponse(_message.Message):
    __slots__ = ("envelopes", "next_page_token", "store")
    ENVELOPES_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    envelopes: _containers.RepeatedCompositeFieldContainer[ListedEnvelope]
    next_page_token: str
    store: str
    def __init__(self, envelopes: _Optional[_Iterable[_Union[ListedEnvelope, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., store: _Optional[str] = ...) -> None: ...

class ListedEnvelope(_message.Message):
    __slots__ = ("index_name", "blob", "etag", "failure")
    INDEX_NAME_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    index_name: str
    blob: KMSBlob
    etag: str
    failure: Failure
    def __init__(self, index_name: _Optional[str] = ..., blob: _Optional[_Union[KMSBlob, _Mapping]] = ..., etag: _Optional[str] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("reason", "message")
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    message: str
    def __init__(self, reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class WatchEnvelopesRequest(_message.Message):
    __slots__ = ("config_location", "prefix")
    CONFIG_LOCATION_FIELD_NUMBER: _ClassVar[int]
    PREFIX_FIELD_NUMBER: _ClassVar[int]
    config_location: StorageConfig
    prefix: str
    def __init__(self, config_location: _Optional[_Union[StorageConfig, _Mapping]] = ..., prefix: _Optional[str] = ...) -> None: ...

class WatchEnvelopesResponse(_message.Message):
    __slots__ = ("started", "change", "heartbeat", "resync")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    CHANGE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    RESYNC_FIELD_NUMBER: _ClassVar[int]
    started: WatchStarted
    change: Change
    heartbeat: Heartbeat
    resync: Resync
    def __init__(self, started: _Optional[_Union[WatchStarted, _Mapping]] = ..., change: _Optional[_Union[Change, _Mapping]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., resync: _Optional[_Union[Resync, _Mapping]] = ...) -> None: ...

class WatchStarted(_message.Message):
    __slots__ = ("store", "heartbeat_seconds")
    STORE_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_SECONDS_FIELD_NUMBER: _ClassVar[int]
    store: str
    heartbeat_seconds: float
    def __init__(self, store: _Optional[str] = ..., heartbeat_seconds: _Optional[float] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("index_name", "kind", "etag", "breaches_hold")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Change.Kind]
        KIND_CREATED: _ClassVar[Change.Kind]
        KIND_PUSHED: _ClassVar[Change.Kind]
        KIND_DELETED: _ClassVar[Change.Kind]
        KIND_RESTORED: _ClassVar[Change.Kind]
        KIND_UNDELETED: _ClassVar[Change.Kind]
    KIND_UNSPECIFIED: Change.Kind
    KIND_CREATED: Change.Kind
    KIND_PUSHED: Change.Kind
    KIND_DELETED: Change.Kind
    KIND_RESTORED: Change.Kind
    KIND_UNDELETED: Change.Kind
    INDEX_NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    BREACHES_HOLD_FIELD_NUMBER: _ClassVar[int]
    index_name: str
    kind: Change.Kind
    etag: str
    breaches_hold: bool
    def __init__(self, index_name: _Optional[str] = ..., kind: _Optional[_Union[Change.Kind, str]] = ..., etag: _Optional[str] = ..., breaches_hold: _Optional[bool] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Resync(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
