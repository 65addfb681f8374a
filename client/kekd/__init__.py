"""Client of kekd, the key-envelope daemon, with the envelope API of cyborgdb_core.

import kekd as cyborgdb

blob = cyborgdb.KMSBlob(provider="aws-kms", key_id="alias/prod", wrapped_kek=b"...")
cyborgdb.create_index_kms(None, "my_index", blob)
cyborgdb.get_index_kms(None, "my_index")
"""

import os
from typing import TYPE_CHECKING

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
from kekd_common.lazy_exports import lazy_exports

# Lets a forked child use gRPC. gRPC reads the variable when it is imported
# (https://github.com/grpc/grpc/blob/master/doc/fork_support.md).
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "1")

# Imported on first use, because gRPC, protobuf and dataclasses are slow to import.
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
    from kekd_common.version import __version__
else:
    __getattr__, __dir__ = lazy_exports(
        globals(),
        {
            "kekd._api": [
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
            ],
            "kekd._async_client": ["AsyncClient"],
            "kekd._client": ["Client"],
            "kekd._models": [
                "Change",
                "DestroyedVersion",
                "DestructionReceipt",
                "EnvelopeVersion",
                "Hold",
                "KMSBlob",
                "RemainingVersion",
                "Resync",
                "S3Credentials",
                "StorageConfig",
                "VersionEvent",
            ],
            "kekd._status": ["CertificateStatus", "DaemonStatus", "StoreStatus"],
            "kekd._transport.tls": ["Tls"],
            "kekd_common.version": ["__version__"],
        },
    )

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
