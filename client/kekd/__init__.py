"""Client of kekd, the key-envelope daemon, with the envelope API of cyborgdb_core.

import kekd as cyborgdb

blob = cyborgdb.KMSBlob(provider="aws-kms", key_id="alias/prod", wrapped_kek=b"...")
cyborgdb.create_index_kms(None, "my_index", blob)
cyborgdb.get_index_kms(None, "my_index")
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from kekd._models import (
    Change,
    DestroyedVersion,
    DestructionReceipt,
    EnvelopeVersion,
    Hold,
    KMSBlob,
    RemainingVersion,
    Resync,
    S3Credentials,
    StorageConfig,
    VersionEvent,
)
from kekd._status import CertificateStatus, DaemonStatus, StoreStatus
from kekd._transport.tls import Tls
from kekd.errors import (
    AuditUnavailableError,
    CorruptEnvelopeError,
    DeadlineExceededError,
    EnvelopeError,
    EnvelopeExistsError,
    EnvelopeHeldError,
    EnvelopeNotFoundError,
    EtagMismatchError,
    HistoryConflictError,
    HistoryOffError,
    HistoryUnavailableError,
    InternalError,
    InvalidArgumentError,
    InvalidEnvelopeError,
    InvalidIndexNameError,
    OutcomeUnknownError,
    PermissionDeniedError,
    ResourceExhaustedError,
    StoreMisconfiguredError,
    UnauthenticatedError,
    UnavailableError,
    VersionNotFoundError,
    WatchFellBehindError,
)

# Lets a forked child use gRPC. gRPC reads the variable when it is imported
# (https://github.com/grpc/grpc/blob/master/doc/fork_support.md).
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")

# gRPC and protobuf are slow to import, so modules that need them are imported on first use
# (https://peps.python.org/pep-0562/).
if TYPE_CHECKING:
    from kekd._api import (
        connect,
        create_index_kms,
        delete_index_kms,
        destroy_index_kms,
        find_hold_index_kms,
        get_index_kms,
        hold_index_kms,
        import_versions_index_kms,
        list_index_kms,
        list_versions_index_kms,
        push_index_kms,
        release_index_kms,
        restore_index_kms,
        undelete_index_kms,
    )
    from kekd._async_client import AsyncClient
    from kekd._client import Client
    from kekd_common.version import __version__
else:
    _LAZY: Final = {
        "AsyncClient": "kekd._async_client",
        "Client": "kekd._client",
        "__version__": "kekd_common.version",
        "connect": "kekd._api",
        "create_index_kms": "kekd._api",
        "delete_index_kms": "kekd._api",
        "destroy_index_kms": "kekd._api",
        "find_hold_index_kms": "kekd._api",
        "get_index_kms": "kekd._api",
        "hold_index_kms": "kekd._api",
        "import_versions_index_kms": "kekd._api",
        "list_index_kms": "kekd._api",
        "list_versions_index_kms": "kekd._api",
        "push_index_kms": "kekd._api",
        "release_index_kms": "kekd._api",
        "restore_index_kms": "kekd._api",
        "undelete_index_kms": "kekd._api",
    }

    def __getattr__(name: str) -> Any:
        if name not in _LAZY:
            raise AttributeError(f"module 'kekd' has no attribute '{name}'")
        value = globals()[name] = getattr(import_module(_LAZY[name]), name)
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_LAZY})


__all__ = [
    "AsyncClient",
    "AuditUnavailableError",
    "CertificateStatus",
    "Change",
    "Client",
    "CorruptEnvelopeError",
    "DaemonStatus",
    "DeadlineExceededError",
    "DestroyedVersion",
    "DestructionReceipt",
    "EnvelopeError",
    "EnvelopeExistsError",
    "EnvelopeHeldError",
    "EnvelopeNotFoundError",
    "EnvelopeVersion",
    "EtagMismatchError",
    "HistoryConflictError",
    "HistoryOffError",
    "HistoryUnavailableError",
    "Hold",
    "InternalError",
    "InvalidArgumentError",
    "InvalidEnvelopeError",
    "InvalidIndexNameError",
    "KMSBlob",
    "OutcomeUnknownError",
    "PermissionDeniedError",
    "RemainingVersion",
    "ResourceExhaustedError",
    "Resync",
    "S3Credentials",
    "StorageConfig",
    "StoreMisconfiguredError",
    "StoreStatus",
    "Tls",
    "UnauthenticatedError",
    "UnavailableError",
    "VersionEvent",
    "VersionNotFoundError",
    "WatchFellBehindError",
    "__version__",
    "connect",
    "create_index_kms",
    "delete_index_kms",
    "destroy_index_kms",
    "find_hold_index_kms",
    "get_index_kms",
    "hold_index_kms",
    "import_versions_index_kms",
    "list_index_kms",
    "list_versions_index_kms",
    "push_index_kms",
    "release_index_kms",
    "restore_index_kms",
    "undelete_index_kms",
]
